"""The images' own start of Node-RED, docker/node-red/start.js, with the environment of both profiles."""

from __future__ import annotations

import fcntl
import json
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.processes import eventually
from tests.compose.containers import ROOT, Containers, containers
from tests.compose.production import Member, make_secrets

FLOWS = ROOT / "flows"
START_S = 60.0
pytestmark = [pytest.mark.timeout(240), pytest.mark.soak]


@pytest.fixture(autouse=True, scope="module")
def node_red() -> None:
    """See that the packages of flows/package.json are there; skips the tests where there is no Node."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None or not (FLOWS / "settings.js").exists():
        pytest.skip("Node.js is not installed: apt-get install nodejs npm")
    with (FLOWS / ".install.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not (FLOWS / "node_modules" / "node-red").exists():
            subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=FLOWS, check=True, timeout=220)


BROKER = {
    "id": "line-broker", "type": "mqtt-broker", "name": "line", "broker": "${LINEGATE_MQTT_HOST}",
    "port": "${LINEGATE_MQTT_PORT}", "clientid": "", "autoConnect": True, "usetls": False, "protocolVersion": "5",
    "keepalive": "60", "cleansession": True,
}  # fmt: skip
PROBE = """module.exports = (RED) => RED.nodes.registerType("linegate-probe", function (n) { RED.nodes.createNode(this, n); });"""
"""Stands in for our own package of nodes: without it the sample's flows don't start."""
SAMPLE = [
    {"id": "probe", "type": "linegate-probe", "z": "t", "name": "", "wires": []},
    {"id": "t", "type": "tab", "label": "A flow of the test"},
    BROKER,
    {"id": "tick", "type": "inject", "z": "t", "props": [{"p": "payload"}], "repeat": "0.5", "once": True,
     "payload": "{}", "payloadType": "str", "wires": [["allowed", "refused"]]},
    {"id": "allowed", "type": "mqtt out", "z": "t", "topic": "linegate/line1/station1/command", "qos": "1",
     "broker": "line-broker", "wires": []},
    {"id": "refused", "type": "mqtt out", "z": "t", "topic": "linegate/line1/station1/verdict", "qos": "1",
     "broker": "line-broker", "wires": []},
]  # fmt: skip


def flows_folder(folder: Path, *, sample: bool) -> Path:
    """Make a flows/ with our scripts and packages, and either the shipped flows or one of the test's."""
    folder.mkdir()
    ours = folder / "node-red-contrib-linegate"
    for name in ("node_modules", "package.json", "settings.js", "load.js"):
        (folder / name).symlink_to(FLOWS / name)
    if sample:
        (folder / "sample.json").write_text(json.dumps(SAMPLE))
        (folder / "plc-sample.json").write_text('[{"id": "plc", "type": "tab", "label": "In a PLC\'s place"}]')
        ours.mkdir()
        (ours / "probe.js").write_text(PROBE)
        (ours / "probe.html").write_text("")
        (ours / "package.json").write_text(
            json.dumps({"name": ours.name, "version": "0.0.1", "node-red": {"nodes": {"probe": "probe.js"}}})
        )
    else:
        if (FLOWS / ours.name).exists():
            ours.symlink_to(FLOWS / ours.name)
        for file in FLOWS.glob("*.json"):
            if file.name not in {"package.json", "package-lock.json"}:
                (folder / file.name).symlink_to(file)
    return folder


def status_of(line: Containers, path: str, scheme: str = "http") -> int:
    context = ssl.create_default_context(cafile=str(line.secrets / "ca_cert")) if scheme == "https" else None
    try:
        with urllib.request.urlopen(
            f"{scheme}://localhost:{line.ports[1880]}{path}", timeout=5, context=context
        ) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code


def started(line: Containers, service: str) -> None:
    """Wait until the service's health check succeeds; each try is a process that takes from Node-RED's time."""
    until = time.monotonic() + START_S
    while not line.healthy(service):
        assert line.running(service) and time.monotonic() < until, line.log(service)[-3000:]
        time.sleep(0.5)


