"""The package node-red-contrib-linegate: its own tests, what is packed, and its nodes in a real Node-RED at a real bridge."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.setup_files import write_project
from tests.cli.processes import LINEGATE, PICTURES, Bridge, Ports, Publisher, environment, eventually, running
from tests.flows.browser import browse
from tests.flows.node_red import FLOWS, OUR_NODES, Node, NodeRed, need_node_red, node_red, read_flow
from tests.ports import free_ports
from tests.wire.conftest import MosquittoBroker

pytestmark = [pytest.mark.flows, pytest.mark.timeout(180)]

TYPES = ["linegate-gate", "linegate-line", "linegate-trigger", "linegate-verdict"]
EXAMPLES = sorted((OUR_NODES / "examples").glob("*.json"))
GOOD = sorted((PICTURES / "good").glob("*.jpg"))[0]
PITTED = sorted((PICTURES / "pitting").glob("*.jpg"))[-1]
RECOVERY_S = 10.0


@pytest.mark.parametrize("name", ["lib_test.js", "nodes_test.js", "broker_test.js"])
def test_its_own_tests_in_javascript(name: str) -> None:
    done = subprocess.run(
        [need_node_red(), "--test", OUR_NODES / "test" / name],
        cwd=OUR_NODES, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    counted = dict(re.findall(r"^# (tests|pass|skipped|todo) (\d+)$", done.stdout, re.MULTILINE))
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert int(counted["tests"]) == int(counted["pass"]) > 5
    assert (counted["skipped"], counted["todo"]) == ("0", "0")


def test_the_help_names_every_error_and_the_page_links_what_exists() -> None:
    code = "".join(path.read_text() for kind in ("lib", "nodes") for path in (OUR_NODES / kind).glob("*.js"))
    thrown = {*re.findall(r'new SendProblem\(\s*"([A-Z_]+)"', code), *re.findall(r'this\.code = "([A-Z_]+)"', code)}
    told = set(re.findall(r"\b[A-Z_]{4,}\b", (OUR_NODES / "nodes" / "linegate-trigger.html").read_text()))
    assert len(thrown) >= 10
    assert thrown - told == set()
    page = FLOWS.parent / "docs" / "node-red-nodes.md"
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []
    assert (page.parent / "images" / "nodes.png").stat().st_size < 150_000


# ---- the package -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pack a copy of the package with the shipped flows beside it, as `npm publish` would."""
    need_node_red()
    flows = tmp_path_factory.mktemp("pack") / "flows"
    flows.mkdir()
    for path in FLOWS.glob("*.json"):
        shutil.copy(path, flows)
    (flows / "extra.json").write_text(json.dumps([{"id": "1", "type": "tab", "label": "one more"}]))
    (flows / "flows_cred.json").write_text("{}")
    kept = shutil.ignore_patterns("shipped", "node_modules", "*.tgz")
    package = Path(shutil.copytree(OUR_NODES, flows / OUR_NODES.name, ignore=kept))
    said = subprocess.run(
        ["npm", "pack", "--json"], cwd=package, capture_output=True, text=True, check=True, timeout=60
    )
    return package / json.loads(said.stdout)[0]["filename"]


def packed(tarball: Path) -> set[str]:
    listed = subprocess.run(["tar", "-tzf", tarball], capture_output=True, text=True, check=True, timeout=20)
    return {line.removeprefix("package/") for line in listed.stdout.splitlines()}


def shipped_flows() -> set[str]:
    names = {path.name for path in FLOWS.glob("*.json")}
    return {name for name in names if isinstance(json.loads((FLOWS / name).read_text()), list)}


def test_the_tarball_holds_the_nodes_and_nothing_else(tarball: Path) -> None:
    wanted = {"package.json", "README.md", "LICENSE"}
    wanted |= {f"nodes/{name}.{kind}" for name in TYPES for kind in ("js", "html")}
    wanted |= {f"nodes/icons/{name}.svg" for name in TYPES if name != "linegate-line"}
    wanted |= {f"lib/{path.name}" for path in (OUR_NODES / "lib").iterdir()}
    wanted |= {f"examples/{path.name}" for path in EXAMPLES}
    wanted |= {f"examples/shipped/{name}" for name in {*shipped_flows(), "extra.json"}}
    assert packed(tarball) == wanted
    assert len(EXAMPLES) == 3
    assert tarball.stat().st_size < 200_000


