"""The promises held against all that was seen of a run: journal, MQTT, Modbus, OPC UA and what the source sent."""

from __future__ import annotations

from collections import Counter
from typing import Any

from bridge.domain.rfc3339 import parse_utc
from simulators.plc.tables import ORDER_VALID
from tests.soak.rig import DUE_MS, OUTPUT_MS, Line

CODES = {"PASS": 1, "FAIL": 2, "UNCERTAIN": 3, "ERROR": 4, "LATE": 5}
CLOCKS_MS = 5.0
"""What the wall clock may have been moved by against the other clock while the test ran."""
FRESH_MS = 1000.0
"""No broker takes longer for a live trigger, not even on a crowded machine; what was kept is older, or marked."""


def check(on: Line, *, broker_lost_nothing: bool) -> dict[str, Any]:
    """Assert every promise; give what was measured."""
    verdicts = on.rows("SELECT * FROM verdicts")
    check_records(on, verdicts, broker_lost_nothing=broker_lost_nothing)
    check_orders(on, verdicts)
    check_live_outputs(on, verdicts)
    check_moments(on, verdicts)
    return {
        "runs": on.bridge.run + 1,
        "sent": len(on.feeder.sent),
        "acknowledged": len(on.feeder.acknowledged),
        "resent": sum(one.resent for one in on.feeder.sent),
        "verdicts": dict(Counter(row["verdict"] for row in verdicts)),
        "replayed": sum(row["replayed"] for row in verdicts),
        "lost_by_broker": len({one.part_id for one in on.feeder.acknowledged} - {row["part_id"] for row in verdicts}),
        "ordered": len(on.rows("SELECT 1 FROM gate_events WHERE event = 'ordered'")),
        "seen_by_modbus": len(on.registers.shown),
        "seen_by_opcua_ring": len(on.tags.ring),
        "opcua_reads": on.tags.reads,
        "recorded_but_never_on_mqtt": recorded_only(on, verdicts),
        "ready_after_s": spread([at_s - on.started_s[run] for run, at_s in on.registers.ready_s.items() if run]),
        "live_after_s": spread(on.live_after_s),
        "back_after_s": spread(on.back_after_s),
    }


def recorded_only(on: Line, verdicts: list[dict[str, Any]]) -> dict[str, int]:
    """Count the verdicts that a kill kept from MQTT: the record was made, and MQTT has no history."""
    told = {each["part_id"] for each in on.subscriber.verdicts}
    untold = [row for row in verdicts if row["part_id"] not in told]
    return dict(Counter(f"{row['verdict']}{' replayed' if row['replayed'] else ''}" for row in untold))


