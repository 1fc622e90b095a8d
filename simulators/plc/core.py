"""The PLC's program: one scan as a function of its inputs.

It follows every part from the photo-eye by the latched encoder count and fires the reject gate by counts: from the
bridge's order where one stands, by its own measure where a part that is due has no LET_PASS of its own (positive
release). A stroke of a pusher or an air jet is its time long around the middle of the part, or of the bridge's order, at
the present speed. A part that it finds under way at its first scan has none, for an earlier run of its own has left nothing;
one whose count was reset with the encoder is rejected where the belt must have carried it. Counts are u32 and compared
as `INT32(now - open_count) >= 0`, the gate's lead being taken off at the present speed. A scan acts when the moment it
should have hit is nearer than the next scan, so the error lies around zero.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from simulators.line.field_io import U16, Edge, FieldState
from simulators.line.geometry import Geometry
from simulators.plc.tables import GUARD_OR_COLLATERAL, LET_PASS, U32, BridgeResult, int32
from simulators.plc.windows import Moment, Tracked, Windows, centre, later

By = Literal["order", "release", "let_pass"]
HEARTBEAT_LIMIT_NS = 2_000_000_000
# A result follows its part's front edge: one that is older when the part is first seen is of an earlier run of the counter.
RESULT_LIFE_NS = 1_000_000_000
TOP_MM_S = 4500.0
BACK_MM = 100.0
SAMPLE_SLACK_NS = 20_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanInputs:
    """What the scan sees. `sampled_ns` is when the field's counts were true; `results` are new since the last scan.

    `heartbeat` is the bridge's, as last read; None while it has never been read.
    """

    sampled_ns: int
    field: FieldState
    results: tuple[BridgeResult, ...] = ()
    heartbeat: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the PLC does with one part, and why. `reason` is for people."""

    sequence: int
    reject: bool
    by: By
    reason: str
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Firing:
    """One on-command: `error_ms` is how late it left (negative: early), None while the belt stood."""

    sequence: int
    at_ns: int
    error_ms: float | None
    speed_mm_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOutputs:
    """What the scan switches and reports. `met` are the parts that have met the beam since the last scan."""

    gate: bool
    fired: int
    met: tuple[Edge, ...] = ()
    decisions: tuple[Decision, ...] = ()
    firings: tuple[Firing, ...] = ()


