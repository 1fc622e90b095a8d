"""A station's MQTT link against mosquitto, from the outside: foreign publishers, restarts, kills, takeovers."""

import asyncio
import base64
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bridge.domain.messages import (
    Arrival,
    Command,
    EncoderSample,
    Inbound,
    LinkChange,
    Refused,
    Reply,
    SpeedSample,
)
from bridge.domain.part import InlineImage, ReplyTo
from bridge.domain.report import encode, offline_document
from bridge.domain.rfc3339 import format_utc
from bridge.inputs.mqtt import MqttLink
from bridge.inputs.mqtt_client import Broker

ROOT = "linegate/line1/station1/"
JPEG = b"\xff\xd8\xff\xe0 picture \xff\xd9"


class Inbox:
    def __init__(self) -> None:
        self.messages: list[Inbound] = []

    def post(self, message: Inbound) -> None:
        self.messages.append(message)

    def arrivals(self) -> list[Arrival]:
        return [message for message in self.messages if isinstance(message, Arrival)]

    def sequences(self) -> list[int]:
        return [arrival.trigger.sequence for arrival in self.arrivals()]

    def of(self, kind: type[Any]) -> list[Any]:
        return [message for message in self.messages if isinstance(message, kind)]


class Foreign:
    """Somebody else's client: publishes with any properties, and collects what it subscribed to."""

    def __init__(self, port: int, *, client_id: str = "", topics: tuple[str, ...] = (), session_s: int = 0) -> None:
        self.received: list[MQTTMessage] = []
        self.client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv5)
        self.client.on_connect = lambda client, *_: self._listen(client, topics)
        self.client.on_message = lambda _client, _userdata, message: self.received.append(message)
        ready: list[int] = []
        self.client.on_subscribe = lambda *_: ready.append(1)
        kept = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        kept.SessionExpiryInterval = session_s
        self.client.connect("127.0.0.1", port, clean_start=session_s == 0, properties=kept)
        self.client.loop_start()
        wait_until(lambda: self.client.is_connected() and len(ready) >= len(topics))

    @staticmethod
    def _listen(client: Client, topics: tuple[str, ...]) -> None:
        for topic in topics:
            client.subscribe(topic, qos=1)

    def publish(self, suffix: str, payload: Any, *, retain: bool = False, qos: int = 1, **properties: Any) -> None:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        extra = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        for name, value in properties.items():
            setattr(extra, name, value)
        topic = suffix if "/" in suffix else ROOT + suffix
        self.client.publish(topic, data, qos=qos, retain=retain, properties=extra).wait_for_publish(5)

    def documents(self, suffix: str) -> list[dict[str, Any]]:
        return [json.loads(message.payload) for message in self.received if message.topic == ROOT + suffix]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def wait_until(condition: Callable[[], bool], limit_s: float = 10.0) -> None:
    until = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


async def eventually(condition: Callable[[], Any], limit_s: float = 10.0) -> None:
    until = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        await asyncio.sleep(0.01)


def link_to(port: int, inbox: Inbox, **options: Any) -> MqttLink:
    broker = options.pop("broker", None) or Broker(host="127.0.0.1", port=port)
    return MqttLink(line="line1", station="station1", broker=broker, inbox=inbox, **options)


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
async def link(mosquitto: Any, inbox: Inbox) -> AsyncIterator[MqttLink]:
    link = link_to(mosquitto.port, inbox, max_payload_bytes=200_000)
    link.start()
    await eventually(lambda: link.subscribed)
    yield link
    await link.stop()


@pytest.fixture
def foreign(mosquitto: Any) -> Iterator[Foreign]:
    client = Foreign(mosquitto.port, topics=(ROOT + "#", "answers/#"))
    yield client
    client.close()


def mosquitto_pub(port: int, topic: str, *options: str, stdin: bytes | None = None) -> None:
    command = ["mosquitto_pub", "-p", str(port), "-V", "5", "-q", "1", "-t", topic, *options]
    subprocess.run(command, input=stdin, check=True, timeout=10)


