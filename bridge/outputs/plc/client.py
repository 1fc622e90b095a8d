"""Keep one PLC written that the bridge is the client of: connect, write what holds now, read its block, connect anew.

Each client is a task of its own and knows nothing of the others: one that hangs delays nobody. Nothing waits to be sent:
a connection encodes the panel's present view at the moment of sending, and drops what was overtaken.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Protocol

import structlog

from bridge.domain.messages import GateNews, PlcLink, PlcLinkState
from bridge.errors import OutputError, RefusedError
from bridge.outputs.plc.control_block import ControlValue
from bridge.outputs.plc.fresh_orders import NOT_IN_TIME, FreshOrders
from bridge.outputs.plc.panel import PlcPanel
from bridge.outputs.plc.view import PlcView

_log = structlog.get_logger(__name__)

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 5.0
FAREWELL_S = 0.5
PlcClientName = Literal["modbus_client", "opcua_client"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What stood in the PLC's own block, and the monotonic moment that it is counted from."""

    values: Mapping[str, ControlValue]
    at_ns: int


class PlcConnection(Protocol):
    """One connection to a PLC, opened once and never again. Calls end within their time limit, with OutputError if need be."""

    async def open(self) -> None:
        """Connect; raises OutputError, RefusedError for a PLC that is there and can't be used as configured."""

    async def write(self) -> bool:
        """Write what holds now; gives False when an order in it may have come late and the whole is to be sent again."""

    async def read(self) -> Found:
        """Read the PLC's own block."""

    async def close(self, *, orderly: bool) -> None:
        """Let go; what is not `orderly` drops whatever is still on its way to the PLC."""


def pause_s(attempt: int, *, jitter: float) -> float:
    """Give the wait before the next try: doubling from 0.25 to 5 s, up to half of it taken off at random (0 to 1)."""
    longest: float = min(FIRST_PAUSE_S * 2.0 ** min(attempt, 10), LONGEST_PAUSE_S)
    return longest * (1.0 - jitter / 2)


class PlcClient:
    """Write one station into one PLC. `read_s` 0 reads nothing; all calls belong to the loop that `start` ran on.

    With `drives_gate` each order that does not reach the PLC in time is posted as missed.
    """

    def __init__(
        self,
        panel: PlcPanel,
        *,
        name: PlcClientName,
        where: str,
        connect: Callable[[], PlcConnection],
        orders: FreshOrders,
        clock_ns: Callable[[], int],
        read_s: float,
        write_s: float,
        drives_gate: bool,
    ) -> None:
        self._panel = panel
        self._name: PlcClientName = name
        self._where = where
        self._connect = connect
        self._orders = orders
        self._clock_ns = clock_ns
        self._read_s, self._write_s = read_s, write_s
        self._drives_gate = drives_gate
        self._state: PlcLinkState = "opening"
        self._dirty, self._look = asyncio.Event(), asyncio.Event()
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.connections = 0
        panel.watch(self._changed)

    @property
    def name(self) -> PlcClientName:
        """The section of the configuration that it comes from."""
        return self._name

    def start(self) -> None:
        """Begin to connect."""
        self._panel.post(PlcLink(link=self._name, state="opening", drives_gate=self._drives_gate))
        task = asyncio.create_task(self._run(), name=f"{self._name} {self._panel.station}")
        task.add_done_callback(self._ended)
        self._tasks.append(task)
        if self._drives_gate:
            self._tasks.append(asyncio.create_task(self._watch(), name=f"{self._name} {self._panel.station} orders"))

    async def stop(self) -> None:
        """Write the last view if the PLC takes it within 0.5 s, and let go."""
        self._stopping.set()
        self._dirty.set()
        if self._tasks:
            await asyncio.wait(self._tasks[:1], timeout=FAREWELL_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """See to it that nobody takes a client for well that has ended by a fault of its own."""
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._tell("lost", f"internal fault: {fault!r}")

    def _changed(self, _view: PlcView) -> None:
        self._dirty.set()
        self._look.set()

    async def _run(self) -> None:
        attempt = 0
        while not self._stopping.is_set():
            connection = self._connect()
            orderly = False
            try:
                await connection.open()
                self.connections += 1
                await self._serve(connection)
                orderly = True
            except OutputError as exc:
                # Only a PLC that has taken everything makes the next try an early one.
                attempt = 0 if self._state == "up" else attempt + 1
                orderly = isinstance(exc, RefusedError)  # it answers: nothing is under way
                self._tell("refused" if orderly else "lost", str(exc))
            finally:
                self._orders.lost()
                self._look.set()
                await connection.close(orderly=orderly)
            with suppress(TimeoutError):  # the time that passes is what is waited for
                await asyncio.wait_for(self._stopping.wait(), pause_s(attempt, jitter=random.random()))

    async def _serve(self, connection: PlcConnection) -> None:
        """Write and read until the connection ends; the first thing a PLC gets is the present state."""
        loop = asyncio.get_running_loop()
        sighted = False
        write_at = read_at = loop.time()
        self._dirty.set()
        while True:
            stopping = self._stopping.is_set()
            if self._dirty.is_set() or loop.time() >= write_at:
                await self._write(connection)
                write_at = loop.time() + self._write_s
            if stopping:
                return
            if self._read_s and loop.time() >= read_at:
                found = await connection.read()
                take = self._panel.control if sighted else self._panel.sight
                take(self._name, found.values, now_ns=found.at_ns)
                sighted = True
                read_at = max(read_at + self._read_s, loop.time())
            if sighted or not self._read_s:
                self._tell("up", "")  # only what does all that it is there for is well
            wait_s = min(write_at, read_at if self._read_s else write_at) - loop.time()
            if wait_s > 0:
                with suppress(TimeoutError):  # the time that passes is what is waited for
                    await asyncio.wait_for(self._dirty.wait(), wait_s)

    async def _write(self, connection: PlcConnection) -> None:
        self._dirty.clear()
        if not await connection.write():
            self._dirty.set()
        self._look.set()

    def _tell(self, state: PlcLinkState, reason: str) -> None:
        if state == self._state:
            return
        self._state = state
        names = {"client": self._name, "station": self._panel.station, "plc": self._where}
        if state == "up":
            _log.info("plc_written", **names)
        else:
            _log.warning("plc_refuses" if state == "refused" else "plc_lost", reason=reason, **names)
        self._panel.post(PlcLink(link=self._name, state=state, drives_gate=self._drives_gate, reason=reason))

    async def _watch(self) -> None:
        """Tell of each order that the PLC did not get in time, as soon as that is certain."""
        while True:
            self._look.clear()
            now_ns = self._clock_ns()
            late, next_ns = self._orders.undelivered(self._panel.view, now_ns)
            if late:
                self._panel.post(GateNews(event="missed", keys=late, text=f"{self._where}: {NOT_IN_TIME}"))
            limit_s = None if next_ns is None else max(0.001, (next_ns - now_ns) / 1e9 + 0.001)
            with suppress(TimeoutError):  # the time that passes is what is waited for
                await asyncio.wait_for(self._look.wait(), limit_s)
