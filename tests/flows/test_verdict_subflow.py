"""The subflow "Linegate verdict", which every flow that reads verdicts shares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.flows.functions import Function, Run, function_of
from tests.flows.node_red import FLOWS

pytestmark = [pytest.mark.flows, pytest.mark.timeout(60)]
NAME = "Linegate verdict"


def holding() -> Path:
    return next(
        file for file in sorted(FLOWS.glob("*.json")) if f'"name": "{NAME}"' in file.read_text(encoding="utf-8")
    )


def check() -> Function:
    return function_of(holding(), "check the verdict")


def count(messages: list[dict[str, Any]]) -> Run:
    return function_of(holding(), "once each, gaps counted").run([{"payload": each} for each in messages])


def verdict(sequence: int = 7, **other: Any) -> dict[str, Any]:
    plain = {"line": "line1", "station": "station1", "part_id": "A-7", "sequence": sequence, "epoch": 1}
    return plain | {"verdict": "PASS", "code": 1, "disposition": "LET_PASS", "replayed": False} | other


@pytest.mark.parametrize(
    ("document", "passes"),
    [
        (verdict(), True),
        (verdict(verdict="FAIL", code=2, disposition="REJECT"), False),
        (verdict(verdict="ERROR", code=4, disposition="LET_PASS"), False),
        (verdict(disposition="REJECT"), False),
        (verdict(verdict="LATE", code=5, disposition="NONE", replayed=True), False),
    ],
)
def test_a_verdict_is_passed_on_with_what_flows_ask_of_it(document: dict[str, Any], passes: bool) -> None:
    text = json.dumps(document)
    for call in check().run([{"payload": text}, {"payload": document}]).calls:
        (told,) = call.outputs[0]
        assert (told["payload"], told["verdict"], told["sequence"]) == (document, document["verdict"], 7)
        assert (told["pass"], told["replayed"]) == (passes, document["replayed"])
        assert len(call.outputs) == 1 or not call.outputs[1]


@pytest.mark.parametrize(
    "payload",
    [
        "PASS", "", "null", "[1", 1, "true",
        verdict(code=2), verdict(verdict="pass"), verdict(verdict="NONE", code=0), verdict(disposition=None),
        verdict(sequence=-1), verdict(sequence=2**32), verdict(sequence=1.5), verdict(epoch="1"),
        {"verdict": "PASS", "code": 1, "disposition": "LET_PASS"},
    ],
)  # fmt: skip
def test_what_breaks_the_contract_is_refused_and_no_pass(payload: Any) -> None:
    call = check().run([{"payload": payload}])[0]
    assert not call.outputs[0]
    (told,) = call.outputs[1]
    assert told["error"].startswith("verdict refused: ")
    assert "pass" not in told


def test_each_verdict_comes_once_and_gaps_are_counted() -> None:
    run = count([verdict(each) for each in (10, 11, 11, 14, 13, 15)])
    assert [[each["sequence"] for each in (message["payload"] for message in call.sent)] for call in run.calls] == [
        [10], [11], [], [14], [13], [15],
    ]  # fmt: skip
    told = [call.sent[0] for call in run.calls if call.sent]
    assert [(each["gap"], each["missing"], each["count"]) for each in told] == [
        (0, 0, 1), (0, 0, 2), (2, 2, 3), (0, 1, 4), (0, 1, 5),
    ]  # fmt: skip
    assert run[3].status[-1]["fill"] == "yellow"


def test_a_rollover_and_a_new_epoch_are_no_gap() -> None:
    run = count([verdict(2**32 - 1), verdict(0), verdict(1), verdict(0, epoch=2), verdict(1, epoch=2)])
    assert [call.sent[0]["missing"] for call in run.calls] == [0] * 5


def test_stations_are_counted_apart() -> None:
    run = count([verdict(5), verdict(90, station="station2"), verdict(6), verdict(92, station="station2")])
    assert [(call.sent[0]["place"], call.sent[0]["missing"]) for call in run.calls] == [
        ("line1/station1", 0), ("line1/station2", 0), ("line1/station1", 0), ("line1/station2", 1),
    ]  # fmt: skip