def spread(figures: list[float]) -> dict[str, float]:
    ordered = sorted(figures) or [0.0]
    return {"n": len(figures), "median": round(ordered[len(ordered) // 2], 2), "max": round(ordered[-1], 2)}


def check_records(on: Line, verdicts: list[dict[str, Any]], *, broker_lost_nothing: bool) -> None:
    """One trigger, one record: of the right part, in the first epoch, with a code from 1 to 5."""
    sent = {one.part_id: one for one in on.feeder.sent}
    records = Counter(row["part_id"] for row in verdicts)
    assert [part for part, times in records.items() if times != 1] == []
    assert set(records) <= set(sent)
    lost = sorted({one.part_id for one in on.feeder.acknowledged} - set(records))
    if broker_lost_nothing:
        assert lost == []
    accepted = Counter(row["part_id"] for row in on.rows("SELECT part_id FROM triggers"))
    assert accepted == records, "every accepted trigger, and no other, has its verdict"
    assert on.rows("SELECT 1 FROM triggers WHERE open = 1 AND part_id NOT IN (SELECT part_id FROM verdicts)") == []
    for row in verdicts:
        one = sent[row["part_id"]]
        assert (row["epoch"], row["sequence"], row["code"]) == (1, one.sequence, CODES[row["verdict"]])
        assert row["verdict"] in (("FAIL", "ERROR", "LATE") if one.bright else ("PASS", "ERROR", "LATE"))
        assert not (row["replayed"] and row["verdict"] not in ("ERROR", "LATE"))
    if on.rows("SELECT count(*) AS n FROM verdicts")[0]["n"] < 900:
        check_epoch_and_history(on)


def check_epoch_and_history(on: Line) -> None:
    """The bridge's own page agrees that nothing is in flight."""
    metrics = on.bridge.metrics()
    kinds = sum(value for name, value in metrics.items() if name.startswith("linegate_verdicts_total"))
    assert metrics["linegate_triggers_total"] == kinds + metrics["linegate_parts_in_flight"]


def check_orders(on: Line, verdicts: list[dict[str, Any]]) -> None:
    """No part is ordered twice over all runs, and none whose verdict was replayed."""
    events = on.rows("SELECT * FROM gate_events WHERE event = 'ordered'")
    ordered = Counter((row["epoch"], row["sequence"]) for row in events)
    assert [key for key, times in ordered.items() if times > 1] == []
    replayed = {row["sequence"] for row in verdicts if row["replayed"]}
    assert {sequence for _epoch, sequence in ordered} & replayed == set()
    reports: dict[int, set[str]] = {}
    for report in on.subscriber.gate:
        if report["event"] == "ordered":
            reports.setdefault(report["sequence"], set()).add(report["due_utc"])
    # QoS 1 may bring one report twice; another order for the same part would have another moment
    assert {sequence: moments for sequence, moments in reports.items() if len(moments) > 1} == {}
    assert set(reports) & replayed == set()


def check_live_outputs(on: Line, verdicts: list[dict[str, Any]]) -> None:
    """What PLCs are shown is live: in one run alone, never replayed, and with the verdict of the record."""
    recorded = {row["sequence"]: row for row in verdicts}
    for seen in (set(on.registers.shown), on.tags.results, on.tags.ring):
        assert seen
        runs = Counter(sequence for _run, sequence in seen)
        assert [sequence for sequence, times in runs.items() if times > 1] == [], "shown in two runs"
        shown = {sequence for _run, sequence in seen if sequence in recorded}
        assert [sequence for sequence in shown if recorded[sequence]["replayed"]] == [], "a replayed result was shown"
    for (_run, sequence), each in on.registers.shown.items():
        assert sequence in recorded, "shown and not recorded"
        assert each.result.verdict == recorded[sequence]["code"]
    for document in on.subscriber.verdicts:
        row = recorded.get(document["sequence"])
        if row is not None:
            assert (document["code"], document["replayed"]) == (row["code"], bool(row["replayed"]))


def check_moments(on: Line, verdicts: list[dict[str, Any]]) -> None:
    """No order is shown when it can no longer be met, and no part that waited with the broker is taken for a live one."""
    sent = {one.sequence: one for one in on.feeder.sent}
    offset_ns = on.feeder.sent[0].utc_ns - on.feeder.sent[0].at_s * 1e9
    documents = {document["sequence"]: document for document in on.subscriber.verdicts if not document["replayed"]}
    for (run, sequence), each in on.registers.shown.items():
        document = documents.get(sequence)
        if document is None or not each.result.flags & ORDER_VALID:
            continue
        due_s = (parse_utc(document["gate"]["due_utc"]) - offset_ns) / 1e9
        after_ms = (due_s - sent[sequence].at_s) * 1e3
        assert after_ms > DUE_MS - CLOCKS_MS, "due before the part can be there"
        assert each.not_yet_s < due_s - (OUTPUT_MS - CLOCKS_MS) / 1e3, f"run {run}: {sequence} was ordered too late"
    for row in verdicts:
        one = sent[row["sequence"]]
        if row["replayed"] or one.resent:
            continue
        age_ms = (parse_utc(row["triggered_utc"]) - one.utc_ns) / 1e6
        assert age_ms < FRESH_MS, f"{one.part_id} was {age_ms:.0f} ms old and taken for live"
        decided_ns = parse_utc(row["decided_utc"])
        crossed = [gone for gone, back in on.outages if one.utc_ns < gone and back < decided_ns]
        assert crossed == [], f"{one.part_id} came before an outage, and was judged as live after it: {row['reason']}"