async def test_both_forms_of_a_trigger(mosquitto: Any, link: MqttLink, inbox: Inbox) -> None:
    image = {"media_type": "image/jpeg", "data": base64.b64encode(JPEG).decode()}
    mosquitto_pub(mosquitto.port, ROOT + "trigger", "-m", json.dumps({"sequence": 1, "part_id": "A", "image": image}))
    properties = [word for name, value in (("sequence", "2"), ("part_id", "B"), ("encoder", "77"))
                  for word in ("-D", "PUBLISH", "user-property", name, value)]  # fmt: skip
    content_type = ("-D", "PUBLISH", "content-type", "image/jpeg")
    mosquitto_pub(mosquitto.port, ROOT + "trigger", "-s", *content_type, *properties, stdin=JPEG)
    mosquitto_pub(mosquitto.port, ROOT + "trigger", "-m", '{"sequence": 3}', "-q", "0")
    await eventually(lambda: len(inbox.arrivals()) == 3)
    first, second, third = (arrival.trigger for arrival in inbox.arrivals())
    assert (first.sequence, first.part_id) == (1, "A")
    assert (second.sequence, second.part_id, second.encoder_counts) == (2, "B", 77)
    assert first.image == second.image == InlineImage(media_type="image/jpeg", data=JPEG)
    assert (third.sequence, third.part_id, third.image) == (3, "3", None)
    assert not any(arrival.trigger.backlog for arrival in inbox.arrivals())
    for arrival in inbox.arrivals():
        arrival.acknowledge()
    assert link.dead_letters == 0


async def test_dead_letters_and_life_after_them(link: MqttLink, inbox: Inbox, foreign: Foreign) -> None:
    unreadable = [
        b"", b"no JSON", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 30_000, b"x" * 200_001, b'{"sequence": -1}',
        b'{"sequence": 1e99}', b'{"sequence": 1.5}', b'{"sequence": true}', b'{"sequence": NaN}', b"{}", b"[1]",
    ]  # fmt: skip
    legible = [
        b'{"sequence": 7, "part_id": "' + b"x" * 10_000 + b'"}', b'{"sequence": 8, "length_mm": NaN}',
        b'{"sequence": 9, "ts": "now"}', b'{"sequence": 10, "image": {"media_type": "image/jpeg", "data": "?"}}',
    ]  # fmt: skip
    for payload in (*unreadable, *legible):
        foreign.publish("trigger", payload)
    foreign.publish("trigger", {"sequence": 11})
    await eventually(lambda: inbox.sequences()[-1:] == [11])
    assert inbox.sequences() == [7, 8, 9, 10, 11]
    assert [arrival.trigger.problem is not None for arrival in inbox.arrivals()] == [True] * 4 + [False]
    assert len(inbox.of(Refused)) == len(unreadable)
    letters = len(unreadable) + len(legible)
    await eventually(lambda: len(foreign.documents("deadletter")) == letters)
    documents = foreign.documents("deadletter")
    assert [document["count"] for document in documents] == list(range(1, letters + 1))
    for document, payload in zip(documents, (*unreadable, *legible), strict=True):
        assert document["topic"] == ROOT + "trigger"
        assert document["why"]
        assert (document["size"], base64.b64decode(document["head"])) == (len(payload), payload[:256])
    assert link.dead_letters == letters


