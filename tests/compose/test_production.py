"""The profile `production` run: bridge, TLS broker, PostgreSQL and Prometheus, as docker-compose.yml has them."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import itertools
import json
import math
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncua.ua
import psycopg
import pytest
from asyncua import Client
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.cli.processes import PICTURES, eventually
from tests.compose.boards import RULES, expressions
from tests.compose.containers import SBIN, Containers, containers
from tests.compose.production import Member, make_database, make_secrets
from tests.records.servers import PostgresServer, postgres_server
from tests.wire.opcua_clients import Pair, make_pair

pytestmark = [pytest.mark.timeout(240), pytest.mark.soak]
STATION = "linegate/line1/station1/"
PARTS = 16
BRIDGE = "bridge-production"


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Containers]:
    """Start the bridge before everything that it needs, and see it become healthy when that comes."""
    with containers(tmp_path_factory.mktemp("production"), profile="production") as services:
        services.ports[5432] = postgres.port
        make_secrets(services.secrets)
        # A gate of the bridge's own, so that there is a gate error to see, and a belt that needs no PLC.
        gate = {"mode": "bridge", "host": "127.0.0.1", "port": services.ports[5021]}
        services.settings[BRIDGE] = {
            "LINEGATE_BELT__SPEED_SOURCE": "fixed", "LINEGATE_BELT__SPEED_MM_S": "400",
            "LINEGATE_STATIONS": json.dumps([{"gate": gate}]),
        }  # fmt: skip
        services.start(BRIDGE)
        assert services.processes[BRIDGE].wait(60) == 1  # the engine starts it anew until it can log in
        assert "records.url: can't use" in services.log(BRIDGE)
        done = make_database(postgres, services.secrets)
        assert (done.returncode, done.stderr) == (0, "")
        services.start(BRIDGE)
        eventually(lambda: "mqtt_lost" in services.log(BRIDGE), limit_s=60)
        assert not services.healthy(BRIDGE)
        with io_module(services):
            services.start("mosquitto-tls")
            try:
                eventually(lambda: services.healthy(BRIDGE), limit_s=60)
            except AssertionError as exc:
                raise AssertionError(services.log(BRIDGE)[-3000:]) from exc
            yield services


@contextlib.contextmanager
def io_module(line: Containers) -> Iterator[None]:
    """Run the simulated conveyor for its Modbus I/O alone: the gate's coil."""
    words = ["--host", "127.0.0.1", "--port", str(line.ports[5021]), "--mqtt-port", str(line.ports[1883])]
    start = line.command(BRIDGE)[: -len(line.services[BRIDGE]["command"])]
    with (
        (line.folder / "io.log").open("wb") as log,
        subprocess.Popen([*start, "simulate", "conveyor", *words], stdout=log, stderr=log) as io,
    ):
        try:
            yield
        finally:
            io.send_signal(signal.SIGTERM)


def send(machine: Member, sequence: int, picture: bytes) -> None:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ContentType = "image/jpeg"
    properties.UserProperty = [("sequence", str(sequence))]
    assert machine.publish(f"{STATION}trigger", picture, properties=properties)


@pytest.fixture(scope="module")
def judged(line: Containers) -> list[str]:
    """Send parts as the machine; gives the topics on which a viewer heard of them."""
    pictures = [sorted((PICTURES / name).glob("*.jpg"))[0].read_bytes() for name in ("good", "pitting")]
    with Member(line, "viewer") as viewer, Member(line, "plc") as machine:
        viewer.subscribe(f"{STATION}#")
        for sequence in range(1, PARTS + 1):
            send(machine, sequence, pictures[sequence % 2])
            time.sleep(0.35)
        eventually(lambda: viewer.heard.count(f"{STATION}verdict") == PARTS)
        return list(viewer.heard)


def database(line: Containers, user: str) -> psycopg.Connection[tuple[Any, ...]]:
    password = (line.secrets / f"postgres_{user}_password").read_text()
    return psycopg.connect(
        host="127.0.0.1", port=line.ports[5432], user=user, password=password, dbname="linegate", autocommit=True
    )


