"""What the other tests of flows stand on: a real Node-RED with a real broker, its editor in Chromium, functions alone."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from tests.cli.processes import eventually
from tests.flows.browser import browse
from tests.flows.functions import function_of
from tests.flows.node_red import HERE, NodeRed, node_red, read_flow
from tests.wire.conftest import MosquittoBroker

pytestmark = [pytest.mark.flows, pytest.mark.timeout(120)]

GOOD = HERE / "samples" / "good.json"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[MosquittoBroker]:
    folder = tmp_path / "mosquitto"
    folder.mkdir()
    made = MosquittoBroker(folder)
    made.start()
    yield made
    made.kill()


@pytest.fixture
def red(tmp_path: Path, broker: MosquittoBroker) -> Iterator[NodeRed]:
    environment = {"MQTT_HOST": broker.host, "MQTT_PORT": str(broker.port), "SITE": "hall 2"}
    with node_red(tmp_path, flows=[GOOD], environment=environment) as made:
        yield made


def test_a_message_goes_from_a_button_to_the_broker(red: NodeRed, broker: MosquittoBroker) -> None:
    eventually(lambda: red.statuses().get("publish", {}).get("fill") == "green")
    command = [str(shutil.which("mosquitto_sub")), "-p", str(broker.port), "-t", "harness/out", "-C", "1", "-W", "20"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as heard:
        eventually(lambda: "Received SUBSCRIBE" in broker.log())
        red.inject("press")
        assert heard.stdout is not None
        message = json.loads(heard.stdout.readline())
    assert (message["twice"], message["count"], message["site"]) == (40, 1, "hall 2")
    eventually(lambda: red.debug("shown"))
    assert red.debug("shown") == [message]
    red.inject("press", payload=7)
    assert eventually(lambda: red.debug("shown")[1:])[0]["twice"] == 14
    red.inject("press", payload="text")
    eventually(lambda: red.errors(warnings=True))
    assert red.errors(warnings=True) == ["double: no number"]
    assert red.statuses()["double"] == {"fill": "green", "shape": "dot", "text": "2"}
    assert (red.problems(), red.missing(), red.state()) == ([], [], "start")
    assert 50e6 < red.memory() < 1e9
    broker.stop()
    eventually(lambda: red.statuses().get("publish", {}).get("fill") == "red")
    assert any(problem.startswith("publish: ") for problem in red.problems())
    red.stop()
    assert red.process.poll() is not None


def test_a_flow_with_unknown_nodes_is_seen(tmp_path: Path) -> None:
    unknown = [
        {"id": "1", "type": "tab", "label": "t"},
        {"id": "2", "z": "1", "type": "no-such-node", "x": 100, "y": 100, "wires": []},
    ]
    with node_red(tmp_path, flows=[unknown]) as red:
        assert red.missing() == ["no-such-node"]
        assert "missing type: no-such-node" in red.problems()
        assert "no-such-node" in red.log


def test_two_files_are_merged_and_what_they_share_is_taken_once(tmp_path: Path) -> None:
    more = [dict(node) for node in read_flow(GOOD)]
    shared = next(node for node in more if node["type"] == "mqtt-broker")
    other = [shared, {"id": "9", "type": "tab", "label": "other"}]
    with node_red(tmp_path, environment={"MQTT_HOST": "127.0.0.1", "MQTT_PORT": "1"}) as red:
        red.import_flow(GOOD, other)
        assert [node["id"] for node in red.deployed] == [*(node["id"] for node in more), "9"]
        with pytest.raises(AssertionError, match="two different nodes have the id 5a3e03"):
            red.import_flow(GOOD, [{**shared, "name": "another"}])


def test_references_and_credentials_reach_the_nodes(tmp_path: Path) -> None:
    flow = read_flow(GOOD)
    press = next(node for node in flow if node.get("name") == "press")
    told = ("${SITE}", "at ${SITE}", "${NOT_SET}")
    press["props"] = [{"p": f"payload.{number}", "v": text, "vt": "str"} for number, text in enumerate(told)]
    press["wires"] = [["5a3e07"]]
    environment = {"MQTT_HOST": "127.0.0.1", "MQTT_PORT": "1", "SITE": "hall 2"}
    with node_red(
        tmp_path, flows=[flow], environment=environment, credentials={"broker": {"user": "u", "password": "p"}}
    ) as red:
        red.inject("press", payload=None)
        red.inject("press")
        shown = eventually(lambda: red.debug("shown")[1:])[0]
        assert shown == {"0": "hall 2", "1": "at ${SITE}", "2": "${NOT_SET}"}
        kept = red.client.get("/credentials/mqtt-broker/5a3e03").json()
        assert kept == {"user": "u", "has_password": True}


def test_the_editor_is_seen_as_a_person_sees_it(red: NodeRed, tmp_path: Path) -> None:
    shot = tmp_path / "editor.png"
    answers = browse(
        tmp_path,
        [["editor", red.url, "Harness"], ["read_all", ".red-ui-flow-node-label-text"], ["shot", shot]],
    )
    assert answers[0] == 4
    assert {"press", "double", "publish", "shown"} <= {text.strip() for text in answers[1]}
    picture = cv2.imread(str(shot))
    assert picture is not None
    assert picture.shape == (900, 1440, 3)
    assert picture.std() > 5


def test_a_step_that_fails_tells_which_and_what_the_page_shows(tmp_path: Path) -> None:
    page = "data:text/html,<p id=a>here</p>"
    assert browse(tmp_path, [["open", page], ["wait_text", "here"], ["read", "#a"]])[-1] == "here"
    with pytest.raises(AssertionError, match=r'step 1 read \["#b"\].*the page shows: here'):
        browse(tmp_path, [["open", page], ["read", "#b"]])


def test_a_function_runs_alone() -> None:
    double = function_of(GOOD, "double")
    messages = [{"payload": 4}, {"payload": "x"}, {"payload": 5}]
    run = double.run(messages, env={"SITE": "s"}, flow={"count": 3}, now_ms=[10, 20, 30])
    assert run[0].sent == [{"payload": {"twice": 8, "count": 4, "site": "s", "at": 10}}]
    assert run[0].status == [{"fill": "green", "shape": "dot", "text": "4"}]
    assert (run[1].sent, run[1].warn, run[1].error) == ([], ["no number"], [])
    assert run[2].sent[0]["payload"] == {"twice": 10, "count": 6, "site": "s", "at": 30}
    assert run.flow == {"count": 6}


@pytest.mark.parametrize(
    ("code", "outputs", "expected", "errors"),
    [
        ("return [msg, {payload: 2}];", 2, [[{"payload": 1}], [{"payload": 2}]], []),
        ("return [[{payload: 1}, {payload: 2}], null];", 2, [[{"payload": 1}, {"payload": 2}], []], []),
        ("node.send({payload: 3}); node.done();", 1, [[{"payload": 3}]], []),
        ("setTimeout(() => node.send({payload: 4}), 5);", 1, [[{"payload": 4}]], []),
        ("return {payload: Buffer.from([1, 2]).readUInt16BE(0)};", 1, [[{"payload": 258}]], []),
        ("throw new Error('no');", 1, [[]], ["Error: no"]),
        ("return [null, msg];", 1, [[]], ["Function sent to output 2 of 1"]),
        ("context.set('a.b', 1); return {payload: context.get('a.b')};", 1, [[{"payload": 1}]], []),
    ],
)
def test_functions_see_what_node_red_gives_them(code: str, outputs: int, expected: object, errors: list[str]) -> None:
    node = {"id": "1", "z": "t", "type": "function", "name": "f", "func": code, "outputs": outputs}
    call = function_of([node], "f").run([{"payload": 1}], settle_ms=50)[0]
    assert (call.outputs, call.error) == (expected, errors)


def test_buffers_go_in_and_out() -> None:
    node = {
        "id": "1",
        "z": "t",
        "type": "function",
        "name": "f",
        "func": "msg.payload = msg.payload.subarray(1);\nreturn msg;",
    }
    call = function_of([node], "f").run([{"payload": {"type": "Buffer", "data": [1, 2, 3]}}])[0]
    assert call.sent == [{"payload": {"type": "Buffer", "data": [2, 3]}}]
