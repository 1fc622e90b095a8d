"""The operator's dashboard: real Node-RED, real broker, real bridge with real parts, and a person at the browser."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import httpx
import pytest

from bridge.setup_files import write_project
from tests.cli.processes import Bridge, Ports, Publisher, eventually
from tests.cli.test_run import GOOD, PITTED, send_picture
from tests.flows.browser import browse
from tests.flows.functions import function_of
from tests.flows.node_red import NodeRed, node_red, read_flow
from tests.wire.conftest import MosquittoBroker

pytestmark = [pytest.mark.flows, pytest.mark.timeout(120)]

FLOW = "line-dashboard.json"
SLOW_BELT = {"belt__speed_mm_s": "60"}  # a busy machine still judges in time
NOW_MS = 1_800_000_000_000
STATE = "#lg-state"
LIVE = {"online": True, "state": "READY", "ready": True, "not_ready": [], "error_text": "", "recipe": "ball-screw@1"}


@dataclass(kw_only=True)
class Line:
    """A whole line with its dashboard."""

    broker: MosquittoBroker
    bridge: Bridge
    red: NodeRed
    publisher: Publisher
    folder: Path
    stack: contextlib.ExitStack
    sequence: int = 0
    pages: int = 0

    def part(self, picture: Path) -> dict[str, Any]:
        """Send one part and give its verdict."""
        self.sequence += 1
        send_picture(self.broker.port, picture, sequence=self.sequence, part_id=f"A-{self.sequence:06d}")
        return self.publisher.verdict_of(self.sequence)

    def status(self) -> dict[str, Any]:
        """Give the newest status that the bridge published."""
        return self.publisher.heard("status")[-1]

    def look(self, *steps: list[Any], page: str = "line") -> list[Any]:
        """Open a page as a person does and walk through these steps; gives their answers."""
        self.pages += 1
        folder = self.folder / f"page{self.pages}"
        folder.mkdir()
        return browse(folder, [["open", f"{self.red.url}/dashboard/{page}"], *steps])[1:]


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    folder = tmp_path_factory.mktemp("dashboard")
    (folder / "mosquitto").mkdir()
    broker = MosquittoBroker(folder / "mosquitto")
    broker.start()
    (folder / "line").mkdir()
    write_project(folder / "line")
    recipe = (folder / "line" / "recipes" / "ball-screw.toml").read_text()
    other = recipe.replace('name = "ball-screw"', 'name = "bracket-a"').replace("number = 1", "number = 2")
    (folder / "line" / "recipes" / "bracket-a.toml").write_text(other)
    ports = Ports.free()
    ports.mqtt = broker.port
    bridge = Bridge(folder=folder / "line", ports=ports, settings=SLOW_BELT)
    bridge.start()
    environment = {"LINEGATE_MQTT_PORT": str(broker.port), "LINEGATE_HTTP": f"http://127.0.0.1:{ports.http}"}
    try:
        wait_ready(bridge)
        with contextlib.ExitStack() as stack:
            publisher = stack.enter_context(Publisher(broker.port))
            red = stack.enter_context(node_red(folder, flows=[FLOW], environment=environment))
            made = Line(broker=broker, bridge=bridge, red=red, publisher=publisher, folder=folder, stack=stack)
            eventually(lambda: publisher.heard("status"))
            eventually(lambda: red.statuses().get("status by MQTT", {}).get("fill") == "green")
            yield made
    finally:
        bridge.kill()
        broker.kill()


def wait_ready(bridge: Bridge) -> None:
    """Wait for a bridge on a machine that has more to do."""
    eventually(lambda: bridge.get("/readyz")[0] == 200, 60)


def until(code: str) -> list[str]:
    """Give a step that waits until a piece of JavaScript is true, and answers with the moment, in s since 1970."""
    return ["evaluate", f"new Promise((done) => {{ const timer = setInterval(() => {{ if ({code}) "
            "{ clearInterval(timer); done(Date.now() / 1000); } }, 50); })"]  # fmt: skip


def shows(selector: str, text: str) -> list[str]:
    """Give a step that waits until an element's text is this one."""
    element = f"document.querySelector({json.dumps(selector)})"
    return until(f"{element} && {element}.innerText.trim() === {json.dumps(text)}")


