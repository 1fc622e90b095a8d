"""The functions of camera-trigger.json alone: what an eye may say, bounce, the count at an edge, forms, freshness."""

from __future__ import annotations

import pytest

from tests.flows.functions import function_of

pytestmark = [pytest.mark.flows, pytest.mark.timeout(60)]

FLOW = "camera-trigger.json"
NOW = 1_800_000_000_000
TAB = {"EYE": "mqtt", "FORM": "raw", "ENCODER": "mqtt", "LIMIT_MS": "300", "MIN_PART_MS": "40", "MIN_GAP_MS": "5"}


def said(payload: object, **more: object) -> object:
    """Give what the flow takes from one message of the eye."""
    run = function_of(FLOW, "read the eye's message").run([{"payload": payload, **more}], env=TAB, now_ms=[NOW])
    return run[0].sent


@pytest.mark.parametrize(
    ("payload", "state"),
    [("1", True), ("0", False), ("true", True), ("false", False), ("ON", True), ("off", False), ('{"state": 1}', True)],
)
def test_a_level_of_the_eye(payload: str, state: bool) -> None:
    assert said(payload) == [{"eye": {"state": state, "at": NOW}}]


def test_an_event_of_the_eye_brings_what_it_knows() -> None:
    told = '{"ts": "2027-01-15T08:00:00.250Z", "encoder": 77, "part_id": "A-1"}'
    assert said(told) == [{"eye": {"ts": "2027-01-15T08:00:00.250Z", "encoder": 77, "part_id": "A-1", "at": NOW + 250}}]


@pytest.mark.parametrize("payload", ["", "part", '"1"', "null", "[1]", '{"ts": "yesterday"}', "{"])
def test_what_cant_be_read_is_told_as_a_part_that_may_be_missed(payload: str) -> None:
    (told,) = said(payload)  # type: ignore[misc]
    assert set(told) == {"blind"}
    run = function_of(FLOW, "number the part").run([told], env=TAB, flow={"sequence": 6}, now_ms=[NOW])
    assert run[0].outputs[0] == []
    assert run[0].outputs[1][0]["refused"]["sequence"] == 7
    assert run[0].outputs[1][0]["refused"]["why"].endswith("; a part may be missed")


def test_a_message_that_the_broker_had_kept_is_no_part() -> None:
    assert said("1", retain=True) == []


def edges(*levels: tuple[object, int]) -> list[bool]:
    """Tell for each (level, moment in ms) whether it was a part; a level of None is an event."""
    messages = [{"eye": {"at": NOW + at} | ({} if level is None else {"state": level})} for level, at in levels]
    run = function_of(FLOW, "edges, without bounce").run(messages, env=TAB)
    return [bool(call.sent) for call in run.calls]


def test_a_part_is_the_step_from_free_to_blocked() -> None:
    assert edges((False, 0), (True, 100), (True, 110), (False, 180), (True, 250)) == [False, True, False, False, True]


def test_the_first_level_is_no_part() -> None:
    assert edges((True, 0), (False, 80), (True, 160)) == [False, False, True]


def test_bounce_at_the_front_edge_is_left_out() -> None:
    told = edges((False, 0), (True, 100), (False, 102), (True, 104), (False, 183), (True, 250))
    assert told == [False, True, False, False, False, True]


def test_bounce_at_the_rear_edge_is_left_out() -> None:
    assert edges((False, 0), (True, 100), (False, 183), (True, 185), (False, 186)) == [False, True, False, False, False]


def test_events_are_kept_apart_by_the_shortest_part() -> None:
    assert edges((None, 0), (None, 39), (None, 40), (None, 90)) == [True, False, True, True]


def test_after_blindness_the_first_level_is_no_part() -> None:
    messages = [{"eye": {"state": False, "at": NOW}}, {"blind": "away"}, {"eye": {"state": True, "at": NOW + 900}}]
    run = function_of(FLOW, "edges, without bounce").run(messages, env=TAB)
    assert [len(call.sent) for call in run.calls] == [0, 1, 0]


