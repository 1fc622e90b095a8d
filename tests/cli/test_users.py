"""`linegate users`, and the way from `init` to a PLC that is connected."""

from __future__ import annotations

import asyncio
import os
import pty
import stat
import subprocess
import time
from pathlib import Path

import pytest
from asyncua import Client
from asyncua.crypto import security_policies

from bridge.outputs.opcua.users import load_users
from tests.cli.processes import LINEGATE, Bridge, Ports, environment, linegate, one_line
from tests.wire.opcua_clients import make_pair

PASSWORD = "a good password"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    assert linegate(tmp_path, "init", str(folder)).returncode == 0
    (folder / "password").write_text(PASSWORD + "\n")
    return folder


def test_users_are_added_changed_listed_and_removed(project: Path) -> None:
    add = ("users", "add", "plc1", "--password-file", "password")
    assert "--role is needed, one of viewer, operator, plc" in one_line(linegate(project, *add), code=2)
    assert "added plc1 (plc)" in linegate(project, *add, "--role", "plc").stdout
    first = load_users(project / "users.toml")
    assert first[0].admits(PASSWORD)
    assert stat.S_IMODE((project / "users.toml").stat().st_mode) == 0o600
    (project / "password").write_text("another password")
    assert "changed plc1 (plc)" in linegate(project, *add).stdout
    assert load_users(project / "users.toml")[0].admits("another password")
    assert linegate(project, "users", "add", "eyes", "--role", "viewer", "--password-file", "password").returncode == 0
    assert [line.split() for line in linegate(project, "users", "list").stdout.splitlines()] == [
        ["plc1", "plc"],
        ["eyes", "viewer"],
    ]
    assert "the OPC UA port stays closed" not in linegate(project, "check-config").stdout
    assert "removed plc1" in linegate(project, "users", "remove", "plc1").stdout
    assert "known are eyes" in one_line(linegate(project, "users", "remove", "plc1"), code=2)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("add", "plc1", "--role", "admin"), "--role admin: allowed is one of viewer, operator, plc"),
        (("add", "a b", "--role", "plc"), "'a b': allowed are 1 to 64 letters"),
        (("add", "plc1", "--role", "plc"), "--password-file"),
        (("add", "plc1", "--role", "plc", "--password-file", "none"), "none: No such file"),
        (("add", "plc1", "--role", "plc", "--password-file", "linegate.toml"), "the password has"),
    ],
)
def test_a_mistake_is_one_line(project: Path, arguments: tuple[str, ...], told: str) -> None:
    assert told in one_line(linegate(project, "users", *arguments), code=2)
    assert not (project / "users.toml").exists()


def test_the_password_is_typed_twice_and_not_shown(project: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*LINEGATE, "users", "add", "plc1", "--role", "plc"],
        cwd=project, env=environment(), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    told = b""
    for prompt in (b"Password: ", b"confirmation: "):
        while not told.endswith(prompt):
            told += os.read(ours, 1)
        time.sleep(0.1)
        os.write(ours, PASSWORD.encode() + b"\n")
    assert process.wait(20) == 0
    told += os.read(ours, 4_000)
    os.close(ours)
    assert b"added plc1 (plc)" in told
    assert PASSWORD.encode() not in told
    assert load_users(project / "users.toml")[0].admits(PASSWORD)


@pytest.mark.timeout(90)
async def test_from_init_to_a_connected_plc_without_a_restart(project: Path) -> None:
    ports = Ports.free()
    bridge = Bridge(folder=project, ports=ports, settings={"opcua__anonymous": "false"})
    bridge.start()
    try:
        await until(lambda: bridge.get("/healthz")[0] == 200)
        await until(lambda: bridge.told("opcua_closed") == 1)
        (line,) = [line for line in bridge.log if "opcua_closed" in line]
        assert "linegate users add NAME --role plc" in line
        assert "opcua.anonymous = true" in line
        assert "the OPC UA port is closed" in bridge.get("/readyz")[1]
        added = linegate(project, "users", "add", "plc1", "--role", "plc", "--password-file", "password")
        assert added.returncode == 0
        await until(lambda: "OPC UA" not in bridge.get("/readyz")[1])
        pair = make_pair(project / "client")
        with pytest.raises(Exception, match="BadCertificateUntrusted"):
            await status(pair.uri, pair.files, ports.opcua)
        rejected = project / "pki/rejected"
        await until(lambda: bool(list(rejected.glob("*.der"))))
        (kept,) = rejected.glob("*.der")
        kept.rename(project / "pki/trusted/certs" / kept.name)
        await until(lambda: bridge.told("opcua_trust_changed") == 1)
        assert await status(pair.uri, pair.files, ports.opcua) == "station1"
    finally:
        bridge.process.terminate()
        assert bridge.process.wait(10) == 0
    assert not [line for line in bridge.log if "Traceback" in line or PASSWORD in line]


async def status(uri: str, files: tuple[Path, Path], port: int) -> str:
    client = Client(f"opc.tcp://127.0.0.1:{port}/linegate/", timeout=4)
    client.application_uri = uri
    client.set_user("plc1")
    client.set_password(PASSWORD)
    await client.set_security(security_policies.SecurityPolicyAes256Sha256RsaPss, *files)
    async with client:
        assert isinstance(await client.get_node("ns=2;s=line1.station1.Status.Heartbeat").read_value(), int)
        return (await client.get_node("ns=2;s=line1.station1").read_browse_name()).Name


async def until(true: object, limit_s: float = 30.0) -> None:
    async with asyncio.timeout(limit_s):
        while not true():  # type: ignore[operator]
            await asyncio.sleep(0.1)