# ---- from the bridge to the page -------------------------------------------------------------------------------------


def test_the_page_shows_verdict_picture_regions_and_the_bridges_counts(line: Line) -> None:
    assert line.part(GOOD)["verdict"] == "PASS"
    found = line.part(PITTED)
    assert found["verdict"] == "FAIL"
    good = line.part(GOOD)
    eventually(lambda: line.status()["counters"]["pass"] == 2)
    loaded = "[...document.querySelectorAll('.lg-picture img')].filter((one) => one.naturalWidth > 0).length"
    answers = line.look(
        until(f"{loaded} === 2"), shows("#lg-count-triggers", "3"), ["read_all", ".lg-word"], ["read_all", ".lg-id"],
        ["read_all", ".lg-reason"], shows("#lg-recipe", "ball-screw@1"), shows("#lg-belt", "60 mm/s"),
        *(["read", f"#lg-count-{name}"] for name in ("pass", "fail", "uncertain", "error", "late")),
    )  # fmt: skip
    assert answers[2] == ["PASS", "FAIL"]
    assert answers[3] == [good["part_id"], found["part_id"]]
    assert answers[4] == [good["reason"], found["reason"]]
    counters = line.status()["counters"]
    assert answers[7:] == [str(counters[name]) for name in ("pass", "fail", "uncertain", "error", "late")]
    assert line.red.problems() == []


def test_regions_are_drawn_where_they_are_in_the_picture(line: Line) -> None:
    found = line.part(PITTED)
    region = {"label": "pitting", "score": 0.9, "box": [10, 20, 300, 400]}
    line.publisher.send(json.dumps({**found, "epoch": 500, "regions": [region]}).encode(), topic="verdict")
    box = (
        "[...document.querySelectorAll('.lg-picture rect')].map((r) => "
        "['x', 'y', 'width', 'height'].map((a) => +r.getAttribute(a)))"
    )
    answers = line.look(
        until(f"{box}.length === 4"),
        ["evaluate", box],
        ["evaluate", "document.querySelector('.lg-picture svg[viewBox]').getAttribute('viewBox')"],
    )
    assert (
        answers[1] == [region["box"]] * 4
    )  # each light and dark, to be seen on any picture; the last part and the last reject
    picture = cv2.imread(str(PITTED))
    assert picture is not None
    assert answers[2] == f"0 0 {picture.shape[1]} {picture.shape[0]}"


def test_a_picture_comes_through_node_red_and_nothing_else_does(line: Line) -> None:
    verdict = line.part(PITTED)
    address = f"{line.red.url}/linegate/picture/"
    got = eventually(lambda: (answer := httpx.get(f"{address}{verdict['sequence']}")).status_code == 200 and answer)
    assert got.headers["content-type"] == "image/jpeg"
    assert got.content == PITTED.read_bytes()
    for wrong in ("999999", "-1", "1e3", "..%2f..%2fmetrics", "4294967296"):
        assert httpx.get(address + wrong).status_code == 404, wrong


def test_charts_are_drawn_from_the_verdicts(line: Line) -> None:
    line.part(GOOD)
    line.look(["wait", "canvas"], until("document.querySelectorAll('canvas').length === 4"), page="trends")
    hours = sum(each["parts"] for each in context(line.red, "hours").values())
    assert hours >= line.sequence


def context(red: NodeRed, name: str) -> Any:
    """Read a value that the tab keeps."""
    tab = next(node["id"] for node in read_flow(FLOW) if node["type"] == "tab")
    answer = red.client.get(f"/context/flow/{tab}/{name}").json()
    return json.loads(answer["msg"])


# ---- from the page to the bridge -------------------------------------------------------------------------------------