def test_it_asks_for_the_mqtt_of_node_red_itself() -> None:
    theirs = json.loads((FLOWS / "node_modules" / "@node-red" / "nodes" / "package.json").read_text())
    ours = json.loads((OUR_NODES / "package.json").read_text())
    assert ours["dependencies"] == {"mqtt": theirs["dependencies"]["mqtt"]}
    assert "node-red" in ours["keywords"]
    assert ours["license"] == "Apache-2.0"
    flows = json.loads((FLOWS / "package.json").read_text())
    assert flows["dependencies"][OUR_NODES.name] == f"file:{OUR_NODES.name}"  # so `npm ci` in flows/ links it
    assert (OUR_NODES / "LICENSE").read_text() == (FLOWS.parent / "LICENSE").read_text()


def test_it_installs_into_an_empty_folder_and_node_red_finds_it(tarball: Path, tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"name": "user-folder", "private": true}')
    subprocess.run(
        ["npm", "install", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund", tarball],
        cwd=tmp_path, capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    assert not (tmp_path / "node_modules" / OUR_NODES.name).is_symlink()
    (port,) = free_ports(1)
    red = NodeRed(folder=tmp_path, port=port, environment={})
    try:
        red.start()
        sets = [one for one in red.nodes() if one["module"] == OUR_NODES.name]
        assert sorted(kind for one in sets for kind in one["types"]) == TYPES
        assert [one for one in sets if "err" in one or not one["enabled"]] == []
        icons = red.client.get("/icons", headers={"Accept": "application/json"}).json()[OUR_NODES.name]
        assert sorted(icons) == [f"{name}.svg" for name in TYPES if name != "linegate-line"]
        assert red.client.get(f"/icons/{OUR_NODES.name}/linegate-gate.svg").text.startswith("<svg")
        examples = red.client.get(f"/library/examples/flows/{OUR_NODES.name}").json()
        assert {"fn": "verdict"} in examples
        assert "shipped" in examples
        assert {"fn": "extra"} in red.client.get(f"/library/examples/flows/{OUR_NODES.name}/shipped").json()
    finally:
        red.stop()


# ---- a real Node-RED, broker and bridge --------------------------------------------------------------------------------


def at_port(path: Path, port: int) -> list[Node]:
    """Give an example whose line is at a broker of the tests."""
    return [{**node, "port": str(port)} if node["type"] == "linegate-line" else node for node in read_flow(path)]


def with_pictures(nodes: list[Node], *pictures: Path) -> list[Node]:
    """Let the example's button send these files."""
    button = next(node for node in nodes if node.get("name") == "a picture from a file")
    others = [node for node in nodes if node is not button]
    return others + [
        {
            **button,
            "id": f"{button['id'][:-2]}{place + 32:x}",
            "name": picture.parent.name,
            "props": [{"p": "filename", "v": str(picture), "vt": "str"}],
        }
        for place, picture in enumerate(pictures)
    ]


class Cell:
    """A broker, a bridge with a slow belt, and a Node-RED with the examples."""

    def __init__(self, folder: Path) -> None:
        (folder / "mosquitto").mkdir()
        self.broker = MosquittoBroker(folder / "mosquitto")
        self.broker.start()
        ports = Ports.free()
        ports.mqtt = self.broker.port
        project = folder / "bridge"
        project.mkdir()
        write_project(project)
        self.bridge = Bridge(folder=project, ports=ports, settings={"belt__speed_mm_s": "120"})

    def lamp(self, name: str) -> dict[str, Any]:
        return self.red.statuses().get(name, {})

    def wait_ready(self) -> None:
        """Wait for the bridge as long as it takes beside a Node-RED and a browser on two cores."""
        eventually(lambda: self.bridge.get("/readyz")[0] == 200, 60)

    def hear_the_bridge(self, limit_s: float = 20.0) -> None:
        """Wait until each node has a broker and the bridge's status: a dot, not a ring."""
        eventually(lambda: all(self.lamp(name).get("shape") == "dot" for name in NODES), limit_s)

    def turns(self, colour: str, *names: str) -> None:
        """Wait until the lamps of these nodes have a colour."""
        eventually(lambda: {self.lamp(name).get("fill") for name in names} == {colour})


NODES = ("trigger", "verdict", "gate")


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    folder = tmp_path_factory.mktemp("cell")
    cell = Cell(folder)
    flows = [at_port(path, cell.broker.port) for path in EXAMPLES]
    flows[[path.name for path in EXAMPLES].index("trigger.json")] = with_pictures(
        at_port(OUR_NODES / "examples" / "trigger.json", cell.broker.port), GOOD, PITTED
    )
    try:
        with running(cell.bridge), node_red(folder, flows=flows) as red:
            cell.red = red
            cell.wait_ready()
            yield cell
    finally:
        cell.broker.kill()


def test_parts_are_judged_sorted_and_their_orders_shown(cell: Cell) -> None:
    red = cell.red
    cell.hear_the_bridge()
    red.inject(GOOD.parent.name)
    red.inject(PITTED.parent.name)
    judged = eventually(lambda: len(found := red.debug("the verdict")) == 2 and found)
    found = {one["payload"]["sequence"]: one["payload"] for one in judged}
    assert (found[1]["verdict"], found[1]["disposition"]) == ("PASS", "LET_PASS")
    assert (found[2]["verdict"], found[2]["disposition"], found[2]["label"]) == ("FAIL", "REJECT", "pitting")
    eventually(lambda: red.debug("passes") == [1] and len(red.debug("rejects")) == 1)
    assert red.debug("rejects")[0]["sequence"] == 2
    assert eventually(lambda: red.debug("counts")[1:])[0] == {"PASS": 1, "FAIL": 1, "missed": 0}
    eventually(lambda: [one["event"] for one in red.debug("reports")] == ["ordered"])
    assert red.debug("not inspected") == red.debug("unreadable") == []
    eventually(lambda: "2 FAIL" in cell.lamp("verdict")["text"])
    assert red.errors() == []


def test_a_trigger_without_a_picture_gets_error_from_a_station_without_camera(cell: Cell) -> None:
    before = len(cell.red.debug("rejects"))
    cell.red.inject("the camera takes it")
    rejects = eventually(lambda: cell.red.debug("rejects")[before:])
    assert (rejects[0]["verdict"], rejects[0]["disposition"]) == ("ERROR", "REJECT")


def test_the_count_goes_on_after_a_deployment(cell: Cell) -> None:
    last = cell.red.debug("the verdict")[-1]["payload"]["sequence"]
    cell.red.import_flow(cell.red.deployed)
    cell.hear_the_bridge()
    known = len(cell.red.debug("the verdict"))
    cell.red.inject(GOOD.parent.name)
    judged = eventually(lambda: cell.red.debug("the verdict")[known:])
    assert judged[0]["payload"]["sequence"] == last + 1


def test_a_bridge_that_stands_still_and_one_that_ends_turn_the_lamps_yellow(cell: Cell) -> None:
    cell.bridge.process.send_signal(signal.SIGSTOP)
    try:
        eventually(lambda: all("silent" in cell.lamp(name).get("text", "") for name in NODES))
        assert {cell.lamp(name)["fill"] for name in NODES} == {"yellow"}
    finally:
        cell.bridge.process.send_signal(signal.SIGCONT)
    eventually(lambda: not any("silent" in cell.lamp(name).get("text", "") for name in NODES))
    assert cell.bridge.stop()[0] == 0
    eventually(lambda: all("offline" in cell.lamp(name).get("text", "") for name in NODES))
    cell.bridge.start()
    cell.wait_ready()
    eventually(lambda: not any("offline" in cell.lamp(name).get("text", "") for name in NODES))


def test_a_killed_broker_turns_them_red_and_within_10_s_of_its_return_parts_are_judged(cell: Cell) -> None:
    red = cell.red
    known = len(red.debug("the verdict"))
    red.inject(GOOD.parent.name)  # the first trigger after a bridge's start opens its count
    eventually(lambda: red.debug("the verdict")[known:])
    cell.broker.kill()
    cell.turns("red", *NODES)
    refused = len(red.debug("not inspected"))
    red.inject(GOOD.parent.name)
    failed = eventually(lambda: red.debug("not inspected")[refused:])
    assert failed[0]["error"]["code"] == "OFFLINE"
    cell.broker.start()
    back = time.monotonic()
    cell.hear_the_bridge(RECOVERY_S)
    known = len(red.debug("the verdict"))
    cell.wait_ready()
    red.inject(PITTED.parent.name)
    judged = eventually(lambda: red.debug("the verdict")[known:], RECOVERY_S)
    assert time.monotonic() - back < 2 * RECOVERY_S
    assert judged[0]["payload"]["sequence"] == failed[0]["sequence"] + 1
    assert judged[0]["payload"]["verdict"] == "FAIL"
    # the part that could not be told of is a gap, by which the bridge asks to stop the line
    eventually(lambda: any(one["name"] == "TRIGGER_MISSED" for one in red.debug("alarms")))
    cell.turns("red", "verdict", "gate")
    assert "STOP REQUEST" in cell.lamp("verdict")["text"]


# ---- what an engineer sees --------------------------------------------------------------------------------------------


HELP = ".red-ui-sidebar-help-stack .red-ui-help"


def edit(node_id: str) -> list[list[Any]]:
    return [
        ["evaluate", f"RED.editor.edit(RED.nodes.node('{node_id}'))"],
        ["wait", "#node-dialog-ok"],
        ["wait", "#node-input-name"],
    ]


def helped(kind: str) -> list[list[Any]]:
    show = f"RED.actions.invoke('core:toggle-sidebar', true); RED.sidebar.help.show('{kind}')"
    return [["evaluate", show], ["wait", f"{HELP} table"], ["read", HELP]]


CHECK_LINE = """(() => {
    const wrong = (name, values) => {
        const { validate, required } = RED.nodes.getType("linegate-line").defaults[name];
        return values.map((value) => (required && value === "") || validate.call({}, value, {}) !== true);
    };
    return {
        port: wrong("port", ["1883", 1883, "${MQTT_PORT}", "0", "65536", "x", ""]),
        host: wrong("host", ["127.0.0.1", "broker.local", "::1", "${MQTT_HOST}", "tcp://a", "a b", ""]),
        line: wrong("line", ["line1", "${LINE}", "1line", "a+", ""]),
        root: wrong("root", ["linegate", "site/linegate", "${ROOT}", "/a", "a/", "#"]),
    };
})()"""


def test_palette_dialogs_and_help_are_there_and_fields_are_checked(cell: Cell, tmp_path: Path) -> None:
    palette = "RED.actions.invoke('core:toggle-palette', true)"
    steps = [["editor", cell.red.url, "Linegate trigger"], ["evaluate", palette], ["wait", "#red-ui-palette-Linegate"]]
    steps += [["read", "#red-ui-palette-Linegate"], ["evaluate", CHECK_LINE]]
    steps += [step for kind in TYPES for step in helped(kind)]
    steps += edit("11e9a7e000000104")
    steps += [["evaluate", "$('#node-input-verdictMs').is(':visible')"], ["click", "#node-input-wait"]]
    steps += [["evaluate", "$('#node-input-verdictMs').is(':visible')"]]
    steps += [["evaluate", "$('#node-input-ackMs').val('soon').trigger('change').hasClass('input-error')"]]
    answers = browse(tmp_path, steps)
    assert answers[3].split() == ["trigger", "verdict", "gate"]
    assert answers[4] == {
        "port": [False, False, False, True, True, True, True],
        "host": [False, False, False, False, True, True, True],
        "line": [False, False, True, True, True],
        "root": [False, False, False, True, True, True],
    }
    helps = dict(zip(TYPES, answers[7:17:3], strict=True))
    assert "It fires nothing, and nothing may be fired from it" in helps["linegate-gate"]
    assert all("Outputs" in helps[kind] for kind in TYPES if kind != "linegate-line")
    assert answers[-4] is True
    assert answers[-2:] == [False, True]


# ---- beside the demo -------------------------------------------------------------------------------------------------


def test_beside_the_demo_passes_rejects_and_orders_are_those_of_its_report(tmp_path: Path) -> None:
    demo = [*LINEGATE, "demo", "--parts", "40", "--no-dashboard", "--keep", "kept", "--report", "report.json"]
    settings = tmp_path / "kept" / "linegate.toml"
    with node_red(tmp_path) as red, (tmp_path / "demo.log").open("wb") as log:
        process = subprocess.Popen(demo, cwd=tmp_path, env=environment(), stdout=log, stderr=log)
        try:
            port = eventually(lambda: settings.exists() and tomllib.loads(settings.read_text()).get("mqtt"), 60)["port"]
            red.import_flow(*(at_port(path, port) for path in EXAMPLES if path.name != "trigger.json"))
            process.wait(110)
        finally:
            process.kill()
            process.wait(10)
        report = json.loads((tmp_path / "report.json").read_text())
        told = {name: count for name, count in report["verdicts"].items() if count}
        assert sum(told.values()) == 40
        eventually(lambda: red.debug("counts")[-1:] == [{**told, "missed": 0}])
        rejects = [one["sequence"] for one in red.debug("rejects")]
        assert sorted([*red.debug("passes"), *rejects]) == list(range(1, 41))
        assert len(red.debug("passes")) == told["PASS"]
        orders = [one["sequence"] for one in red.debug("reports") if one["event"] == "ordered"]
        assert set(orders) <= set(rejects)
        assert {one["event"] for one in red.debug("reports")} >= {"ordered", "fired", "confirmed"}
        assert red.debug("unreadable") == red.errors() == []


# ---- many -----------------------------------------------------------------------------------------------------------

COUNT = """const seen = context.get("seen") || { all: 0, twice: 0, last: 0, wrong: 0 };
seen.all += 1;
if (msg.sequence !== seen.last + 1) seen.twice += 1;
if ((msg.sequence % 7 === 0) !== (msg.disposition === "REJECT")) seen.wrong += 1;
seen.last = msg.sequence;
context.set("seen", seen);
if (seen.all % 2000 === 0) return { payload: seen };
"""


def verdict_document(sequence: int) -> bytes:
    code, name, disposition = (2, "FAIL", "REJECT") if sequence % 7 == 0 else (1, "PASS", "LET_PASS")
    document = {
        "line": "line1", "station": "station1", "part_id": f"A-{sequence:06}", "sequence": sequence, "epoch": 1, "verdict": name,
        "code": code, "disposition": disposition, "reason": "crack 0.93 >= 0.50", "label": "crack", "score": 0.93,
        "regions": [{"label": "crack", "score": 0.93, "box": [1, 2, 3, 4]}] * 20, "decided_utc": f"2026-11-21T08:00:{sequence}",
        "replayed": False,
    }  # fmt: skip
    return json.dumps(document).encode()


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_of_many_verdicts_none_is_lost_and_the_memory_stays_level(tmp_path: Path) -> None:
    count = int(os.environ.get("FLOWS_COUNT", "10000"))
    (tmp_path / "mosquitto").mkdir()
    broker = MosquittoBroker(tmp_path / "mosquitto", extra="max_queued_messages 20000")
    broker.start()
    flow = at_port(OUR_NODES / "examples" / "verdict.json", broker.port)
    for node in flow:
        if node.get("name") == "count by verdict":
            node["func"] = COUNT
        elif node.get("name") in {"passes", "rejects"}:
            node["active"] = False
    try:
        with node_red(tmp_path, flows=[flow]) as red, Publisher(broker.port) as publisher:
            eventually(lambda: red.statuses().get("verdict", {}).get("fill") == "yellow")
            memory, begun = [], time.monotonic()
            for sequence in range(1, count + 1):
                publisher.send(verdict_document(sequence), topic="verdict")
                if sequence % 2000 == 0:
                    eventually(lambda: len(red.debug("counts")) == sequence // 2000, 60)  # noqa: B023
                    memory.append(red.memory() / 2**20)
            took_s = time.monotonic() - begun
            assert red.debug("counts")[-1] == {"all": count, "twice": 0, "last": count, "wrong": 0}
            print(f"{count} verdicts in {took_s:.1f} s; memory in MiB {[round(one) for one in memory]}")
            assert memory[-1] - memory[1] < 25
            assert red.errors() == []
    finally:
        broker.kill()