async def test_unacknowledged_triggers_come_back(mosquitto: Any, link: MqttLink, inbox: Inbox) -> None:
    sender = Foreign(mosquitto.port)
    for sequence in (1, 2, 3):
        sender.publish("trigger", {"sequence": sequence})
    await eventually(lambda: inbox.sequences() == [1, 2, 3])
    first_life = inbox.arrivals()
    first_life[0].acknowledge()
    await asyncio.sleep(0.2)
    sender.close()
    mosquitto.stop()
    await eventually(lambda: inbox.of(LinkChange)[-1] == LinkChange(link="mqtt", up=False))
    assert not link.subscribed
    mosquitto.start()
    await eventually(lambda: inbox.sequences() == [1, 2, 3, 2, 3] and link.subscribed)
    assert [arrival.trigger.backlog for arrival in inbox.arrivals()] == [False, False, False, True, True]
    await eventually(lambda: link.subscribed)
    # too late: these belong to the connection that is gone, and message ids have been given anew since
    for arrival in first_life:
        arrival.acknowledge()
    await asyncio.sleep(0.2)
    mosquitto.stop()
    mosquitto.start()
    await eventually(lambda: inbox.sequences() == [1, 2, 3, 2, 3, 2, 3])
    for arrival in inbox.arrivals()[-2:]:
        arrival.acknowledge()
    await eventually(lambda: link.subscribed)
    sender = Foreign(mosquitto.port)
    sender.publish("trigger", {"sequence": 4})
    await eventually(lambda: inbox.sequences()[-1] == 4)
    assert not inbox.arrivals()[-1].trigger.backlog
    sender.close()


async def test_backlog_ends_with_the_marker(mosquitto: Any, foreign: Foreign) -> None:
    first = link_to(mosquitto.port, Inbox())
    first.start()
    await eventually(lambda: first.subscribed)
    await first.stop()
    fresh = encode({"mm_s": 900.0, "ts": format_utc(time.time_ns() - 20_000_000_000)})
    for sequence in range(30):
        foreign.publish("trigger", {"sequence": sequence})
    foreign.publish("encoder", {"counts": 5})
    foreign.publish("speed", fresh.encode(), retain=True)
    foreign.publish("command", {"command": "disable"}, ResponseTopic="answers/kept")
    inbox = Inbox()
    second = link_to(mosquitto.port, inbox)
    second.start()
    await eventually(lambda: len(inbox.arrivals()) >= 20)
    # the broker holds back the rest until these are safe
    for count in range(30):
        await eventually(lambda count=count: len(inbox.arrivals()) > count)
        inbox.arrivals()[count].acknowledge()
    await eventually(lambda: second.subscribed)
    foreign.publish("trigger", {"sequence": 30})
    foreign.publish("encoder", {"counts": 6})
    await eventually(lambda: len(inbox.arrivals()) == 31 and inbox.of(EncoderSample))
    assert inbox.sequences() == list(range(31))
    assert [arrival.trigger.backlog for arrival in inbox.arrivals()] == [True] * 30 + [False]
    assert [sample.counts for sample in inbox.of(EncoderSample)] == [6]
    (speed,) = inbox.of(SpeedSample)
    assert time.monotonic_ns() - speed.at_ns > 19_000_000_000
    assert inbox.of(Command) == []
    answers = [json.loads(message.payload) for message in foreign.received if message.topic == "answers/kept"]
    assert [answer["ok"] for answer in answers] == [False]
    await second.stop()


async def test_a_first_session_has_no_backlog(mosquitto: Any, inbox: Inbox, foreign: Foreign) -> None:
    link = link_to(mosquitto.port, inbox)
    link.start()
    await eventually(lambda: link.subscribed)
    foreign.publish("trigger", {"sequence": 1})
    await eventually(lambda: inbox.sequences() == [1])
    assert not inbox.arrivals()[0].trigger.backlog
    await link.stop()


async def test_retained_triggers_are_refused(mosquitto: Any, inbox: Inbox, foreign: Foreign) -> None:
    foreign.publish("trigger", {"sequence": 1}, retain=True)
    link = link_to(mosquitto.port, inbox)
    link.start()
    await eventually(lambda: len(foreign.documents("deadletter")) == 1)
    assert "retained" in foreign.documents("deadletter")[0]["why"]
    await eventually(lambda: link.subscribed)
    assert (inbox.arrivals(), inbox.of(Refused)) == ([], [])
    foreign.publish("trigger", {"sequence": 2}, retain=True)
    await eventually(lambda: len(foreign.documents("deadletter")) == 2)
    assert (len(inbox.arrivals()), len(inbox.of(Refused))) == (0, 1)
    await link.stop()