def test_disable_and_enable_by_the_page(line: Line) -> None:
    line.look(
        shows(STATE, "READY"), ["click", "#lg-disable"], ["click", "#lg-no"],
        ["click", "#lg-disable"], ["click", "#lg-yes"], shows(STATE, "DISABLED"), ["wait_text", "disable: done"],
    )  # fmt: skip
    assert line.status()["state"] == "DISABLED"
    assert line.part(GOOD)["verdict"] == "ERROR"
    answers = line.look(  # a page that is opened later shows it at once
        shows(STATE, "DISABLED"),
        ["read", "#lg-why"],
        ["click", "#lg-enable"],
        ["click", "#lg-yes"],
        shows(STATE, "READY"),
    )
    assert "station disabled by the operator" in answers[1]
    assert line.part(GOOD)["verdict"] == "PASS"


def test_the_choice_of_recipes_is_what_the_bridge_has_and_a_change_takes_effect(line: Line) -> None:
    choose = (
        "const e = document.querySelector('#lg-recipe-choice'); e.value = 'bracket-a';"
        " e.dispatchEvent(new Event('change')); [...e.options].map((one) => one.value)"
    )
    answers = line.look(
        shows("#lg-recipe", "ball-screw@1"), ["evaluate", choose], ["click", "#lg-select-recipe"], ["click", "#lg-yes"],
        shows("#lg-recipe", "bracket-a@1"), ["wait_text", "select-recipe bracket-a: done"],
    )  # fmt: skip
    assert answers[1] == ["ball-screw", "bracket-a"]
    assert line.part(GOOD)["recipe"] == "bracket-a@1"


def test_an_alarm_is_seen_acknowledged_and_cleared_apart(line: Line) -> None:
    line.publisher.send(b"not a trigger")
    eventually(lambda: "TRIGGER_UNREADABLE" in [one["name"] for one in line.status()["alarms"]])
    row = "#lg-alarm-TRIGGER_UNREADABLE"
    answers = line.look(
        ["wait", f"{row}.lg-unseen"], ["click", f"{row} button"], ["wait", f"{row}:not(.lg-unseen)"], ["read", row],
        page="alarms",
    )  # fmt: skip
    assert "stands" in answers[3]
    assert line.status()["stop_request"] is True  # seen is not cleared
    line.look(shows(STATE, "READY"), ["wait", "#lg-lamp.lg-bad"], ["wait_text", "STOP REQUEST"])
    line.look(
        ["click", "#lg-clear-error"], ["click", "#lg-yes"], ["wait_gone", row], ["wait", "#lg-past"], page="alarms"
    )
    eventually(lambda: line.status()["stop_request"] is False)
    assert "TRIGGER_UNREADABLE" not in [one["name"] for one in line.status()["alarms"]]


# ---- what is away is never shown as if it were there -----------------------------------------------------------------


def watch(line: Line, break_: Callable[[], None], *steps: list[Any]) -> tuple[float, list[Any]]:
    """Break something while a person looks at a page that shows READY; gives when, and the steps' answers."""
    ready = line.folder / f"ready{line.pages}.png"
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.extend(line.look(shows(STATE, "READY"), ["shot", ready], *steps)))
    thread.start()
    try:
        eventually(ready.exists, 60)
        began = time.time()
        break_()
    finally:
        thread.join(90)
    assert answers, "the page did not show what was waited for"
    return began, answers[2:]


def test_a_broker_that_goes_is_told_within_5_s_and_its_return_within_10(line: Line) -> None:
    back: list[float] = []

    def away_and_back() -> None:
        line.broker.kill()
        time.sleep(6)
        line.broker.start()
        back.append(time.time())

    began, answers = watch(
        line, away_and_back, shows(STATE, "NO CONNECTION"), ["wait", ".lg-part.lg-stale"], ["read_all", ".lg-good"],
        shows(STATE, "READY"),
    )  # fmt: skip
    assert answers[0] - began < 5
    assert answers[2] == []  # no green anywhere
    assert answers[3] - back[0] < 10
    line.publisher = line.stack.enter_context(Publisher(line.broker.port))  # the earlier one's subscriptions are lost
    back_again = line.part(GOOD)
    assert back_again["verdict"] == "PASS"
    line.look(shows(".lg-id", back_again["part_id"]))


