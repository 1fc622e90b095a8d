"""A whole line on a clock that jumps: conveyor and PLC as pure functions, and a bridge that judges by the label."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bridge.domain.belt import Belt, BeltEvent, BeltSettings
from bridge.domain.gate_plan import GatePlan
from bridge.domain.gate_settings import GateSettings
from bridge.domain.verdict import Disposition
from simulators.faults import FaultSchedule, ScheduledFault
from simulators.line.camera import Picture, ReplayCamera
from simulators.line.conveyor import Conveyor, Laying, LineEvent, Riding
from simulators.line.field_io import FieldState, decode_inputs, encode_inputs
from simulators.line.geometry import Geometry
from simulators.plc.core import Decision, Firing, Plc, ScanInputs
from simulators.plc.tables import (
    COUNTS_VALID,
    GUARD_OR_COLLATERAL,
    LET_PASS,
    ORDER_MISSED,
    ORDER_VALID,
    REJECT,
    U32,
    BridgeResult,
)
from simulators.truth import PartTruth

MS = 1_000_000
PICTURES = tuple(
    Picture(path=Path(f"{label}.jpg"), name=f"{label}/{n}.jpg", label=label)
    for n, label in enumerate(("good", "good", "pitting", "good", "pitting", "pitting", "good"))
)


@dataclass(kw_only=True)
class SimulatedBridge(ABC):
    """A bridge in simulated time that judges by the label: one part after the other, `latency_ms` each.

    `silent` sequences never get a result; from `dies_at_ns` on nothing is published and the heartbeat stands still.
    """

    geometry: Geometry
    random: random.Random
    speed_mm_s: float
    latency_ms: tuple[float, float] = (5.0, 120.0)
    silent: frozenset[int] = frozenset()
    dies_at_ns: int | None = None
    missed: set[int] = field(default_factory=set)
    collateral: set[int] = field(default_factory=set)
    _seen: set[int] = field(default_factory=set)
    _free_ns: int = 0
    _judging: list[tuple[int, Riding]] = field(default_factory=list)
    _published: list[tuple[int, BridgeResult]] = field(default_factory=list)

    def take(self, event: LineEvent) -> None:
        """Accept the part of one photo-eye event, however often it is told."""
        part = event.part
        if part is None or event.copies == 0 or part.sequence in self._seen or part.sequence in self.silent:
            return
        self._seen.add(part.sequence)
        self.expect(part, event.at_ns)
        self._free_ns = max(event.at_ns, self._free_ns) + round(self.random.uniform(*self.latency_ms) * MS)
        self._judging.append((self._free_ns, part))

    def live_until(self, now_ns: int) -> None:
        """Publish every verdict that stands by now."""
        while self._judging and self._judging[0][0] <= now_ns:
            at_ns, part = self._judging.pop(0)
            if self.dies_at_ns is None or at_ns < self.dies_at_ns:
                self._published.append((at_ns, self.decide(part, at_ns)))

    def read(self, now_ns: int) -> tuple[BridgeResult, ...]:
        """Give what has been published since the last poll."""
        self.live_until(now_ns)
        results = tuple(result for _, result in self._published)
        self._published.clear()
        return results

    def heartbeat(self, now_ns: int) -> int:
        """Count every half second of life."""
        return (now_ns if self.dies_at_ns is None else min(now_ns, self.dies_at_ns)) // (500 * MS) % 65536

    @abstractmethod
    def expect(self, part: Riding, triggered_ns: int) -> None:
        """Note a part that has met the beam."""

    @abstractmethod
    def decide(self, part: Riding, now_ns: int) -> BridgeResult:
        """Give the part's result with its order."""

    @abstractmethod
    def sample(self, state: FieldState, now_ns: int) -> None:
        """Take what the PLC writes."""


