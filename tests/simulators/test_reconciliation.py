"""The report: each class of part, each figure, and every way not to reconcile."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from simulators.demo.records import Verdict
from simulators.plc.record import PlcRecord
from simulators.reconcile import Evidence, Observed, classify, percentiles, reconcile
from simulators.truth import LineTruth, PartTruth

MS = 1_000_000


def truth_of(sequence: int, *, good: bool = True, open_for_middle: bool = False, swept: bool = False) -> PartTruth:
    return PartTruth(
        part_id=f"P-{sequence}", sequence=sequence, label="good" if good else "pitting", good=good, picture="x.jpg",
        copies=1, count=0, triggered_ns=sequence * 100 * MS, gate_from_ns=0, middle_from_ns=0, middle_to_ns=0,
        gate_to_ns=0, open_for_middle=open_for_middle, swept=swept or open_for_middle,
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
    assert classify(part, verdict, missed=missed, collateral=collateral) == expected


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

    told = replace(evidence_of(parts, flagged), observed=Observed(
        verdicts=evidence_of(parts, flagged).observed.verdicts, counters={"collateral": 1},
    ))  # fmt: skip
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