def test_a_bridge_that_hangs_is_told_within_5_s_and_nothing_can_be_commanded(line: Line) -> None:
    began, answers = watch(
        line, lambda: line.bridge.process.send_signal(signal.SIGSTOP), shows(STATE, "BRIDGE OFFLINE"), ["read", "#lg-why"],
        ["wait", "#lg-disable:disabled"], ["read_all", ".lg-good"],
    )  # fmt: skip
    try:
        assert answers[0] - began < 5.5
        assert "heartbeat stands still" in answers[1]
        assert answers[3] == []
    finally:
        line.bridge.process.send_signal(signal.SIGCONT)
    line.look(shows(STATE, "READY"))


def test_a_bridge_that_is_killed_is_told_within_5_s_also_on_a_page_opened_later(line: Line) -> None:
    began, answers = watch(line, line.bridge.kill, shows(STATE, "BRIDGE OFFLINE"), ["read_all", ".lg-good"])
    assert answers[0] - began < 5
    assert answers[1] == []
    later = line.look(shows(STATE, "BRIDGE OFFLINE"), ["wait", ".lg-part.lg-stale"], ["read_all", ".lg-good"])
    assert later[2] == []
    line.bridge.start()
    wait_ready(line.bridge)
    line.look(shows(STATE, "READY"))


def test_a_page_that_loses_its_server_says_so(line: Line) -> None:
    began, answers = watch(
        line,
        lambda: os.kill(line.red.process.pid, signal.SIGSTOP),
        shows(STATE, "PAGE OFFLINE"),
        ["read_all", ".lg-good"],
    )
    os.kill(line.red.process.pid, signal.SIGCONT)
    assert answers[0] - began < 5.5
    assert answers[1] == []
    line.look(shows(STATE, "READY"))


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_ten_thousand_verdicts_are_all_counted_and_memory_stays_level(line: Line) -> None:
    rate, count = (
        float(os.environ.get("FLOWS_RATE", "200")),
        int(os.environ.get("FLOWS_COUNT", "10000")),
    )
    template = line.part(GOOD)
    before = sum(each["parts"] for each in context(line.red, "hours").values())
    begun, memory = time.monotonic(), 0
    for number in range(count):
        document = {**template, "epoch": 1000, "sequence": number, "part_id": f"S-{number}"}
        line.publisher.send(json.dumps(document).encode(), topic="verdict")
        if number == count // 4:
            memory = line.red.memory()
        time.sleep(max(0.0, begun + (number + 1) / rate - time.monotonic()))
    eventually(lambda: sum(each["parts"] for each in context(line.red, "hours").values()) == before + count, 60)
    assert line.red.memory() < memory + 60e6
    line.look(shows(".lg-id", f"S-{count - 1}"))


# ---- functions alone -------------------------------------------------------------------------------------------------


def judged(**changes: Any) -> tuple[str, dict[str, Any]]:
    """Give lamp state and payload for what the flow knows."""
    known = {"broker": True, "status": LIVE, "beat_at": NOW_MS - 500, **changes}
    first = function_of(FLOW, "may it be believed?").run([{}], flow=known, now_ms=[NOW_MS])[0].sent[0]
    names = {"LINEGATE_LINE": "line1", "LINEGATE_STATION": "station1"}
    payload = function_of(FLOW, "lamp").run([first], flow=known, env=names, now_ms=[NOW_MS])[0].sent[0]["payload"]
    return payload["state"], payload


