"""A station's panel with the clients that write it into PLCs, and orders that are due some time from now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from bridge.domain.gate import GateOrder
from bridge.domain.messages import GateNews, Inbound, PlcLink
from bridge.domain.verdict import VerdictCode
from bridge.outputs.plc.panel import PlcPanel
from bridge.outputs.plc_clients import PlcClients, PlcClientSettings
from bridge.ports import Outcome
from tests.outputs.samples import READY, result

MS = 1_000_000
OUTPUT_MS = 20.0


@dataclass
class ClientBench:
    """`posted` is what the station was told."""

    panel: PlcPanel
    clients: PlcClients
    posted: list[Inbound] = field(default_factory=list)

    def links(self) -> list[tuple[str, str]]:
        """Give the states of the links as they were told, without their begin."""
        return [
            (each.link, each.state) for each in self.posted if isinstance(each, PlcLink) and each.state != "opening"
        ]

    def reason(self) -> str:
        """Give why the link that was told of last is not up."""
        return [each.reason for each in self.posted if isinstance(each, PlcLink)][-1]

    def undelivered(self) -> list[int]:
        """Give the sequences of the orders that did not reach their PLC in time."""
        news = [each for each in self.posted if isinstance(each, GateNews)]
        return [sequence for each in news for _epoch, sequence in each.keys]

    def told(self, kind: type) -> list[Any]:
        """Give what the station was told of one kind."""
        return [each for each in self.posted if isinstance(each, kind)]

    def publish(self, sequence: int, *, due_in_ms: float = 5_000, code: VerdictCode = VerdictCode.FAIL) -> int:
        """Publish a result whose gate is due some time from now; gives the moment when it is to be fully open, in ns."""
        due_ns = time.monotonic_ns() + round(due_in_ms * MS)
        ordered = GateOrder(state="ordered", open_count=462_639, close_count=463_939, due_ns=due_ns,
                            open_ns=due_ns + 40 * MS, window_ms=108.33)  # fmt: skip
        order = GateOrder() if code is VerdictCode.PASS else ordered
        self.panel.publish(Outcome(result=result(sequence, order=order, code=code), document="{}"))
        return due_ns + 40 * MS

    async def until(self, holds: Callable[[], Any], limit_s: float = 10.0) -> None:
        """Wait for something to hold."""
        async with asyncio.timeout(limit_s):
            while not holds():
                await asyncio.sleep(0.005)


@asynccontextmanager
async def client_bench(*settings: PlcClientSettings, station: str = "station1") -> AsyncIterator[ClientBench]:
    """Run the clients of one station that is ready."""
    posted: list[Inbound] = []
    panel = PlcPanel(station=station, post=posted.append, open_lead_ms=40.0, close_lead_ms=40.0)
    panel.show(READY, now_ns=time.monotonic_ns())
    clients = PlcClients(panel, settings, output_ms=OUTPUT_MS)
    clients.start()
    try:
        yield ClientBench(panel, clients, posted)
    finally:
        await clients.stop()
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert not {name for name in names if f"client {station}" in name}, "a task was left behind"
