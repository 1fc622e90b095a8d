"""Compare what really happened to the parts with what the bridge and the PLC say: the demo's report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from simulators.demo.records import Verdict
from simulators.plc.record import PlcRecord
from simulators.plc.tables import GUARD_OR_COLLATERAL
from simulators.truth import LineTruth, PartTruth

GateClass = Literal["right", "wrong", "missed", "collateral"]
VERDICTS = ("PASS", "FAIL", "UNCERTAIN", "ERROR", "LATE")
SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What an MQTT client heard: verdict documents, gate reports, alarms, and the counters of the last status."""

    verdicts: tuple[Mapping[str, Any], ...] = ()
    gate: tuple[Mapping[str, Any], ...] = ()
    alarms: tuple[Mapping[str, Any], ...] = ()
    counters: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that a run left behind. `published` says whether the conveyor told the triggers by MQTT."""

    truth: LineTruth
    plc: PlcRecord
    records: tuple[Verdict, ...]
    observed: Observed


def classify(part: PartTruth, verdict: Verdict | None, *, missed: bool, collateral: bool) -> GateClass:
    """Say what the gate did to one part; `missed` and `collateral` are what the bridge reported of it.

    A part without a verdict of its own was never to pass: the PLC's positive release has to reject it.
    """
    if verdict is None or verdict.rejects:
        if part.open_for_middle:
            return "right"
        return "missed" if missed else "wrong"
    if not part.swept:
        return "right"
    return "collateral" if collateral else "wrong"


def reconcile(evidence: Evidence, *, ports: Mapping[str, int]) -> dict[str, Any]:
    """Make the report; `problems` says in words why it does not reconcile, and is empty when it does."""
    truth, plc = evidence.truth, evidence.plc
    told = {part.sequence: part for part in truth.told}
    by_sequence = {record.sequence: record for record in evidence.records}
    heard = {int(document["sequence"]): str(document["verdict"]) for document in evidence.observed.verdicts}
    missed = _reported_missed(evidence)
    classes = _classes(evidence, by_sequence, missed)
    gate = {name: sum(kind == name for kind in classes.values()) for name in ("right", "wrong", "missed", "collateral")}
    problems = [
        *_count_problems(evidence, told, heard),
        *_differences("verdicts on MQTT", told, heard),
        *_differences("records", told, by_sequence),
        *_differences("results read by Modbus", _live(evidence), plc.modbus),
        *_differences("results read by OPC UA", _live(evidence), plc.opcua),
        *_gate_problems(evidence, classes, missed),
        *_disagreements(evidence, by_sequence, heard),
    ]
    report: dict[str, Any] = {
        "parts": len(truth.parts),
        "triggers": len(told),
        "verdicts": {name: sum(verdict == name for verdict in heard.values()) for name in VERDICTS},
        "gate": gate,
        "judgement": _judgement(told.values(), by_sequence),
        "latency_ms": percentiles(_latencies(evidence, told)),
        "plc_latency_ms": percentiles(
            (entry["read_ns"] - told[sequence].triggered_ns) / 1e6
            for sequence, entry in plc.modbus.items()
            if sequence in told
        ),
        "gate_error_mm": percentiles(plc.gate_errors_mm, digits=3),
        "records": len(evidence.records),
        "opcua_results": len(plc.opcua),
        "modbus_results": len(plc.modbus),
        "ports": dict(ports),
        "reconciled": not problems,
    }
    return {**report, "problems": problems}


def percentiles(values: Iterable[float], *, digits: int = 2) -> dict[str, float]:
    """Give the median, the 99th percentile and the largest value (nearest rank); zeros when there is none."""
    ordered = sorted(values)
    if not ordered:
        return {"p50": 0.0, "p99": 0.0, "max": 0.0}

    def rank(share: float) -> float:
        return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], digits)

    return {"p50": rank(0.5), "p99": rank(0.99), "max": rank(1.0)}


def _classes(evidence: Evidence, records: Mapping[int, Verdict], missed: set[int]) -> dict[int, GateClass]:
    collateral = _reported_collateral(evidence, records)
    return {
        part.sequence: classify(
            part,
            records.get(part.sequence),
            missed=part.sequence in missed,
            collateral=part.sequence in collateral,
        )
        for part in evidence.truth.parts
    }


def _reported_missed(evidence: Evidence) -> set[int]:
    recorded = {record.sequence for record in evidence.records if record.gate_state == "missed"}
    return recorded | {int(doc["sequence"]) for doc in evidence.observed.gate if doc.get("event") == "missed"}


def _reported_collateral(evidence: Evidence, records: Mapping[int, Verdict]) -> set[int]:
    """Give the parts whose sweeping the bridge reported: on themselves, or on the reject beside them."""
    parts = evidence.truth.parts
    flagged = {record.sequence for record in records.values() if record.collateral}
    flagged |= {sequence for sequence, entry in evidence.plc.modbus.items() if entry["flags"] & GUARD_OR_COLLATERAL}
    beside: set[int] = set()
    for place, part in enumerate(parts):
        if part.sequence in flagged:
            beside |= {other.sequence for other in parts[max(0, place - 1) : place + 2]}
    return beside


def _live(evidence: Evidence) -> dict[int, Verdict]:
    return {record.sequence: record for record in evidence.records if not record.replayed}


def _count_problems(evidence: Evidence, told: Mapping[int, PartTruth], heard: Mapping[int, str]) -> Iterable[str]:
    counters = evidence.plc.counters
    if (counted := counters.get("triggers")) is not None and counted != len(told):
        yield f"the bridge counted {counted} triggers, {len(told)} were told"
    if len(evidence.records) != len({record.sequence for record in evidence.records}):
        yield f"{len(evidence.records)} records for {len({r.sequence for r in evidence.records})} parts"
    first_heard = [document for document in evidence.observed.verdicts if not document.get("replayed")]
    if len(first_heard) > len(heard):
        yield f"{len(first_heard)} live verdicts on MQTT for {len(heard)} parts"
    if not evidence.truth.parts:
        yield "no part passed the line"


def _differences(name: str, expected: Mapping[int, object], found: Mapping[int, object]) -> Iterable[str]:
    lacking = [sequence for sequence in expected if sequence not in found]
    surplus = [sequence for sequence in found if sequence not in expected]
    if lacking:
        yield f"{name}: {len(found)} of {len(expected)}, lacking {_some(lacking)}"
    if surplus:
        yield f"{name}: {len(surplus)} that no trigger asked for: {_some(surplus)}"


def _gate_problems(evidence: Evidence, classes: Mapping[int, GateClass], missed: set[int]) -> Iterable[str]:
    wrong = [sequence for sequence, kind in classes.items() if kind == "wrong"]
    if wrong:
        yield f"gate wrong for {len(wrong)} parts: {_some(wrong)}"
    counters = {**evidence.observed.counters, **evidence.plc.counters}
    if (counted := counters.get("gate_missed")) is not None and counted != len(missed):
        yield f"the bridge counted {counted} missed orders and named {len(missed)}: {_some(sorted(missed))}"
    unnamed = [sequence for sequence, kind in classes.items() if kind == "missed" and sequence not in missed]
    if unnamed:
        yield f"missed and not reported: {_some(unnamed)}"
    swept = sum(kind == "collateral" for kind in classes.values())
    if (counted := counters.get("collateral")) is not None and counted != swept:
        yield f"the bridge reported {counted} collateral parts, {swept} were swept"


def _disagreements(evidence: Evidence, records: Mapping[int, Verdict], heard: Mapping[int, str]) -> Iterable[str]:
    """Find parts of which two outputs say different things."""
    codes = {name: number for number, name in enumerate(VERDICTS, start=1)}
    differing = [
        sequence
        for sequence, record in records.items()
        if heard.get(sequence, record.verdict) != record.verdict
        or any(
            source[sequence]["verdict"] != codes[record.verdict]
            for source in (evidence.plc.modbus, evidence.plc.opcua)
            if sequence in source
        )
    ]
    if differing:
        yield f"outputs differ on {len(differing)} parts: {_some(differing)}"


def _judgement(parts: Iterable[PartTruth], records: Mapping[int, Verdict]) -> dict[str, int]:
    counts = {"right": 0, "false_rejects": 0, "escapes": 0}
    for part in parts:
        record = records.get(part.sequence)
        if record is None:
            continue
        passed = record.verdict == "PASS"
        counts["right" if passed == part.good else "escapes" if passed else "false_rejects"] += 1
    return counts


def _latencies(evidence: Evidence, told: Mapping[int, PartTruth]) -> Iterable[float]:
    offset_ns = evidence.truth.utc_offset_ns
    for record in evidence.records:
        if record.sequence in told and not record.replayed:
            yield (record.decided_utc_ns - told[record.sequence].triggered_ns - offset_ns) / 1e6


def _some(sequences: Sequence[int]) -> str:
    shown = ", ".join(str(sequence) for sequence in sequences[:SHOWN])
    return shown + (", ..." if len(sequences) > SHOWN else "")
