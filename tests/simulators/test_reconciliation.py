"""The report: each class of part, each figure, and every way not to reconcile."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from simulators.demo.records import GateEvent, Verdict
from simulators.evidence import Evidence, FaultTime, Observed, Outages
from simulators.plc.record import PlcRecord
from simulators.reconcile import classify, percentiles, reconcile
from simulators.truth import LineTruth, PartTruth

MS = 1_000_000


def truth_of(sequence: int, *, good: bool = True, open_for_middle: bool = False, swept: bool = False) -> PartTruth:
    at_gate_ns = (sequence * 100 + 500) * MS
    return PartTruth(
        part_id=f"P-{sequence}", sequence=sequence, label="good" if good else "pitting", good=good, picture="x.jpg",
        copies=1, count=0, triggered_ns=sequence * 100 * MS, gate_from_ns=at_gate_ns,
        middle_from_ns=at_gate_ns + 13 * MS, middle_to_ns=at_gate_ns + 27 * MS, gate_to_ns=at_gate_ns + 40 * MS,
        open_for_middle=open_for_middle, swept=swept or open_for_middle,
        outcome="binned" if open_for_middle else "swept" if swept else "passed",
    )  # fmt: skip


def verdict_of(sequence: int, verdict: str = "PASS", **changes: Any) -> Verdict:
    record = Verdict(
        sequence=sequence, part_id=f"P-{sequence}", verdict=verdict, replayed=False,
        disposition="LET_PASS" if verdict == "PASS" else "REJECT", decided_utc_ns=sequence * 100 * MS + 7 * MS,
    )  # fmt: skip
    return replace(record, **changes)


def read_by_plc(records: tuple[Verdict, ...], **counters: int) -> PlcRecord:
    codes = {"PASS": 1, "FAIL": 2, "UNCERTAIN": 3, "ERROR": 4, "LATE": 5}
    seen = {
        r.sequence: {"verdict": codes[r.verdict], "flags": 0, "read_ns": r.sequence * 100 * MS + 12 * MS}
        for r in records
        if not r.replayed
    }
    return PlcRecord(
        modbus=dict(seen), opcua=dict(seen), counters={"triggers": len(records), "gate_missed": 0, **counters}
    )


def evidence_of(parts: tuple[PartTruth, ...], records: tuple[Verdict, ...], **counters: int) -> Evidence:
    heard = tuple({"sequence": r.sequence, "verdict": r.verdict, "replayed": r.replayed} for r in records)
    return Evidence(
        truth=LineTruth(parts=parts),
        plc=read_by_plc(records, **counters),
        records=records,
        observed=Observed(verdicts=heard, counters={"collateral": 0}),
    )


GOOD_RUN = evidence_of(
    (truth_of(1), truth_of(2, good=False, open_for_middle=True), truth_of(3)),
    (verdict_of(1), verdict_of(2, "FAIL", gate_state="ordered"), verdict_of(3)),
)


@pytest.mark.parametrize(
    ("part", "verdict", "missed", "collateral", "expected"),
    [
        (truth_of(1), verdict_of(1), False, False, "right"),
        (truth_of(1, swept=True), verdict_of(1), False, False, "wrong"),
        (truth_of(1, swept=True), verdict_of(1), False, True, "collateral"),
        (truth_of(1, open_for_middle=True), verdict_of(1), False, False, "wrong"),
        (truth_of(1, open_for_middle=True), verdict_of(1, "FAIL"), False, False, "right"),
        (truth_of(1, swept=True), verdict_of(1, "FAIL"), False, False, "wrong"),
        (truth_of(1), verdict_of(1, "LATE"), False, False, "wrong"),
        (truth_of(1), verdict_of(1, "LATE"), True, False, "missed"),
        (truth_of(1, open_for_middle=True), verdict_of(1, "LATE"), True, False, "right"),
        (truth_of(1, open_for_middle=True), None, False, False, "right"),
        (truth_of(1), None, False, False, "wrong"),
    ],
)
def test_every_part_is_in_one_class(
    part: PartTruth, verdict: Verdict | None, missed: bool, collateral: bool, expected: str
) -> None:
    names = [name for name, said in (("missed", missed), ("collateral", collateral)) if said]
    events = tuple(GateEvent(sequence=1, event=name) for name in names)

    evidence = replace(GOOD_RUN, truth=LineTruth(parts=(part,)), gate_events=events)
    assert classify(part, verdict, evidence) == expected


def test_a_run_without_fault_reconciles() -> None:
    report = reconcile(GOOD_RUN, ports={"mqtt": 1883})

    assert report["problems"] == []
    assert report["reconciled"] is True
    assert report["gate"] == {"right": 3, "wrong": 0, "missed": 0, "collateral": 0}
    assert report["judgement"] == {"right": 3, "false_rejects": 0, "escapes": 0}
    assert report["verdicts"] == {"PASS": 2, "FAIL": 1, "UNCERTAIN": 0, "ERROR": 0, "LATE": 0}
    assert report["latency_ms"] == {"p50": 7.0, "p99": 7.0, "max": 7.0}
    assert report["plc_latency_ms"] == {"p50": 12.0, "p99": 12.0, "max": 12.0}
    assert (report["records"], report["modbus_results"], report["opcua_results"]) == (3, 3, 3)
    assert report["ports"] == {"mqtt": 1883}


def test_a_part_without_a_trigger_counts_as_a_part_and_must_be_rejected() -> None:
    lost = replace(truth_of(4, open_for_middle=True), copies=0)
    evidence = replace(GOOD_RUN, truth=LineTruth(parts=(*GOOD_RUN.truth.parts, lost)))

    report = reconcile(evidence, ports={})
    assert (report["parts"], report["triggers"], report["gate"]["right"]) == (4, 3, 4)
    assert report["reconciled"]
    passed = replace(lost, open_for_middle=False, swept=False, outcome="passed")
    assert not reconcile(replace(evidence, truth=LineTruth(parts=(*GOOD_RUN.truth.parts, passed))), ports={})[
        "reconciled"
    ]


def test_a_missed_order_counts_as_reported_even_if_positive_release_rejected_the_part() -> None:
    parts = (truth_of(1), truth_of(2, good=False, open_for_middle=True))
    records = (verdict_of(1), verdict_of(2, "LATE", gate_state="missed"))

    assert reconcile(evidence_of(parts, records, gate_missed=1), ports={})["reconciled"]
    assert not reconcile(evidence_of(parts, records, gate_missed=0), ports={})["reconciled"]


def test_swept_neighbours_are_collateral_only_if_the_bridge_said_so() -> None:
    parts = (truth_of(1, swept=True), truth_of(2, good=False, open_for_middle=True))
    flagged = (verdict_of(1), verdict_of(2, "FAIL", gate_state="ordered", collateral=True))

    told = replace(
        evidence_of(parts, flagged),
        observed=Observed(verdicts=evidence_of(parts, flagged).observed.verdicts, counters={"collateral": 1}),
        gate_events=(GateEvent(sequence=1, event="collateral"),),
    )
    assert reconcile(told, ports={})["gate"] == {"right": 1, "wrong": 0, "missed": 0, "collateral": 1}
    assert reconcile(told, ports={})["reconciled"]
    assert reconcile(evidence_of(parts, (verdict_of(1), verdict_of(2, "FAIL"))), ports={})["gate"]["wrong"] == 1


def without(evidence: Evidence, where: str) -> Evidence:
    plc = PlcRecord(modbus=dict(evidence.plc.modbus), opcua=dict(evidence.plc.opcua), counters=evidence.plc.counters)
    if where == "records":
        return replace(evidence, records=evidence.records[:-1], plc=plc)
    if where == "mqtt":
        return replace(evidence, observed=replace(evidence.observed, verdicts=evidence.observed.verdicts[:-1]))
    if where == "counter":
        plc.counters = {**plc.counters, "triggers": 4}
    elif where == "differs":
        plc.modbus[1] = {**plc.modbus[1], "verdict": 2}
    else:
        (plc.modbus if where == "modbus" else plc.opcua).pop(3)
    return replace(evidence, plc=plc)


@pytest.mark.parametrize("where", ["records", "mqtt", "modbus", "opcua", "counter", "differs"])
def test_what_is_lacking_or_differs_is_named(where: str) -> None:
    report = reconcile(without(GOOD_RUN, where), ports={})

    assert not report["reconciled"]
    assert report["problems"]


def test_percentiles_are_of_the_nearest_rank() -> None:
    assert percentiles(range(1, 101)) == {"p50": 50, "p99": 99, "max": 100}
    assert percentiles([]) == {"p50": 0.0, "p99": 0.0, "max": 0.0}


def released(sequence: int, reason: str = "no result", *, at_ms: float) -> dict[str, Any]:
    return {"sequence": sequence, "reject": True, "by": "release", "reason": reason, "at_ns": round(at_ms * MS)}


def run_with(third: PartTruth, *, read_ms: float | None = 312, **changes: Any) -> Evidence:
    """GOOD_RUN, its third part being another, its result read by Modbus at `read_ms`."""
    plc = without(GOOD_RUN, "modbus").plc
    if read_ms is not None:
        plc.modbus[3] = {"verdict": 1, "flags": 0, "read_ns": round(read_ms * MS)}
    plc.decisions.update(changes.pop("decisions", {}))
    return replace(GOOD_RUN, truth=LineTruth(parts=(*GOOD_RUN.truth.parts[:2], third)), plc=plc, **changes)


BINNED, SWEPT = truth_of(3, open_for_middle=True), truth_of(3, swept=True)


@pytest.mark.parametrize(
    ("decision", "read_ms", "cause"),
    [
        (released(3, at_ms=740), 777.5, "positive release: its result came 37.5 ms after it was due"),
        (released(3, "the bridge's heartbeat stands still", at_ms=740), 312, "the bridge's heartbeat stands still"),
        (released(3, "the encoder was reset", at_ms=740), 312, "the encoder was reset"),
    ],
)
def test_a_let_pass_that_was_not_fresh_at_the_plc_is_rejected_rightly_and_named(
    decision: dict[str, Any], read_ms: float, cause: str
) -> None:
    report = reconcile(run_with(BINNED, read_ms=read_ms, decisions={3: decision}), ports={})

    assert (report["gate"]["right"], report["gate"]["wrong"], report["problems"]) == (3, 0, [])
    assert [(e["sequence"], e["class"]) for e in report["exceptions"]] == [(3, "released")]
    assert cause in report["exceptions"][0]["cause"]


def test_a_release_of_a_part_whose_let_pass_the_plc_had_read_in_time_is_wrong() -> None:
    report = reconcile(run_with(BINNED, decisions={3: released(3, at_ms=740)}), ports={})

    assert report["gate"]["wrong"] == 1
    assert [(e["class"]) for e in report["exceptions"]] == ["wrong"]


def test_what_a_restarted_plc_had_read_before_is_nothing_to_it() -> None:
    away = Outages(modbus=((320 * MS, 700 * MS),))
    evidence = run_with(BINNED, decisions={3: released(3, at_ms=740)}, outages=away)

    assert reconcile(evidence, ports={})["gate"]["right"] == 3


def test_results_that_came_while_the_plc_was_away_may_be_unread_and_no_others() -> None:
    decided_ns = GOOD_RUN.records[2].decided_utc_ns
    spans = ((decided_ns - 1, decided_ns + 1),)
    evidence = run_with(BINNED, read_ms=None, decisions={3: released(3, at_ms=740)})

    assert not reconcile(evidence, ports={})["reconciled"]
    assert reconcile(replace(evidence, outages=Outages(modbus=spans)), ports={})["reconciled"]
    assert not reconcile(replace(evidence, outages=Outages(opcua=spans)), ports={})["reconciled"]


def test_results_beyond_the_ring_are_complete_with_get_result() -> None:
    evidence = run_with(BINNED, read_ms=None, decisions={3: released(3, at_ms=740)})
    evidence.plc.overrun = 1

    assert reconcile(evidence, ports={})["problems"] == []
    del evidence.plc.opcua[3]
    assert len(reconcile(evidence, ports={})["problems"]) == 2


def test_parts_at_a_gate_that_nobody_commands_are_rejected_rightly_or_collateral() -> None:
    unguarded = ((BINNED.gate_from_ns + MS, BINNED.gate_to_ns),)
    for part, kind, named in ((BINNED, "right", "released"), (SWEPT, "collateral", "collateral")):
        evidence = run_with(part)
        assert reconcile(evidence, ports={})["gate"]["wrong"] == 1
        report = reconcile(replace(evidence, truth=replace(evidence.truth, unguarded=unguarded)), ports={})
        assert report["gate"][kind] == (3 if kind == "right" else 1)
        assert report["problems"] == []
        assert [(e["class"], "I/O module" in e["cause"]) for e in report["exceptions"]] == [(named, True)]


def test_a_defective_part_that_passes_an_unguarded_gate_is_wrong() -> None:
    parts = (truth_of(1), truth_of(2, good=False))
    evidence = evidence_of(parts, (verdict_of(1), verdict_of(2, "FAIL", gate_state="ordered")))
    everywhere = replace(evidence.truth, unguarded=((0, 10_000 * MS),))

    assert reconcile(replace(evidence, truth=everywhere), ports={})["gate"]["wrong"] == 1


@pytest.mark.parametrize(
    ("from_ms", "to_ms", "decides", "kind"),
    [(-60, -30, True, "collateral"), (-60, -30, False, "wrong"), (-90, -50, True, "wrong"), (50, 80, True, "wrong")],
)
def test_a_part_swept_as_the_plc_that_fires_missed_its_scans_is_collateral(
    from_ms: int, to_ms: int, decides: bool, kind: str
) -> None:
    order = {2: {**released(2, "REJECT", at_ms=650), "by": "order"}}
    evidence = run_with(SWEPT, decisions=order if decides else {})
    evidence.plc.overruns.append((SWEPT.gate_from_ns + from_ms * MS, SWEPT.gate_from_ns + to_ms * MS))
    report = reconcile(evidence, ports={})

    assert report["gate"][kind] == 1
    assert ("missed its scans for 30 ms" in report["exceptions"][0]["cause"]) == (kind == "collateral")


@pytest.mark.parametrize(("gap_ms", "kind"), [(45, "collateral"), (60, "wrong")])
def test_a_part_too_close_to_one_that_the_plc_rejects_by_itself_is_collateral(gap_ms: int, kind: str) -> None:
    beside = truth_of(4, open_for_middle=True)
    beside = replace(beside, gate_from_ns=SWEPT.gate_to_ns + gap_ms * MS, copies=0)
    evidence = run_with(SWEPT, decisions={4: released(4, at_ms=700)})
    report = reconcile(
        replace(evidence, truth=replace(evidence.truth, parts=(*evidence.truth.parts, beside))), ports={}
    )

    assert report["gate"][kind] == 1
    assert next(e for e in report["exceptions"] if e["sequence"] == 3)["class"] == kind


def test_triggers_that_died_with_the_broker_are_no_triggers_if_the_bridge_noticed() -> None:
    lost = replace(truth_of(2, open_for_middle=True), good=False)
    evidence = evidence_of((truth_of(1), lost, truth_of(3)), (verdict_of(1), verdict_of(3)), missed_triggers=1)
    away = Outages(broker=((lost.triggered_ns - 1, lost.triggered_ns + 1),))

    assert not reconcile(evidence, ports={})["reconciled"]
    report = reconcile(replace(evidence, outages=away), ports={})
    assert report["problems"] == []
    assert (report["parts"], report["triggers"], report["records"]) == (3, 2, 2)
    assert [(e["class"], e["cause"]) for e in report["exceptions"]] == [
        ("no trigger", "its trigger was lost with the broker")
    ]
    evidence.plc.counters["missed_triggers"] = 0
    assert reconcile(replace(evidence, outages=away), ports={})["problems"] == [
        "the bridge counted 0 missed triggers, 1 parts passed without one"
    ]


def pair(*, second: str) -> Evidence:
    """Parts 2 and its shadow touch: one trigger, ERROR, one order for both; the gate threw the second out or not."""
    shadow = replace(
        truth_of(2, open_for_middle=second == "binned"), part_id="P-2+", ahead="P-2", copies=0,
        triggered_ns=283 * MS, gate_from_ns=740 * MS, gate_to_ns=780 * MS,
    )  # fmt: skip
    error = replace(verdict_of(2, "ERROR", gate_state="ordered"), reason="parts touch: 200 mm")
    return evidence_of(
        (truth_of(1), truth_of(2, open_for_middle=True), shadow, truth_of(3)), (verdict_of(1), error, verdict_of(3))
    )


def test_a_part_that_lies_against_another_is_a_part_of_its_own_and_must_fall_with_it() -> None:
    report = reconcile(pair(second="binned"), ports={})

    assert report["problems"] == []
    assert (report["parts"], report["triggers"], report["records"]) == (4, 3, 3)
    assert report["gate"] == {"right": 4, "wrong": 0, "missed": 0, "collateral": 0}
    assert report["exceptions"] == [
        {"part_id": "P-2", "sequence": 2, "class": "error", "cause": "parts touch: 200 mm"},
        {
            "part_id": "P-2+",
            "sequence": None,
            "class": "no trigger",
            "cause": "it lay against P-2: the photo-eye saw both as one",
        },
    ]


@pytest.mark.parametrize("verdict", ["ERROR", "PASS"])
def test_a_part_that_passes_in_the_shadow_of_another_is_wrong_whatever_the_verdict(verdict: str) -> None:
    evidence = pair(second="passed")
    first = truth_of(2, open_for_middle=verdict == "ERROR")
    records = (verdict_of(1), verdict_of(2, verdict), verdict_of(3))
    parts = (truth_of(1), first, evidence.truth.parts[2], truth_of(3))

    report = reconcile(evidence_of(parts, records), ports={})
    assert report["problems"] == ["gate wrong for 1 parts: 2"]
    assert ("P-2+", "wrong") in [(e["part_id"], e["class"]) for e in report["exceptions"]]


def test_a_pair_whose_trigger_died_with_the_broker_is_one_missed_trigger() -> None:
    evidence = pair(second="binned")
    evidence = evidence_of(evidence.truth.parts, (verdict_of(1), verdict_of(3)), missed_triggers=1)
    at_ns = evidence.truth.parts[1].triggered_ns

    report = reconcile(replace(evidence, outages=Outages(broker=((at_ns - 1, at_ns + 1),))), ports={})
    assert report["problems"] == []
    assert [e["class"] for e in report["exceptions"]] == ["no trigger", "no trigger"]


def test_what_nobody_could_hear_stands_in_the_records_alone() -> None:
    heard = GOOD_RUN.observed.verdicts
    deaf = Observed(verdicts=heard[:2], counters={"collateral": 0}, deaf=((300 * MS, 400 * MS),))

    report = reconcile(replace(GOOD_RUN, observed=deaf), ports={})
    assert report["problems"] == []
    assert report["verdicts"]["PASS"] == 2
    early = replace(deaf, deaf=((400 * MS, 500 * MS),))
    assert not reconcile(replace(GOOD_RUN, observed=early), ports={})["reconciled"]


def test_a_document_may_come_twice_over_a_loss_of_the_broker_and_not_otherwise() -> None:
    heard = tuple({**document, "decided_utc": document["sequence"]} for document in GOOD_RUN.observed.verdicts)
    twice = Observed(verdicts=(*heard, heard[1]), counters={"collateral": 0})

    assert not reconcile(replace(GOOD_RUN, observed=twice), ports={})["reconciled"]
    assert reconcile(replace(GOOD_RUN, observed=replace(twice, deaf=((0, MS),))), ports={})["reconciled"]
    another = replace(twice, verdicts=(*heard, {**heard[1], "decided_utc": 9}), deaf=((0, MS),))
    assert not reconcile(replace(GOOD_RUN, observed=another), ports={})["reconciled"]


def test_every_exceptional_part_is_named_with_its_cause_and_the_fault_of_its_time() -> None:
    lost = replace(truth_of(4, open_for_middle=True), copies=0)
    late = replace(verdict_of(2, "LATE", gate_state="missed"), reason="no verdict by the deadline")
    evidence = evidence_of(
        (truth_of(1), truth_of(2, good=False, open_for_middle=True), truth_of(3), lost),
        (verdict_of(1), late, replace(verdict_of(3, "PASS"))),
        gate_missed=1,
    )
    evidence = replace(
        evidence,
        gate_events=(GateEvent(sequence=2, event="missed", reason="the window has passed"),),
        faults=(FaultTime(kind="slow_model", span=(150 * MS, 250 * MS)),),
    )

    assert reconcile(evidence, ports={})["exceptions"] == [
        {
            "part_id": "P-2",
            "sequence": 2,
            "class": "late",
            "cause": "no verdict by the deadline; its order was missed: the window has passed",
            "during": ["slow_model"],
        },
        {"part_id": "P-4", "sequence": 4, "class": "no trigger", "cause": "its trigger was never told"},
    ]
