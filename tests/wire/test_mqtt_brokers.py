"""Brokers of other kinds: embedded, with TLS and log-in, and such as speak no MQTT at all."""

import asyncio
import contextlib
import datetime
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bridge.domain.messages import Arrival, Inbound, LinkChange
from bridge.errors import ConfigError
from bridge.inputs.mqtt import MqttLink
from bridge.inputs.mqtt_client import Broker
from bridge.inputs.mqtt_connection import backoff_s

TOPIC = "linegate/line1/station1/trigger"


class Inbox:
    def __init__(self) -> None:
        self.messages: list[Inbound] = []

    def post(self, message: Inbound) -> None:
        self.messages.append(message)

    def arrivals(self) -> list[Arrival]:
        return [message for message in self.messages if isinstance(message, Arrival)]


async def eventually(condition: Callable[[], Any], limit_s: float = 15.0) -> None:
    until = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        await asyncio.sleep(0.02)


def link_to(broker: Broker, inbox: Inbox) -> MqttLink:
    return MqttLink(line="line1", station="station1", broker=broker, inbox=inbox)


def self_signed(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


async def test_tls_and_log_in(mosquitto: Any, tmp_path: Path) -> None:
    mosquitto.stop()
    certificate, key = self_signed(tmp_path)
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-c", "-b", str(passwords), "bridge", "s3cret"], check=True)
    passwords.chmod(0o600)
    with (tmp_path / "mosquitto" / "mosquitto.conf").open("a") as file:
        file.write(f"certfile {certificate}\nkeyfile {key}\n")
    text = (tmp_path / "mosquitto" / "mosquitto.conf").read_text()
    text = text.replace("allow_anonymous true", f"allow_anonymous false\npassword_file {passwords}")
    (tmp_path / "mosquitto" / "mosquitto.conf").write_text(text)
    mosquitto.start()
    right = Broker(
        host="localhost", port=mosquitto.port, username="bridge", password="s3cret", tls_ca=certificate
    )  # fmt: skip
    wrong = Broker(host="localhost", port=mosquitto.port, username="bridge", password="guess", tls_ca=certificate)
    plain = Broker(host="localhost", port=mosquitto.port, username="bridge", password="s3cret")
    shut_out = [Inbox(), Inbox()]
    links = [link_to(wrong, shut_out[0]), link_to(plain, shut_out[1])]
    for link in links:
        link.start()
    await asyncio.sleep(1.0)
    for link in links:
        await link.stop()
    told = [[message.reason for message in inbox.messages if isinstance(message, LinkChange)] for inbox in shut_out]
    assert "see [mqtt] username" in told[0][0]
    assert "a TLS port while [mqtt] tls_ca is empty" in told[1][0]
    assert [len(inbox.messages) for inbox in shut_out] == [1, 1]
    inbox = Inbox()
    link = link_to(right, inbox)
    link.start()
    await eventually(lambda: link.subscribed)
    command = ["mosquitto_pub", "-h", "localhost", "-p", str(mosquitto.port), "--cafile", str(certificate), "-u",
               "bridge", "-P", "s3cret", "-q", "1", "-t", TOPIC, "-m", '{"sequence": 4}']  # fmt: skip
    subprocess.run(command, check=True, timeout=10)
    await eventually(lambda: [arrival.trigger.sequence for arrival in inbox.arrivals()] == [4])
    await link.stop()


async def test_an_absent_certificate_is_a_mistake_in_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tls_ca"):
        link_to(Broker(host="localhost", port=1, tls_ca=tmp_path / "absent.pem"), Inbox())


IOTCORE = """
id = 0
[router]
id = 0
max_connections = 100
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v5.1]
name = "v5"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = 16777216
max_inflight_count = 100
dynamic_filters = true
"""
EMBEDDED = "import sys, time, iotcore; iotcore.Broker(config_path=sys.argv[1]).start(); time.sleep(60)"


async def test_the_embedded_broker(unused_tcp_port: int, tmp_path: Path) -> None:
    (tmp_path / "broker.toml").write_text(IOTCORE.format(port=unused_tcp_port))
    child = subprocess.Popen(
        [sys.executable, "-c", EMBEDDED, str(tmp_path / "broker.toml")], stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        broker = Broker(host="127.0.0.1", port=unused_tcp_port)
        inbox = Inbox()
        link = link_to(broker, inbox)
        link.start()
        await eventually(lambda: link.subscribed)
        pub = ["mosquitto_pub", "-p", str(unused_tcp_port), "-V", "5", "-q", "1", "-t", TOPIC]
        subprocess.run([*pub, "-m", '{"sequence": 1}'], check=True, timeout=10)
        subprocess.run([*pub, "-m", '{"sequence": 2}'], check=True, timeout=10)
        await eventually(lambda: len(inbox.arrivals()) == 2)
        inbox.arrivals()[0].acknowledge()
        await asyncio.sleep(0.2)
        await link.stop()
        lines = "".join(f'{{"sequence": {sequence}}}\n' for sequence in range(3, 200))
        subprocess.run([*pub, "-l"], input=lines.encode(), check=True, timeout=10)
        again = Inbox()
        link = link_to(broker, again)
        link.start()
        # this broker sends again without DUP, lets another topic overtake, and hangs up on acknowledgements in disorder
        for count in range(198):
            await eventually(lambda count=count: len(again.arrivals()) > count)
            for arrival in reversed(again.arrivals()[count : count + 2]):
                arrival.acknowledge()
        await eventually(lambda: link.subscribed)
        subprocess.run([*pub, "-m", '{"sequence": 200}'], check=True, timeout=10)
        await eventually(lambda: len(again.arrivals()) == 199)
        assert [arrival.trigger.sequence for arrival in again.arrivals()] == list(range(2, 201))
        assert [arrival.trigger.backlog for arrival in again.arrivals()] == [True] * 198 + [False]
        await link.stop()
    finally:
        child.kill()
        child.wait(10)


CONNACK = b"\x20\x03\x00\x00\x00"
ANSWERS = [
    b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20\xff\xff\xff\xff\xff", CONNACK + b"\x32\x03\x00\x01\xff",
    CONNACK + b"\x32\x0a\x00\x01a\x00\x01\x09\x26\x00\x01\xff\x00", CONNACK + b"\xf0\x00", b"\x20\x03\x00\x87\x00",
    CONNACK + b"\x90\x04\x00\x01\x00\x99", CONNACK + b"\x30\x04\x00\x01\xff\x00", CONNACK + b"\xe0\x02\x8e\x00",
]  # fmt: skip


async def test_nothing_that_a_peer_sends_ends_the_link() -> None:
    seen = served = 0

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen, served
        answer = ANSWERS[seen % len(ANSWERS)]
        seen += 1
        with contextlib.suppress(OSError):  # the link may have hung up first: that is its right
            await reader.read(100)
            writer.write(answer)
            await asyncio.sleep(0.02)
            writer.close()
            await writer.wait_closed()
        served += 1

    inbox = Inbox()
    server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    links = [
        MqttLink(line="line1", station=f"station{n}", broker=Broker(host="127.0.0.1", port=port), inbox=inbox)
        for n in range(6)
    ]
    for link in links:
        link.start()
    await eventually(lambda: seen >= 2 * len(ANSWERS))
    assert LinkChange(link="mqtt", up=True) not in inbox.messages
    assert inbox.arrivals() == []
    assert len([thread for thread in threading.enumerate() if thread.name.startswith("mqtt-linegate")]) == len(links)
    for link in links:
        await link.stop()
    server.close()
    await server.wait_closed()
    await eventually(lambda: seen == served)


async def test_an_unreachable_broker_is_tried_until_it_is_there(mosquitto: Any) -> None:
    mosquitto.stop()
    inbox = Inbox()
    link = link_to(Broker(host="127.0.0.1", port=mosquitto.port), inbox)
    link.start()
    await asyncio.sleep(0.5)
    assert not link.subscribed
    mosquitto.start()
    await eventually(lambda: link.subscribed)
    await link.stop()
    never = link_to(Broker(host="127.0.0.1", port=1), Inbox())
    never.start()
    await never.stop()


def test_the_back_off_grows_to_five_seconds_and_no_further() -> None:
    longest = [backoff_s(attempt, jitter=1.0) for attempt in range(20)]
    shortest = [backoff_s(attempt, jitter=0.0) for attempt in range(20)]
    assert longest == sorted(longest)
    assert (longest[0], longest[-1], shortest[-1]) == (0.25, 5.0, 2.5)
    assert backoff_s(10**9, jitter=0.5) <= 5.0