class Plc:
    """Scan cycle of the simulated PLC; see the module. `scan_ms` is its cycle, half of which centres the error."""

    def __init__(
        self, *, geometry: Geometry, scan_ms: float = 10.0, min_on_ms: float = 30, min_off_ms: float = 30
    ) -> None:
        self._geometry, self._scan_ms = geometry, scan_ms
        self._windows = Windows(geometry, scan_ms=scan_ms)
        self._min_on_ns, self._min_off_ns = round(min_on_ms * 1e6), round(min_off_ms * 1e6)
        self._min_off_ms = min_off_ms
        self._parts: list[Tracked] = []
        self._results: OrderedDict[int, tuple[int, BridgeResult]] = OrderedDict()
        self._edges_seen: int | None = None
        self._gate = False
        self._switched_ns: int | None = None
        self._fired = 0
        self._heartbeat: int | None = None
        self._beat_ns: int | None = None
        self._sampled: tuple[int, int, float] | None = None
        self._shift = 0

    def scan(self, now_ns: int, inputs: ScanInputs) -> ScanOutputs:
        """Run one cycle whose outputs switch at `now_ns`."""
        moment = self._moment(now_ns, inputs)
        self._note_count(inputs)
        self._watch(now_ns, inputs.heartbeat)
        met = self._follow(inputs.field, moment)
        if inputs.field.photo_eye and self._parts and self._parts[-1].sequence == inputs.field.edges[-1].sequence:
            self._windows.held(self._parts[-1], inputs.field.encoder_count, moment)
        self._adopt(now_ns, inputs.results)
        for part in self._parts:
            self._windows.lay(part, moment)
        decisions = tuple(self._decide(moment))
        firings = tuple(self._switch(moment, inputs.field.speed_mm_s))
        limit = self._geometry.close_lead_ms * moment.per_ms + 100 * self._geometry.counts_per_mm
        self._parts = [p for p in self._parts if p.stage != "done" or moment.to_go(p.close_count) > -limit]
        return ScanOutputs(gate=self._gate, fired=self._fired, met=met, decisions=decisions, firings=firings)

    def _moment(self, now_ns: int, inputs: ScanInputs) -> Moment:
        per_ms = inputs.field.speed_mm_s * self._geometry.counts_per_mm / 1000
        gone = round((now_ns - inputs.sampled_ns) / 1e6 * per_ms)
        return Moment(
            now_ns=now_ns,
            count=(inputs.field.encoder_count + gone) % U32,
            per_ms=per_ms,
            slack_ms=self._scan_ms / 2,
        )

    def _note_count(self, inputs: ScanInputs) -> None:
        """Compare the encoder with the last scan: after a step that no belt can make, all places are reckoned anew."""
        sampled_ns, count, speed_mm_s = inputs.sampled_ns, inputs.field.encoder_count, inputs.field.speed_mm_s
        before, self._sampled = self._sampled, (sampled_ns, count, speed_mm_s)
        if before is None:
            return
        passed_ns, per_mm = sampled_ns - before[0], self._geometry.counts_per_mm
        step = int32(count - before[1])
        if -BACK_MM * per_mm <= step <= TOP_MM_S * (passed_ns + SAMPLE_SLACK_NS) / 1e9 * per_mm:
            return
        gone = round((before[2] + speed_mm_s) / 2 * passed_ns / 1e9 * per_mm)
        self._shift = int32(before[1] + gone - count)
        for part in self._parts:
            part.front_count = (part.front_count - self._shift) % U32
            part.open_count = (part.open_count - self._shift) % U32
            part.close_count = (part.close_count - self._shift) % U32
            if part.stage in ("waiting", "ordered"):
                part.stage, part.let_pass, part.exact, part.lost = "waiting", False, False, True

    def _watch(self, now_ns: int, heartbeat: int | None) -> None:
        if heartbeat is not None and heartbeat != self._heartbeat:
            self._heartbeat, self._beat_ns = heartbeat, now_ns

    def _bridge_lives(self, now_ns: int) -> bool:
        return self._beat_ns is not None and now_ns - self._beat_ns < HEARTBEAT_LIMIT_NS

    def _follow(self, field: FieldState, moment: Moment) -> tuple[Edge, ...]:
        """Take the parts that have met the beam since the last scan; at the first scan, all that are still under way."""
        new = len(field.edges)
        if self._edges_seen is not None:
            new = min(new, (field.edge_number - self._edges_seen) % U16)
        self._edges_seen = field.edge_number
        met = field.edges[len(field.edges) - new :]
        for edge in met:
            # One that was latched just before a reset of the encoder is told with the count of before.
            under_way = self._windows.under_way(edge.count, moment)
            front = edge.count if under_way else (edge.count - self._shift) % U32
            known = under_way or self._windows.under_way(front, moment)
            if known and all(p.sequence != edge.sequence for p in self._parts):
                self._parts.append(self._windows.of(edge.sequence, front, moment, lost=not under_way))
        return met

    def _adopt(self, now_ns: int, results: Iterable[BridgeResult]) -> None:
        for result in results:
            self._results[result.sequence] = (now_ns, result)
        while self._results and now_ns - next(iter(self._results.values()))[0] > RESULT_LIFE_NS:
            self._results.popitem(last=False)
        for part in self._parts:
            if part.stage != "waiting" or part.lost or part.sequence not in self._results:
                continue
            _, result = self._results.pop(part.sequence)
            part.let_pass = result.disposition == LET_PASS and not part.longer
            part.missed = result.missed
            if result.has_order and self._windows.plausible(part, result):
                part.stage, part.exact = "ordered", True
                part.tight = bool(result.flags & GUARD_OR_COLLATERAL)
                closing = later(result.close_count, part.close_count) if part.longer else result.close_count
                part.open_count, part.close_count = result.open_count, closing
                part.middle_count = centre(result.open_count, result.close_count)

    def _decide(self, moment: Moment) -> Iterable[Decision]:
        """Settle every part that is due: the one place where a part may be let pass."""
        lead_ms = self._geometry.open_lead_ms
        for part in self._parts:
            if part.stage not in ("waiting", "ordered"):
                continue
            if not moment.reached(self._windows.opening(part, self._parts, moment), lead_ms, never_early=part.tight):
                continue
            lives = self._bridge_lives(moment.now_ns)
            if part.stage == "waiting" and part.let_pass and lives:
                part.stage = "done"
                yield self._decision(part, moment, reject=False, by="let_pass", reason="LET_PASS")
                continue
            by: By = "order" if part.stage == "ordered" else "release"
            if by == "order":
                reason = "REJECT"
            elif part.lost:
                reason = "the encoder was reset"
            elif part.longer:
                reason = "it held the beam for longer than a part"
            elif part.missed:
                reason = "the bridge's order was missed"
            else:
                reason = "no result" if lives else "the bridge's heartbeat stands still"
            part.stage = "firing"
            yield self._decision(part, moment, reject=True, by=by, reason=reason)

    def _decision(self, part: Tracked, moment: Moment, *, reject: bool, by: By, reason: str) -> Decision:
        return Decision(sequence=part.sequence, reject=reject, by=by, reason=reason, at_ns=moment.now_ns)

    def _switch(self, moment: Moment, speed_mm_s: float) -> Iterable[Firing]:
        """Open while any part that is fired on has its window, and between windows too near to close."""
        firing = [part for part in self._parts if part.stage == "firing"]
        for part in firing:
            if moment.reached(self._windows.closing(part, self._parts, moment)):
                part.stage = "done"
        open_parts = [part for part in firing if part.stage == "firing"]
        wanted = bool(open_parts) or (self._gate and self._holds(moment))
        since_ns = None if self._switched_ns is None else moment.now_ns - self._switched_ns
        if wanted == self._gate:
            return
        if since_ns is not None and since_ns < (self._min_on_ns if self._gate else self._min_off_ns):
            return
        self._gate, self._switched_ns = wanted, moment.now_ns
        if wanted:
            self._fired = (self._fired + 1) % U32
            first = min(open_parts, key=lambda part: moment.to_go(part.open_count))
            yield self._firing(first, moment, speed_mm_s)

    def _firing(self, part: Tracked, moment: Moment, speed_mm_s: float) -> Firing:
        error_ms = None
        if moment.per_ms > 0 and not part.overdue:
            error_ms = (
                self._geometry.open_lead_ms
                - moment.to_go(self._windows.opening(part, self._parts, moment)) / moment.per_ms
            )
        return Firing(sequence=part.sequence, at_ns=moment.now_ns, error_ms=error_ms, speed_mm_s=speed_mm_s)

    def _holds(self, moment: Moment) -> bool:
        """Whether the gate stays open for the next part: a reject too near to close for, or one not known yet."""
        geometry = self._geometry
        merge_ms = geometry.open_lead_ms + geometry.close_lead_ms
        for part in self._parts:
            if part.stage == "ordered" and moment.reached(part.open_count, merge_ms):
                return True
            undecided = part.stage == "waiting" and not part.let_pass
            if undecided and moment.reached(part.open_count, geometry.open_lead_ms + self._min_off_ms):
                return True
        return False
