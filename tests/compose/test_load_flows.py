"""flows/load.js merges flow files into the one that Node-RED reads."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.compose.containers import ROOT

BROKER = {"id": "broker", "type": "mqtt-broker", "broker": "${LINEGATE_MQTT_HOST}", "usetls": False}
LOG_IN = {"user": "${LINEGATE_MQTT_USER}", "password": "${LINEGATE_MQTT_PASSWORD}"}


def tab(name: str) -> list[dict[str, Any]]:
    return [{"id": name, "type": "tab", "label": name}, {"id": f"{name}-in", "type": "mqtt in", "z": name}]


class Folder:
    """Flow files in a folder, and `node flows/load.js` over them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def put(self, name: str, document: object) -> None:
        (self.path / name).write_text(json.dumps(document))

    def load(self, *names: str, **environment: str) -> subprocess.CompletedProcess[str]:
        node = shutil.which("node")
        if node is None:
            pytest.skip("Node.js is not installed: apt-get install nodejs")
        return subprocess.run(
            [node, str(ROOT / "flows" / "load.js"), "out.json", *names],
            cwd=self.path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    def merged(self, *names: str, **environment: str) -> list[dict[str, Any]]:
        done = self.load(*names, **environment)
        assert (done.returncode, done.stderr) == (0, "")
        nodes: list[dict[str, Any]] = json.loads((self.path / "out.json").read_text())
        return nodes

    def refused(self, *names: str) -> str:
        """Give the one line that says why nothing was written."""
        done = self.load(*names)
        assert (done.returncode, done.stdout) == (1, "")
        assert not (self.path / "out.json").exists()
        (line,) = done.stderr.splitlines()
        return line

    @property
    def credentials(self) -> object:
        return json.loads((self.path / "out_cred.json").read_text())


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_what_files_share_is_taken_once(folder: Folder) -> None:
    folder.put("a.json", [*tab("a"), BROKER])
    folder.put("b.json", {"rev": "1", "flows": [dict(reversed(BROKER.items())), *tab("b")]})
    assert folder.merged("a.json", "b.json") == [*tab("a"), BROKER, *tab("b")]
    assert not (folder.path / "out_cred.json").exists()


def test_two_that_differ_are_refused_with_both_files_named(folder: Folder) -> None:
    folder.put("a.json", [*tab("a"), BROKER])
    folder.put("b.json", [*tab("b"), {**BROKER, "usetls": True}])
    assert folder.refused("a.json", "b.json") == (
        "load.js: a.json and b.json have a different mqtt-broker with the id broker"
    )


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({"name": "a package"}, "holds no list of nodes"),
        ([{"id": "x"}], "needs an id and a type"),
        ([BROKER, BROKER], "the id broker is there twice"),
    ],
)
def test_what_is_no_flow_is_refused(folder: Folder, document: object, why: str) -> None:
    folder.put("a.json", document)
    line = folder.refused("a.json")
    assert line.startswith("load.js: a.json: ")
    assert why in line


def test_a_file_that_is_not_there_or_no_json_is_named(folder: Folder) -> None:
    (folder.path / "bad.json").write_text("[{")
    assert "bad.json" in folder.refused("bad.json")
    assert "none.json" in folder.refused("none.json")
    assert folder.load().returncode == 2


def test_credentials_go_to_the_file_where_node_red_looks_for_them(folder: Folder) -> None:
    folder.put("a.json", [{**BROKER, "credentials": LOG_IN}])
    folder.put("b.json", [BROKER, {"id": "endpoint", "type": "OpcUa-Endpoint"}])
    folder.put("b_cred.json", {"endpoint": {"user": "${LINEGATE_OPCUA_USER}"}})
    assert folder.merged("a.json", "b.json") == [BROKER, {"id": "endpoint", "type": "OpcUa-Endpoint"}]
    assert folder.credentials == {"broker": LOG_IN, "endpoint": {"user": "${LINEGATE_OPCUA_USER}"}}
    folder.merged("a.json")
    assert folder.credentials == {"broker": LOG_IN}  # those of an earlier run are gone
    folder.put("c_cred.json", {"broker": {"user": "somebody"}})
    folder.put("c.json", tab("c"))
    assert "different credentials for the id broker" in folder.load("a.json", "c.json").stderr


def test_brokers_are_reached_by_tls_when_asked_and_verified(folder: Folder) -> None:
    own = {"id": "own", "type": "mqtt-broker", "usetls": True, "tls": "settings"}
    folder.put("a.json", [BROKER, own])
    assert folder.merged("a.json", LINEGATE_MQTT_TLS="false") == [BROKER, own]
    assert folder.merged("a.json", LINEGATE_MQTT_TLS="true") == [
        {**BROKER, "usetls": True, "verifyservercert": True},
        own,
    ]


def test_brokers_without_credentials_log_in_as_the_user_of_the_environment(folder: Folder) -> None:
    other = {**BROKER, "id": "other"}
    folder.put("a.json", [BROKER, {**other, "credentials": {"user": "somebody"}}])
    assert folder.merged("a.json", LINEGATE_MQTT_USER="flows") == [BROKER, other]
    assert folder.credentials == {"broker": LOG_IN, "other": {"user": "somebody"}}
    folder.merged("a.json", LINEGATE_MQTT_USER="")
    assert folder.credentials == {"other": {"user": "somebody"}}


def test_the_environment_goes_before_the_flows_global_variables(folder: Folder) -> None:
    variables = [{"name": name, "value": "here", "type": "str"} for name in ("LINEGATE_LINE", "MES_URL", "OTHER")]
    settings = {"id": "global", "type": "global-config", "env": variables}
    folder.put("a.json", [settings])
    assert folder.merged("a.json") == [settings]
    assert folder.merged("a.json", LINEGATE_LINE="line7", MES_URL="") == [{**settings, "env": variables[2:]}]