async def test_speed_and_encoder_of_station_and_line(mosquitto: Any, inbox: Inbox, foreign: Foreign) -> None:
    foreign.publish("linegate/line1/speed", {"mm_s": 1.0}, retain=True)
    old = format_utc(time.time_ns() - 60_000_000_000)
    foreign.publish("speed", {"mm_s": 2.0, "ts": old}, retain=True)
    link = link_to(mosquitto.port, inbox)
    link.start()
    await eventually(lambda: inbox.of(SpeedSample))
    foreign.publish("linegate/line1/speed", {"mm_s": 3.0})
    foreign.publish("linegate/line1/encoder", {"counts": 4})
    foreign.publish("encoder", {"counts": 5})
    foreign.publish("speed", {"mm_s": "fast"})
    await eventually(lambda: len(inbox.of(EncoderSample)) == 2 and len(inbox.of(SpeedSample)) == 2)
    aged, live = inbox.of(SpeedSample)
    assert (aged.mm_s, live.mm_s) == (2.0, 3.0)
    assert live.at_ns - aged.at_ns > 50_000_000_000
    assert [sample.counts for sample in inbox.of(EncoderSample)] == [4, 5]
    await eventually(lambda: [letter["topic"] for letter in foreign.documents("deadletter")] == [ROOT + "speed"])
    await link.stop()


async def test_commands_are_answered(link: MqttLink, inbox: Inbox, foreign: Foreign) -> None:
    answer: dict[str, Any] = {"ResponseTopic": "answers/7", "CorrelationData": b"\x00\xff"}
    foreign.publish("command", {"command": "explode"}, **answer)
    foreign.publish("command", {"command": "select-recipe"}, **answer)
    stale = format_utc(time.time_ns() - 6_000_000_000)
    foreign.publish("command", {"command": "enable", "ts": stale}, **answer)
    foreign.publish(
        "command", {"command": "select-recipe", "recipe": "bracket-a", "ts": format_utc(time.time_ns())}, **answer
    )
    await eventually(lambda: inbox.of(Command))
    (command,) = inbox.of(Command)
    assert (command.name, command.recipe, command.origin) == ("select-recipe", "bracket-a", "mqtt")
    command.respond(Reply(ok=True))
    await eventually(lambda: len([m for m in foreign.received if m.topic == "answers/7"]) == 4)
    answers = [message for message in foreign.received if message.topic == "answers/7"]
    texts = [json.loads(message.payload) for message in answers]
    assert [text["ok"] for text in texts] == [False, False, False, True]
    assert "clear-error" in texts[0]["text"]
    assert "needs recipe" in texts[1]["text"]
    assert "5 s" in texts[2]["text"]
    assert texts[3] == {"ok": True, "text": ""}
    for message in answers:
        assert getattr(message.properties, "CorrelationData", None) == b"\x00\xff"


async def test_a_response_topic_is_kept_and_never_an_input(link: MqttLink, inbox: Inbox, foreign: Foreign) -> None:
    for sequence, topic in enumerate(("answers/1", ROOT + "trigger", "$SYS/x", "linegate/line9/s/command")):
        foreign.publish("trigger", {"sequence": sequence}, ResponseTopic=topic, CorrelationData=b"c")
    await eventually(lambda: len(inbox.arrivals()) == 4)
    replies = [arrival.trigger.reply for arrival in inbox.arrivals()]
    assert replies == [ReplyTo(topic="answers/1", correlation=b"c"), None, None, None]


