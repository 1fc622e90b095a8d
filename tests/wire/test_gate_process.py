"""The gate process against a real Modbus TCP module: what the coil does, and what is told when it can't."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.domain.gate import GateOrder, Release
from bridge.domain.gate_settings import GateSettings
from bridge.domain.messages import GateNews
from bridge.gate.coil import CoilAddress
from bridge.gate.link import GateProcess
from tests.ports import free_ports
from tests.wire.remote_io import RemoteIo

MS = 1_000_000
ROOT = Path(__file__).parent.parent.parent


class WallClock:
    def now_ns(self) -> int:
        return time.monotonic_ns()

    def utc_ns(self) -> int:
        return time.time_ns()


class Bench:
    """A gate process with its module."""

    def __init__(self, module: RemoteIo, gate: GateProcess, news: list[GateNews]) -> None:
        self.module, self.gate, self.news = module, gate, news

    def order(self, sequence: int, after_ms: float, for_ms: float) -> int:
        due_ns = time.monotonic_ns() + round(after_ms * MS)
        off_ns = due_ns + round(for_ms * MS)
        self.gate.ordered((1, sequence), GateOrder(state="ordered", due_ns=due_ns, off_ns=off_ns))
        return due_ns

    def release(self, sequence: int, after_ms: float, for_ms: float) -> int:
        due_ns = time.monotonic_ns() + round(after_ms * MS)
        self.gate.released((1, sequence), Release(due_ns=due_ns, off_ns=due_ns + round(for_ms * MS)))
        return due_ns

    async def told(self, event: str, sequence: int | None = None) -> GateNews:
        def found() -> list[GateNews]:
            keys = None if sequence is None else (1, sequence)
            return [one for one in self.news if one.event == event and (keys is None or keys in one.keys)]

        await self.module.until(lambda: bool(found()))
        return found()[0]

    def forget(self) -> None:
        self.news.clear()


@asynccontextmanager
async def gate_on(port: int | None = None, **settings: Any) -> AsyncIterator[Bench]:
    module = RemoteIo(port or free_ports(1)[0])
    await module.start()
    news: list[GateNews] = []
    gate = GateProcess(
        GateSettings(mode="bridge", **settings),
        CoilAddress(host="127.0.0.1", port=module.port, coil=3),
        clock=WallClock(),
        tell=news.append,
    )
    gate.start()
    bench = Bench(module, gate, news)
    try:
        await bench.told("up")
        yield bench
    finally:
        await gate.stop()
        await module.stop()


def switched(bench: Bench) -> list[bool]:
    return [on for _moment, coil, on in bench.module.edges if coil == 3]


async def test_an_order_switches_the_coil_at_its_moments_and_tells_the_error() -> None:
    async with gate_on(rest="pass") as bench:
        due_ns = bench.order(7, 300, 120)
        fired = await bench.told("fired", 7)
        await bench.told("off")
        await bench.module.until(lambda: switched(bench) == [True, False])
        on_ns, off_ns = (moment for moment, _coil, _on in bench.module.edges)
        assert on_ns >= due_ns and off_ns >= due_ns + 120 * MS, "never early"
        assert fired.error_ms is not None and 0 <= fired.error_ms <= (on_ns - due_ns) / MS
        assert {one.event for one in bench.news} >= {"up", "fired", "on", "off"}
        assert {"realtime", "ordinary"} & {one.event for one in bench.news}


async def test_a_gate_that_rests_in_reject_is_let_go_for_each_passing_part_and_no_other() -> None:
    async with gate_on(rest="reject") as bench:
        await bench.module.until(lambda: len(bench.module.writes) > 2)
        assert switched(bench) == [], "at rest: whatever comes is rejected"
        bench.release(1, 100, 100)
        bench.release(2, 202, 298)
        bench.order(3, 300, 100)  # the reject wins over a release that runs
        await bench.module.until(lambda: len(switched(bench)) == 4)
        assert switched(bench) == [True, False, True, False]
        assert (await bench.told("released", 1)).error_ms is not None
        await bench.told("fired", 3)


async def test_a_refused_release_and_a_missed_order_are_taken_back() -> None:
    async with gate_on(rest="reject") as bench:
        bench.release(1, 150, 100)
        bench.gate.released((1, 1), Release(refused="encoder reset"))
        bench.release(2, 300, 100)
        await bench.told("released", 2)
        assert not [one for one in bench.news if (1, 1) in one.keys]
    async with gate_on(rest="pass") as bench:
        bench.order(1, 150, 100)
        bench.gate.ordered((1, 1), GateOrder(state="missed", reason="encoder reset"))
        bench.order(2, 300, 100)
        await bench.told("fired", 2)
        assert switched(bench) == [True]


async def test_a_late_order_is_missed_and_not_fired() -> None:
    async with gate_on(rest="pass") as bench:
        bench.order(1, -20, 100)
        missed = await bench.told("missed", 1)
        assert "too late" in missed.text
        await asyncio.sleep(0.15)
        assert switched(bench) == []


async def test_a_frozen_order_keeps_the_gate_on_for_max_on_and_no_longer() -> None:
    async with gate_on(rest="pass", max_on_ms=400.0) as bench:
        due_ns = bench.order(1, 100, 100)
        await bench.told("fired", 1)
        bench.gate.ordered((1, 1), GateOrder(state="ordered", due_ns=due_ns, off_ns=None))
        await bench.told("stuck", 1)
        await bench.module.until(lambda: switched(bench) == [True, False])
        assert bench.module.edges[-1][0] - due_ns >= 400 * MS


async def test_a_lost_module_is_told_and_nothing_is_fired_late_when_it_is_back() -> None:
    port = free_ports(1)[0]
    async with gate_on(port, rest="pass") as bench:
        await bench.module.stop()
        lost = await bench.told("down")
        assert f"127.0.0.1:{port}" in lost.text
        bench.order(1, 100, 3000)
        missed = await bench.told("missed", 1)
        assert "can't be written" in missed.text
        bench.forget()
        await bench.module.start()
        await bench.told("up")
        bench.order(2, 200, 100)
        await bench.told("fired", 2)
        await bench.module.until(lambda: switched(bench) == [True, False])


@pytest.mark.parametrize("mute", ["refuses", "silent"])
async def test_a_module_that_refuses_or_falls_silent_is_lost(mute: str) -> None:
    async with gate_on(rest="pass") as bench:
        bench.forget()
        if mute == "refuses":
            bench.module.refuses = True
            assert "refuses coil 3" in (await bench.told("down")).text
            return
        await bench.module.stop()
        server = await asyncio.start_server(_deaf, "127.0.0.1", bench.module.port)
        await bench.told("down")
        bench.forget()
        news = await bench.told("down")
        assert "no answer within 300 ms" in news.text or "closed" in news.text
        server.close()
        await bench.module.start()


async def test_a_killed_gate_process_is_replaced_and_gets_the_orders_again() -> None:
    async with gate_on(rest="pass") as bench:
        first = bench.gate.pid
        assert first is not None
        bench.order(1, 1800, 100)
        bench.forget()
        os.kill(first, signal.SIGKILL)
        assert "ended with -9" in (await bench.told("down")).text
        await bench.told("fired", 1)
        assert bench.gate.pid != first
        await bench.module.until(lambda: switched(bench) == [True, False])


PARENT = """
    import asyncio, os, sys, time
    from bridge.domain.gate import GateOrder
    from bridge.domain.gate_settings import GateSettings
    from bridge.gate.coil import CoilAddress
    from bridge.gate.link import GateProcess

    class Clock:
        now_ns = staticmethod(time.monotonic_ns)
        utc_ns = staticmethod(time.time_ns)

    async def main():
        up = asyncio.Event()
        gate = GateProcess(
            GateSettings(mode="bridge", rest="pass"), CoilAddress(host="127.0.0.1", port=int(sys.argv[1]), coil=3),
            clock=Clock(), tell=lambda news: up.set() if news.event == "up" else None)
        gate.start()
        await up.wait()
        due_ns = time.monotonic_ns() + 600_000_000
        gate.ordered((1, 1), GateOrder(state="ordered", due_ns=due_ns, off_ns=due_ns + 100_000_000))
        gate.ordered((1, 2), GateOrder(state="ordered"))
        await asyncio.sleep(0.1)
        print(gate.pid, due_ns, flush=True)
        {end}
        await gate.stop()

    asyncio.run(main())
"""


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "pass"])
async def test_it_outlives_its_parent_by_its_last_order_then_clears_the_coil_and_ends(end: str) -> None:
    module = RemoteIo(free_ports(1)[0])
    await module.start()
    program = textwrap.dedent(PARENT).replace("{end}", end)
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", program, str(module.port)),
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert parent.stdout is not None
    pid, due_ns = (int(word) for word in (await parent.stdout.readline()).split())
    await parent.wait()
    await module.until(lambda: not _alive(pid))
    assert [on for _moment, _coil, on in module.edges] == [True, False]
    assert module.edges[0][0] >= due_ns, "the order was carried out after the parent had gone"
    assert module.writes[-1][1:] == (3, False)
    await module.stop()


async def _deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take everything and answer nothing."""
    await reader.read()
    writer.close()


def _alive(pid: int) -> bool:
    try:
        return b"Z" not in Path(f"/proc/{pid}/stat").read_bytes().split(b")")[-1][:3]
    except FileNotFoundError:
        return False
