"""mosquitto of the profile `production`: TLS alone, a password for everybody, and each user's own rights."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator

import pytest

from tests.cli.processes import eventually
from tests.compose.containers import Containers, containers
from tests.compose.production import Member, make_secrets

STATION = "linegate/line1/station1/"
BY_THE_BRIDGE = ("verdict", "gate", "status", "alarm", "model", "deadletter", "reply/flows", "sync")
BY_THE_MACHINE = ("trigger", "speed", "encoder")
TOPICS = (*BY_THE_BRIDGE, *BY_THE_MACHINE, "command", "flows/shift", "nonsense")
MAY_PUBLISH = {
    "bridge": set(BY_THE_BRIDGE),
    "flows": {"command", "flows/shift"},
    "plc": set(BY_THE_MACHINE),
    "historian": set(),
    "viewer": set(),
    "health": set(),
}
MAY_HEAR = {
    "bridge": {*BY_THE_MACHINE, "command", "sync"},
    "flows": {*TOPICS} - {"nonsense"},
    "plc": {"verdict", "gate", "status", "alarm", "reply/flows"},
    "historian": {*TOPICS} - {"nonsense"},
    "viewer": {"verdict", "gate", "status", "alarm", "model"},
    "health": set(),
}


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    with containers(tmp_path_factory.mktemp("production"), profile="production") as services:
        make_secrets(services.secrets)
        services.start("mosquitto-tls")
        eventually(lambda: services.healthy("mosquitto-tls"))
        yield services


@pytest.mark.parametrize("user", MAY_PUBLISH)
def test_a_user_publishes_what_is_its_own_and_nothing_else(line: Containers, user: str) -> None:
    with Member(line, user) as member:
        assert {topic for topic in TOPICS if member.publish(STATION + topic)} == MAY_PUBLISH[user]
        assert not member.publish("elsewhere")
        assert not member.publish("$SYS/broker/version")


@pytest.mark.parametrize("user", MAY_HEAR)
def test_a_user_hears_what_concerns_it(line: Containers, user: str) -> None:
    with Member(line, user) as member:
        member.subscribe("#", "$SYS/broker/version")
        for name, topics in MAY_PUBLISH.items():
            if topics:
                with Member(line, name) as publisher:
                    for topic in topics:
                        assert publisher.publish(STATION + topic)
        heard = {STATION + topic for topic in MAY_HEAR[user]}
        version = {"$SYS/broker/version"} if user == "health" else set()
        eventually(lambda: set(member.heard) >= heard | version)
        time.sleep(0.2)  # whatever else may come
        assert set(member.heard) == heard | version


def test_a_speed_for_the_whole_line_is_the_machines(line: Containers) -> None:
    for user, may in {"plc": True, "flows": False, "bridge": False}.items():
        with Member(line, user) as member:
            assert {member.publish(f"linegate/line1/{topic}") for topic in ("speed", "encoder")} == {may}


@pytest.mark.parametrize(("user", "password"), [("", ""), ("bridge", "wrong"), ("nobody", "wrong")])
def test_nobody_gets_in_without_a_password(line: Containers, user: str, password: str) -> None:
    member = Member(line, "")
    if user:
        member.log_in_with(user, password)
    with member:
        assert member.refusal == "Not authorized"


def test_nothing_is_said_in_the_clear(line: Containers) -> None:
    connect = bytes.fromhex("100d00044d5154540502003c000000")
    with socket.create_connection(("127.0.0.1", line.ports[8883]), timeout=5) as plain:
        plain.sendall(connect)
        try:
            answer = plain.recv(64)
        except ConnectionResetError:
            answer = b""
        assert not answer.startswith(b"\x20")  # no CONNACK


@pytest.mark.parametrize(("name", "good"), [("mosquitto-tls", True), ("localhost", True), ("broker.elsewhere", False)])
def test_the_brokers_certificate_holds_for_its_own_names(line: Containers, name: str, good: bool) -> None:
    context = ssl.create_default_context(cafile=str(line.secrets / "ca_cert"))
    refusal = contextlib.nullcontext() if good else pytest.raises(ssl.SSLCertVerificationError)
    raw = socket.create_connection(("127.0.0.1", line.ports[8883]), timeout=5)
    with raw, refusal, context.wrap_socket(raw, server_hostname=name) as tls:
        assert tls.version() in {"TLSv1.2", "TLSv1.3"}


def test_the_health_check_fails_when_the_broker_is_gone(line: Containers) -> None:
    assert line.healthy("mosquitto-tls")
    line.kill("mosquitto-tls")
    assert not line.healthy("mosquitto-tls")
    line.start("mosquitto-tls")
    eventually(lambda: line.healthy("mosquitto-tls"))