@pytest.mark.parametrize(
    ("samples", "at", "count"),
    [
        ([(1000, -40), (1400, -20)], 0, 1800),
        ([(1000, -20), (1400, 20)], 0, 1200),
        ([(4294967200, -20), (104, -10)], 0, 304),
        ([(1000, -120), (1400, -101)], 0, None),
        ([(1000, -10)], 0, None),
        ([], 0, None),
    ],
)
def test_the_count_at_the_edge(samples: list[tuple[int, int]], at: int, count: int | None) -> None:
    kept = [{"counts": counts, "at": NOW + moment} for counts, moment in samples]
    run = function_of(FLOW, "number the part").run(
        [{"eye": {"at": NOW + at}}], env=TAB, flow={"counts": kept}, now_ms=[NOW]
    )
    (sent,) = run[0].outputs[0]
    assert sent["trigger"].get("encoder") == count
    assert (sent["trigger"]["sequence"], run.flow["sequence"]) == (1, 1)


def test_a_latched_count_goes_before_samples() -> None:
    kept = [{"counts": 1, "at": NOW - 2}, {"counts": 2, "at": NOW - 1}]
    run = function_of(FLOW, "number the part").run(
        [{"eye": {"at": NOW, "encoder": 0}}], env=TAB, flow={"counts": kept}, now_ms=[NOW]
    )
    assert run[0].outputs[0][0]["trigger"]["encoder"] == 0


def test_the_sequence_rolls_over_to_nought() -> None:
    run = function_of(FLOW, "number the part").run(
        [{"eye": {"at": NOW}}] * 2, env=TAB, flow={"sequence": 4294967294}, now_ms=[NOW, NOW]
    )
    assert [call.outputs[0][0]["trigger"]["sequence"] for call in run.calls] == [4294967295, 0]


def trigger(**more: object) -> dict[str, object]:
    return {"trigger": {"sequence": 3, "ts": "2027-01-15T08:00:00.000Z"}, "at": NOW, **more}


def test_the_two_forms() -> None:
    picture = {"payload": {"type": "Buffer", "data": [255, 216, 255]}, "media_type": "image/jpeg"}
    encode = function_of(FLOW, "encode: raw or JSON")
    (raw,) = encode.run([trigger(**picture)], env=TAB)[0].sent
    assert raw["contentType"] == "image/jpeg"
    assert raw["userProperties"] == {"sequence": "3", "ts": "2027-01-15T08:00:00.000Z"}
    assert raw["payload"] == picture["payload"]
    (told,) = encode.run([trigger(**picture)], env={**TAB, "FORM": "json"})[0].sent
    assert told["payload"]["image"] == {"media_type": "image/jpeg", "data": "/9j/"}
    assert told["payload"]["sequence"] == 3


@pytest.mark.parametrize(
    ("up", "age", "why"),
    [
        (True, 0, ""), (True, 300, ""), (True, -50, ""),
        (True, 301, "301 ms old, more than 300"), (True, -51, "its ts is 51 ms ahead: the eye's clock"),
        (False, 0, "the broker is away"), (None, 0, "the broker is away"),
    ],
)  # fmt: skip
def test_only_what_is_fresh_is_sent(up: bool | None, age: int, why: str) -> None:
    message = trigger(correlationData={"type": "Buffer", "data": [51]})
    run = function_of(FLOW, "fresh, or not at all").run([message], env=TAB, flow={"broker_up": up}, now_ms=[NOW + age])
    sent, refused = run[0].outputs
    assert (len(sent), [one["refused"]["why"] for one in refused]) == ((0, [why]) if why else (1, []))
    assert list(run.flow.get("waiting", {})) == ([] if why else ["3"])


def picture(sequence: int, **more: object) -> dict[str, object]:
    return {"trigger": {"sequence": sequence}, "picture": True, **more}


