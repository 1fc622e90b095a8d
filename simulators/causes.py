"""Name every part that did not simply get its verdict in time and pass or fall: what befell it, and why."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from simulators.evidence import Evidence
from simulators.line.geometry import Geometry
from simulators.truth import PartTruth

GateClass = Literal["right", "wrong", "missed", "collateral"]
NO_RESULT = "no result"
SCAN_MS = 10.0
LONGEST_STROKE_NS = round(max(Geometry().open_lead_ms, Geometry().close_lead_ms) * 1e6)
TOO_CLOSE_NS = LONGEST_STROKE_NS + round(SCAN_MS * 1e6)
"""Parts that leave the gate less time between them can't be separated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """A part with LET_PASS that was rejected all the same, because no fresh LET_PASS of its own stood when it was due."""

    cause: str
    excused: bool


def released(evidence: Evidence, part: PartTruth) -> Released | None:
    """Say why a part with LET_PASS was rejected by who guards the gate, and whether that was right; None if it was not.

    Right is: nobody commanded the gate and the I/O module held it open; the PLC had not read the result when the part
    was due; the bridge's heartbeat stood still; the PLC had lost the part's place with the encoder.
    """
    decision = evidence.plc.decisions.get(part.sequence)
    if decision is not None and decision["reject"] and decision["by"] == "release":
        read = evidence.plc.modbus.get(part.sequence)
        return _by_plc(evidence, decision, None if read is None else int(read["read_ns"]))
    if unguarded(evidence, part):
        return Released(cause="nobody commanded the gate: the I/O module held it open for rejects", excused=True)
    return None


def unguarded(evidence: Evidence, part: PartTruth) -> bool:
    """Whether a part was at the gate while nobody commanded it."""
    return any(start < part.gate_to_ns and part.gate_from_ns < end for start, end in evidence.truth.unguarded)


def swept_beside(evidence: Evidence, part: PartTruth) -> PartTruth | None:
    """Give the part beside this one that the PLC itself rejected, too close for the gate to spare this one; else None.

    The bridge can't report it: it learns of what the PLC does by itself from no one.
    """
    parts = evidence.truth.parts
    place = next(place for place, one in enumerate(parts) if one is part)
    for first, second in itertools.pairwise(parts[max(0, place - 1) : place + 2]):
        other = first if second is part else second
        decision = evidence.plc.decisions.get(other.sequence)
        close = second.gate_from_ns - first.gate_to_ns < TOO_CLOSE_NS
        if close and decision is not None and decision["reject"] and decision["by"] == "release":
            return other
    return None


def overran(evidence: Evidence, part: PartTruth) -> float | None:
    """Give for how many ms the PLC that fires missed its scans while the gate should have moved for a part; None if never.

    A PLC's controller keeps its cycle; this one shares a processor, and tells when it did not: what it switched late
    then says nothing of the bridge.
    """
    if not evidence.plc.decisions:
        return None
    from_ns = part.gate_from_ns - LONGEST_STROKE_NS
    gaps = [end - start for start, end in evidence.plc.overruns if start < part.gate_to_ns and from_ns < end]
    return max(gaps) / 1e6 if gaps else None


def _by_plc(evidence: Evidence, decision: Mapping[str, Any], read_ns: int | None) -> Released:
    decided_ns, reason = int(decision["at_ns"]), str(decision["reason"])
    if reason != NO_RESULT:
        return Released(cause=f"positive release: {reason}", excused=True)
    if read_ns is None:
        return Released(cause="positive release: the PLC never read its result", excused=True)
    if read_ns > decided_ns:
        late_ms = (read_ns - decided_ns) / 1e6
        return Released(cause=f"positive release: its result came {late_ms:.1f} ms after it was due", excused=True)
    if any(read_ns < end_ns < decided_ns for _, end_ns in evidence.outages.modbus):
        return Released(cause="positive release: the PLC that had read its result was restarted", excused=True)
    return Released(cause="positive release, though the PLC had read its LET_PASS", excused=False)


