"""The PLC's two cycles in real time: the scan with its I/O, and the exchange with the bridge half a scan apart from it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from simulators.line.field_io import FieldState
from simulators.plc.core import Plc, ScanInputs, ScanOutputs
from simulators.plc.handshake import TriggerHandshake
from simulators.plc.links import BridgeLink, FieldLink, LinkDownError
from simulators.plc.record import PlcRecord
from simulators.plc.tables import READY_BIT, STOP_REQUEST_BIT, TRIGGER_ACK_BIT, U32, BridgeResult, ControlBlock
from simulators.process import say

TriggerBy = Literal["none", "modbus", "opcua"]
RETRY_S = 0.2
BEAT_NS = 100_000_000


@dataclass(slots=True, kw_only=True)
class Shared:
    """What one cycle leaves for the other; both run on one loop."""

    results: deque[BridgeResult] = field(default_factory=deque)
    heartbeat: int | None = None
    inputs: FieldState | None = None
    sampled_ns: int = 0
    fired: int = 0
    handshake: TriggerHandshake = field(default_factory=TriggerHandshake)


class Beat:
    """Absolute ticks of a cycle: a late one is followed by the next that can still be met."""

    def __init__(self, period_ms: float, offset_ms: float = 0.0) -> None:
        self._period_s, self._offset_s = period_ms / 1e3, offset_ms / 1e3

    async def tick(self) -> None:
        """Wait for the next tick."""
        loop = asyncio.get_running_loop()
        now_s = loop.time() - self._offset_s
        next_s = (now_s // self._period_s + 1) * self._period_s + self._offset_s
        await asyncio.sleep(next_s - loop.time())


class ScanCycle:
    """Read the inputs, run the program, switch the output: every `scan_ms`."""

    def __init__(
        self,
        *,
        plc: Plc,
        field: FieldLink,
        shared: Shared,
        record: PlcRecord,
        scan_ms: float,
        trigger: TriggerBy,
        trigger_opcua: Callable[[int, int], None],
        fires: bool = True,
    ) -> None:
        self._plc, self._field, self._shared, self._record = plc, field, shared, record
        self._beat, self._trigger, self._trigger_opcua = Beat(scan_ms), trigger, trigger_opcua
        self._gate: bool | None = None
        self._fires = fires

    async def run(self) -> None:
        """Scan for ever; while the field's I/O is away nothing is switched."""
        while True:
            await self._beat.tick()
            try:
                await self.once()
            except LinkDownError:
                self._gate = None
                await asyncio.sleep(RETRY_S)

    async def once(self) -> None:
        """Run one scan; raises LinkDownError."""
        asked_ns = time.monotonic_ns()
        sampled_ns, state = await self._field.read()
        shared = self._shared
        shared.inputs, shared.sampled_ns = state, sampled_ns
        self._record.longest_read_ms = max(self._record.longest_read_ms, (time.monotonic_ns() - asked_ns) / 1e6)
        results = tuple(shared.results)
        shared.results.clear()
        inputs = ScanInputs(sampled_ns=sampled_ns, field=state, results=results, heartbeat=shared.heartbeat)
        outputs = self._plc.scan(time.monotonic_ns(), inputs)
        if not self._fires:
            # The bridge has the gate: what this program would have done with it is nobody's business.
            outputs = replace(outputs, firings=(), decisions=(), fired=0)
        elif outputs.gate != self._gate:
            await self._field.write_gate(outputs.gate)
            self._gate = outputs.gate
        shared.fired = outputs.fired
        self._report(outputs)

    async def rest(self) -> None:
        """Switch the gate off at the end."""
        if not self._fires:
            return
        try:
            await self._field.write_gate(False)
        except LinkDownError as exc:
            self._record.remarks.append(f"gate not switched off at the end: {exc}")

    def _report(self, outputs: ScanOutputs) -> None:
        now_ns = time.monotonic_ns()
        for edge in outputs.met:
            if self._trigger == "modbus":
                self._shared.handshake.take(edge, now_ns)
            elif self._trigger == "opcua":
                self._trigger_opcua(edge.sequence, edge.count)
        known = len(self._record.overruns)
        self._record.note_scan(now_ns, outputs)
        for from_ns, to_ns in self._record.overruns[known:]:
            say("overrun", from_ns=from_ns, to_ns=to_ns)
        for firing in outputs.firings:
            say("fired", sequence=firing.sequence, error_ms=firing.error_ms, mm_s=firing.speed_mm_s, at_ns=firing.at_ns)
        for decision in outputs.decisions:
            say("decision", **asdict(decision))


class BridgeCycle:
    """Read the bridge's map and write the PLC's block, half a scan after the scan, so that it finds the newest results."""

    def __init__(
        self, *, link: BridgeLink, shared: Shared, record: PlcRecord, scan_ms: float, counts_per_mm: float
    ) -> None:
        self._link, self._shared, self._record, self._counts_per_mm = link, shared, record, counts_per_mm
        self._beat = Beat(scan_ms, offset_ms=scan_ms / 2)
        self._request = shared.handshake.step(0, ready=False, acknowledged=False)
        self._stop_request = False
        self._linked = False

    async def run(self) -> None:
        """Exchange for ever; the block goes out every second time, or at once when the Trigger bit changes."""
        cycle = 0
        while True:
            await self._beat.tick()
            cycle += 1
            try:
                await self._once(write=cycle % 2 == 0)
            except LinkDownError:
                await asyncio.sleep(RETRY_S)

    async def _once(self, *, write: bool) -> None:
        live, fresh = await self._link.poll()
        read_ns = time.monotonic_ns()
        shared = self._shared
        shared.heartbeat = live.heartbeat
        shared.results.extend(fresh)
        self._record.note_live(live, overrun=self._link.overrun)
        for result in fresh:
            self._record.note_modbus(result, read_ns)
            say(
                "modbus_result", sequence=result.sequence, verdict=result.verdict, disposition=result.disposition,
                flags=result.flags, at_ns=read_ns,
            )  # fmt: skip
        if live.bit(STOP_REQUEST_BIT) != self._stop_request:
            self._stop_request = live.bit(STOP_REQUEST_BIT)
            say("stop_request", on=self._stop_request)
        request = shared.handshake.step(read_ns, ready=live.bit(READY_BIT), acknowledged=live.bit(TRIGGER_ACK_BIT))
        changed, self._request = request.trigger != self._request.trigger, request
        if shared.inputs is not None and (write or changed):
            await self._link.write(self._block(shared.inputs))
            if not self._linked:
                self._linked = True
                say("linked")

    def _block(self, state: FieldState) -> ControlBlock:
        """Give the block as it leaves now: the count is carried on from the scan that read it."""
        now_ns = time.monotonic_ns()
        gone = (now_ns - self._shared.sampled_ns) / 1e9 * state.speed_mm_s * self._counts_per_mm
        return ControlBlock(
            heartbeat=now_ns // BEAT_NS,
            encoder_count=(state.encoder_count + round(gone)) % U32,
            speed_mm_s=state.speed_mm_s,
            confirmed=state.binned,
            fired=self._shared.fired,
            trigger=self._request.trigger,
            sequence=self._request.edge.sequence,
            latched_count=self._request.edge.count,
        )
