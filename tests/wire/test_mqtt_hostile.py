"""Publishers, rivals and brokers that mean harm or are set up wrongly: the link lives, and says what to do."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.domain.messages import LinkChange, Refused
from bridge.inputs.mqtt_client import Broker
from bridge.inputs.mqtt_losses import HUNG_UP, STEADY_S, Loss, LossLog
from tests.wire.bad_messages import DARK
from tests.wire.conftest import MosquittoBroker
from tests.wire.judging_bench import Bench, judging_bridge
from tests.wire.test_mqtt_brokers import self_signed
from tests.wire.test_mqtt_link import ROOT, Foreign, Inbox, eventually, link_to, wait_until

pytestmark = pytest.mark.soak

MIB = 2**20


# ---- publishers ----------------------------------------------------------------------------------------------------


async def test_a_message_that_the_library_can_not_read_is_no_poison(mosquitto: Any) -> None:
    """U+FEFF is legal in MQTT; paho hangs up on it, and the broker would send it again on every new connection."""
    inbox, sender = Inbox(), Foreign(mosquitto.port, topics=(ROOT + "deadletter",))
    link = link_to(mosquitto.port, inbox)
    link.start()
    await eventually(lambda: link.subscribed)
    sender.publish("trigger", {"sequence": 1}, UserProperty=[("note", "a\ufeffb")])
    sender.publish("trigger", DARK, ContentType="image/jpeg", UserProperty=[("sequence", "2"), ("note", "\ufeff")])
    sender.publish("trigger", {"sequence": 3}, ResponseTopic="answers/\ufeff")
    sender.publish("speed", {"mm_s": 7.0}, ContentType="\ufeff", qos=0)
    sender.publish("trigger", {"sequence": 4})
    await eventually(lambda: 4 in inbox.sequences())
    assert inbox.sequences() == [1, 3, 4]
    (refused,) = inbox.of(Refused)
    assert re.search("properties can't be read: .*FEFF.*; .*sequence is missing", refused.reason)
    await eventually(lambda: len(sender.documents("deadletter")) == 1)
    assert sender.documents("deadletter")[0]["why"] == refused.reason
    assert inbox.of(LinkChange) == [LinkChange(link="mqtt", up=True)]
    for arrival in inbox.arrivals():
        arrival.acknowledge()
    await link.stop()
    sender.close()
    again = Inbox()
    link = link_to(mosquitto.port, again)
    link.start()
    await eventually(lambda: link.subscribed)
    assert again.arrivals() == [], "all of them were acknowledged"
    await link.stop()


async def test_properties_of_every_size_are_read_or_left(mosquitto: Any) -> None:
    inbox, sender = Inbox(), Foreign(mosquitto.port)
    link = link_to(mosquitto.port, inbox)
    link.start()
    await eventually(lambda: link.subscribed)
    for properties in (
        {"UserProperty": [(f"name{n}", "x" * 100) for n in range(5_000)]},
        {"UserProperty": [("x" * 60_000, "y" * 60_000)]},
        {"ResponseTopic": "a" * 60_000, "CorrelationData": bytes(60_000)},
        {"PayloadFormatIndicator": 1, "ContentType": "z" * 60_000},
        {"MessageExpiryInterval": 2**32 - 1},
    ):
        sender.publish("trigger", {"sequence": len(inbox.arrivals())}, **properties)
        count = len(inbox.arrivals())
        await eventually(lambda count=count: len(inbox.arrivals()) > count)
    assert inbox.sequences() == [0, 1, 2, 3, 4]
    assert inbox.of(LinkChange) == [LinkChange(link="mqtt", up=True)]
    await link.stop()
    sender.close()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with judging_bridge(tmp_path_factory.mktemp("bridge")) as bench:
        yield bench


def resident_mib(pid: int, field: str = "VmRSS") -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def test_payloads_of_100_mb_stay_with_the_broker(bench: Bench, tmp_path: Path) -> None:
    """The broker drops what is over our largest packet; the gap in the sequence tells of the part that was in it."""
    bench.judges_on()
    before = resident_mib(bench.bridge.process.pid)
    huge = tmp_path / "huge.jpg"
    huge.write_bytes(DARK + bytes(100 * MIB))
    port = str(bench.bridge.ports.mqtt)
    send = ["mosquitto_pub", "-V", "5", "-p", port, "-q", "1", "-t", ROOT + "trigger", "-f", str(huge)]
    kind = ["-D", "PUBLISH", "content-type", "image/jpeg", "-D", "PUBLISH", "user-property", "sequence"]
    lost = [next(bench.sequences) for _ in range(3)]
    for sequence in lost:
        subprocess.run([*send, *kind, str(sequence)], check=True, timeout=20)
        bench.judges_on()
    assert resident_mib(bench.bridge.process.pid, "VmHWM") < before + 50
    assert bench.bridge.told("mqtt_lost") == 0
    assert bench.bridge.metrics()["linegate_missed_triggers_total"] == len(lost)
    assert bench.bridge.metrics()["linegate_stop_request"] == 1
    bench.clear()


def test_a_stream_of_messages_that_are_too_large_is_refused_message_by_message(bench: Bench, tmp_path: Path) -> None:
    """Up to twice the largest payload and 1 MB they come, and each part gets its ERROR."""
    before = resident_mib(bench.bridge.process.pid)
    large = bytes(DARK + bytes(1_200_000))
    for _ in range(30):
        sequence = next(bench.sequences)
        bench.publisher.send(large, content_type="image/jpeg", user_properties=[("sequence", str(sequence))])
        assert "max_payload_bytes" in bench.publisher.verdict_of(sequence)["reason"]
    bench.judges_on()
    assert resident_mib(bench.bridge.process.pid) < before + 50


# ---- rivals --------------------------------------------------------------------------------------------------------


@pytest.mark.soak
async def test_two_bridges_of_one_name_say_so_and_the_one_that_stays_recovers(
    mosquitto: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    inboxes = [Inbox(), Inbox()]
    links = [link_to(mosquitto.port, inbox) for inbox in inboxes]
    for link in links:
        link.start()
    taken = "another client seems to use our client id linegate-line1-station1: stop it, or give"
    await eventually(lambda: all(any(taken in change.reason for change in i.of(LinkChange)) for i in inboxes), 25)
    assert capsys.readouterr().out.count("mqtt_client_id_taken") == 2
    await asyncio.sleep(3)
    quiet = capsys.readouterr().out
    assert "mqtt_lost" not in quiet
    assert "mqtt_connected" not in quiet
    await links[1].stop()
    await eventually(lambda: links[0].subscribed)
    sender = Foreign(mosquitto.port)
    sender.publish("trigger", {"sequence": 1})
    await eventually(lambda: 1 in inboxes[0].sequences())
    sender.close()
    await links[0].stop()


CONNACK, SUBACK, TAKEN = b"\x20\x03\x00\x00\x00", b"\x90\x0a\x00\x01\x00" + b"\x01" * 7, b"\xe0\x02\x8e\x00"


async def test_a_broker_that_tells_of_the_takeover_is_believed_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read(1000)
        writer.write(CONNACK)
        await reader.read(1000)
        writer.write(SUBACK)
        await asyncio.sleep(0.1)
        writer.write(TAKEN)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    inbox = Inbox()
    link = link_to(server.sockets[0].getsockname()[1], inbox)
    link.start()
    await eventually(lambda: inbox.of(LinkChange))
    assert "another client uses our client id linegate-line1-station1" in inbox.of(LinkChange)[0].reason
    await asyncio.sleep(2)
    assert connections <= 2, "nobody is thrown out in haste"
    assert capsys.readouterr().out.count("mqtt_client_id_taken") == 1
    await link.stop()
    server.close()
    await server.wait_closed()


def test_a_connection_that_lasts_ends_the_rivalry(capsys: pytest.CaptureFixture[str]) -> None:
    log = LossLog(Broker(host="plant", port=1883), client_id="linegate-a-b")
    hung_up = Loss(reason=HUNG_UP)
    log.stands(resumed=False)
    assert log.lost(hung_up, stood_s=STEADY_S + 1) == HUNG_UP
    log.stands(resumed=True)
    assert log.lost(hung_up, stood_s=0.5) == HUNG_UP
    log.stands(resumed=True)
    assert "seems to use" in log.lost(hung_up, stood_s=0.5)
    assert log.rival
    capsys.readouterr()
    log.stands(resumed=True)
    log.lasts(STEADY_S - 1)
    assert (log.rival, capsys.readouterr().out) == (True, "")
    log.lasts(STEADY_S)
    assert (log.rival, capsys.readouterr().out.count("mqtt_connected")) == (False, 1)
    # a broker that restarts is no rival
    for _ in range(5):
        log.lost(hung_up, stood_s=0.5)
        log.lost(Loss(reason="nobody listens"), stood_s=None)
        log.stands(resumed=True)
    assert not log.rival


# ---- brokers that let nobody in --------------------------------------------------------------------------------------


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[tuple[MosquittoBroker, Path]]:
    """A broker with TLS for `localhost` and one user; gives its certificate too."""
    certificate, key = self_signed(tmp_path)
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-c", "-b", str(passwords), "bridge", "s3cret"], check=True)
    passwords.chmod(0o600)
    folder = tmp_path / "guarded"
    folder.mkdir()
    broker = MosquittoBroker(folder, extra=f"certfile {certificate}\nkeyfile {key}\npassword_file {passwords}")
    text = (folder / "mosquitto.conf").read_text().replace("allow_anonymous true", "allow_anonymous false")
    (folder / "mosquitto.conf").write_text(text)
    broker.start()
    yield broker, certificate
    broker.kill()


async def test_every_way_to_be_shut_out_is_one_line_that_says_what_to_do(
    guarded: tuple[MosquittoBroker, Path], mosquitto: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    unused_tcp_port: int,
) -> None:  # fmt: skip
    broker, ours = guarded
    (tmp_path / "other").mkdir()
    stranger, _ = self_signed(tmp_path / "other")
    login: dict[str, Any] = {"username": "bridge", "password": "s3cret"}
    cases = {
        r"see \[mqtt\] username and password": Broker(
            host="localhost", port=broker.port, username="bridge", password="guess", tls_ca=ours
        ),
        r"refuses: not authorized": Broker(host="localhost", port=broker.port, tls_ca=ours),
        r"tls_ca = '.*other/cert.pem' has not signed the broker's certificate": Broker(
            host="localhost", port=broker.port, tls_ca=stranger, **login
        ),
        r"certificate is not for '127.0.0.1': set \[mqtt\] host": Broker(
            host="127.0.0.1", port=broker.port, tls_ca=ours, **login
        ),
        r"a TLS port while \[mqtt\] tls_ca is empty": Broker(host="localhost", port=broker.port, **login),
        r"no TLS at this port": Broker(host="localhost", port=mosquitto.port, tls_ca=ours),
        r"nobody listens at 127.0.0.1:\d+: is the broker running": Broker(host="127.0.0.1", port=unused_tcp_port),
        r"'broker.invalid' can't be resolved: see \[mqtt\] host": Broker(host="broker.invalid", port=1883),
    }
    inboxes = [Inbox() for _ in cases]
    links = [link_to(0, inbox, broker=each) for inbox, each in zip(inboxes, cases.values(), strict=True)]
    for link in links:
        link.start()
    await eventually(lambda: all(inbox.messages for inbox in inboxes))
    await asyncio.sleep(1.5)
    for words, inbox in zip(cases, inboxes, strict=True):
        (change,) = inbox.of(LinkChange)
        assert not change.up
        assert re.search(words, change.reason), change.reason
    for link in links:
        await link.stop()
    told = capsys.readouterr().out
    assert told.count("mqtt_lost") == len(cases)
    assert "Traceback" not in told
    assert "s3cret" not in told


async def test_a_broker_that_comes_back_with_another_password_is_told_of_once_more(
    mosquitto: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inbox = Inbox()
    link = link_to(mosquitto.port, inbox)
    link.start()
    await eventually(lambda: link.subscribed)
    mosquitto.stop()
    config = tmp_path / "mosquitto" / "mosquitto.conf"
    config.write_text(config.read_text().replace("allow_anonymous true", "allow_anonymous false"))
    mosquitto.start()
    told = ""
    for _ in range(600):
        told += capsys.readouterr().out
        if "mqtt_refused" in told:
            break
        await asyncio.sleep(0.02)
    assert (told.count("mqtt_lost"), told.count("mqtt_refused")) == (1, 1)
    assert "see [mqtt] username" in told
    await link.stop()


async def test_a_broker_of_mqtt_3_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"\x20\x02\x00\x01")
        writer.close()

    server = await asyncio.start_server(old, "127.0.0.1", 0)
    inbox = Inbox()
    link = link_to(server.sockets[0].getsockname()[1], inbox)
    link.start()
    await eventually(lambda: inbox.messages)
    assert "MQTT 5" in inbox.of(LinkChange)[0].reason
    await link.stop()
    server.close()
    await server.wait_closed()


@pytest.mark.soak
def test_the_alarm_tells_the_reason(bench: Bench) -> None:
    """An operator sees BROKER_LOST with what to do, in the answer of readiness and on topic `alarm`."""
    watcher = Foreign(bench.bridge.ports.mqtt, topics=(ROOT + "alarm",))
    thief = Foreign(bench.bridge.ports.mqtt, client_id="linegate-line1-station1")
    thief.client.reconnect_delay_set(1, 1)

    def told() -> list[dict[str, Any]]:
        return [alarm for alarm in watcher.documents("alarm") if "another client seems to use" in alarm["text"]]

    wait_until(lambda: bool(told()), 20)
    found = told()
    thief.close()
    watcher.close()
    assert (found[0]["name"], found[0]["code"]) == ("BROKER_LOST", 23)
    bench.bridge.wait_ready()
    bench.judges_on()