async def test_outgoing_waits_in_order_and_within_bounds(mosquitto: Any, inbox: Inbox) -> None:
    watcher = Foreign(mosquitto.port, client_id="watcher", topics=(ROOT + "#",), session_s=60)
    mosquitto.stop()
    link = link_to(mosquitto.port, inbox, queue_limit=50)
    link.start()
    for number in range(60):
        link.publish("verdict", encode({"number": number}))
        link.publish("status", encode({"number": number}), retain=True)
    assert link.dropped == 10
    mosquitto.start()
    await eventually(lambda: len(watcher.documents("verdict")) == 50 and watcher.documents("status"))
    assert [document["number"] for document in watcher.documents("verdict")] == list(range(10, 60))
    assert {document["number"] for document in watcher.documents("status")} == {59}
    for number in range(60, 130):
        link.publish("verdict", encode({"number": number}))
    await eventually(lambda: len(watcher.documents("verdict")) == 120)
    assert [document["number"] for document in watcher.documents("verdict")] == list(range(10, 130))
    assert link.dropped == 10
    await link.stop()
    watcher.close()


async def test_a_clean_stop_says_so_itself(mosquitto: Any, foreign: Foreign) -> None:
    inbox = Inbox()
    link = link_to(mosquitto.port, inbox)
    link.start()
    await eventually(lambda: link.subscribed)
    link.publish("status", encode({"online": True}), retain=True)
    await eventually(lambda: len(foreign.documents("status")) == 1)
    link.hold()
    foreign.publish("trigger", {"sequence": 1})
    await asyncio.sleep(0.2)
    await link.stop()
    link.publish("status", encode({"online": True}), retain=True)
    late = Foreign(mosquitto.port, topics=(ROOT + "status",))
    await eventually(lambda: late.documents("status"))
    assert late.documents("status") == [offline_document()]
    assert [document["online"] for document in foreign.documents("status")] == [True, False]
    assert inbox.arrivals() == []
    late.close()
    again = Inbox()
    link = link_to(mosquitto.port, again)
    link.start()
    await eventually(lambda: again.sequences() == [1])
    assert again.arrivals()[0].trigger.backlog
    await link.stop()


PROGRAM = """
import asyncio, sys
from bridge.inputs.mqtt import MqttLink
from bridge.inputs.mqtt_client import Broker
class Inbox:
    def post(self, message): print(message, flush=True)
async def main():
    link = MqttLink(line="line1", station="station1", broker=Broker(host="127.0.0.1", port=int(sys.argv[1])), inbox=Inbox())
    link.start()
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_a_killed_bridge_leaves_its_will(mosquitto: Any, foreign: Foreign) -> None:
    command = [sys.executable, "-c", PROGRAM, str(mosquitto.port)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    while b"up=True" not in await process.stdout.readline():
        pass
    process.send_signal(signal.SIGKILL)
    await process.wait()
    await eventually(lambda: foreign.documents("status") == [offline_document()])


async def test_a_taken_over_session_is_not_fought_for(mosquitto: Any, link: MqttLink, inbox: Inbox) -> None:
    rival = Foreign(mosquitto.port, client_id="linegate-line1-station1")
    await asyncio.sleep(3)
    rival.close()
    losses = [change for change in inbox.of(LinkChange) if not change.up]
    assert 1 <= len(losses) <= 12
    # the rival's last takeover may still be on its way to us
    await asyncio.sleep(0.3)
    await eventually(lambda: link.subscribed)
    assert inbox.of(LinkChange)[-1].up


async def test_a_broker_that_delivers_nothing_is_not_ready(tmp_path: Any, mosquitto: Any, inbox: Inbox) -> None:
    mosquitto.stop()
    rights = tmp_path / "rights"
    rights.write_text("topic readwrite linegate/line1/station1/verdict\n")
    with (tmp_path / "mosquitto" / "mosquitto.conf").open("a") as file:
        file.write(f"acl_file {rights}\n")
    mosquitto.start()
    link = link_to(mosquitto.port, inbox)
    link.start()
    await eventually(lambda: "SUBACK" in mosquitto.log())
    await asyncio.sleep(0.3)
    assert not link.subscribed
    assert inbox.messages == []
    await link.stop()