@pytest.mark.parametrize(
    ("changes", "state", "kind"),
    [
        ({}, "READY", "good"),
        ({"status": {**LIVE, "state": "BUSY"}}, "BUSY", "good"),
        ({"status": {**LIVE, "stop_request": True}}, "READY", "bad"),
        ({"status": {**LIVE, "degraded": True}}, "READY", "warn"),
        ({"status": {**LIVE, "gate_unguarded": True}}, "READY", "warn"),
        ({"status": {**LIVE, "ready": False, "not_ready": ["the journal can't commit"]}}, "READY", "warn"),
        ({"status": {**LIVE, "state": "FAULT"}}, "FAULT", "bad"),
        ({"status": {**LIVE, "state": "SOMETHING"}}, "SOMETHING", "bad"),
        ({"status": {**LIVE, "state": "DISABLED"}}, "DISABLED", "off"),
        ({"status": {**LIVE, "state": "STARTING"}}, "STARTING", "wait"),
        ({"beat_at": NOW_MS - 4100}, "BRIDGE OFFLINE", "gone"),
        ({"beat_at": 0}, "BRIDGE OFFLINE", "gone"),
        ({"broker": False}, "NO CONNECTION", "gone"),
        ({"status": {"online": False}}, "BRIDGE OFFLINE", "gone"),
        ({"status": {}}, "BRIDGE OFFLINE", "gone"),
        ({"status": {"unreadable": True}}, "UNREADABLE", "gone"),
    ],
)
def test_the_lamp(changes: dict[str, Any], state: str, kind: str) -> None:
    shown, payload = judged(**changes)
    assert (shown, payload["kind"]) == (state, kind)
    assert payload["why"]
    assert "unknown" in payload["belt"] or kind != "gone"


def test_a_kept_status_is_no_proof_of_life() -> None:
    take = function_of(FLOW, "take the status")
    kept = {"payload": json.dumps({**LIVE, "heartbeat": 7}), "retain": True}
    same = {"payload": json.dumps({**LIVE, "heartbeat": 7}), "retain": False}
    moved = {"payload": json.dumps({**LIVE, "heartbeat": 8}), "retain": False}
    assert "beat_at" not in take.run([kept]).flow
    assert "beat_at" not in take.run([kept, same]).flow
    assert take.run([kept, moved], now_ms=[NOW_MS, NOW_MS + 1]).flow["beat_at"] == NOW_MS + 1
    gone = take.run([kept, moved, {"payload": json.dumps({"online": False})}], now_ms=[NOW_MS, NOW_MS, NOW_MS])
    assert gone.flow["beat_at"] == 0


@pytest.mark.parametrize("payload", ["", "no JSON", "7", "null", "[]", '{"online": 1}'])
def test_an_unreadable_status_is_believed_in_nothing(payload: str) -> None:
    run = function_of(FLOW, "take the status").run([{"payload": payload}], flow={"status": LIVE, "beat_at": NOW_MS})
    assert (run.flow["status"], run.flow["beat_at"]) == ({"unreadable": True}, 0)


@pytest.mark.parametrize(
    ("verdict", "disposition", "kind"),
    [
        ("PASS", "LET_PASS", "good"), ("PASS", "NONE", "warn"), ("PASS", "REJECT", "warn"), ("FAIL", "REJECT", "bad"),
        ("UNCERTAIN", "REJECT", "warn"), ("ERROR", "REJECT", "bad"), ("LATE", "REJECT", "bad"),
    ],
)  # fmt: skip
def test_only_a_released_pass_is_green(verdict: str, disposition: str, kind: str) -> None:
    last = {"verdict": verdict, "disposition": disposition, "decided_utc": "2026-11-21T08:00:00Z"}
    run = function_of(FLOW, "parts to show").run([{}], flow={"last": last, "live": True})
    assert run[0].outputs[0][0]["payload"]["part"]["kind"] == kind
    assert run[0].outputs[1][0]["payload"]["part"] is None


def test_a_command_is_stamped_and_never_sent_without_a_bridge() -> None:
    command = function_of(FLOW, "command with its time")
    asked = [
        {"payload": {"command": "select-recipe", "recipe": "bracket-a"}},
        {"payload": {"command": "deploy-model"}},
        {"payload": None},
    ]
    run = command.run(asked, flow={"live": True}, env={"REPLY_TOPIC": "r"}, now_ms=[NOW_MS] * 3)
    sent = run[0].sent[0]
    body = json.loads(sent["payload"])
    assert body == {"command": "select-recipe", "recipe": "bracket-a", "ts": "2027-01-15T08:00:00.000Z"}
    assert (sent["responseTopic"], run[1].sent, run[2].sent) == ("r", [], [])
    away = command.run([{"payload": {"command": "enable"}}], flow={"live": False}, now_ms=[NOW_MS])
    assert away[0].sent == []
    assert away.flow["said"][0]["text"] == "not sent: no connection to the bridge"


