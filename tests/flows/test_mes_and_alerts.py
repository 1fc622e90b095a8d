"""The flow "MES and alerts" in a real Node-RED, between a real broker, a small real MES and a real bridge."""

from __future__ import annotations

import csv
import json
import math
import os
import random
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.cli.processes import Bridge, Ports, eventually, linegate, running
from tests.flows import rigs
from tests.flows.browser import browse
from tests.flows.functions import function_of
from tests.flows.mes import Mes, mes
from tests.flows.node_red import node_red
from tests.wire.conftest import MosquittoBroker

pytestmark = [pytest.mark.flows, pytest.mark.timeout(120)]
FLOW = "mes-and-alerts.json"
RED = "rgb(179, 38, 30)"


def verdict(sequence: int, word: str = "PASS", **other: Any) -> dict[str, Any]:
    decided_utc = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return rigs.verdict(sequence, word, **{"decided_utc": decided_utc, **other})


@dataclass(kw_only=True)
class Rig(rigs.MqttRig):
    """The same with a MES and a webhook."""

    folder: Path
    mes: Mes
    hook: Mes

    def judge(self, sequences: Sequence[int], word: str = "PASS") -> None:
        eventually(self.client.is_connected, 10)
        for sequence in sequences:
            sent = self.tell("verdict", verdict(sequence, word))
        sent.wait_for_publish(10)

    @property
    def reports(self) -> Path:
        return self.folder / "reports"

    def rejected(self) -> list[dict[str, Any]]:
        files = sorted(self.reports.glob("mes-rejected-*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@contextmanager
def rig(folder: Path, **variables: str) -> Iterator[Rig]:
    with ExitStack() as stack:
        broker = MosquittoBroker(folder, extra="max_queued_messages 0")
        stack.callback(broker.kill)
        broker.start()
        server, hook = stack.enter_context(mes()), stack.enter_context(mes())
        environment = {
            "LINEGATE_MQTT_HOST": broker.host, "LINEGATE_MQTT_PORT": str(broker.port), "MES_URL": server.url,
            "ALERT_WEBHOOK": hook.url, "MES_TOKEN": "t0p", "REPORT_FOLDER": str(folder / "reports"), **variables,
        }  # fmt: skip
        red = stack.enter_context(node_red(folder, flows=[FLOW], environment=environment))
        client = stack.enter_context(rigs.client_of(broker))
        running = Rig(folder=folder, broker=broker, mes=server, hook=hook, red=red, client=client)
        running.subscribed()
        yield running


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig(tmp_path_factory.mktemp("mes")) as running:
        yield running


def test_each_verdict_is_posted_whole_in_order_with_its_key(line: Rig) -> None:
    document = verdict(1, "FAIL", reason='crack "0.93" ü')
    line.tell("verdict", document)
    line.tell("verdict", document)  # delivered twice is sent once
    line.judge(range(2, 202))
    eventually(lambda: len(line.mes.heard) >= 201, 20)
    assert line.mes.heard[0].document == document
    assert [one.key for one in line.mes.heard] == [f"line1/station1/1/{each}" for each in range(1, 202)]
    assert line.mes.heard[0].headers["Idempotency-Key"] == "line1/station1/1/1"
    assert line.mes.heard[0].headers["Content-Type"].startswith("application/json")
    assert line.mes.heard[0].headers["Authorization"] == "Bearer t0p"
    assert line.mes.connections <= 3, "connections are kept open"
    eventually(lambda: line.lamp("to the MES") == "0 waiting, 201 sent", 5)


def test_what_the_mes_rejects_goes_to_a_file_and_blocks_nothing(line: Rig) -> None:
    before = len(line.mes.taken)
    line.mes.refuse = {1003, 1005}
    line.judge(range(1001, 1007))
    eventually(lambda: len(line.mes.taken) == before + 4, 10)
    assert line.mes.sequences[before:] == [1001, 1002, 1004, 1006]
    told = eventually(lambda: line.rejected() if len(line.rejected()) == 2 else None, 5)
    assert [(one["status"], one["answer"], one["key"]) for one in told] == [
        (422, "no such order", "line1/station1/1/1003"), (422, "no such order", "line1/station1/1/1005"),
    ]  # fmt: skip
    assert told[0]["body"]["sequence"] == 1003
    eventually(lambda: "2 rejected" in line.lamp("to the MES") and line.lamp("to the MES", "fill") == "yellow", 5)


@pytest.mark.parametrize(("status", "first"), [(500, 2001), (503, 2101), (429, 2201), (302, 2301)])
def test_trouble_at_the_mes_holds_the_order_until_it_is_over(line: Rig, status: int, first: int) -> None:
    before = len(line.mes.sequences)
    line.mes.statuses = [status]
    line.judge(range(first, first + 20))
    eventually(lambda: f"away ({status})" in line.lamp("to the MES"), 5)
    eventually(lambda: len(line.mes.sequences) == before + 20, 10)
    assert line.mes.sequences[before:] == list(range(first, first + 20))


def test_what_is_no_verdict_goes_nowhere(line: Rig) -> None:
    before = len(line.mes.heard)
    line.tell("verdict", "PASS")
    line.tell("verdict", verdict(3001, code=2))
    line.judge([3002])
    eventually(lambda: len(line.mes.heard) > before, 10)
    assert [one.document["sequence"] for one in line.mes.heard[before:]] == [3002]


def test_nothing_is_lost_while_the_mes_the_broker_or_node_red_is_away(tmp_path: Path) -> None:
    with rig(tmp_path) as line:
        line.judge(range(1, 21))
        eventually(lambda: len(line.mes.sequences) == 20, 10)
        line.mes.stop()
        line.judge(range(21, 61))
        eventually(lambda: "away (ECONNREFUSED), 40 waiting" in line.lamp("to the MES"), 15)
        time.sleep(1.5)  # the store is written to the disk once a second
        line.red.stop()
        line.judge(range(61, 81))
        line.red.start()
        line.subscribed()
        eventually(lambda: "60 waiting" in line.lamp("to the MES"), 15)
        line.mes.start()
        eventually(lambda: len(line.mes.sequences) == 80, 15)
        line.broker.stop()
        line.broker.start()
        began = time.monotonic()
        line.judge(range(81, 101))
        eventually(lambda: len(line.mes.sequences) == 100, 15)
        assert time.monotonic() - began < 10
        assert line.mes.sequences == list(range(1, 101))
        eventually(lambda: "0 waiting" in line.lamp("to the MES"), 5)
        assert line.red.problems() == []


def test_20_parts_a_second_reach_an_mes_that_takes_40_ms(tmp_path: Path) -> None:
    with rig(tmp_path) as line:
        line.mes.delay_s = 0.04
        began = time.monotonic()
        for sequence in range(200):
            line.tell("verdict", verdict(sequence))
            time.sleep(max(0.0, began + sequence / 20 - time.monotonic()))
        eventually(lambda: len(line.mes.taken) == 200, 5)
        assert line.mes.sequences == list(range(200))


def test_a_timeout_is_sent_again_with_the_same_key(tmp_path: Path) -> None:
    with rig(tmp_path) as line:
        line.mes.delay_s = 6.0
        line.judge([1, 2])
        eventually(lambda: re.search(r"away \((ESOCKET|E)TIMEDOUT\)", line.lamp("to the MES")), 10)
        line.mes.delay_s = 0.0
        eventually(lambda: len(line.mes.taken) >= 3, 15)
        assert [one.key for one in line.mes.taken].count("line1/station1/1/1") >= 2
        assert line.mes.sequences == [1, 2]


def test_a_full_store_drops_the_oldest_counts_them_and_the_lamp_is_red() -> None:
    items = [{"topic": "item", "key": f"k{each}", "payload": {"n": each}} for each in range(5)]
    gone = {"topic": "answer", "key": "k0", "statusCode": "ECONNREFUSED"}
    run = function_of(FLOW, "store and forward").run(
        [items[0], gone, *items[1:], {"topic": "tick"}], env={"MOST_WAITING": 3}, now_ms=[0, 1, 2, 3, 4, 5, 6]
    )
    assert [one["key"] for one in run.context["queue"]] == ["k2", "k3", "k4"]
    told = run[6].outputs[2][0]
    assert (told["payload"]["lost"], told["payload"]["waiting"]) == (2, 3)
    lamp = function_of(FLOW, "lamp").run([told])[0].status[-1]
    assert (lamp["fill"], lamp["text"]) == ("red", "away (ECONNREFUSED), 3 waiting, 0 sent, 2 LOST")


def tally(messages: list[dict[str, Any]], **variables: str) -> list[dict[str, Any]]:
    """Give the shifts after these messages, as the functions of the report count them."""
    env = {"SHIFTS": "06:00,14:00,22:00"} | variables
    dated = function_of(FLOW, "which shift").run(messages, env=env)
    run = function_of(FLOW, "count it").run([call.sent[0] for call in dated.calls])
    return list(run.flow["shifts"].values())


def part(sequence: int, word: str = "PASS", gap: int = 0, **other: Any) -> dict[str, Any]:
    document = verdict(sequence, word, **other)
    return {"topic": "verdict", "payload": document, "gap": gap, "replayed": document["replayed"]}


def local(hour: int, minute: int, day: int = 20) -> datetime:
    return datetime(2026, 11, day, hour, minute).astimezone()


def read_report(file: Path) -> dict[str, str]:
    """Read a report; one that is opened and not written yet gives nothing."""
    with file.open(newline="") as text:
        rows = list(csv.reader(text))
    if not rows:
        return {}
    assert rows[0] == ["item", "value"]
    return dict(rows[1:])


@pytest.mark.parametrize(
    ("shifts", "decided", "start", "end"),
    [
        ("06:00,14:00,22:00", local(6, 0), local(6, 0), local(14, 0)),
        ("06:00,14:00,22:00", local(13, 59), local(6, 0), local(14, 0)),
        ("06:00, 14:00, 22:00", local(23, 30), local(22, 0), local(6, 0, 21)),
        ("22:00,06:00,14:00", local(1, 0), local(22, 0, 19), local(6, 0)),
        ("07:30", local(3, 0), local(7, 30, 19), local(7, 30)),
        ("six", local(3, 0), local(0, 0), local(0, 0, 21)),
    ],
)
def test_a_verdict_belongs_to_the_shift_in_which_it_was_decided(
    shifts: str, decided: datetime, start: datetime, end: datetime
) -> None:
    run = function_of(FLOW, "which shift").run(
        [{"topic": "verdict", "payload": {"decided_utc": decided.astimezone(UTC).isoformat()}}], env={"SHIFTS": shifts}
    )
    assert run[0].sent[0]["shift"] == {"start": start.timestamp() * 1000, "end": end.timestamp() * 1000}
    assert run[0].status[-1]["fill"] == ("red" if shifts == "six" else "green")


def test_a_gap_is_missing_until_it_comes_late() -> None:
    (shift,) = tally([part(1), part(5, gap=3), part(3), part(6)])
    assert (shift["parts"], shift["missing"], shift["gaps"]) == (4, 2, ["1:2", "1:4"])


def test_a_shift_is_written_at_its_end_and_again_when_a_verdict_comes_late() -> None:
    due = function_of(FLOW, "reports that are due")
    shift = {"start": 0, "end": 1000, "parts": 5, "missing": 0, "written": ""}
    look = {"topic": "look", "shift": {"start": 1000}}

    def written(now_ms: int, message: dict[str, Any] = look, **other: Any) -> list[dict[str, Any]]:
        return due.run([message], flow={"shifts": {"0": shift | other}}, now_ms=[now_ms])[0].sent

    assert written(999) == []
    (first,) = written(1000)
    assert first["over"] is True
    assert written(1000, written=first["stamp"]) == []
    assert len(written(1000, parts=6, written=first["stamp"])) == 1
    (pressed,) = written(500, {"topic": "report", "shift": {"start": 0}})
    assert pressed["over"] is False
    assert len(written(1000, written=pressed["stamp"])) == 1


def test_the_report_tells_the_shift(tmp_path: Path) -> None:
    with rig(tmp_path, LINEGATE_SHIFTS="00:00") as line:
        words = ["PASS"] * 6 + ["FAIL", "FAIL", "UNCERTAIN", "ERROR"]
        for sequence, word in enumerate(words, start=10):
            line.tell("verdict", verdict(sequence, word, part_id="=1+1" if sequence == 10 else f'P "{sequence}", x'))
        line.tell("verdict", verdict(22, "LATE", replayed=True, disposition="NONE")).wait_for_publish(5)
        eventually(lambda: len(line.mes.taken) == 11, 10)
        line.red.inject("write the report now")
        file = eventually(lambda: next(iter(line.reports.glob("shift-*.csv")), None), 10)
        assert file.name == f"shift-{datetime.now():%Y-%m-%d}-0000.csv"
        told = eventually(lambda: read_report(file), 5)
        assert {name: told[name] for name in ("parts", "PASS", "FAIL", "UNCERTAIN", "ERROR", "LATE", "rejected")} == {
            "parts": "11", "PASS": "6", "FAIL": "2", "UNCERTAIN": "1", "ERROR": "1", "LATE": "1", "rejected": "4",
        }  # fmt: skip
        assert (told["line"], told["state"], told["reject_rate_percent"]) == ("line1", "running", "36.36")
        assert (told["label crack"], told["replayed"]) == ("2", "1")
        assert (told["first_part"], told["first_sequence"], told["last_sequence"]) == ("'=1+1", "10", "22")
        assert (told["missing"], told["missing_epoch_sequence"]) == ("2", "1:20 1:21")
        assert line.red.problems() == []


LIVE = {"online": True, "state": "READY", "stop_request": False}


@pytest.mark.parametrize(
    ("changes", "fill", "text"),
    [
        ({}, "green", "READY"),
        ({"state": "DISABLED"}, "blue", "DISABLED"),
        ({"state": "STARTING"}, "yellow", "STARTING"),
        ({"state": "FAULT"}, "red", "FAULT"),
        ({"stop_request": True}, "red", "READY, STOP REQUEST"),
        ({"online": False}, "grey", "offline"),
    ],
)
def test_the_lamp_of_the_line(changes: dict[str, Any], fill: str, text: str) -> None:
    beats = [{"payload": LIVE | changes | {"heartbeat": beat}} for beat in (1, 2)]
    run = function_of(FLOW, "is the line alive").run(beats, now_ms=[1e12, 1e12 + 500])
    assert run[0].status[-1]["fill"] == "grey"  # kept by the broker, or alive: not known yet
    assert (run[1].status[-1]["fill"], run[1].status[-1]["text"]) == (fill, text)


def test_the_lamp_of_the_line_is_grey_when_nothing_comes(line: Rig) -> None:
    name = "is the line alive"
    for beat in range(2):
        line.tell("status", LIVE | {"heartbeat": beat}).wait_for_publish(5)
    eventually(lambda: line.lamp(name) == "READY", 5)
    eventually(lambda: (line.lamp(name), line.lamp(name, "fill")) == ("no connection", "grey"), 6)
    line.tell("status", LIVE | {"heartbeat": 2}).wait_for_publish(5)
    eventually(lambda: line.lamp(name, "fill") == "green", 5)


def usual(count: int, every: int, start: int = 0) -> list[dict[str, Any]]:
    """Give messages of which each `every`-th is a reject."""
    return [
        {"payload": {"recipe": "r", "disposition": "REJECT" if (start + each) % every == 0 else "LET_PASS"}}
        for each in range(count)
    ]


LIMITS = {"WINDOW": 200, "FALSE_ALARM": 0.000001, "USUAL_PARTS": 20000, "CONSECUTIVE": 10}


def known(parts: int, rejects: int) -> dict[str, Any]:
    """Give what the function remembers after so many parts, the last 200 of them let pass."""
    return {"recipe": "r", "window": [0] * 200, "parts": parts, "rejects": rejects, "raised": False}


def changes(name: str, messages: list[dict[str, Any]], **context: Any) -> list[tuple[int, bool]]:
    """Give where the function's opinion changed."""
    found, last = [], False
    for number, call in enumerate(function_of(FLOW, name).run(messages, env=LIMITS, context=context).calls):
        now = call.sent[0]["active"] if call.sent else last
        if now != last:
            found.append((number, now))
        last = now
    return found


def chance_of(least: int, parts: int, rejects: int, size: int = 200) -> float:
    """Give how likely that many rejects or more of `size` parts are after `rejects` of `parts`: beta-binomial."""
    a, b = rejects + 0.5, parts - rejects + 0.5
    beta = lambda x, y: math.lgamma(x) + math.lgamma(y) - math.lgamma(x + y)  # noqa: E731
    return sum(math.comb(size, k) * math.exp(beta(k + a, size - k + b) - beta(a, b)) for k in range(least, size + 1))


@pytest.mark.parametrize(("parts", "rejects"), [(300, 6), (5000, 100), (5000, 0), (5000, 1500), (15000, 14900)])
def test_the_limit_is_where_so_many_rejects_are_less_likely_than_one_in_a_million(parts: int, rejects: int) -> None:
    found = changes("unusual rejects", usual(199, 1), at=known(parts, rejects))
    limit = next((least for least in range(201) if chance_of(least, parts, rejects) < 1e-6), None)
    if limit is None:
        assert found == [], "where nearly all are rejected no number of them is unusual"
    else:  # while the window fills, parts that were let pass leave it and are counted with the usual ones
        assert found[0][1] is True
        assert limit - 3 <= found[0][0] + 1 <= limit


def test_a_rise_of_the_rejects_is_unusual_once_and_ends_once() -> None:
    (raised, ended) = changes("unusual rejects", usual(150, 4) + usual(350, 50), at=known(5000, 100))
    assert (raised[1], ended[1]) == (True, False)
    assert raised[0] < 100
    assert 150 < ended[0] < 400


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 1.0])
def test_usual_rejects_raise_nothing(share: float) -> None:
    chance = random.Random(7)
    parts = [
        {"payload": {"recipe": "r", "disposition": "REJECT" if chance.random() < share else "LET_PASS"}}
        for _ in range(500)
    ]
    assert changes("unusual rejects", parts) == []
    assert changes("unusual rejects", parts, at=known(5000, int(5000 * share))) == []