def test_the_demos_flows_start_and_end_with_the_container(tmp_path: Path) -> None:
    with containers(tmp_path) as line:
        flows_folder(tmp_path / "flows", sample=False)
        line.settings["node-red"] = {"LINEGATE_FLOWS_FOLDER": str(tmp_path / "flows")}
        assert not line.healthy("node-red")
        line.start("node-red")
        started(line, "node-red")
        assert line.check(line.flows_image.healthcheck, "node-red")
        assert status_of(line, "/settings") in {401, 404}  # no editor for whoever comes
        assert "missing types" not in line.log("node-red")
        assert "mqtt://127.0.0.1:1883" not in line.log("node-red")  # a flow's own default
        assert line.stop("node-red") == 0
        assert not line.healthy("node-red")


@pytest.fixture
def production(tmp_path: Path) -> Iterator[Containers]:
    with containers(tmp_path, profile="production") as line:
        make_secrets(line.secrets)
        folder = flows_folder(tmp_path / "flows", sample=True)
        line.settings["node-red-production"] = {"LINEGATE_FLOWS_FOLDER": str(folder)}
        yield line


def token(line: Containers, password: str) -> bool:
    """Tell whether the editor's user gets in with a password."""
    form = json.dumps(
        {
            "client_id": "node-red-admin",
            "grant_type": "password",
            "scope": "*",
            "username": "admin",
            "password": password,
        }
    )
    request = urllib.request.Request(
        f"https://localhost:{line.ports[1880]}/auth/token", form.encode(), {"content-type": "application/json"}
    )
    context = ssl.create_default_context(cafile=str(line.secrets / "ca_cert"))
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return "access_token" in json.load(answer)
    except urllib.error.HTTPError as exc:
        with exc:
            assert exc.code in {401, 403}
            return False


def test_in_production_flows_log_in_by_tls_and_do_what_they_may(production: Containers) -> None:
    line = production
    line.start("node-red-production")
    started(line, "node-red-production")
    line.start("mosquitto-tls")  # later than the flows, which look for it
    eventually(lambda: line.healthy("mosquitto-tls"))
    with Member(line, "historian") as historian:
        historian.subscribe("linegate/#")
        eventually(lambda: len(historian.heard) > 2)
        assert set(historian.heard) == {"linegate/line1/station1/command"}
    assert status_of(line, "/settings", "https") == 401
    assert token(line, (line.secrets / "flows_editor_password").read_text())
    assert not token(line, "wrong")
    told = line.log("node-red-production")
    given = Path(f"/proc/{line.processes['node-red-production'].pid}/environ").read_text()
    words = [file.read_text() for pattern in ("*_password", "*_secret") for file in line.secrets.glob(pattern)]
    assert [word for word in words if word in told or word in given] == []


def test_flows_that_were_changed_in_the_editor_are_kept(production: Containers) -> None:
    line = production
    flows = line.folder / "node-red-production-data" / "flows.json"

    def restarted() -> list[dict[str, Any]]:
        line.start("node-red-production")
        started(line, "node-red-production")
        assert line.stop("node-red-production") == 0
        nodes: list[dict[str, Any]] = json.loads(flows.read_text())
        return nodes

    shipped = restarted()
    assert [node["id"] for node in shipped if node.get("disabled")] == ["plc"]
    (line.folder / "flows" / "more.json").write_text('[{"id": "more", "type": "tab", "label": "An update"}]')
    updated = restarted()
    assert [node["id"] for node in updated if node not in shipped] == ["more"]
    changed = [{**node, "label": "Mine"} if node["id"] == "t" else node for node in updated]
    flows.write_text(json.dumps(changed))
    (line.folder / "flows" / "more.json").unlink()
    assert restarted() == changed
    assert "was changed in the editor" in line.log("node-red-production")


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"NODE_RED_CREDENTIAL_SECRET_FILE": "/nowhere/secret"}, "NODE_RED_CREDENTIAL_SECRET_FILE = /nowhere/secret"),
        ({"LINEGATE_MQTT_PASSWORD": "x"}, "LINEGATE_MQTT_PASSWORD and LINEGATE_MQTT_PASSWORD_FILE are both set"),
        ({"LINEGATE_FLOWS_FILES": "sample.json none.json"}, "none.json"),
    ],
)
def test_what_is_missing_is_named_at_the_start(production: Containers, settings: dict[str, str], why: str) -> None:
    production.settings["node-red-production"] |= settings
    production.start("node-red-production")
    assert production.processes["node-red-production"].wait(20) == 1
    (line,) = [row for row in production.log("node-red-production").splitlines() if row.startswith("start.js: ")]
    assert why in line
