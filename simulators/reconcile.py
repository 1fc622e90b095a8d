"""Compare what really happened to the parts with what the bridge and the PLC say: the demo's report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from simulators.causes import GateClass, exceptions, overran, released, swept_beside, unguarded
from simulators.demo.records import Verdict
from simulators.evidence import Evidence
from simulators.truth import PartTruth

VERDICTS = ("PASS", "FAIL", "UNCERTAIN", "ERROR", "LATE")
SHOWN = 5


def classify(part: PartTruth, verdict: Verdict | None, evidence: Evidence) -> GateClass:
    """Say what the gate did to one part.

    A part without a verdict of its own was never to pass: the PLC's positive release has to reject it, and the order of
    the one that it lay against has to cover it. So was one with
    LET_PASS of which no fresh result stood at the PLC when it was due, or that nobody guarded: to reject it is right,
    and if the I/O module's own stroke only touches it, or the PLC's for a part too close to it, or as the PLC missed its
    scans, it is collateral, told by the module and by the PLC.
    """
    if part.ahead is not None or verdict is None or verdict.rejects:
        if part.open_for_middle:
            return "right"
        return "missed" if part.sequence in evidence.missed else "wrong"
    if not part.swept:
        return "right"
    if part.sequence in evidence.collateral:
        return "collateral"
    why = released(evidence, part)
    if why is not None and why.excused and part.open_for_middle:
        return "right"
    told = unguarded(evidence, part) or swept_beside(evidence, part) is not None or overran(evidence, part) is not None
    return "collateral" if told else "wrong"


def reconcile(evidence: Evidence, *, ports: Mapping[str, int]) -> dict[str, Any]:
    """Make the report; `problems` says in words why it does not reconcile, and is empty when it does."""
    truth, plc, observed = evidence.truth, evidence.plc, evidence.observed
    told = evidence.arrived
    by_sequence = {record.sequence: record for record in evidence.records}
    heard = {int(document["sequence"]): str(document["verdict"]) for document in observed.verdicts}
    # What was published while nobody could hear it stands in the records alone.
    unheard = evidence.decided_within(observed.deaf) - heard.keys()
    verdicts = {**heard, **{sequence: by_sequence[sequence].verdict for sequence in unheard}}
    classes = {part.part_id: classify(part, by_sequence.get(part.sequence), evidence) for part in truth.parts}
    problems = [
        *_count_problems(evidence, told, heard),
        *_differences("verdicts on MQTT", told, verdicts),
        *_differences("records", told, by_sequence),
        *_unread(evidence),
        *_gate_problems(evidence, classes),
        *_disagreements(evidence, by_sequence, heard),
    ]
    report: dict[str, Any] = {
        "parts": len(truth.parts),
        "triggers": len(told),
        "verdicts": {name: sum(verdict == name for verdict in verdicts.values()) for name in VERDICTS},
        "gate": {
            name: sum(kind == name for kind in classes.values()) for name in ("right", "wrong", "missed", "collateral")
        },
        "judgement": _judgement(told.values(), by_sequence),
        "latency_ms": percentiles(_latencies(evidence, told)),
        "plc_latency_ms": percentiles(
            (entry["read_ns"] - told[sequence].triggered_ns) / 1e6
            for sequence, entry in plc.modbus.items()
            if sequence in told
        ),
        "gate_error_mm": percentiles(evidence.gate_errors_mm, digits=3),
        "records": len(evidence.records),
        "opcua_results": len(plc.opcua),
        "modbus_results": len(plc.modbus),
        "ports": dict(ports),
        "reconciled": not problems,
        "alarms": sorted({str(d["name"]) for d in observed.alarms if d.get("state") == "raised"}),
        "stop_requested": plc.stop_requested,
        "exceptions": exceptions(evidence, classes),
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


def _unread(evidence: Evidence) -> Iterable[str]:
    """Compare what the PLC read with what was live: all but what came while it was away, or faster than the ring holds.

    A PLC that finds more results written than the ring holds knows it, and asks OPC UA's GetResult for them.
    """
    plc, live, outages = evidence.plc, _live(evidence), evidence.outages
    away = evidence.decided_within(outages.modbus) - plc.modbus.keys()
    overrun = [s for s in live if s not in plc.modbus and s in plc.opcua and s not in away][: plc.overrun]
    yield from _differences(
        "results read by Modbus", {s: r for s, r in live.items() if s not in {*away, *overrun}}, plc.modbus
    )
    away = evidence.decided_within(outages.opcua) - plc.opcua.keys()
    yield from _differences("results read by OPC UA", {s: r for s, r in live.items() if s not in away}, plc.opcua)


def _live(evidence: Evidence) -> dict[int, Verdict]:
    return {record.sequence: record for record in evidence.records if not record.replayed}


def _count_problems(evidence: Evidence, told: Mapping[int, PartTruth], heard: Mapping[int, str]) -> Iterable[str]:
    counters = evidence.plc.counters
    if (counted := counters.get("triggers")) is not None and counted != len(told):
        yield f"the bridge counted {counted} triggers, {len(told)} were told"
    if len(evidence.records) != len({record.sequence for record in evidence.records}):
        yield f"{len(evidence.records)} records for {len({r.sequence for r in evidence.records})} parts"
    live = [document for document in evidence.observed.verdicts if not document.get("replayed")]
    if evidence.observed.deaf:
        # At least once is MQTT's promise over a loss: the very same document may come twice.
        live = list({(document["sequence"], document.get("decided_utc")): document for document in live}.values())
    if len(live) > len(heard):
        yield f"{len(live)} live verdicts on MQTT for {len(heard)} parts"
    if not evidence.truth.parts:
        yield "no part passed the line"
    yield from _lost_problems(evidence)


def _lost_problems(evidence: Evidence) -> Iterable[str]:
    """A trigger may die with the broker, but the bridge must notice: the sequences after it step over it."""
    if not evidence.lost:
        return
    places = [place for place, part in enumerate(evidence.truth.parts) if part.sequence in evidence.arrived]
    between = evidence.truth.parts[places[0] : places[-1]] if places else ()
    gaps = sum(part.sequence not in evidence.arrived for part in between if part.ahead is None)
    if (counted := evidence.plc.counters.get("missed_triggers")) is not None and counted < gaps:
        yield f"the bridge counted {counted} missed triggers, {gaps} parts passed without one"


def _differences(name: str, expected: Mapping[int, object], found: Mapping[int, object]) -> Iterable[str]:
    lacking = [sequence for sequence in expected if sequence not in found]
    surplus = [sequence for sequence in found if sequence not in expected]
    if lacking:
        yield f"{name}: {len(found)} of {len(expected)}, lacking {_some(lacking)}"
    if surplus:
        yield f"{name}: {len(surplus)} that no trigger asked for: {_some(surplus)}"


def _gate_problems(evidence: Evidence, classes: Mapping[str, GateClass]) -> Iterable[str]:
    wrong = [part.sequence for part in evidence.truth.parts if classes[part.part_id] == "wrong"]
    if wrong:
        yield f"gate wrong for {len(wrong)} parts: {_some(wrong)}"
    counters, missed, named = (
        {**evidence.observed.counters, **evidence.plc.counters},
        evidence.missed,
        evidence.collateral,
    )
    if (counted := counters.get("gate_missed")) is not None and counted != len(missed):
        yield f"the bridge counted {counted} missed orders and named {len(missed)}: {_some(sorted(missed))}"
    if (counted := counters.get("collateral")) is not None and counted != len(named):
        yield f"the bridge counted {counted} collateral parts and named {len(named)}: {_some(sorted(named))}"
    # An order that a dead PLC did not carry out sweeps nobody.
    untouched = [
        part.sequence
        for part in evidence.truth.parts
        if part.sequence in named and not part.swept and not part.ahead and not unguarded(evidence, part)
    ]
    if untouched:
        yield f"reported as collateral and never swept: {_some(untouched)}"


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