def test_another_recipe_has_a_usual_share_of_its_own() -> None:
    other = [{"payload": each["payload"] | {"recipe": "s"}} for each in usual(500, 4)]
    assert changes("unusual rejects", usual(500, 4), at=known(5000, 100)) != []
    assert changes("unusual rejects", other, at=known(5000, 100)) == []


def test_ten_rejects_in_a_row_are_told_and_ten_others_end_it() -> None:
    rejects, passes = usual(9, 1), usual(9, 100, start=1)
    assert changes("consecutive rejects", rejects + passes + rejects) == []
    more = usual(10, 1) + passes + usual(3, 1) + passes + usual(1, 100, start=1)
    assert changes("consecutive rejects", more) == [(9, True), (31, False)]


def test_an_alert_goes_to_the_webhook_once_raised_and_once_ended_over_a_restart(tmp_path: Path) -> None:
    with rig(tmp_path) as line:
        line.judge(range(1, 21), "FAIL")
        eventually(lambda: line.hook.taken, 10)
        time.sleep(1.5)  # what stands is written to the disk once a second
        line.red.stop()
        line.red.start()
        line.subscribed()
        line.judge(range(21, 31), "FAIL")
        line.judge(range(31, 42))
        eventually(lambda: len(line.hook.taken) == 2, 10)
        raised, ended = (one.document for one in line.hook.taken)
        assert (raised["kind"], raised["state"], raised["line"]) == ("consecutive rejects", "raised", "line1")
        assert raised["text"] == "line1/station1: consecutive rejects: 10 parts in a row rejected"
        assert (ended["kind"], ended["state"], ended["since"]) == ("consecutive rejects", "ended", raised["since"])
        for heartbeat, stop in enumerate([False, False, True, True, True, False]):
            line.tell("status", {"online": True, "state": "READY", "heartbeat": heartbeat, "stop_request": stop,
                                 "error_text": "order missed" if stop else ""}).wait_for_publish(5)  # fmt: skip
        eventually(lambda: len(line.hook.taken) == 4, 10)
        told = [(one.document["kind"], one.document["state"]) for one in line.hook.taken[2:]]
        assert told == [("stop request", "raised"), ("stop request", "ended")]
        assert "order missed" in line.hook.taken[2].document["text"]
        assert len({one.key for one in line.hook.heard}) == 4


