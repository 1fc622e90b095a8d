"""`linegate run` as a process: straight after `init`, with a port in use, without its model, without its broker."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.setup_files import write_project
from tests.cli.processes import (
    LINEGATE,
    LOST,
    PICTURES,
    RETURNED,
    STATION,
    Bridge,
    Ports,
    Publisher,
    environment,
    eventually,
    linegate,
    one_line,
    running,
    simulated_broker,
)
from tests.wire.conftest import MosquittoBroker

READ_STATUS = struct.pack(">HHHBBHH", 7, 0, 6, 1, 4, 0, 2)
"""One Modbus request: function 4, input registers 0 and 1 (status bits, heartbeat)."""


def status_bits(port: int, *, source: str = "127.0.0.1") -> int | None:
    """Read the status bits by Modbus from a chosen address of this machine; None when the server hangs up."""
    with contextlib.suppress(ConnectionError):
        with socket.create_connection(("127.0.0.1", port), timeout=5, source_address=(source, 0)) as client:
            client.sendall(READ_STATUS)
            answer = client.recv(64)
        if len(answer) == 13:
            bits: int = struct.unpack(">H", answer[9:11])[0]
            return bits
    return None


GOOD = sorted((PICTURES / "good").glob("*.jpg"))[0]
PITTED = sorted((PICTURES / "pitting").glob("*.jpg"))[-1]


def send_picture(port: int, picture: Path, *, sequence: int, part_id: str) -> None:
    """Send one picture as the README says."""
    command = ["mosquitto_pub", "-V", "5", "-p", str(port), "-q", "1", "-t", f"{STATION}trigger", "-f",
               str(picture), "-D", "PUBLISH", "content-type", "image/jpeg",
               "-D", "PUBLISH", "user-property", "sequence", str(sequence),
               "-D", "PUBLISH", "user-property", "part_id", part_id]  # fmt: skip
    subprocess.run(command, check=True, timeout=10)


@pytest.mark.timeout(60)
def test_straight_after_init_parts_are_judged_listed_and_shown(tmp_path: Path) -> None:
    write_project(tmp_path)
    ports = Ports.free()
    slow_belt = {"belt__speed_mm_s": "120"}
    with contextlib.ExitStack() as stack:
        stack.enter_context(simulated_broker(tmp_path, ports.mqtt))
        bridge = stack.enter_context(running(Bridge(folder=tmp_path, ports=ports, settings=slow_belt)))
        publisher = stack.enter_context(Publisher(ports.mqtt))
        bridge.wait_ready()
        send_picture(ports.mqtt, GOOD, sequence=7, part_id="A-000007")
        send_picture(ports.mqtt, PITTED, sequence=8, part_id="A-000008")
        first, second = publisher.verdict_of(7), publisher.verdict_of(8)
        assert (first["part_id"], first["verdict"], first["disposition"]) == ("A-000007", "PASS", "LET_PASS")
        assert (second["part_id"], second["verdict"], second["disposition"]) == ("A-000008", "FAIL", "REJECT")
        check_records(tmp_path, ports)
        code, seconds = bridge.stop()
        assert code == 0, bridge.log
        assert seconds < 10
        eventually(lambda: publisher.heard("status")[-1]["online"] is False)
        late = stack.enter_context(Publisher(ports.mqtt))
        eventually(lambda: late.heard("status"))
        assert late.kept("status")
        assert late.heard("status")[-1]["online"] is False
    assert not any("Traceback" in line for line in bridge.log)


def check_records(folder: Path, ports: Ports) -> None:
    """Ask a running bridge's journal by the two commands."""
    listed = linegate(folder, "records", "list", **ports.settings)
    assert (listed.returncode, listed.stderr) == (0, "")
    rows = list(csv.DictReader(io.StringIO(listed.stdout), delimiter="\t"))
    found = [(row["sequence"], row["part_id"], row["verdict"]) for row in rows]
    assert found == [("8", "A-000008", "FAIL"), ("7", "A-000007", "PASS")]
    shown = linegate(folder, "records", "show", "A-000007", "--json", **ports.settings)
    assert (shown.returncode, shown.stderr) == (0, "")
    document = json.loads(shown.stdout)[0]["document"]
    assert (document["sequence"], document["verdict"], document["recipe"]) == (7, "PASS", "ball-screw@1")


