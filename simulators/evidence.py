"""What a run leaves behind, from every side: what really happened, what was recorded, read and heard, what was away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from simulators.demo.records import GateEvent, Verdict
from simulators.plc.record import PlcRecord
from simulators.truth import LineTruth, PartTruth

Span = tuple[int, int]
"""From and to, in monotonic ns."""
IN_FLIGHT_NS = 500_000_000
"""What was on its way into a process as it was killed may have been confirmed, and is gone all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What an MQTT client heard: verdict documents, gate reports, alarms, and the counters of the last status.

    `deaf` are the times without a subscription: what was published in them nobody could hear.
    """

    verdicts: tuple[Mapping[str, Any], ...] = ()
    gate: tuple[Mapping[str, Any], ...] = ()
    alarms: tuple[Mapping[str, Any], ...] = ()
    counters: Mapping[str, int] = field(default_factory=dict)
    deaf: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultTime:
    """A fault by its kind, and when it stood."""

    kind: str
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Outages:
    """When something was away: a broker that keeps nothing, and the PLC's two ways to read results.

    `broker` lasts until the bridge listens again, `modbus` and `opcua` until the PLC that was started again reads;
    `triggers` are the times in which a PLC that triggers by handshake was away.
    """

    broker: tuple[Span, ...] = ()
    modbus: tuple[Span, ...] = ()
    opcua: tuple[Span, ...] = ()
    triggers: tuple[Span, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything that a run left behind; `speed_mm_s` is the belt's usual speed."""

    truth: LineTruth
    plc: PlcRecord
    records: tuple[Verdict, ...]
    observed: Observed
    gate_events: tuple[GateEvent, ...] = ()
    faults: tuple[FaultTime, ...] = ()
    outages: Outages = field(default_factory=Outages)
    speed_mm_s: float = 1200.0

    @property
    def gate_errors_mm(self) -> list[float]:
        """|moment the command left - due| x speed of each firing, measured by whoever fired: the PLC or the bridge."""
        told = [d["error_ms"] for d in self.observed.gate if d.get("event") == "fired"]
        own = [abs(error_ms) / 1e3 * self.speed_mm_s for error_ms in told if error_ms is not None]
        return own or self.plc.gate_errors_mm

    @cached_property
    def lost(self) -> set[int]:
        """The parts whose trigger died with the broker, or with the PLC that had to tell: the bridge never heard of them."""
        recorded = {record.sequence for record in self.records}
        away = (*self.outages.broker, *self.outages.triggers)
        return {
            part.sequence
            for part in self.truth.told
            if part.sequence not in recorded and within(part.triggered_ns, away)
        }

    @cached_property
    def missed(self) -> dict[int, str]:
        """The parts whose order the bridge reported missed, with its reason."""
        named = {record.sequence: record.reason for record in self.records if record.gate_state == "missed"}
        heard = {
            int(d["sequence"]): str(d.get("reason") or "") for d in self.observed.gate if d.get("event") == "missed"
        }
        return {**named, **heard, **{e.sequence: e.reason for e in self.gate_events if e.event == "missed"}}

    @cached_property
    def collateral(self) -> set[int]:
        """The parts that the bridge reported as let pass and swept."""
        own = {record.sequence for record in self.records if record.collateral and not record.rejects}
        return own | {event.sequence for event in self.gate_events if event.event == "collateral"}

    @cached_property
    def arrived(self) -> dict[int, PartTruth]:
        """The parts whose trigger was told and did not die on its way."""
        lost = self.lost
        return {part.sequence: part for part in self.truth.told if part.sequence not in lost}

    def decided_within(self, spans: Iterable[Span]) -> set[int]:
        """Give the parts whose verdict was recorded as decided inside any of the spans."""
        spans, offset_ns = tuple(spans), self.truth.utc_offset_ns
        return {r.sequence for r in self.records if within(r.decided_utc_ns - offset_ns, spans)}


def within(at_ns: int, spans: Iterable[Span]) -> bool:
    """Whether a moment lies inside any of the spans."""
    return any(start_ns <= at_ns <= end_ns for start_ns, end_ns in spans)