def test_the_button_asks_once_more_and_shows_what_the_bridge_answers(tmp_path: Path) -> None:
    linegate(tmp_path, "init")
    with rig(tmp_path) as line, ExitStack() as stack:
        ports = replace(Ports.free(), mqtt=line.broker.port)
        page = line.red.url + "/dashboard/mes"
        gone = browse(tmp_path, [["open", page], ["wait_text", "No connection to the bridge"],
                                 ["evaluate", "document.querySelector('#lgm-deploy').disabled"]])  # fmt: skip
        assert gone[-1] is True
        bridge = stack.enter_context(running(Bridge(folder=tmp_path, ports=ports)))
        bridge.wait_ready()
        line.judge(range(1, 131))
        heard: list[dict[str, Any]] = []
        line.client.on_message = lambda _client, _data, message: heard.append(json.loads(message.payload))
        line.client.subscribe(f"{rigs.ROOT}/command", qos=1)
        answers = browse(tmp_path, [
            ["open", page], ["wait_text", "station1 is READY"], ["type", "#lgm-place", "models/surface-1.3.0.lgb"],
            ["click", "#lgm-deploy"], ["click", "#lgm-no"], ["pause", 500], ["read", "#lgm-said"],
            ["click", "#lgm-deploy"], ["wait", "#lgm-yes"], ["click", "#lgm-yes"], ["wait_text", "the bridge refused"],
            ["read", "#lgm-said"], ["click", "#lgm-write"], ["wait_text", "shift-"], ["read", "#lgm-sent"],
            ["evaluate", "getComputedStyle(document.querySelector('#lgm-said')).borderLeftColor"], ["read", "#lgm-folder"],
        ])  # fmt: skip
        assert answers[6] == "No deployment was asked for from this page."
        assert "models/surface-1.3.0.lgb: the bridge refused: command is" in answers[11]
        assert answers[-3:] == ["130", RED, str(line.reports)]
        (command,) = heard
        assert (command["command"], command["path"], "sha256" in command) == (
            "deploy-model", "models/surface-1.3.0.lgb", False,
        )  # fmt: skip
        assert list(line.reports.glob("shift-*.csv"))
        bridge.kill()
        time.sleep(5)
        dead = browse(
            tmp_path,
            [["open", page], ["wait_text", "NO CONNECTION TO THE LINE"], ["wait_text", "Shift "], ["read", "body"]],
        )
        assert "No connection to the bridge: nothing can be deployed." in dead[-1]