@dataclass(kw_only=True)
class LabelBridge(SimulatedBridge):
    """Orders by the contract's formula alone; MISSED when later than 20 ms before due at the nominal speed."""

    _triggered_ns: dict[int, int] = field(default_factory=dict)

    def sample(self, state: FieldState, now_ns: int) -> None:
        del state, now_ns  # the formula needs nothing but the latched count

    def expect(self, part: Riding, triggered_ns: int) -> None:
        self._triggered_ns[part.sequence] = triggered_ns

    def decide(self, part: Riding, now_ns: int) -> BridgeResult:
        geometry, good = self.geometry, part.picture.label == "good"
        due_ms = geometry.window_from_mm / self.speed_mm_s * 1e3 - geometry.open_lead_ms
        late = now_ns > self._triggered_ns[part.sequence] + round((due_ms - 20) * MS)
        if late:
            self.missed.add(part.sequence)
        return BridgeResult(
            sequence=part.sequence,
            verdict=5 if late else 1 if good else 2,
            disposition=LET_PASS if good and not late else REJECT,
            open_count=(part.count + round(geometry.window_from_mm * geometry.counts_per_mm)) % U32,
            close_count=(part.count + round(geometry.window_to_mm * geometry.counts_per_mm)) % U32,
            flags=ORDER_MISSED if late else 0 if good else ORDER_VALID | COUNTS_VALID,
        )


