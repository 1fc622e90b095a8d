"""The loop that keeps a PLC written, against a connection that does what a test wants."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from bridge.domain.gate import GateOrder
from bridge.domain.messages import GateNews, Inbound, PlcLink
from bridge.errors import OutputError
from bridge.outputs.plc.client import Found, PlcClient, pause_s
from bridge.outputs.plc.fresh_orders import FreshOrders
from bridge.outputs.plc.panel import PlcPanel
from bridge.ports import Outcome
from tests.outputs.samples import MS, READY, outcome, result


@dataclass
class Wire:
    """Makes connections; each `written` is the result count of the view at that moment."""

    panel: PlcPanel
    written: list[int] = field(default_factory=list)
    closed: list[bool] = field(default_factory=list)
    opening: Callable[[], None] = lambda: None
    opens: asyncio.Event = field(default_factory=asyncio.Event)
    writing_s: float = 0.0

    async def open(self) -> None:
        await self.opens.wait()
        self.opening()

    async def write(self) -> bool:
        self.written.append(self.panel.view.written)
        await asyncio.sleep(self.writing_s)
        return True

    async def read(self) -> Found:
        return Found(values={}, at_ns=0)

    async def close(self, *, orderly: bool) -> None:
        self.closed.append(orderly)


@dataclass
class Bench:
    panel: PlcPanel
    wire: Wire
    client: PlcClient
    posted: list[Inbound]

    def states(self) -> list[str]:
        return [each.state for each in self.posted if isinstance(each, PlcLink)]


def bench() -> Bench:
    posted: list[Inbound] = []
    panel = PlcPanel(station="station1", post=posted.append)
    panel.show(READY, now_ns=0)
    wire = Wire(panel)
    client = PlcClient(
        panel, name="modbus_client", where="plc", connect=lambda: wire, clock_ns=time.monotonic_ns, drives_gate=True,
        orders=FreshOrders(output_ms=20.0, places=("ring",)), read_s=0.0, write_s=10.0,
    )  # fmt: skip
    return Bench(panel, wire, client, posted)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.002)


async def test_an_order_is_told_at_its_limit_while_a_connection_hangs_in_opening() -> None:
    one = bench()
    one.client.start()
    due_ns = time.monotonic_ns() + 300 * MS
    order = GateOrder(state="ordered", due_ns=due_ns, open_ns=due_ns + 40 * MS, window_ms=100.0)
    one.panel.publish(Outcome(result=result(7, order=order), document="{}"))
    await until(lambda: [each for each in one.posted if isinstance(each, GateNews)])
    told_ns = time.monotonic_ns()
    assert due_ns - 20 * MS <= told_ns <= due_ns + 80 * MS
    (news,) = [each for each in one.posted if isinstance(each, GateNews)]
    assert (news.event, news.keys, news.text) == ("missed", ((1, 7),), "plc: the PLC did not get it in time")
    await one.client.stop()
    assert one.states() == ["opening"]


async def test_what_was_overtaken_is_dropped_and_the_newest_is_written() -> None:
    one = bench()
    one.wire.opens.set()
    one.wire.writing_s = 0.05
    one.client.start()
    for sequence in range(5):
        one.panel.publish(outcome(sequence))
        await asyncio.sleep(0.015)
    await until(lambda: one.wire.written[-1] == 5)
    assert len(one.wire.written) < 5
    assert one.states() == ["opening", "up"]
    await one.client.stop()
    assert one.wire.closed == [True]


async def test_a_client_that_ends_by_a_fault_of_its_own_is_not_taken_for_well() -> None:
    one = bench()

    def break_down() -> None:
        raise ZeroDivisionError("nobody thought of that")

    one.wire.opening = break_down
    one.wire.opens.set()
    one.client.start()
    await until(lambda: one.states() == ["opening", "lost"])
    assert "nobody thought of that" in [each.reason for each in one.posted if isinstance(each, PlcLink)][-1]
    await one.client.stop()


async def test_a_loss_is_told_once_however_often_it_is_tried() -> None:
    one = bench()
    tries: list[float] = []

    def refuse() -> None:
        tries.append(time.monotonic())
        raise OutputError("plc: connection refused")

    one.wire.opening = refuse
    one.wire.opens.set()
    one.client.start()
    await until(lambda: len(tries) >= 3)
    assert one.states() == ["opening", "lost"]
    one.wire.opening = lambda: None
    await until(lambda: one.states() == ["opening", "lost", "up"])
    await one.client.stop()
    assert one.wire.closed[-1] is True
    assert set(one.wire.closed[:-1]) == {False}


@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
def test_the_pause_grows_to_5_s_and_is_never_none(jitter: float) -> None:
    pauses = [pause_s(attempt, jitter=jitter) for attempt in range(40)]
    assert pauses == sorted(pauses)
    assert 0.125 <= pauses[0] <= 0.25
    assert 2.5 <= pauses[-1] <= 5.0