def exceptions(evidence: Evidence, classes: Mapping[str, GateClass]) -> list[dict[str, Any]]:
    """List the parts in the order of the beam; `classes` by part id."""
    records = {record.sequence: record for record in evidence.records}
    lost, missed = evidence.lost, evidence.missed
    found = []
    for part in evidence.truth.parts:
        record = None if part.ahead else records.get(part.sequence)
        told: list[tuple[str, str]] = []
        if classes[part.part_id] == "wrong":
            told.append(("wrong", _what_happened(evidence, part)))
        if classes[part.part_id] == "missed":
            told.append(("missed", missed.get(part.sequence, "")))
        if record is None:
            died_with = "the broker" if evidence.outages.broker else "the PLC that had to tell"
            told.append(_untold(part, lost=died_with if part.sequence in lost else ""))
        elif record.verdict in ("ERROR", "LATE"):
            told.append((record.verdict.lower(), record.reason))
        if record is not None and classes[part.part_id] != "missed" and part.sequence in missed:
            told.append(("missed", f"its order was missed: {missed[part.sequence]}"))
        if classes[part.part_id] == "collateral":
            told.append(("collateral", _collateral(evidence, part)))
        elif record is not None and not record.rejects and part.swept and (why := released(evidence, part)):
            told.append(("released", why.cause))
        if told:
            found.append(_entry(evidence, part, told))
    return found


def _entry(evidence: Evidence, part: PartTruth, told: list[tuple[str, str]]) -> dict[str, Any]:
    """Make one entry: the first class rules, the causes of all are named."""
    entry: dict[str, Any] = {
        "part_id": part.part_id,
        "sequence": None if part.ahead else part.sequence,
        "class": told[0][0],
        "cause": "; ".join(cause for _, cause in told if cause),
    }
    during = sorted(set(_during(evidence, part)))
    return {**entry, "during": during} if during else entry


def _during(evidence: Evidence, part: PartTruth) -> Iterable[str]:
    """Name the faults that stood while the part was under way."""
    for fault in evidence.faults:
        if fault.span[0] <= part.gate_to_ns and part.triggered_ns <= fault.span[1]:
            yield fault.kind


def _untold(part: PartTruth, *, lost: str) -> tuple[str, str]:
    if part.ahead is not None:
        return "no trigger", f"it lay against {part.ahead}: the photo-eye saw both as one"
    if part.copies == 0:
        return "no trigger", "its trigger was never told"
    if lost:
        return "no trigger", f"its trigger was lost with {lost}"
    return "unjudged", "its trigger was told and no verdict recorded"


def _collateral(evidence: Evidence, part: PartTruth) -> str:
    if part.sequence in evidence.collateral:
        return "the gate swept it for a rejected part too close to it"
    if unguarded(evidence, part):
        return "nobody commanded the gate: the I/O module moved it while the part was there"
    other = swept_beside(evidence, part)
    if other is None and (late_ms := overran(evidence, part)) is not None:
        return f"the PLC that fires missed its scans for {late_ms:.0f} ms, and switched the gate late"
    beside = "a part" if other is None else other.part_id
    return f"the gate swept it for {beside} too close to it, which the PLC rejected by positive release"


def _what_happened(evidence: Evidence, part: PartTruth) -> str:
    """Say what became of the part, and when by its own passage the gate was away from its rest: how far a moment was off."""
    stayed_ms = (part.gate_to_ns - part.gate_from_ns) / 1e6
    away = "; ".join(
        f"{(start_ns - part.gate_from_ns) / 1e6:.1f} to {(end_ns - part.gate_from_ns) / 1e6:.1f}"
        for start_ns, end_ns in evidence.truth.gate_sweeps
        if start_ns < part.gate_to_ns and part.gate_from_ns < end_ns
    )
    happened = {"binned": "it was rejected", "swept": "the gate touched it", "passed": "it passed"}[part.outcome]
    return f"{happened}; at the gate from 0 to {stayed_ms:.1f} ms, the gate away from its rest: {away or 'never'}"
