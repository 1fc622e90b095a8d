"""The flow plc-opcua against a real bridge: results, Control, methods, log-in, recovery; and its functions alone."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bridge.domain.report import encode, verdict_document
from bridge.domain.verdict import VerdictCode
from tests.cli.processes import PICTURES, Bridge, Publisher, connects, eventually, linegate
from tests.flows.functions import function_of
from tests.flows.node_red import NodeRed, node_red
from tests.flows.rigs import bridge_far_from_the_gate
from tests.foreign.node import run_node
from tests.outputs.samples import result

pytestmark = [pytest.mark.flows, pytest.mark.timeout(240)]

FLOW = "plc-opcua.json"
STATION = "ns=2;s=line1.station1."
PASSES = sorted((PICTURES / "good").glob("*.jpg"))[0].read_bytes()
FAILS = sorted((PICTURES / "pitting").glob("*.jpg"))[-1].read_bytes()
SEQUENCES = itertools.count(80_000)
PASSWORD = "a good password"


@dataclass
class Line:
    """A bridge, its broker, and a Node-RED with the flow."""

    bridge: Bridge
    red: NodeRed
    publisher: Publisher

    def connected(self) -> bool:
        shown = self.red.statuses()
        return [shown.get(name, {}).get("fill") for name in ("watch the sessions", "valid?")] == ["green", "green"]

    def send(self, picture: bytes) -> int:
        """Send one part; gives its sequence once its verdict is out."""
        sequence = next(SEQUENCES)
        self.publisher.send(picture, content_type="image/jpeg", user_properties=[("sequence", str(sequence))])
        self.publisher.verdict_of(sequence)
        return sequence

    def shown(self, sequence: int) -> Any:
        """Wait for what the flow shows of a part."""
        return eventually(lambda: [each for each in self.red.debug("new results") if each["sequence"] == sequence])[0]

    def agrees(self, sequence: int) -> None:
        """Compare what the flow shows of a part with its verdict on MQTT."""
        shown, said = self.shown(sequence), self.publisher.verdict_of(sequence)
        assert (shown["verdict"], shown["disposition"], shown["reason"]) == (
            said["verdict"], said["disposition"], said["reason"][: len(shown["reason"])],
        )  # fmt: skip

    def read(self, *tags: str) -> list[Any]:
        """Read as a client of another maker does."""
        endpoint = self.bridge.ports.settings["opcua__endpoint"]
        told = asyncio.run(run_node("read_tags.js", endpoint, *(STATION + tag for tag in tags)))
        return [each["value"] for each in told]


@contextlib.contextmanager
def line_of(
    folder: Path,
    *,
    bridge_settings: dict[str, str],
    flow_settings: dict[str, str],
    prepare: Callable[[Path], None] = lambda _project: None,
) -> Iterator[Line]:
    with (
        bridge_far_from_the_gate(folder, settings=bridge_settings, prepare=prepare) as bridge,
        Publisher(bridge.ports.mqtt) as publisher,
    ):
        environment = {
            "XDG_CONFIG_HOME": str(folder / "config"), "LINEGATE_OPCUA": bridge.ports.settings["opcua__endpoint"],
            **flow_settings,
        }  # fmt: skip
        eventually(lambda: bridge.get("/readyz")[0] == 200, 60)
        with node_red(folder, flows=[FLOW], environment=environment) as red:
            yield Line(bridge=bridge, red=red, publisher=publisher)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    with line_of(
        tmp_path_factory.mktemp("opcua"),
        bridge_settings={"modbus__word_order": "low_first"},
        flow_settings={"LINEGATE_WORD_ORDER": "low_first"},
    ) as made:
        eventually(made.connected, 60)
        yield made


def test_it_shows_what_another_makers_client_reads(line: Line) -> None:
    line.red.inject("start the demo belt")
    eventually(lambda: line.red.debug("station")[-1]["beltSpeed"] == 1200 or line.read("Status.BeltSpeed") == [1200])
    line.shown(line.send(PASSES))
    failed = line.send(FAILS)
    assert line.publisher.verdict_of(failed)["verdict"] == "FAIL"
    shown = line.shown(failed)
    names = ("Sequence", "PartId", "Verdict", "Disposition", "Label", "LabelId", "Score", "Reason")
    values = line.read(*(f"Result.{name}" for name in names))
    said = [shown[key] for key in ("sequence", "partId", "code", "disposition", "label", "labelId", "score", "reason")]
    assert said == [*values[:3], {1: "LET_PASS", 2: "REJECT"}[values[3]], *values[4:]]
    assert (shown["verdict"], shown["sequence"]) == ("FAIL", failed)
    order = next(each for each in line.red.debug("orders") if each["sequence"] == failed)
    assert (order["state"], order["momentMs"]) == ("ordered", shown["momentMs"])
    line.red.inject("stop the demo belt")
    assert line.red.debug("lost results") == []


def test_its_heartbeat_its_speed_and_its_buttons_reach_the_bridge(line: Line) -> None:
    eventually(lambda: line.red.statuses()["heartbeat"]["text"] == "writing", 30)
    first, lost = line.read("Control.PlcHeartbeat", "Status.PlcHeartbeatLost")
    assert not lost
    eventually(lambda: line.read("Control.PlcHeartbeat")[0] > first)
    line.red.inject("start the demo belt")
    eventually(lambda: line.read("Control.BeltSpeed", "Status.BeltSpeed") == [1200, 1200])
    line.red.inject("stop the demo belt")
    eventually(lambda: line.read("Control.BeltSpeed") == [None])  # NaN is null in JSON
    line.red.inject("disable")
    eventually(lambda: line.read("Status.State") == ["DISABLED"])
    line.red.inject("enable")
    eventually(lambda: line.read("Status.State") == ["READY"])
    line.red.inject("reset the counters")
    eventually(lambda: line.read("Counters.Triggers") == [0])


def test_a_recipe_is_selected_and_the_answer_is_shown(line: Line) -> None:
    selected = {"recipe": "ball-screw", "ok": True, "text": ""}
    for pressed in range(1, 4):  # on a busy machine the station may not answer the first in its 5 s
        line.red.inject("select recipe ball-screw")
        if eventually(lambda pressed=pressed: line.red.debug("recipe")[pressed - 1 :])[0] == selected:
            break
    assert line.red.debug("recipe")[-1] == selected
    line.red.inject("select recipe ball-screw", payload="ball-scew")
    refused = eventually(lambda: [each for each in line.red.debug("recipe") if each["recipe"] == "ball-scew"])[0]
    assert not refused["ok"]
    assert refused["text"]
    assert line.read("Status.Recipe") == ["ball-screw@1"]


def test_a_bridge_that_was_killed_is_followed_again_within_10_s(line: Line) -> None:
    line.bridge.kill()
    eventually(lambda: line.red.statuses()["valid?"]["text"] == "not valid: no answer from the bridge", 6)
    eventually(lambda: line.red.statuses()["watch the sessions"]["fill"] == "grey", 6)
    line.red.inject("select recipe ball-screw", payload="never")
    line.bridge.start()
    eventually(lambda: connects(line.bridge.ports.opcua), 60)
    eventually(line.connected, 10)
    eventually(lambda: line.bridge.get("/readyz")[0] == 200, 60)
    line.agrees(line.send(FAILS))
    eventually(lambda: line.red.statuses()["heartbeat"]["text"] == "writing", 10)
    assert "never" not in [each["recipe"] for each in line.red.debug("recipe")]


def test_it_logs_in_signed_and_encrypted_once_its_certificate_was_moved(tmp_path: Path) -> None:
    def add_user(folder: Path) -> None:
        (folder / "password").write_text(PASSWORD)
        done = linegate(folder, "users", "add", "flows", "--role", "plc", "--password-file", "password")
        assert done.returncode == 0, done.stderr

    flow_settings = {"LINEGATE_OPCUA_USER": "flows", "LINEGATE_OPCUA_PASSWORD": PASSWORD}
    with line_of(
        tmp_path, bridge_settings={"opcua__anonymous": "false"}, flow_settings=flow_settings, prepare=add_user
    ) as line:
        rejected = line.bridge.folder / "pki" / "rejected"
        (found,) = eventually(lambda: list(rejected.glob("*.der")), 60)
        assert not line.connected()
        found.rename(line.bridge.folder / "pki" / "trusted" / "certs" / found.name)
        eventually(line.connected, 40)
        line.agrees(line.send(FAILS))
        eventually(lambda: line.red.statuses()["heartbeat"]["text"] == "writing", 30)
        line.red.inject("select recipe ball-screw")
        assert eventually(lambda: line.red.debug("recipe"))[0]["recipe"] == "ball-screw"
        assert not any(PASSWORD in told for told in line.red.errors())
        assert "***" in line.red.log, "the client node has written its endpoint"
        assert PASSWORD not in line.red.log


GOOD, BAD = {"value": 0}, {"value": 0x80320000}


def answer(values: dict[str, Any], **status: Any) -> dict[str, Any]:
    """Give the answer to a read as the client node does."""
    data = [{"statusCode": status.get(name, GOOD), "value": {"value": value}} for name, value in values.items()]
    return {"names": list(values), "payload": data}


def test_a_result_that_was_overtaken_or_is_none_is_asked_for() -> None:
    known = {"opcuaSessions": {"read the result": True}}
    env = {"STATION_NODE": "ns=2;s=line1.station1"}
    told = {"payload": 7, "statusCode": GOOD}
    asked = function_of(FLOW, "ask for the result").run(
        [told, {**told, "statusCode": BAD}, {"payload": "id"}], flow=known, env=env
    )
    names = asked[0].sent[0]["names"]
    assert [len(call.sent) for call in asked.calls] == [1, 0, 0]
    assert asked[0].sent[0]["payload"][0] == STATION + "Result.Sequence"
    values = dict.fromkeys(names, 0) | {"Result.Sequence": 7, "Gate.Sequence": 7, "Result.Verdict": 0}
    given = [
        {**answer({**values, **changes}, **status), "wanted": 7}
        for changes, status in (
            ({"Result.Sequence": 8, "Result.Verdict": 1}, {}), ({"Gate.Sequence": 8, "Result.Verdict": 1}, {}), ({}, {}),
            ({"Result.Verdict": 6}, {}), ({"Result.Verdict": 1}, {"Result.PartId": BAD}),
        )
    ]  # fmt: skip
    run = function_of(FLOW, "the result asked for").run(given)
    assert [(call.outputs[0], call.outputs[1]) for call in run.calls] == [([], [{"wanted": 7}])] * 5


def test_a_verdict_of_get_result_is_a_result_and_a_replayed_one_is_none() -> None:
    judged = result(9, code=VerdictCode.FAIL)
    documents = [encode(verdict_document(each)) for each in (judged, result(9, replayed=True), result(10))]
    run = function_of(FLOW, "verdict of GetResult").run([{"payload": text, "wanted": 9} for text in documents])
    assert [len(call.sent) for call in run.calls] == [1, 0, 0]
    shown = run[0].sent[0]["payload"]
    assert (shown["sequence"], shown["verdict"], shown["disposition"], shown["score"]) == (9, "FAIL", "REJECT", 0.93)
    assert (shown["openCount"], shown["closeCount"], shown["flags"]["order"]) == (462_639, 463_939, True)


def test_a_result_is_told_once_and_a_restarted_counter_is_another_part() -> None:
    def part(sequence: int, triggered: str) -> dict[str, Any]:
        return {"payload": {"sequence": sequence, "triggered": triggered, "verdict": "PASS"}}

    times = ("2026-11-21T08:00:00.123Z", "2026-11-21T08:00:00.124Z", "2026-11-21T08:00:09.000Z")
    given = [part(5, times[0]), part(5, times[1]), part(6, times[0]), part(5, times[2]), part(5, times[2])]
    run = function_of(FLOW, "each result once").run(given)
    assert [len(call.sent) for call in run.calls] == [1, 0, 1, 1, 0]
    assert run.flow["opcuaCount"] == 3


def test_what_the_subscription_missed_is_asked_for_and_what_never_came_is_told() -> None:
    def look(written: int, *sequences: int) -> dict[str, Any]:
        return {"written": written, "payload": [{"sequence": each} for each in sequences]}

    looks = [
        look(2, 1, 2),
        look(3, 1, 2, 3),
        look(3, 1, 2, 3),
        look(4, 1, 2, 3, 4),
        look(25, 25),
        look(25, 25),
        look(25, 25),
    ]
    told = [{"sequence": 4, "triggered": ""}, {"sequence": 25, "triggered": ""}]
    run = function_of(FLOW, "missed by the subscription?").run(looks, flow={"opcuaTold": told, "opcuaCount": 0})
    assert [[each["wanted"] for each in call.outputs[0]] for call in run.calls] == [[], [], [3], [3], [], [], []]
    lost = [each["payload"]["lost"] for call in run.calls for each in call.outputs[1]]
    assert sum(lost) == 23


def test_control_is_written_by_type_in_one_request_and_never_without_a_connection() -> None:
    env = {"STATION_NODE": "ns=2;s=line1.station1"}
    write = function_of(FLOW, "write Control")
    tags = {"payload": {"PlcHeartbeat": 7, "BeltSpeed": 1200, "Enable": True, "Inhibit": 1, "RecipeRequest": "x"}}
    call = write.run([tags], env=env, flow={"opcuaUp": True})[0]
    types = [(each["nodeId"].rsplit(".", 1)[1], each["value"]["value"]["dataType"]) for each in call.sent[0]["payload"]]
    assert types == [
        ("PlcHeartbeat", "UInt32"),
        ("BeltSpeed", "Double"),
        ("Enable", "Boolean"),
        ("Inhibit", "UInt16"),
        ("RecipeRequest", "String"),
    ]
    assert call.sent[0]["action"] == "writemultiple"
    away = write.run([tags], env=env, flow={"opcuaUp": False})[0]
    assert (away.sent, away.error) == ([], ["no connection: not written"])
    unknown = write.run([{"payload": {"Verdict": 1}}], env=env, flow={"opcuaUp": True})[0]
    assert (unknown.sent, unknown.error) == ([], ["Verdict is no tag of Control"])


def test_bad_quality_is_null_and_a_station_without_its_heartbeat_is_no_answer() -> None:
    names = (
        "Status.Bits",
        "Status.State",
        "Status.Heartbeat",
        "Status.BeltSpeed",
        "Counters.Pass",
        "Control.PlcHeartbeat",
        "Ring.Words",
        "Ring.Written",
        "Ring.ClockMs",
    )
    values = dict(zip(names, (1, "READY", 5, 1200.0, 3, 9, [0] * 224, 4, 6), strict=True))
    given = [answer(values), answer(values, **{"Status.BeltSpeed": BAD}), answer(values, **{"Status.Heartbeat": BAD})]
    run = function_of(FLOW, "decode the station").run(given, env={"LINEGATE_WORD_ORDER": "low_first"})
    station, ring, beat = run[0].outputs
    assert (station[0]["payload"]["state"], station[0]["payload"]["bits"]["online"]) == ("READY", True)
    assert (ring[0]["wordOrder"], ring[0]["written"], len(ring[0]["payload"]), beat[0]["payload"]) == (
        "low_first",
        4,
        224,
        9,
    )
    assert run[1].outputs[0][0]["payload"]["beltSpeed"] is None
    assert run[2].outputs == [[], [], []]


def test_the_password_is_not_written_where_the_client_node_writes_its_endpoint() -> None:
    env = {"LINEGATE_OPCUA": "opc.tcp://b:4840/", "LINEGATE_OPCUA_USER": "u", "LINEGATE_OPCUA_PASSWORD": "p"}
    sent = function_of(FLOW, "with whom").run([{}], env=env)[0].sent[0]
    assert sent["OpcUaEndpoint"] == "endpoint"