@dataclass(kw_only=True)
class PlanBridge(SimulatedBridge):
    """Orders by the bridge's own belt and gate plan, fed with the counts that the PLC writes every other scan."""

    firing_jitter_ms: float = 5.0

    def __post_init__(self) -> None:
        geometry = self.geometry
        self._belt = Belt(
            BeltSettings(speed_mm_s=self.speed_mm_s, speed_source="encoder", counts_per_mm=geometry.counts_per_mm)
        )
        self._plan = GatePlan(
            GateSettings(
                distance_mm=geometry.gate_distance_mm,
                open_lead_ms=geometry.open_lead_ms,
                close_lead_ms=geometry.close_lead_ms,
                part_length_mm=geometry.part_length_mm,
                length_tolerance_mm=geometry.part_length_tolerance_mm,
                guard_mm=geometry.guard_mm,
                firing_jitter_ms=self.firing_jitter_ms,
                kind="pulse" if geometry.pulse_ms else "divert",
                pulse_ms=geometry.pulse_ms or 50.0,
            ),
            self._belt,
        )

    def sample(self, state: FieldState, now_ns: int) -> None:
        event = self._belt.encoder_sample(state.encoder_count, now_ns)
        revisions = self._plan.reset(now_ns) if event is BeltEvent.RESET else []
        for revision in [*revisions, *self._plan.revise(now_ns)]:
            if revision.missed:
                self.missed.add(revision.key[1])
            if revision.collateral:
                self.collateral.add(revision.key[1])
        self._plan.prune(now_ns)

    def expect(self, part: Riding, triggered_ns: int) -> None:
        placed = self._belt.place(triggered_ns=triggered_ns, latched_count=part.count, now_ns=triggered_ns)
        length_mm = None
        if part.eye_on_ns is not None:
            front_mm, rear_mm = (self._belt.position_mm(triggered_ns - ns) for ns in (part.eye_on_ns, 0))
            length_mm = None if front_mm is None or rear_mm is None else rear_mm - front_mm
        self._plan.expect(
            (1, part.sequence),
            x0_mm=placed.x0_mm,
            count_at_trigger=placed.count_at_trigger,
            length_mm=length_mm,
        )

    def decide(self, part: Riding, now_ns: int) -> BridgeResult:
        key = (1, part.sequence)
        deadline_ns = self._plan.deadline_ns(key, now_ns)
        late = deadline_ns is not None and now_ns > deadline_ns
        passes = part.picture.label == "good" and not late and part.eye_on_ns is None
        outcome = self._plan.order_for(key, Disposition.LET_PASS if passes else Disposition.REJECT, now_ns)
        order = outcome.order
        self.collateral |= {swept[1] for swept in outcome.collateral}
        if passes and order.collateral:
            self.collateral.add(part.sequence)
        if order.state == "missed":
            self.missed.add(part.sequence)
        valid = ORDER_VALID | COUNTS_VALID if order.state == "ordered" and order.open_count is not None else 0
        return BridgeResult(
            sequence=part.sequence,
            verdict=1 if passes else 5 if late else 2,
            disposition=LET_PASS if passes else REJECT,
            open_count=order.open_count or 0,
            close_count=order.close_count or 0,
            flags=valid
            | (ORDER_MISSED if order.state == "missed" else 0)
            | (GUARD_OR_COLLATERAL if order.guard_given_up or order.collateral else 0),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one simulated run left behind."""

    truths: tuple[PartTruth, ...]
    decisions: tuple[Decision, ...]
    firings: tuple[Firing, ...]
    binned: int
    missed: frozenset[int]
    collateral: frozenset[int]
    fully_open: tuple[tuple[int, int], ...] = ()


def run_line(
    *,
    seed: int,
    parts: int = 40,
    speed_mm_s: float = 1200.0,
    spacing_mm: float = 180.0,
    jitter_mm: float = 0.0,
    geometry: Geometry | None = None,
    faults: tuple[ScheduledFault, ...] = (),
    first_sequence: int = 1,
    first_count: int = 0,
    latency_ms: tuple[float, float] = (5.0, 120.0),
    silent: frozenset[int] = frozenset(),
    bridge_dies_after_ms: float | None = None,
    scan_jitter_ms: float = 0.8,
    bridge_type: Callable[..., SimulatedBridge] = LabelBridge,
    plc: Plc | None = None,
) -> Run:
    """Run a line from its first part to its last; the same arguments give the same run. Times are whole microseconds."""
    chance, geometry = random.Random(seed), geometry or Geometry()
    conveyor = Conveyor(
        now_ns=0,
        camera=ReplayCamera(PICTURES),
        geometry=geometry,
        laying=Laying(
            parts=parts, spacing_mm=spacing_mm, jitter_mm=jitter_mm, seed=seed, first_sequence=first_sequence
        ),
        speed_mm_s=speed_mm_s,
        first_count=first_count,
        faults=FaultSchedule(faults),
    )
    bridge = bridge_type(
        geometry=geometry,
        random=chance,
        speed_mm_s=speed_mm_s,
        latency_ms=latency_ms,
        silent=silent,
        dies_at_ns=None if bridge_dies_after_ms is None else round(bridge_dies_after_ms * MS),
    )
    plc, gate = plc or Plc(geometry=geometry), False
    decisions: list[Decision] = []
    firings: list[Firing] = []
    conveyor.start(0)
    for scan in range(20_000):
        sampled_ns = scan * 10 * MS + round(chance.uniform(0, scan_jitter_ms) * 1000) * 1000
        for event in conveyor.update(sampled_ns, gate_on=gate)[0]:
            if event.kind == "at_eye":
                bridge.take(event)
        if conveyor.finished:
            break
        now_ns = sampled_ns + round(chance.uniform(0.1, 0.6) * 1000) * 1000
        state = decode_inputs(encode_inputs(conveyor.state_at(sampled_ns)))
        bridge.live_until(sampled_ns)
        if scan % 2 == 0:
            bridge.sample(state, sampled_ns)
        inputs = ScanInputs(
            sampled_ns=sampled_ns,
            field=state,
            results=bridge.read(sampled_ns),
            heartbeat=bridge.heartbeat(sampled_ns),
        )
        outputs = plc.scan(now_ns, inputs)
        gate = outputs.gate
        decisions += outputs.decisions
        firings += outputs.firings
        for event in conveyor.update(now_ns, gate_on=gate)[0]:
            if event.kind == "at_eye":
                bridge.take(event)
    return Run(
        truths=tuple(conveyor.truths),
        decisions=tuple(decisions),
        firings=tuple(firings),
        binned=sum(truth.outcome == "binned" for truth in conveyor.truths),
        missed=frozenset(bridge.missed),
        collateral=frozenset(bridge.collateral),
        fully_open=tuple(conveyor.gate.fully_open),
    )