def test_a_deployment_that_breaks_the_contract_is_not_sent() -> None:
    ask = function_of(FLOW, "ask to deploy")
    good = {"way": "url", "place": "https://models/a.lgb", "sha256": "AB" * 32}
    wrong = [
        good | {"place": "http://models/a.lgb"},
        good | {"sha256": ""},
        good | {"sha256": "12"},
        good | {"place": " "},
    ]
    run = ask.run([{"topic": "deploy", "payload": each} for each in [*wrong, good]], env={"REPLY_TOPIC": "r"})
    assert [len(call.sent) for call in run.calls] == [0, 0, 0, 0, 1]
    sent = run[4].sent[0]
    assert (sent["payload"]["url"], sent["payload"]["sha256"]) == ("https://models/a.lgb", "ab" * 32)
    assert sent["responseTopic"] == "r"


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_10000_verdicts_reach_the_mes_and_node_red_stays_level(tmp_path: Path) -> None:
    """As many a second as FLOWS_RATE says, 200 without it; 20 takes 500 s."""
    rate = float(os.environ.get("FLOWS_RATE", "200"))
    with rig(tmp_path) as line:
        began, memory = time.monotonic(), 0
        for sequence in range(10_000):
            line.tell("verdict", verdict(sequence, "FAIL" if sequence % 50 == 0 else "PASS"))
            time.sleep(max(0.0, began + sequence / rate - time.monotonic()))
            if sequence == 3_000:
                memory = line.red.memory()
        eventually(lambda: len(line.mes.taken) == 10_000, 120)
        took = time.monotonic() - began
        print(f"10000 verdicts at {rate:.0f}/s: taken in {took:.1f} s, memory {memory / 1e6:.0f} MB, then "
              f"{line.red.memory() / 1e6:.0f} MB")  # fmt: skip
        assert [one.document["sequence"] for one in line.mes.taken] == list(range(10_000))
        assert line.hook.heard == []
        assert line.red.memory() < memory * 1.3