def test_the_bridge_may_do_all_that_it_does_at_the_broker(line: Containers, judged: list[str]) -> None:
    assert judged.count(f"{STATION}verdict") == PARTS
    assert {f"{STATION}{topic}" for topic in ("status", "gate", "model")} <= set(judged)
    assert f"{STATION}trigger" not in judged
    denied = [row for row in line.log("mosquitto-tls").splitlines() if "Denied" in row and "linegate-line1" in row]
    assert denied == []


def test_verdicts_are_in_postgresql_and_the_reader_only_reads(line: Containers, judged: list[str]) -> None:
    query = "SELECT verdict, count(*) FROM verdicts WHERE station = 'station1' GROUP BY verdict"
    with database(line, "reader") as reader:
        eventually(lambda: sum(count for _, count in reader.execute(query)) == PARTS)
        assert {"PASS"} < dict(reader.execute(query).fetchall()).keys()
        for writes in ("DELETE FROM verdicts", "CREATE TABLE mine (x int)"):
            with pytest.raises(psycopg.errors.Error):
                reader.execute(writes)
        reader.execute("SET default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("DELETE FROM verdicts")
    assert len(judged) > PARTS


def test_no_secret_is_told_by_anybody(line: Containers, judged: list[str]) -> None:
    words = [file.read_text() for file in line.secrets.glob("*_password")]
    for service in (BRIDGE, "mosquitto-tls"):
        assert [word for word in words if word in line.log(service)] == []
    for process in line.processes.values():
        given = Path(f"/proc/{process.pid}/environ").read_text() + Path(f"/proc/{process.pid}/cmdline").read_text()
        assert [word for word in words if word in given] == []
    assert judged


async def test_flows_log_in_to_opc_ua_with_a_certificate_that_was_trusted(line: Containers, tmp_path: Path) -> None:
    pki = line.folder / "production-records" / "pki"
    pair = make_pair(tmp_path, name="flows")
    with pytest.raises(asyncua.ua.UaError):
        async with opcua_client(line, pair, "flows"):
            pass
    (refused,) = eventually(lambda: list((pki / "rejected").glob("*.der")))
    (pki / "trusted" / "certs").mkdir(parents=True, exist_ok=True)
    shutil.move(refused, pki / "trusted" / "certs" / refused.name)
    until = time.monotonic() + 15
    while True:
        try:
            async with opcua_client(line, pair, "flows") as client:
                assert await client.get_node("ns=2;s=line1.station1.Status.State").read_value() != ""
        except asyncua.ua.UaError:
            assert time.monotonic() < until
            await asyncio.sleep(0.5)
        else:
            return


@contextlib.asynccontextmanager
async def opcua_client(line: Containers, pair: Pair, user: str) -> AsyncIterator[Client]:
    client = Client(f"opc.tcp://127.0.0.1:{line.ports[4840]}/linegate/", timeout=4)
    client.application_uri = pair.uri
    client.set_user(user)
    client.set_password((line.secrets / f"opcua_{user}_password").read_text())
    await client.set_security(SecurityPolicyBasic256Sha256, *pair.files)
    async with client:
        yield client


def test_modbus_by_tls_asks_for_a_certificate_of_the_authority(line: Containers) -> None:
    known, unknown = (ssl.create_default_context(cafile=str(line.secrets / "ca_cert")) for _ in range(2))
    known.load_cert_chain(line.secrets / "plc_cert", line.secrets / "plc_key")
    assert modbus_answer(line.ports[802], known)[7:9] == bytes.fromhex("0406")
    assert modbus_answer(line.ports[802], unknown) == b""


def modbus_answer(port: int, context: ssl.SSLContext) -> bytes:
    """Ask for three input registers by TLS; empty when the server hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
        try:
            with context.wrap_socket(raw, server_hostname=BRIDGE) as tls:
                tls.sendall(bytes.fromhex("000100000006010400000003"))
                return tls.recv(64)
        except (ssl.SSLError, ConnectionResetError):
            return b""


@pytest.fixture(scope="module")
def prometheus(line: Containers, judged: list[str]) -> Iterator[str]:
    """Start Prometheus with the shipped files; it looks each second, and parts have come before and come meanwhile."""
    if shutil.which("prometheus", path=SBIN) is None:
        pytest.skip("Prometheus is not installed: apt-get install --no-install-recommends prometheus")
    assert not line.healthy("prometheus")
    line.start("prometheus")
    eventually(lambda: line.healthy("prometheus"))
    return f"http://127.0.0.1:{line.ports[9090]}"


def ask(prometheus: str, path: str, **query: str) -> Any:
    with urllib.request.urlopen(f"{prometheus}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
        document = json.load(answer)
    assert document["status"] == "success"
    return document["data"]


def found(prometheus: str, expression: str) -> list[float]:
    """Give the values of an expression's series, as far as they are numbers."""
    values = (float(series["value"][1]) for series in ask(prometheus, "query", query=expression)["result"])
    return [value for value in values if math.isfinite(value)]


def test_every_panel_of_the_board_shows_something(line: Containers, prometheus: str) -> None:
    pictures = [sorted((PICTURES / name).glob("*.jpg"))[0].read_bytes() for name in ("good", "pitting")]
    empty = dict(expressions("1m"))
    until = time.monotonic() + 120
    with Member(line, "plc") as machine:
        for sequence in itertools.count(1000):
            send(machine, sequence, pictures[sequence % 2])
            time.sleep(0.4)
            if sequence % 10 == 0:
                empty = {name: asked for name, asked in empty.items() if not found(prometheus, asked)}
            if not empty:
                break
            assert time.monotonic() < until, empty
    (target,) = [each for each in ask(prometheus, "targets")["activeTargets"] if each["labels"]["job"] == "linegate"]
    assert (target["health"], target["lastError"]) == ("up", "")


def test_every_alert_is_evaluated_without_an_error(prometheus: str) -> None:
    def rules() -> list[dict[str, Any]]:
        return [rule for group in ask(prometheus, "rules")["groups"] for rule in group["rules"]]

    eventually(lambda: all(rule["health"] == "ok" for rule in rules()))
    assert len(rules()) == len(RULES)


def test_the_bridges_health_follows_the_broker_and_returns_by_itself(line: Containers) -> None:
    assert line.healthy(BRIDGE)
    line.kill("mosquitto-tls")
    eventually(lambda: not line.healthy(BRIDGE))
    assert line.check(line.image.healthcheck, BRIDGE)  # it lives: no reason to start it anew
    line.start("mosquitto-tls")
    eventually(lambda: line.healthy(BRIDGE))


def test_the_databases_health_check_follows_the_server(line: Containers, postgres: PostgresServer) -> None:
    assert line.healthy("postgres")
    postgres.crash()
    assert not line.healthy("postgres")
    with Member(line, "viewer") as viewer, Member(line, "plc") as machine:
        viewer.subscribe(f"{STATION}verdict")
        send(machine, 5000, sorted((PICTURES / "good").glob("*.jpg"))[0].read_bytes())
        eventually(lambda: viewer.heard)  # judged all the same
    postgres.start()
    eventually(lambda: line.healthy("postgres"))
    with database(line, "reader") as reader:
        eventually(lambda: reader.execute("SELECT 1 FROM verdicts WHERE sequence = 5000").fetchone())
    eventually(lambda: line.healthy(BRIDGE))


def test_a_bridge_that_is_gone_is_told_of(line: Containers, prometheus: str) -> None:
    assert line.stop(BRIDGE) == 0
    assert not line.healthy(BRIDGE)
    eventually(lambda: found(prometheus, 'ALERTS{alertname="LinegateDown"}'))
    assert line.stop("prometheus") == 0
    assert not line.healthy("prometheus")


class Health(http.server.BaseHTTPRequestHandler):
    """Answers as Grafana's /api/health does, well or not."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(type(self).status if self.path == "/api/health" else 404)
        self.end_headers()

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


def test_grafanas_health_check_tells_good_from_bad(line: Containers) -> None:
    words = line.services["grafana"]["healthcheck"]["test"][1:]
    with http.server.HTTPServer(("127.0.0.1", 0), Health) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = [word.replace(":3000/", f":{server.server_port}/") for word in words]
        for status, good in ((200, True), (503, False)):
            Health.status = status
            assert (subprocess.run(here, timeout=10, check=False).returncode == 0) is good
        server.shutdown()
    assert subprocess.run(here, timeout=10, check=False).returncode != 0
