"""The faults that befall processes, carried out on the demo's own children: no hook in any of them."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from simulators.demo.board import FAULT_FRAME
from simulators.demo.children import Child
from simulators.demo.processes import frozen, full_disk, model_process
from simulators.demo.relay import Relay
from simulators.evidence import IN_FLIGHT_NS, FaultTime, Outages
from simulators.fault_kinds import (
    KINDS,
    BrokerKill,
    DiskFull,
    DiskSlow,
    Fault,
    FrozenBridge,
    FrozenModel,
    NetworkDelay,
    PlcRestart,
    SlowModel,
    lasts_s,
)

UP_S = 20.0


class ProcessFaults:
    """Carry out each fault in a task of its own as the conveyor tells that it is due, and note when it stood."""

    def __init__(
        self,
        *,
        broker: Child,
        bridge: Child,
        plc: Child,
        relay: Relay | None,
        database: Path,
        picture_bytes: int,
        bridge_ready: Callable[[], Awaitable[None]],
        plc_triggers: bool,
    ) -> None:
        self.outages = Outages()
        self._broker, self._bridge, self._plc, self._relay = broker, bridge, plc, relay
        self._database, self._bridge_ready = database, bridge_ready
        self._picture_bytes, self._plc_triggers = picture_bytes, plc_triggers
        self._times: list[FaultTime] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._act: Mapping[type, Callable[[Any], Coroutine[Any, Any, None]]] = MappingProxyType(
            {
                BrokerKill: self._kill_broker,
                PlcRestart: self._restart_plc,
                SlowModel: self._slow_model,
                FrozenModel: self._freeze_model,
                FrozenBridge: self._freeze_bridge,
                DiskFull: self._fill_disk,
                DiskSlow: self._hold_lock,
                NetworkDelay: self._delay,
            }
        )

    @property
    def times(self) -> tuple[FaultTime, ...]:
        """Every fault of the run so far, with when it stood."""
        return tuple(self._times)

    def begin(self, event: Mapping[str, Any]) -> None:
        """Take a fault that the conveyor tells of, and carry it out if it befalls a process."""
        kind = KINDS[event["kind"]]
        fault: Fault = kind(**{key: value for key, value in event.items() if key not in FAULT_FRAME})
        at_ns = int(event["at_ns"])
        place = len(self._times)
        self._times.append(FaultTime(kind=fault.kind, span=(at_ns, at_ns + round(lasts_s(fault) * 1e9))))
        if (act := self._act.get(kind)) is not None:
            self._tasks.add(asyncio.create_task(self._carry_out(act(fault), place), name=f"fault {fault.kind}"))

    async def over(self) -> None:
        """Wait until every fault that has begun is over; raises what went wrong, such as ChildError."""
        await asyncio.gather(*self._tasks)

    async def stop(self) -> None:
        """Break off what stands, and let go on what stands still."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry_out(self, acting: Coroutine[Any, Any, None], place: int) -> None:
        await acting
        time_ = self._times[place]
        self._times[place] = replace(time_, span=(time_.span[0], time.monotonic_ns()))

    async def _kill_broker(self, fault: BrokerKill) -> None:
        from_ns = time.monotonic_ns() - IN_FLIGHT_NS
        await self._broker.kill()
        await asyncio.sleep(fault.down_s)
        await self._broker.start()
        await self._broker.seen("ready", within_s=UP_S)
        await self._bridge_ready()
        self.outages = replace(self.outages, broker=(*self.outages.broker, (from_ns, time.monotonic_ns())))

    async def _restart_plc(self, fault: PlcRestart) -> None:
        from_ns = time.monotonic_ns() - IN_FLIGHT_NS
        await self._plc.kill()
        await asyncio.sleep(fault.down_s)
        await self._plc.start()
        await self._plc.seen("linked", within_s=UP_S)
        self.outages = replace(self.outages, modbus=(*self.outages.modbus, (from_ns, time.monotonic_ns())))
        await self._plc.seen("opcua_up", within_s=UP_S)
        # The subscription stands; what it tells first may still be on its way.
        until_ns = time.monotonic_ns() + IN_FLIGHT_NS
        self.outages = replace(self.outages, opcua=(*self.outages.opcua, (from_ns, until_ns)))
        if self._plc_triggers:
            self.outages = replace(self.outages, triggers=(*self.outages.triggers, (from_ns, until_ns)))

    async def _slow_model(self, fault: SlowModel) -> None:
        until_s = time.monotonic() + fault.duration_s
        while time.monotonic() < until_s and (bridge := self._bridge.pid) is not None:
            with frozen(model_process(bridge)):
                await asyncio.sleep(fault.stop_ms / 1e3)
            await asyncio.sleep(fault.run_ms / 1e3)

    async def _freeze_model(self, fault: FrozenModel) -> None:
        if (bridge := self._bridge.pid) is not None:
            with frozen(model_process(bridge)):
                await asyncio.sleep(fault.duration_s)

    async def _freeze_bridge(self, fault: FrozenBridge) -> None:
        if (bridge := self._bridge.pid) is not None:
            with frozen(bridge):
                await asyncio.sleep(fault.duration_s)

    async def _fill_disk(self, fault: DiskFull) -> None:
        if (bridge := self._bridge.pid) is not None:
            reader = await asyncio.to_thread(_reading, self._database)
            with closing(reader), full_disk(bridge, room_bytes=self._picture_bytes):
                await asyncio.sleep(fault.duration_s)

    async def _hold_lock(self, fault: DiskSlow) -> None:
        until_s = time.monotonic() + fault.duration_s
        while time.monotonic() < until_s:
            with closing(await asyncio.to_thread(_locked, self._database)):
                await asyncio.sleep(min(fault.hold_ms / 1e3, max(0.0, until_s - time.monotonic())))
            await asyncio.sleep(fault.pause_ms / 1e3)

    async def _delay(self, fault: NetworkDelay) -> None:
        if self._relay is not None:
            self._relay.delay(fault.delay_ms, fault.jitter_ms)
            await asyncio.sleep(fault.duration_s)
            self._relay.delay(0.0)


def _reading(database: Path) -> sqlite3.Connection:
    """Give a connection that reads: for as long as it does, what is to be written can't begin at a file's start again."""
    connection = sqlite3.connect(database, timeout=10.0, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM verdicts").fetchone()
    return connection


def _locked(database: Path) -> sqlite3.Connection:
    """Give a connection that holds the lock for writers; closing it lets go."""
    connection = sqlite3.connect(database, timeout=10.0, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    return connection
