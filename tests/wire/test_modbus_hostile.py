"""Modbus clients that vanish, dawdle, read nothing or come without end: the PLC beside them is answered all the while."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.outputs.samples import READY, outcome
from tests.wire.modbus_bench import Bench, RawClient, frame, read

pytestmark = pytest.mark.soak

PATIENCE_S = 0.3
TCP_REPAIR = 19


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    running = await Bench().start(patience_s=PATIENCE_S, quiet_s=0.6)
    running.panels[0].show(READY, now_ns=running.now_ns)
    running.panels[0].publish(outcome())
    yield running
    await running.stop()


async def sees_the_verdict(plc: RawClient) -> None:
    assert await plc.registers(4, 2, 4) == [1, 57_920, 2, 2]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def reset(client: RawClient) -> None:
    """Go without a word, as a pulled plug looks to the server's next answer."""
    raw = client.writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.transport.abort()


@pytest.mark.parametrize(
    "start", [b"\0", frame(read(4, 0, 1))[:5], frame(read(4, 0, 1))[:6], frame(read(4, 0, 1))[:-1]]
)
async def test_half_a_request_is_waited_for_but_not_for_long(bench: Bench, start: bytes) -> None:
    plc, dawdler = await RawClient.connect(bench.port), await RawClient.connect(bench.port)
    await sees_the_verdict(plc)
    dawdler.writer.write(start)
    begun = time.monotonic()
    assert await dawdler.is_closed()
    assert time.monotonic() - begun < 10 * PATIENCE_S
    await sees_the_verdict(plc)
    for each in (plc, dawdler):
        each.close()


async def test_a_request_that_drips_is_cut_off_however_lively_it_drips(bench: Bench) -> None:
    dawdler = await RawClient.connect(bench.port)
    with contextlib.suppress(ConnectionError):
        for byte in frame(read(4, 0, 125)) * 4:
            dawdler.writer.write(bytes([byte]))
            await dawdler.writer.drain()
            await asyncio.sleep(PATIENCE_S / 4)
            if dawdler.reader.at_eof():
                break
    assert await dawdler.is_closed()
    dawdler.close()


async def test_a_plc_that_is_silent_between_requests_stays(bench: Bench) -> None:
    plc = await RawClient.connect(bench.port)
    for _ in range(3):
        await sees_the_verdict(plc)
        await asyncio.sleep(2 * PATIENCE_S)
    await sees_the_verdict(plc)
    plc.close()


async def test_a_client_that_reads_nothing_is_closed_and_costs_no_memory(bench: Bench) -> None:
    plc = await RawClient.connect(bench.port)
    deaf = socket.create_connection(("127.0.0.1", bench.port))
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.setblocking(False)
    flood, sent = frame(read(4, 0, 125)) * 10_000, 0
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            sent += deaf.send(flood)
        except BlockingIOError:
            pass
        except OSError:
            break
        await sees_the_verdict(plc)
        await asyncio.sleep(0.01)
    else:
        pytest.fail("it was never closed")
    # what the server would have had to keep is 20 times what it was sent; the system's own buffers take the rest
    assert sent < 40_000_000
    deaf.close()
    await sees_the_verdict(plc)
    plc.close()


async def test_dead_connections_give_their_place_to_a_plc_and_an_active_one_never_does() -> None:
    bench = await Bench().start(max_connections=5, patience_s=PATIENCE_S, quiet_s=0.4)
    bench.panels[0].show(READY, now_ns=bench.now_ns)
    bench.panels[0].publish(outcome())
    plc = await RawClient.connect(bench.port)
    dead = [await RawClient.connect(bench.port) for _ in range(4)]
    await sees_the_verdict(plc)
    surplus = await RawClient.connect(bench.port)
    assert await surplus.is_closed(), "all five may be alive yet"
    for _ in range(6):
        await asyncio.sleep(0.1)
        await sees_the_verdict(plc)
    newcomers = [await RawClient.connect(bench.port) for _ in range(4)]
    for each in newcomers:
        await sees_the_verdict(each)
    for each in dead:
        assert await each.is_closed()
    late = await RawClient.connect(bench.port)
    assert await late.is_closed(), "five are active"
    await sees_the_verdict(plc)
    for each in (plc, surplus, late, *dead, *newcomers):
        each.close()
    await bench.stop()


async def visit(port: int, kind: int) -> None:
    """Come and go once, in one of the ways that clients have."""
    client = await RawClient.connect(port)
    if kind == 1:
        client.writer.write(frame(read(4, 0, 55))[:7])
    elif kind == 2:
        client.writer.write(frame(read(4, 0, 125)) * 3)
    elif kind == 3:
        client.writer.write(b"GET / HTTP/1.1\r\n\r\n")
    elif kind == 4:
        await client.registers(4, 0, 55)
    if kind in {0, 4}:
        client.close()
        with contextlib.suppress(ConnectionError):
            await client.writer.wait_closed()
    else:
        reset(client)


async def test_a_thousand_connections_of_every_kind_leave_nothing_behind(bench: Bench) -> None:
    plc = await RawClient.connect(bench.port)
    for kind in range(5):
        await visit(bench.port, kind)
    await asyncio.sleep(2 * PATIENCE_S)
    files, tasks = open_files(), len(asyncio.all_tasks())
    for turn in range(1_000):
        await visit(bench.port, turn % 5)
        if turn % 50 == 0:
            await sees_the_verdict(plc)
    for _ in range(100):
        if open_files() <= files and len(asyncio.all_tasks()) == tasks:
            break
        await asyncio.sleep(0.05)
    # What earlier tests of this process left to the garbage collector may be gone by now: fewer files are no fault.
    assert (max(open_files(), files), len(asyncio.all_tasks())) == (files, tasks)
    await sees_the_verdict(plc)
    plc.close()


@pytest.mark.soak
@pytest.mark.timeout(90)
async def test_a_client_that_vanished_without_a_word_is_found_in_half_a_minute() -> None:
    bench = await Bench().start(max_connections=1)
    client = socket.create_connection(("127.0.0.1", bench.port))
    client.sendall(frame(read(4, 0, 1)))
    await asyncio.sleep(0.2)
    client.recv(100)
    try:
        client.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    except OSError:
        pytest.skip("closing without FIN needs CAP_NET_ADMIN")
    client.close()
    begun = time.monotonic()
    files = open_files()
    while open_files() >= files:
        assert time.monotonic() - begun < 40, "it still counts as connected"
        await asyncio.sleep(0.2)
    again = await RawClient.connect(bench.port)
    assert await again.registers(4, 1, 1) == [0]
    again.close()
    await bench.stop()
