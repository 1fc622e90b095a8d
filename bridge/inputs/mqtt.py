"""One station's MQTT link: triggers, speed, encoder and commands in, and the way out for its verdicts.

Triggers are acknowledged when the station says so, everything else as soon as it is read. Until the marker that is sent
to the station's own topic `sync` comes back, what arrives on a kept session is backlog. Later on, probes sent there tell
when the broker holds triggers back because too many are unacknowledged.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import structlog
from paho.mqtt.client import MQTTMessage
from paho.mqtt.subscribeoptions import SubscribeOptions

from bridge.domain.messages import Arrival, Command, LinkChange, Refused, Reply
from bridge.domain.part import ReplyTo
from bridge.domain.report import dead_letter_document, encode, offline_document, reply_document
from bridge.errors import MessageError, TriggerError
from bridge.inputs.backlog import Backlog
from bridge.inputs.freshness import Freshness
from bridge.inputs.line_message import read_command, read_encoder, read_speed
from bridge.inputs.mqtt_client import Broker
from bridge.inputs.mqtt_connection import Delivery, MqttConnection
from bridge.inputs.mqtt_outbox import Outgoing
from bridge.inputs.trigger_message import read_trigger
from bridge.ports import Inbox

_log = structlog.get_logger()

DEAD_LETTER_HEAD_BYTES = 256
MARKER_PERIOD_S = 1.0
INPUT_TOPICS = ("trigger", "speed", "encoder", "command", "sync")


class MqttLink:
    """Connects one station to the broker: posts what arrives to its inbox, and publishes for its outputs.

    Build it anywhere, then make every call on the main loop: `start`, `hold` before the station drains, `stop` last.
    `subscribed` is what readiness asks for; `dead_letters` and `dropped` are counts for the metrics.
    """

    def __init__(
        self,
        *,
        line: str,
        station: str,
        broker: Broker,
        inbox: Inbox,
        root: str = "linegate",
        max_payload_bytes: int = 16_000_000,
        queue_limit: int = 1000,
    ) -> None:
        self._root = f"{root}/"
        self._topic = f"{root}/{line}/{station}/"
        self._inbox = inbox
        self._max_payload_bytes = max_payload_bytes
        self._routes: dict[str, Callable[[Delivery], None]] = {
            f"{self._topic}trigger": self._take_trigger,
            f"{self._topic}speed": self._take_speed,
            f"{root}/{line}/speed": self._take_speed,
            f"{self._topic}encoder": self._take_encoder,
            f"{root}/{line}/encoder": self._take_encoder,
            f"{self._topic}command": self._take_command,
            f"{self._topic}sync": self._take_marker,
        }
        self._farewell = Outgoing(topic=f"{self._topic}status", payload=encode(offline_document()), retain=True)
        self._connection = MqttConnection(
            broker=broker,
            client_id=f"linegate-{line}-{station}",
            subscriptions=tuple((topic, _options_for(topic)) for topic in self._routes),
            will=self._farewell,
            listener=self,
            queue_limit=queue_limit,
        )
        self._backlog = Backlog()
        self._freshness = Freshness()
        self._holding = False
        self._stopped = False
        self._granted = False
        # nothing was shown yet: a broker that never let us in is lost, too
        self._shown: bool | None = None
        self._dead_letters = 0
        self._connections = 0

    @property
    def subscribed(self) -> bool:
        """Whether triggers can arrive: connected, the broker took the subscriptions, and our own marker came back.

        The round trip counts because some brokers grant a subscription and then deliver nothing on it.
        """
        return self._shown is True

    @property
    def dead_letters(self) -> int:
        """How many inputs were refused since the start."""
        return self._dead_letters

    @property
    def dropped(self) -> int:
        """How many messages were lost because the queue to the broker was full."""
        return self._connection.dropped

    @property
    def reconnects(self) -> int:
        """How many times the broker was connected to anew."""
        return max(0, self._connections - 1)

    def start(self) -> None:
        """Begin to connect; a broker that can't be reached is tried for ever."""
        self._connection.start()

    def hold(self) -> None:
        """Take no more messages: what arrives stays unacknowledged with the broker, for the next start."""
        self._holding = True

    async def stop(self, *, limit_s: float = 2.0) -> None:
        """Publish what waits and then the will's own text, disconnect, end the thread; takes at most 2 x `limit_s`."""
        self._holding = self._stopped = True
        await self._connection.stop(self._farewell, limit_s=limit_s)

    def publish(self, suffix: str, payload: str, *, retain: bool = False) -> None:
        """Publish JSON text at QoS 1 on the topic `suffix` below the station's root; never blocks."""
        self._send(Outgoing(topic=self._topic + suffix, payload=payload, retain=retain))

    def answer(self, reply: ReplyTo, payload: str) -> None:
        """Publish JSON text on a sender's response topic with its correlation data; never blocks."""
        self._send(Outgoing(topic=reply.topic, payload=payload, correlation=reply.correlation))

    def _send(self, outgoing: Outgoing) -> None:
        # after the farewell nothing may overwrite the retained status
        if not self._stopped:
            self._connection.publish(outgoing)

    # ---- what the connection tells -------------------------------------------------------------------------------

    def on_opened(self, connection: int, *, resumed: bool) -> None:
        """Take what arrives as backlog, on a kept session, until the marker is back."""
        self._connections += 1
        self._granted = False
        self._backlog.open(connection, resumed=resumed, nonce=secrets.token_hex(16))
        self._freshness.open()

    def on_subscribed(self, *, refused: tuple[str, ...]) -> None:
        """Weigh what the broker refused (without `trigger` and `sync` no part can be judged), and send the marker."""
        for topic in refused:
            _log.error("mqtt_subscription_refused", topic=topic, hint="allow it in the broker's access list")
        self._granted = not {f"{self._topic}trigger", f"{self._topic}sync"} & set(refused)
        self._send_marker(self._backlog.connection, tries=0)

    def on_closed(self, reason: str) -> None:
        """Tell the station of the loss."""
        self._granted = False
        self._show_link(up=False, reason=reason)

    def on_arrived(self, delivery: Delivery) -> None:
        """Route one message; while holding, leave it with the broker."""
        if not self._holding:
            route = self._routes.get(delivery.topic)
            if route is None:
                self._bury(delivery, "nothing is expected on this topic: an old subscription of this session")
            else:
                route(delivery)

    def _show_link(self, *, up: bool, reason: str = "") -> None:
        if up != self._shown:
            self._shown = up
            self._inbox.post(LinkChange(link="mqtt", up=up, reason=reason))

    # ---- one method for each topic -------------------------------------------------------------------------------

    def _take_trigger(self, delivery: Delivery) -> None:
        message = delivery.message
        if message.retain:
            self._refuse_retained(delivery)
            return
        try:
            trigger = read_trigger(
                delivery.payload,
                arrived_ns=delivery.arrived_ns,
                content_type=getattr(message.properties, "ContentType", None),
                user_properties=getattr(message.properties, "UserProperty", ()),
                reply=self._reply_to(message),
                backlog=self._backlog.take(dup=message.dup),
                max_payload_bytes=self._max_payload_bytes,
            )
        except TriggerError as exc:
            why = f"{delivery.flaw}; {exc}" if delivery.flaw else str(exc)
            self._bury(delivery, why)
            self._inbox.post(Refused(reason=why, at_ns=delivery.arrived_ns))
            return
        if trigger.problem is not None:
            self._note(delivery, trigger.problem)
        if self._freshness.held_back(delivery.arrived_ns):
            trigger = replace(trigger, held_back=True)
        self._probe()
        bare = delivery.without_payload()
        self._inbox.post(Arrival(trigger=trigger, acknowledge=partial(self._connection.acknowledge, bare)))

    def _probe(self) -> None:
        """Ask the broker, as a message in the same queue, how long messages wait there."""
        if self._granted and self._backlog.settled:
            text = self._freshness.probe(unacknowledged=self._connection.unacknowledged, now_ns=time.monotonic_ns())
            if text is not None:
                self._connection.publish_now(Outgoing(topic=f"{self._topic}sync", payload=text))

    def _refuse_retained(self, delivery: Delivery) -> None:
        reason = "a retained trigger is refused: it would come again at every connection, without a part"
        if self._backlog.settled:
            # sent just now: a part did pass the photo-eye, and it will get no verdict
            self._inbox.post(Refused(reason=reason, at_ns=delivery.arrived_ns))
        self._bury(delivery, reason)

    def _take_speed(self, delivery: Delivery) -> None:
        message = delivery.message
        kept = message.retain or self._backlog.holds(dup=message.dup)
        try:
            sample = read_speed(delivery.payload, arrived_ns=delivery.arrived_ns, now_utc_ns=time.time_ns(), kept=kept)
        except MessageError as exc:
            self._bury(delivery, str(exc))
            return
        if sample is not None:
            self._inbox.post(sample)
        self._connection.acknowledge(delivery)

    def _take_encoder(self, delivery: Delivery) -> None:
        message = delivery.message
        try:
            sample = read_encoder(delivery.payload, arrived_ns=delivery.arrived_ns)
        except MessageError as exc:
            self._bury(delivery, str(exc))
            return
        # a count from a moment unknown would be taken for a jump of the encoder
        if not (message.retain or self._backlog.holds(dup=message.dup)):
            self._inbox.post(sample)
        self._connection.acknowledge(delivery)

    def _take_command(self, delivery: Delivery) -> None:
        message = delivery.message
        respond = partial(self._respond, self._reply_to(message))
        kept = message.retain or self._backlog.holds(dup=message.dup)
        try:
            order = read_command(delivery.payload, now_utc_ns=time.time_ns(), kept=kept)
        except MessageError as exc:
            self._bury(delivery, str(exc))
            respond(Reply(ok=False, text=str(exc)))
            return
        self._connection.acknowledge(delivery)
        self._inbox.post(
            Command(
                name=order.name,
                origin="mqtt",
                recipe=order.recipe,
                part_id=order.part_id,
                sequence=order.sequence,
                respond=respond,
            )
        )

    def _take_marker(self, delivery: Delivery) -> None:
        self._connection.acknowledge(delivery)
        if self._freshness.returned(delivery.payload, arrived_ns=delivery.arrived_ns):
            self._probe()
            return
        if self._backlog.returned(delivery.payload):
            self._connection.publish_now(Outgoing(topic=f"{self._topic}sync", payload=self._backlog.marker))
        self._show_link(up=self._granted and self._backlog.settled)

    # ---- answers -------------------------------------------------------------------------------------------------

    def _send_marker(self, connection: int, tries: int) -> None:
        ended = self._stopped or not self._granted or connection != self._backlog.connection
        if ended or self._backlog.settled:
            return
        if tries == 3:
            _log.warning(
                "mqtt_marker_missing",
                topic=f"{self._topic}sync",
                hint="the broker must let us publish there and read it",
            )
        # repeated, because a broker whose queue for us is full drops it like any other message
        self._connection.publish_now(Outgoing(topic=f"{self._topic}sync", payload=self._backlog.marker))
        loop = asyncio.get_running_loop()
        loop.call_later(MARKER_PERIOD_S, self._send_marker, connection, tries + 1)

    def _reply_to(self, message: MQTTMessage) -> ReplyTo | None:
        topic = getattr(message.properties, "ResponseTopic", None)
        if not topic:
            return None
        own_input = topic.startswith(self._root) and topic.rsplit("/", 1)[-1] in INPUT_TOPICS
        if own_input or set("+#\x00") & set(topic) or topic.startswith("$"):
            _log.warning("mqtt_response_topic_refused", topic=topic[:200])
            return None
        return ReplyTo(topic=topic, correlation=getattr(message.properties, "CorrelationData", None))

    def _respond(self, reply_to: ReplyTo | None, reply: Reply) -> None:
        _log.info("mqtt_command_answered", ok=reply.ok, text=reply.text)
        if reply_to is not None:
            self.answer(reply_to, encode(reply_document(ok=reply.ok, text=reply.text)))

    def _bury(self, delivery: Delivery, why: str) -> None:
        """Refuse an input for good: a dead letter, then the acknowledgement."""
        self._note(delivery, why)
        self._connection.acknowledge(delivery)

    def _note(self, delivery: Delivery, why: str) -> None:
        self._dead_letters += 1
        if self._dead_letters & (self._dead_letters - 1) == 0:
            # at 1, 2, 4, 8, ...: a broken sender must not fill the disk with its own faults
            _log.warning("mqtt_dead_letter", topic=delivery.topic, why=why, count=self._dead_letters)
        document = dead_letter_document(
            why=why,
            topic=delivery.topic,
            size=len(delivery.payload),
            head=base64.b64encode(delivery.payload[:DEAD_LETTER_HEAD_BYTES]).decode("ascii"),
            count=self._dead_letters,
            at_utc_ns=time.time_ns(),
        )
        self.publish("deadletter", encode(document))


def _options_for(topic: str) -> SubscribeOptions:
    """Ask for retained messages where they mean something, and to see the flag where they are refused.

    Samples come at QoS 0: an old one is worthless, and it must not wait for the acknowledgement of a trigger before it.
    """
    kind = topic.rsplit("/", 1)[-1]
    if kind == "trigger":
        handling = SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
    elif kind == "speed":
        handling = SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE
    else:
        handling = SubscribeOptions.RETAIN_DO_NOT_SEND
    return SubscribeOptions(
        qos=0 if kind in {"speed", "encoder"} else 1, retainAsPublished=kind == "trigger", retainHandling=handling
    )
