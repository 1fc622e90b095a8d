"""10,000 messages that no client should send, against a whole bridge that judges: it judges on and stays as it was."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua
from asyncua.ua.ua_binary import struct_to_binary

from tests.cli.processes import eventually
from tests.foreign.node import need_node, node_program, run_node
from tests.wire.judging_bench import Bench, judging_bridge
from tests.wire.opcua_fuzz import BEFORE, STATION, flipped, hello, open_channel, requests

pytestmark = [pytest.mark.soak, pytest.mark.timeout(400)]

WITHOUT_SESSION = 6_000
IN_SESSION = 4_000
IDLE = 500
FILES_OF_THE_JOURNAL = 2  # SQLite opens and closes its own as it needs them


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    need_node()
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)
    with judging_bridge(tmp_path_factory.mktemp("bridge")) as bench:
        bench.judges_on()
        yield bench


def url(bench: Bench) -> str:
    return f"opc.tcp://127.0.0.1:{bench.bridge.ports.opcua}/linegate/"


def level(bench: Bench) -> tuple[int, float]:
    """Give how many files the bridge has open, and how many MiB it has resident."""
    process = Path(f"/proc/{bench.bridge.process.pid}")
    pages = int((process / "statm").read_text().split()[1])
    return len(list((process / "fd").iterdir())), pages * 4_096 / 2**20


@contextlib.contextmanager
def judging(bench: Bench) -> Iterator[None]:
    """See to it that the station judges all through the block, and that a good client is served at its end."""
    stop, faults, turns = threading.Event(), [], [0]

    def judge() -> None:
        while not stop.wait(0.5):
            try:
                bench.judges_on()
            except AssertionError as exc:
                faults.append(exc)
                return
            turns[0] += 1

    watch = threading.Thread(target=judge)
    watch.start()
    try:
        yield
    finally:
        stop.set()
        watch.join()
    assert faults == []
    assert turns[0] > 0
    bench.judges_on()
    eventually(lambda: served(bench), 30)


def served(bench: Bench) -> bool:
    """Whether node-opcua-client reads the newest result; it is refused while the others still hold all places."""
    node = f"{STATION}.Result.Sequence"
    try:
        (told,) = asyncio.run(run_node("read_tags.js", url(bench), node))
    except AssertionError:
        return False
    assert told == {"node": node, "status": "Good", "value": max(bench.good)}
    return True


def stays_level(bench: Bench, before: tuple[int, float], *, more_mib: float) -> None:
    """Wait until what was opened is closed again, and see that memory was given back or nearly so."""
    eventually(lambda: level(bench)[0] <= before[0] + FILES_OF_THE_JOURNAL, 60)
    assert level(bench)[1] < before[1] + more_mib


def send_and_reset(port: int, message: bytes, *, dribbled: bool = False, waits: bool = False) -> None:
    """Send, maybe byte by byte, maybe wait a moment for what comes of it, and reset the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as line, contextlib.suppress(OSError):
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for each in [message[n : n + 1] for n in range(len(message))] if dribbled else [message]:
            line.sendall(each)
        if waits:
            line.settimeout(0.05)
            line.recv(65_536)


def test_messages_without_a_session(bench: Bench) -> None:
    dice, port = random.Random(4840), bench.bridge.ports.opcua
    for build in BEFORE.values():
        send_and_reset(port, build(dice, url(bench)))
    before = level(bench)
    with judging(bench):
        for number in range(WITHOUT_SESSION):
            name = list(BEFORE)[number % len(BEFORE)]
            message = BEFORE[name](dice, url(bench))
            dribbled = number % 50 == 7 and len(message) < 500
            send_and_reset(port, message, dribbled=dribbled, waits=number % 10 == 3)
    stays_level(bench, before, more_mib=40)


class Deaf(asyncio.Protocol):
    """Lets answers go by, and knows when its connection has ended."""

    def __init__(self) -> None:
        self.ended = False

    def connection_lost(self, _exc: Exception | None) -> None:
        self.ended = True


async def misuse(bench: Bench, dice: random.Random, count: int) -> int:
    """Send requests, half of them with bytes changed, in sessions that are left without a word; gives how many."""
    sent = 0
    while sent < count:
        client = Client(url(bench), timeout=5)
        client.session_timeout = 5_000
        try:
            await client.connect()
        except (OSError, ua.UaError, TimeoutError):
            await asyncio.sleep(0.5)  # all places are taken, until sessions that nobody has any more end
            continue
        protocol: Any = client.uaclient.protocol
        transport, deaf = protocol.transport, Deaf()
        transport.set_protocol(deaf)
        for _ in range(dice.randrange(20, 200)):
            request: Any = requests(dice)
            request.RequestHeader.AuthenticationToken = protocol.authentication_token
            body = struct_to_binary(request)
            frame = protocol._connection.message_to_binary(body, ua.MessageType.SecureMessage, 1_000 + sent)
            transport.write(flipped(dice, frame, after=24) if dice.random() < 0.5 else frame)
            sent += 1
            await asyncio.sleep(0.001)
            if deaf.ended:
                break
        transport.abort()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()  # what the library does to keep a session alive
    return sent


def test_requests_in_a_session(bench: Bench) -> None:
    dice = random.Random(62_541)
    asyncio.run(misuse(bench, dice, 100))
    before = level(bench)
    with judging(bench):
        assert asyncio.run(misuse(bench, dice, IN_SESSION)) >= IN_SESSION
    stays_level(bench, before, more_mib=60)


def test_500_connections_that_say_nothing(bench: Bench) -> None:
    before = level(bench)
    with judging(bench), contextlib.ExitStack() as stack:
        idle = [
            stack.enter_context(socket.create_connection(("127.0.0.1", bench.bridge.ports.opcua), timeout=5))
            for _ in range(IDLE)
        ]
        for number, each in enumerate(idle):
            with contextlib.suppress(OSError):
                each.sendall((b"", b"H", hello(url(bench)), hello(url(bench)) + open_channel())[number % 4])
        assert level(bench)[0] <= before[0] + 25
        begun = time.monotonic()
        for each in idle:
            each.settimeout(30)
            with contextlib.suppress(ConnectionError):
                while each.recv(65_536):
                    pass
        assert time.monotonic() - begun < 30
    stays_level(bench, before, more_mib=20)


async def come_and_go(bench: Bench, times: int) -> None:
    async with node_program("come_and_go.js", url(bench), str(times), f"{STATION}.Result.Sequence") as program:
        done = 0
        while done < times:
            told = await program.next(60)
            assert told["status"] == "Good"
            done = told["done"]


def test_1000_connections_that_come_and_go(bench: Bench) -> None:
    bench.judges_on()
    asyncio.run(come_and_go(bench, 20))
    before = level(bench)
    with judging(bench):
        asyncio.run(come_and_go(bench, 1_000))
    stays_level(bench, before, more_mib=30)
