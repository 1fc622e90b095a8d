import json
import math
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.alarms import ALARMS
from bridge.domain.gate import NO_ORDER, GateOrder
from bridge.domain.part import Part, Result, Trigger
from bridge.domain.recipe import Recipe
from bridge.domain.report import (
    alarm_document,
    encode,
    gate_report_document,
    offline_document,
    status_document,
    verdict_document,
)
from bridge.domain.rfc3339 import format_utc, parse_utc
from bridge.domain.status import Counters, StationState, StationStatus
from bridge.domain.verdict import Disposition, Judgement, Region, VerdictCode

UTC_NS = 1_795_248_000_123_456_789
RECIPE = Recipe(name="bracket-a", number=1, revision=3, bundle="surface-1.2.0", labels=("crack",))


def result(*, judgement: Judgement, disposition: Disposition, order: GateOrder = NO_ORDER, **others: Any) -> Result:
    trigger = Trigger(sequence=123, part_id="A-000123", arrived_ns=1_000, encoder_counts=456789)
    part = Part(
        line="line1", station="station1", trigger=trigger, epoch=1, triggered_ns=1_000_000_000,
        triggered_utc_ns=UTC_NS, length_mm=100.0, recipe=RECIPE, count_at_trigger=456789,
    )  # fmt: skip
    facts: dict[str, Any] = {
        "captured_utc_ns": UTC_NS + 1000, "decided_ns": 1_006_000_000, "decided_utc_ns": UTC_NS + 6_000_000,
        "timing_ms": {"queue": 0.1, "total": 6.00049}, "model": "surface@1.2.0", "model_sha256": "ab",
    }  # fmt: skip
    return Result(part=part, judgement=judgement, disposition=disposition, order=order, **(facts | others))


FAIL = Judgement(
    code=VerdictCode.FAIL, reason="crack 0.93 >= 0.50", label="crack", label_id=1, score=0.93,
    regions=(Region(label="crack", score=0.93, box=(1, 2, 3, 4)),),
)  # fmt: skip
ORDER = GateOrder(
    state="ordered", open_count=462639, close_count=463939, due_ns=1_447_500_000, open_ns=1_487_500_000,
    window_ms=108.3333333,
)  # fmt: skip


def test_a_verdict_as_the_contract_has_it() -> None:
    assert verdict_document(result(judgement=FAIL, disposition=Disposition.REJECT, order=ORDER)) == {
        "line": "line1", "station": "station1", "part_id": "A-000123", "sequence": 123, "epoch": 1, "verdict": "FAIL",
        "code": 2, "disposition": "REJECT", "reason": "crack 0.93 >= 0.50", "label": "crack", "score": 0.93,
        "regions": [{"label": "crack", "score": 0.93, "box": [1, 2, 3, 4]}], "recipe": "bracket-a@3",
        "model": "surface@1.2.0", "triggered_utc": "2026-11-21T08:00:00.123456Z",
        "captured_utc": "2026-11-21T08:00:00.123457Z", "decided_utc": "2026-11-21T08:00:00.129456Z",
        "timing_ms": {"queue": 0.1, "decode": None, "preprocess": None, "inference": None, "total": 6.0},
        "encoder": 456789,
        "gate": {"state": "ordered", "open_count": 462639, "close_count": 463939, "delay_ms": 481.5,
                 "due_utc": "2026-11-21T08:00:00.570956Z", "window_ms": 108.333, "collateral": False},
        "picture": None, "replayed": False,
    }  # fmt: skip


def test_null_where_there_is_none_and_never_nan() -> None:
    late = Judgement(code=VerdictCode.LATE, reason="no verdict by the deadline", score=math.nan)
    document = verdict_document(
        result(judgement=late, disposition=Disposition.REJECT, model=None, captured_utc_ns=None, timing_ms={})
    )
    assert document["gate"]["state"] == "none"
    assert [document[key] for key in ("label", "score", "model", "captured_utc", "picture")] == [None] * 5
    passed = Judgement(code=VerdictCode.PASS, reason="good", score=math.inf)
    document = verdict_document(result(judgement=passed, disposition=Disposition.LET_PASS))
    assert (document["gate"], document["score"]) == (None, None)
    swept = verdict_document(
        result(judgement=passed, disposition=Disposition.LET_PASS, order=GateOrder(collateral=True))
    )
    assert (swept["gate"]["state"], swept["gate"]["collateral"]) == ("none", True)
    for text in (encode(document), encode(swept)):
        assert json.loads(text, parse_constant=pytest.fail)


def test_nan_never_leaves() -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode({"a": math.nan})


def test_a_gate_report() -> None:
    missed = GateOrder(state="missed", reason="decided too late")
    document = gate_report_document("missed", result(judgement=FAIL, disposition=Disposition.REJECT), missed)
    assert document == {
        "event": "missed", "sequence": 123, "part_id": "A-000123", "open_count": None, "close_count": None,
        "due_utc": None, "delay_ms": None, "window_ms": None, "error_ms": None, "reason": "decided too late",
    }  # fmt: skip


def test_an_alarm() -> None:
    document = alarm_document(ALARMS["TRIGGER_MISSED"], raised=True, text="3 missed", at_utc_ns=UTC_NS)
    assert document == {
        "code": 2, "name": "TRIGGER_MISSED", "state": "raised", "severity": "critical", "text": "3 missed",
        "ts": "2026-11-21T08:00:00.123456Z",
    }  # fmt: skip


def test_the_will_has_the_keys_of_a_status() -> None:
    status = StationStatus(
        state=StationState.READY, online=True, ready=True, busy=False, error=False, recipe_ok=True, degraded=False,
        plc_heartbeat_lost=False, stop_request=False, gate_unguarded=False, clock_ok=True, heartbeat=7, error_code=0,
        error_text="", recipe="ball-screw", recipe_number=1, model="m@1", model_sha256="", belt_speed_mm_s=None,
        counters=Counters(triggers=3, passed=1, failed=1), last_sequence=9, alarms=(("TRIGGER_MISSED", "3 missing"),),
        recipes=("ball-screw", "bracket-a"),
    )  # fmt: skip
    document = status_document(status)
    assert list(offline_document()) == list(document)
    assert offline_document()["online"] is False
    missed = {"code": 2, "name": "TRIGGER_MISSED", "severity": "critical", "text": "3 missing"}
    assert (document["alarms"], document["recipes"]) == ([missed], ["ball-screw", "bracket-a"])
    assert (document["state"], document["counters"]["pass"], document["counters"]["in_flight"]) == ("READY", 1, 1)
    assert {"online", "state", "recipe", "model", "counters", "heartbeat", "degraded", "stop_request"} <= set(document)


@given(st.integers(min_value=0, max_value=4_000_000_000_000_000_000))
def test_stamps_survive_the_way_there_and_back(utc_ns: int) -> None:
    assert parse_utc(format_utc(utc_ns)) == utc_ns - utc_ns % 1000


def test_stamps_agree_with_a_calendar() -> None:
    for text in ("2026-11-21T08:00:00Z", "2000-02-29t23:59:59.5z", "2026-11-21 09:30:00.123456789+05:30"):
        plain = datetime.fromisoformat(text.upper().replace("123456789", "123456")).timestamp()
        assert parse_utc(text) // 1000 == round(plain * 1_000_000)
    assert parse_utc("2016-12-31T23:59:60Z") == parse_utc("2016-12-31T23:59:59Z")
    for bad in (
        "2026-13-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-01-01T25:00:00Z",
        "2026-01-01T00:00:61Z",
        "",
        "٢",
    ):
        with pytest.raises(ValueError, match=r".+"):
            parse_utc(bad)
