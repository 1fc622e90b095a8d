"""The settings that are shipped for Node-RED: who may open the editor, and what a wrong value is told."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.processes import eventually
from tests.flows.node_red import FLOWS, NodeRed, need_node_red
from tests.ports import free_ports

pytestmark = [pytest.mark.flows, pytest.mark.timeout(120)]

HASH = "$2b$08$" + "a" * 53


def settings(**environment: str) -> subprocess.CompletedProcess[str]:
    """Read the settings under an environment."""
    code = f"console.log(JSON.stringify(require({json.dumps(str(FLOWS / 'settings.js'))})))"
    return subprocess.run(
        [need_node_red(), "-e", code], env={"PATH": os.environ["PATH"], **environment}, capture_output=True, text=True,
        timeout=20, check=False,
    )  # fmt: skip


def read(**environment: str) -> dict[str, Any]:
    done = settings(**environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_without_an_environment_it_is_this_machine_s_alone() -> None:
    plain = read()
    assert (plain["uiHost"], plain["uiPort"], plain["credentialSecret"]) == ("127.0.0.1", 1880, False)
    assert "httpAdminRoot" not in plain
    assert "adminAuth" not in plain
    assert plain["telemetry"]["enabled"] is False


def test_the_environment_gives_port_and_secret() -> None:
    assert read(PORT="1990")["uiPort"] == 1990
    assert read(PORT="1990", LINEGATE_FLOWS_PORT="1991")["uiPort"] == 1991
    assert read(NODE_RED_CREDENTIAL_SECRET="s")["credentialSecret"] == "s"


def test_an_address_that_others_reach_has_an_editor_for_known_users_alone(tmp_path: Path) -> None:
    known = tmp_path / "users"
    known.write_text(f"# who may\nanna:{HASH}\nben:{HASH}:read\n")
    assert read(LINEGATE_FLOWS_HOST="0.0.0.0")["httpAdminRoot"] is False
    found = read(LINEGATE_FLOWS_HOST="0.0.0.0", LINEGATE_FLOWS_USERS=str(known))
    assert "httpAdminRoot" not in found
    assert [(user["username"], user["permissions"]) for user in found["adminAuth"]["users"]] == [
        ("anna", "*"),
        ("ben", "read"),
    ]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("LINEGATE_FLOWS_PORT", "http", "LINEGATE_FLOWS_PORT is http; allowed: 1 to 65535"),
        ("LINEGATE_FLOWS_PORT", "70000", "LINEGATE_FLOWS_PORT is 70000; allowed: 1 to 65535"),
        ("LINEGATE_FLOWS_LOG", "loud", "LINEGATE_FLOWS_LOG is loud; allowed: fatal, error, warn, info, debug"),
    ],
)
def test_a_wrong_value_is_told(name: str, value: str, told: str) -> None:
    done = settings(**{name: value})
    assert done.returncode != 0
    assert told in done.stderr


@pytest.mark.parametrize("line", ["anna:plain-password", f"anna:{HASH}:admin", f":{HASH}", "# nobody"])
def test_a_wrong_file_of_users_is_told(tmp_path: Path, line: str) -> None:
    wrong = tmp_path / "users"
    wrong.write_text(line + "\n")
    done = settings(LINEGATE_FLOWS_USERS=str(wrong))
    assert done.returncode != 0
    assert f"LINEGATE_FLOWS_USERS: {wrong}" in done.stderr
    assert "plain-password" not in done.stderr


@pytest.mark.parametrize("guarded", [True, False])
def test_the_editor_is_closed_to_strangers(tmp_path: Path, guarded: bool) -> None:
    (port,) = free_ports(1)
    known = tmp_path / "users"
    known.write_text(f"anna:{HASH}\n")
    environment = {"LINEGATE_FLOWS_USERS": str(known)} if guarded else {"LINEGATE_FLOWS_HOST": "0.0.0.0"}
    red = NodeRed(folder=tmp_path, port=port, environment=environment)
    red.launch()
    try:
        eventually(lambda: "Started flows" in red.log, 60)
        with httpx.Client(base_url=red.url, trust_env=False) as stranger:
            refused = 401 if guarded else 404
            assert stranger.get("/flows").status_code == refused
            assert stranger.post("/flows", json=[]).status_code == refused
    finally:
        red.stop()