def test_pictures_leave_in_the_order_of_the_parts() -> None:
    parts = [{"trigger": {"sequence": n}, "requestTimeout": 5000} for n in (1, 2, 3)]
    run = function_of(FLOW, "in order, in time").run(
        [*parts, picture(3), picture(2, failed="no"), picture(1), picture(1)], env=TAB
    )
    assert [call.outputs[0] for call in run.calls[:5]] == [[]] * 5
    assert [one["trigger"]["sequence"] for one in run[5].outputs[0]] == [1, 3]
    assert [one["refused"] for one in run[5].outputs[1]] == [{"sequence": 2, "why": "no"}]
    assert run[6].outputs == [[], []]


def test_a_picture_that_comes_too_late_is_never_sent() -> None:
    run = function_of(FLOW, "in order, in time").run(
        [{"trigger": {"sequence": 1}, "requestTimeout": 20}, picture(1)], env=TAB, settle_ms=100
    )
    assert run[0].outputs[1] == [{"refused": {"sequence": 1, "why": "no picture within 300 ms"}}]
    assert run[1].outputs == [[], []]


def test_a_verdict_belongs_to_its_own_part() -> None:
    waiting = {"3 a": {"sequence": 3, "at": NOW}}
    verdict = {"sequence": 3, "verdict": "PASS", "code": 1, "disposition": "LET_PASS"}
    key = {"type": "Buffer", "data": list(b"3 a")}
    messages = [
        {"payload": {**verdict, "sequence": 4}, "correlationData": key}, {"payload": verdict},
        {"payload": verdict, "correlationData": key}, {"payload": verdict, "correlationData": key},
    ]  # fmt: skip
    run = function_of(FLOW, "match the verdict").run(messages, flow={"waiting": waiting}, now_ms=[NOW + 40] * 4)
    assert [len(call.outputs[0]) for call in run.calls] == [0, 0, 1, 0]
    assert (run[2].sent[0]["payload"]["ms"], run[2].sent[0]["pass"]) == (40, True)
    assert run[3].outputs[1][0]["refused"]["why"] == "a verdict (PASS) for no open part"


@pytest.mark.parametrize(
    "verdict", [{"verdict": "FAIL", "code": 2, "disposition": "REJECT"}, {"verdict": "PASS", "code": 1}, {"code": 1}]
)
def test_nothing_but_a_pass_shows_as_one(verdict: dict[str, object]) -> None:
    message = {"payload": {"sequence": 3, **verdict}, "correlationData": "3 a"}
    flow = {"waiting": {"3 a": {"sequence": 3, "at": NOW}}}
    run = function_of(FLOW, "match the verdict").run([message], flow=flow, now_ms=[NOW])
    assert (run[0].sent[0]["pass"], run[0].status[0]["fill"]) == (False, "red")


def test_a_wrong_setting_is_named_with_what_is_allowed() -> None:
    given = {**TAB, "EYE": "laser", "PICTURE": "folder", "LIMIT_MS": "soon"}
    run = function_of(FLOW, "check the settings").run([{}], env=given)
    assert run[0].error == [
        "EYE is laser; allowed: mqtt, modbus, inject", "LIMIT_MS is soon; allowed: 0 or more ms",
    ]  # fmt: skip
    assert run[0].status[-1]["fill"] == "red"


def test_a_broker_that_takes_nothing_is_away() -> None:
    waiting = {"a": {"sequence": 1, "sent_at": NOW - 1001, "taken": False}}
    check = function_of(FLOW, "nothing left waiting")
    run = check.run([{}] * 2, flow={"waiting": waiting, "broker_up": True}, now_ms=[NOW, NOW + 1000])
    assert run[0].outputs[0] == [{"action": "disconnect"}]
    assert run[1].outputs[0] == []
    assert run.flow["broker_up"] is False
    taken = {"a": {"sequence": 1, "sent_at": NOW - 6001, "taken": True}}
    run = check.run([{}], flow={"waiting": taken, "broker_up": True}, now_ms=[NOW])
    assert run[0].outputs == [[], [{"refused": {"sequence": 1, "why": "sent, and no verdict within 6 s"}}]]