def test_a_command_without_an_answer_is_told_of() -> None:
    said = [{"id": "a", "state": "sent"}, {"id": "b", "state": "sent"}]
    pending = {
        "a": {"command": "enable", "at": NOW_MS - 11_000},
        "b": {"command": "select-recipe", "at": NOW_MS - 11_000},
    }
    run = function_of(FLOW, "commands to show").run([{}], flow={"said": said, "pending": pending}, now_ms=[NOW_MS])
    assert [one["state"] for one in run.flow["said"]] == ["refused", "sent"]
    assert list(run.flow["pending"]) == ["b"]


def test_an_answer_to_somebody_else_is_left_alone() -> None:
    known = {"said": [{"id": "a", "state": "sent"}], "pending": {"a": {}}}
    match = function_of(FLOW, "match the answer")
    to = {"type": "Buffer", "data": list(b"a")}
    run = match.run([{"payload": '{"ok": true}', "correlationData": {"type": "Buffer", "data": [98]}}], flow=known)
    assert run.flow == known
    for payload, state in (
        ('{"ok": true, "text": ""}', "done"),
        ('{"ok": false, "text": "x"}', "refused"),
        ("?", "refused"),
    ):
        run = match.run([{"payload": payload, "correlationData": to}], flow=known)
        assert (run.flow["said"][0]["state"], run.flow["pending"]) == (state, {})


def test_alarms_that_stood_before_and_ended_unseen() -> None:
    compare = function_of(FLOW, "compare with the status")
    standing = [{"name": "DRY_RUN", "code": 1, "severity": "warning", "text": "t"}]
    run = compare.run([{"payload": standing}, {"payload": []}], now_ms=[NOW_MS, NOW_MS + 1000])
    found = run.flow["alarms"]["DRY_RUN"]
    assert (found["before"], found["ended"], found["seen"]) == (True, "2027-01-15T08:00:01.000Z", "")
    show = function_of(FLOW, "alarms to show").run([{}], flow={**run.flow, "live": True})[0].sent[0]["payload"]
    assert (show["unseen"], show["stand"], len(show["standing"])) == (1, 0, 1)
    seen = function_of(FLOW, "acknowledge").run([{"payload": {"seen": "*"}}], flow=run.flow, now_ms=[NOW_MS])
    assert seen[0].sent == []
    show = function_of(FLOW, "alarms to show").run([{}], flow=seen.flow)[0].sent[0]["payload"]
    assert (show["unseen"], show["standing"], len(show["past"])) == (0, [], 1)


def test_a_status_from_before_an_alarm_was_cleared_does_not_raise_it_again() -> None:
    one = {"name": "PART_ERROR", "code": 31, "severity": "warning", "text": "t"}
    cleared = {"payload": json.dumps({**one, "state": "cleared", "ts": "2027-01-15T08:00:00Z"})}
    noted = function_of(FLOW, "note the alarm").run([cleared], now_ms=[NOW_MS])
    compare = function_of(FLOW, "compare with the status")
    run = compare.run([{"payload": [one]}], flow=noted.flow, now_ms=[NOW_MS + 20])
    assert run.flow["alarms"] == {}
    run = compare.run([{"payload": [one]}], flow=noted.flow, now_ms=[NOW_MS + 1500])
    assert run.flow["alarms"]["PART_ERROR"]["ended"] == "", "it stands"


def test_sums_by_the_hour_are_kept_for_a_day() -> None:
    note = function_of(FLOW, "note the verdict")
    verdicts = [
        {
            "payload": {
                "verdict": "PASS",
                "decided_utc": f"2026-11-{21 + n // 24}T{n % 24:02d}:30:00Z",
                "timing_ms": {"total": 5},
            },
            "pass": True,
        }
        for n in range(30)
    ]
    run = note.run(verdicts)
    assert len(run.flow["hours"]) == 24
    assert min(run.flow["hours"]) == "2026-11-21T06"
    assert run.flow["latencies"] == [5] * 30
    assert "last_reject" not in run.flow
