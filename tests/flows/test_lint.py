"""Every flow that is shipped, under the linter and under the rules of this house; and the rules themselves."""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.flows.flow_checks import CHECKS, Node, shared_alike
from tests.flows.node_red import FLOWS, HERE, need_node_red, read_flow

pytestmark = [pytest.mark.flows, pytest.mark.timeout(120)]

SHIPPED = sorted(path for path in FLOWS.glob("*.json") if not path.name.startswith("package"))
EXAMPLES = sorted((FLOWS / "node-red-contrib-linegate").glob("examples/*.json"))
GOOD = HERE / "samples" / "good.json"
FLOW_FILES = [GOOD, *SHIPPED, *EXAMPLES]


def nrlint(flow: Path, folder: Path) -> list[str]:
    """Give what the linter complains of."""
    nodes = read_flow(flow)
    for node in nodes:
        for key in {"func", "initialize", "finalize"} & node.keys():
            node[key] += "\n"  # the linter excuses the last line: it puts a comment that switches itself off behind it
    copied = folder / flow.name
    copied.write_text(json.dumps(nodes))
    command = [
        need_node_red(),
        FLOWS / "node_modules" / "nrlint" / "bin" / "nrlint.js",
        "-c",
        FLOWS / ".nrlintrc.js",
        copied,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return [] if done.returncode == 0 else [done.stdout + done.stderr]


@pytest.mark.parametrize("flow", FLOW_FILES, ids=lambda path: path.name)
def test_the_linter_finds_nothing(flow: Path, tmp_path: Path) -> None:
    assert nrlint(flow, tmp_path) == []


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("flow", FLOW_FILES, ids=lambda path: path.name)
def test_a_flow_keeps_the_rules(flow: Path, check: str) -> None:
    assert CHECKS[check](read_flow(flow)) == []


def test_what_flows_share_is_the_same_in_each() -> None:
    assert shared_alike({path.name: read_flow(path) for path in [*SHIPPED, *EXAMPLES]}) == []


def changed(called: str, /, **values: Any) -> list[Node]:
    """Give the good flow with other values in one node; None takes a key away."""
    nodes = copy.deepcopy(read_flow(GOOD))
    node = next(node for node in nodes if called in (node.get("name"), node.get("label")))
    node.update(values)
    for key in [key for key, value in node.items() if value is None]:
        del node[key]
    return nodes


def subflow(code: str, *, parts: int = 1) -> list[Node]:
    """Give a subflow with functions in it."""
    functions = [
        {
            "id": f"f{n}",
            "z": "s",
            "type": "function",
            "name": f"f{n}",
            "func": code,
            "x": 100,
            "y": 100 * n,
            "wires": [],
        }
        for n in range(parts)
    ]
    return [{"id": "s", "type": "subflow", "name": "shared"}, *functions]


@pytest.mark.parametrize(
    ("check", "flow", "told"),
    [
        ("described", [], "no tab"),
        ("described", changed("Harness", info=" "), "tab 'Harness' has no description"),
        ("grouped", changed("double", g=None), "function double stands in no group"),
        ("grouped", changed("Send", nodes=["5a3e04", "5a3e06", "5a3e07"]), "function double stands in no group"),
        ("grouped", changed("Send", name=""), "group 5a3e02 has no name"),
        ("without secrets", changed("broker", credentials={"user": "u"}), "mqtt-broker broker holds 'credentials'"),
        ("without secrets", changed("broker", password="p"), "mqtt-broker broker holds 'password'"),
        ("addressed by environment", changed("broker", broker="10.0.0.7"),
         "mqtt-broker broker: broker is '10.0.0.7', not one ${NAME}"),
        ("addressed by environment", changed("broker", port=1883), "mqtt-broker broker: port is 1883, not one ${NAME}"),
        (
            "addressed by environment",
            changed("broker", type="OpcUa-Endpoint", endpoint="opc.tcp://${HOST}:4840"),
            "OpcUa-Endpoint broker: endpoint is 'opc.tcp://${HOST}:4840', not one ${NAME}",
        ),
        ("short functions", changed("double", func="\n" * 26), "function double: func has 26 lines, more than 25"),
        ("unique ids", changed("double", id="5a3e04"), "id 5a3e04 stands 2 times"),
        ("wired", changed("press", wires=[["nowhere"]]), "inject press leads to nowhere, which is not in the file"),
        ("wired", changed("press", type="subflow:gone"), "subflow:gone press leads to gone, which is not in the file"),
        ("apart", changed("shown", y=140), "mqtt out publish lies over debug shown"),
        ("apart", changed("double", x=200), "inject press lies over function double"),
    ],
)  # fmt: skip
def test_a_breach_is_told(check: str, flow: list[Node], told: str) -> None:
    assert CHECKS[check](flow) == [told]


def test_a_shared_subflow_that_differs_is_told() -> None:
    assert shared_alike({"a": subflow("return msg;"), "b": subflow("return msg;")}) == []
    assert shared_alike({"a": subflow("return msg;"), "b": subflow("return null;")}) == [
        "function f0 (f0) differs between a and b"
    ]
    assert shared_alike({"a": subflow(""), "b": subflow("", parts=2)}) == [
        "subflow shared has other nodes in a than in b"
    ]


@pytest.mark.parametrize(
    ("flow", "told"),
    [
        (changed("double", func="return mgs;"), "mgs"),
        (changed("double", name=""), "no name"),
        (changed("double", func="if (msg.payload == 1) { return msg; }"), "==="),
    ],
)
def test_the_linter_complains(tmp_path: Path, flow: list[Node], told: str) -> None:
    (tmp_path / "here").mkdir()
    bad = tmp_path / "here" / "bad.json"
    bad.write_text(json.dumps(flow))
    (complaint,) = nrlint(bad, tmp_path)
    assert told in complaint


def test_the_linter_knows_what_functions_are_given(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    fine = tmp_path / "here" / "fine.json"
    code = "setTimeout(() => node.send({payload: Buffer.from([1])}), 5);\nglobal.set('a', new URL(env.get('A')));\nreturn msg;"
    fine.write_text(json.dumps(changed("double", func=code)))
    assert nrlint(fine, tmp_path) == []
