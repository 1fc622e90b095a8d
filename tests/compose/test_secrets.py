"""docker/make_secrets.py writes every secret of the profile `production`, once."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.cli.processes import linegate
from tests.compose.containers import compose_file
from tests.compose.production import make_secrets


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("line") / "secrets"
    make_secrets(folder, "--host", "line1.example", "--host", "192.168.0.5")
    return folder


def openssl(*words: object) -> str:
    command = ["openssl", *(str(word) for word in words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout


def test_all_that_the_compose_file_asks_for_is_there(secrets: Path) -> None:
    asked = {Path(entry["file"]).name for entry in compose_file()["secrets"].values()}
    assert asked <= {file.name for file in secrets.iterdir()}
    assert [name for name in asked if not (secrets / name).read_bytes()] == ["influx_token"]


def test_nobody_else_on_the_host_gets_at_them_and_each_container_can(secrets: Path) -> None:
    assert secrets.stat().st_mode & 0o777 == 0o700
    modes = {file.name: file.stat().st_mode & 0o777 for file in secrets.iterdir()}
    assert modes.pop("ca_key") == 0o400  # no container has it
    assert set(modes.values()) == {0o444}


def test_passwords_differ_and_stand_nowhere_else_but_for_the_health_check(secrets: Path) -> None:
    words = {file.name: file.read_text() for file in secrets.iterdir() if re.search("password$|secret$", file.name)}
    assert len(set(words.values())) == len(words) == 14
    assert all(re.fullmatch("[0-9a-f]{48}", word) for word in words.values())
    for name in ("mosquitto_passwords", "opcua_users"):
        assert not [word for word in words.values() if word in (secrets / name).read_text()]


@pytest.mark.parametrize("name", ["broker", "bridge", "flows", "plc"])
def test_certificates_are_the_authoritys_and_name_where_they_are_shown(secrets: Path, name: str) -> None:
    openssl("verify", "-x509_strict", "-CAfile", secrets / "ca_cert", secrets / f"{name}_cert")
    shown = openssl("x509", "-in", secrets / f"{name}_cert", "-noout", "-text")
    public = openssl("x509", "-in", secrets / f"{name}_cert", "-noout", "-pubkey")
    assert openssl("pkey", "-in", secrets / f"{name}_key", "-pubout") == public
    hosts = {"broker": "mosquitto-tls", "bridge": "bridge-production", "flows": "node-red-production", "plc": ""}
    names = ("line1.example", "IP Address:192.168.0.5", "IP Address:127.0.0.1", hosts[name])
    assert all(each in shown for each in names) == (name != "plc")


def test_a_second_run_changes_nothing(secrets: Path) -> None:
    before = {file: file.read_bytes() for file in secrets.iterdir()}
    assert make_secrets(secrets) == f"{secrets}: 0 files written, all were there\n"
    assert {file: file.read_bytes() for file in secrets.iterdir()} == before


def test_what_is_removed_is_made_anew_with_what_follows_from_it(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    make_secrets(secrets)
    users = secrets / "opcua_users"
    users.chmod(0o600)
    users.write_text(users.read_text().replace('"plc"', '"press"', 1))
    before = {file.name: file.read_bytes() for file in secrets.iterdir()}
    for name in ("mqtt_flows_password", "opcua_flows_password", "broker_cert"):
        (secrets / name).unlink()
    make_secrets(secrets)
    changed = {file.name for file in secrets.iterdir() if file.read_bytes() != before[file.name]}
    assert changed == {
        "mqtt_flows_password", "mosquitto_passwords", "opcua_flows_password", "opcua_users", "broker_cert", "broker_key",
    }  # fmt: skip
    before_and_now = (tomllib.loads(text)["users"] for text in (before["opcua_users"].decode(), users.read_text()))
    old, new = ({user["name"]: user["password"] for user in found} for found in before_and_now)
    assert set(new) == {"flows", "plc", "press"}  # whoever was added stays
    assert new["press"] == old["press"]
    assert new["flows"] != old["flows"]


def test_the_bridge_takes_the_users(secrets: Path, tmp_path: Path) -> None:
    assert linegate(tmp_path, "init").returncode == 0
    listed = linegate(tmp_path, "users", "list", opcua__users_file=str(secrets / "opcua_users"))
    assert (listed.returncode, listed.stderr) == (0, "")
    assert [row.split() for row in listed.stdout.splitlines() if "flows" in row or "plc" in row]
