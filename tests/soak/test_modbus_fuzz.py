"""10,000 Modbus messages that no client should send, and 500 idle sockets, at a whole bridge that judges all the while.

More by hand: `LINEGATE_SOAK_MODBUS=100000 pytest -m soak tests/soak/test_modbus_fuzz.py -s --timeout=1200`.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.soak.modbus_fuzz import Fuzzer
from tests.soak.rig import count, tell
from tests.wire.judging_bench import Bench, judging_bridge
from tests.wire.modbus_bench import RawClient

pytestmark = pytest.mark.soak

MESSAGES = count("LINEGATE_SOAK_MODBUS", 10_000)
FUZZERS = 4
IDLE = 500
QUIET_S = 30.0
"""How long a connection may be silent before its place is given away."""
GROWTH_KB = 6_000


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with judging_bridge(tmp_path) as running:
        yield running


def memory_kb(bench: Bench) -> int:
    lines = Path(f"/proc/{bench.bridge.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def open_files(bench: Bench) -> int:
    return len(list(Path(f"/proc/{bench.bridge.process.pid}/fd").iterdir()))


class Poller:
    """The PLC that was there before: it polls the live block on one connection and may never be cut off."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._poll()), name="plc", daemon=True)
        self.reads = 0
        self.slowest_s = 0.0

    def __enter__(self) -> Poller:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stopping.set()
        self._thread.join(10)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    async def _poll(self) -> None:
        client = await RawClient.connect(self._port)
        while not self._stopping.is_set():
            begun = time.monotonic()
            words = await client.registers(4, 0, 55)
            assert words[2:4] == words[36:38]
            self.slowest_s = max(self.slowest_s, time.monotonic() - begun)
            self.reads += 1
            await asyncio.sleep(0.02)
        client.close()


def fuzz(bench: Bench, messages: int, *, seed: int) -> Counter[str]:
    """Send messages from four threads and let the station judge meanwhile."""
    port = bench.bridge.ports.modbus
    fuzzers = [Fuzzer(port, messages // FUZZERS, seed + number) for number in range(FUZZERS)]
    for each in fuzzers:
        each.start()
    for _ in range(4):
        bench.judges_on()
    for each in fuzzers:
        each.join(200)
    assert [text for each in fuzzers for text in each.wrong] == []
    return sum((each.sent for each in fuzzers), Counter())


def settled(bench: Bench, files: int) -> bool:
    """Tell whether no more files are open than before; connections that were cut off take up to 5 s."""
    until = time.monotonic() + 10
    while open_files(bench) > files and time.monotonic() < until:
        time.sleep(0.1)
    return open_files(bench) <= files


@pytest.mark.timeout(300)
def test_fuzzed_messages_stop_neither_the_station_nor_the_plc(bench: Bench, tmp_path: Path) -> None:
    with Poller(bench.bridge.ports.modbus) as plc:
        fuzz(bench, MESSAGES // 10, seed=1_000)  # what a server takes for good at its first clients is no leak
        time.sleep(6)
        files, memory = open_files(bench), memory_kb(bench)
        begun = time.monotonic()
        sent = fuzz(bench, MESSAGES, seed=1)
        took_s = time.monotonic() - begun
        assert sum(sent.values()) == MESSAGES // FUZZERS * FUZZERS
        assert len(sent) == 10, "every kind was sent"
        assert settled(bench, files), (files, open_files(bench))
        growth = memory_kb(bench) - memory
        assert growth < GROWTH_KB, f"{growth} kB more than before"
        bench.judges_on()
        assert plc.alive, "the PLC's own connection was cut off"
        reads = plc.reads
    tell(
        tmp_path,
        sent=dict(sent),
        took_s=took_s,
        growth_kb=growth,
        files=files,
        plc_reads=reads,
        slowest_s=plc.slowest_s,
    )
    assert bench.errors() == 0
    status = asyncio.run(_status(bench))
    assert status[1:] == [65_535, 0], "no write of theirs got through: no belt speed, no recipe asked for"


async def _status(bench: Bench) -> list[int]:
    client = await RawClient.connect(bench.bridge.ports.modbus)
    words = await client.registers(3, 0, 8)
    client.close()
    return [words[0], words[6], words[7]]


@pytest.mark.timeout(200)
def test_five_hundred_idle_sockets_keep_nobody_out_for_long(bench: Bench, tmp_path: Path) -> None:
    port = bench.bridge.ports.modbus
    with Poller(port) as plc:
        bench.judges_on()
        files, memory = open_files(bench), memory_kb(bench)
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(IDLE)]
        begun = time.monotonic()
        assert settled(bench, files + 20), "no more than the cap is held open"
        bench.judges_on()
        while not (served := asyncio.run(_is_served(port))) and time.monotonic() - begun < QUIET_S + 10:
            time.sleep(0.5)
        took_s = time.monotonic() - begun
        assert served, "a good client found no place"
        bench.judges_on()
        for each in idle:
            each.close()
        assert settled(bench, files)
        assert memory_kb(bench) - memory < GROWTH_KB
        assert asyncio.run(_is_served(port))
        assert plc.alive, "the PLC's own connection was cut off"
    tell(tmp_path, served_after_s=took_s, plc_slowest_s=plc.slowest_s, growth_kb=memory_kb(bench) - memory)


async def _is_served(port: int) -> bool:
    client = await RawClient.connect(port)
    try:
        return len(await client.registers(4, 0, 55)) == 55
    except (asyncio.IncompleteReadError, ConnectionError):
        return False
    finally:
        client.close()