# ---- what keeps it from starting -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[int, str, int]]]:
    """Start one bridge for each server whose port is in use, all at once: each tries for 3 s. Gives code, stderr, port."""
    started: dict[str, tuple[subprocess.Popen[str], int]] = {}
    with contextlib.ExitStack() as stack:
        for server in ("modbus", "opcua", "http"):
            folder, ports = tmp_path_factory.mktemp(server), Ports.free()
            write_project(folder)
            taken = stack.enter_context(socket.create_server(("127.0.0.1", getattr(ports, server))))
            process = subprocess.Popen(
                [*LINEGATE, "run"],
                cwd=folder,
                env=environment(**ports.settings),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.callback(process.kill)
            started[server] = (process, taken.getsockname()[1])
        ended = {}
        for server, (process, port) in started.items():
            _, errors = process.communicate(timeout=40)
            ended[server] = (process.returncode, errors, port)
    yield ended


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("server", "key"), [("modbus", "[modbus] port"), ("opcua", "[opcua] endpoint"), ("http", "http.port")]
)
def test_a_port_in_use_is_one_line_and_code_1(refusals: dict[str, tuple[int, str, int]], server: str, key: str) -> None:
    code, errors, port = refusals[server]
    lines = [line for line in errors.splitlines() if line.startswith("linegate: ")]
    assert (code, len(lines)) == (1, 1), errors
    assert str(port) in lines[0]
    assert key in lines[0]
    assert "in use" in lines[0]
    assert "internal fault" not in lines[0]
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("recipe", "code", "named"),
    [
        ('name = "gear"\nnumber = 2\nbundle = "gear-1.0.0"\n', 1, ["recipe gear", "gear-1.0.0"]),
        (None, 2, ["recipe = 'gear'", "recipes/gear.toml"]),
    ],
)
def test_a_missing_model_or_recipe_is_one_line(tmp_path: Path, recipe: str | None, code: int, named: list[str]) -> None:
    (tmp_path / "linegate.toml").write_text('[[stations]]\nrecipe = "gear"\n')
    (tmp_path / "recipes").mkdir()
    if recipe is not None:
        (tmp_path / "recipes" / "gear.toml").write_text(recipe)
    line = one_line(linegate(tmp_path, "run", **Ports.free().settings), code=code)
    for each in named:
        assert each in line


# ---- without a broker ------------------------------------------------------------------------------------------------


@pytest.mark.timeout(60)
def test_an_absent_broker_is_no_exit(tmp_path: Path) -> None:
    """The log-in comes from a file of secrets, and who may use Modbus from the environment."""
    (tmp_path / "linegate.toml").write_text('[mqtt]\nusername = "bridge"\n')
    (tmp_path / "secret").write_text("s3cret\n")
    (tmp_path / "broker").mkdir()
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-c", "-b", str(passwords), "bridge", "s3cret"], check=True, timeout=10)
    passwords.chmod(0o600)
    mosquitto = MosquittoBroker(tmp_path / "broker", extra=f"password_file {passwords}")
    rules = tmp_path / "broker" / "mosquitto.conf"
    rules.write_text(rules.read_text().replace("allow_anonymous true", "allow_anonymous false"))
    ports = Ports.free()
    ports.mqtt = mosquitto.port
    settings = {"mqtt__password_file": "secret", "modbus__allow": '["127.0.0.2", "10.0.0.0/8"]'}
    with contextlib.ExitStack() as stack:
        bridge = stack.enter_context(running(Bridge(folder=tmp_path, ports=ports, settings=settings)))
        eventually(lambda: bridge.told(LOST))
        status, text = eventually(lambda: (answer := bridge.get("/readyz"))[0] and answer)
        assert status == 503
        assert any("MQTT is not connected" in reason for reason in json.loads(text)["reasons"])
        assert bridge.get("/healthz")[0] == 200
        bits = status_bits(ports.modbus, source="127.0.0.2")
        assert bits is not None
        assert bits & 2 == 0, "Ready is off"
        assert status_bits(ports.modbus) is None, "an address that is not allowed"
        stack.callback(mosquitto.kill)
        mosquitto.start()
        bridge.wait_ready()
        assert eventually(lambda: status_bits(ports.modbus, source="127.0.0.2") or 0) & 2 == 2
        assert (bridge.told(LOST), bridge.told(RETURNED)) == (1, 1), bridge.log
        mosquitto.stop()
        eventually(lambda: bridge.told(LOST) == 2)
        code, seconds = bridge.stop()
        assert code == 0, bridge.log
        assert seconds < 10
