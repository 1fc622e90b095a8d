"""One MQTT 5 session that is never given up: its thread, its numbered connections and its outgoing queue.

paho's own thread dies of an unforeseen exception while the process lives on, and its automatic reconnection has no
jitter, so the network loop is driven here. Everything that arrives is handed to the main loop in one line.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog
from paho.mqtt import MQTTException
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from bridge.inputs.ack_order import AckOrder
from bridge.inputs.mqtt_client import Broker, acknowledge_at_once, client_for
from bridge.inputs.mqtt_losses import HUNG_UP, STEADY_S, UNANSWERED, Loss, LossLog, failed, refused
from bridge.inputs.mqtt_outbox import Outbox, Outgoing

_log = structlog.get_logger()

HELD_S = 0.005
ANSWER_LIMIT_S = 10.0
SESSION_TAKEN_OVER = 142
_FAULTS = (OSError, MQTTException, ValueError, TypeError, LookupError, AttributeError, RuntimeError, struct.error)
"""What paho lets out of its network loop: sockets and TLS, malformed packets, a socket that vanished in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message as it came: on which connection, and the monotonic moment when its last byte was read.

    `flaw` says why its MQTT properties could not be read; they are then absent.
    """

    message: MQTTMessage
    connection: int
    arrived_ns: int
    flaw: str = ""

    @property
    def topic(self) -> str:
        """The message's topic; empty for one that is not UTF-8, which no subscription of ours can bring."""
        try:
            return self.message.topic
        except UnicodeDecodeError:
            return ""

    @property
    def payload(self) -> bytes:
        """The message's bytes, not copied where they are bytes already."""
        return bytes(self.message.payload)

    def without_payload(self) -> Delivery:
        """Give what an acknowledgement needs: a picture must not stay in memory until then."""
        bare = MQTTMessage(mid=self.message.mid)
        bare.qos = self.message.qos
        return replace(self, message=bare)


class ConnectionListener(Protocol):
    """What a connection tells its owner; every call is made on the main loop, in the order of events."""

    def on_opened(self, connection: int, *, resumed: bool) -> None:
        """Take note of a new connection; `resumed` when the broker kept the session."""

    def on_subscribed(self, *, refused: tuple[str, ...]) -> None:
        """Take note that subscriptions stand, but for the `refused` topics."""

    def on_closed(self, reason: str) -> None:
        """Take note that the connection is gone, or that one more try failed, and why."""

    def on_arrived(self, delivery: Delivery) -> None:
        """Take a message."""


def backoff_s(attempt: int, *, jitter: float) -> float:
    """Give the pause before the next try, in s: doubling from 0.25 to 5, half of it at random (`jitter` 0 to 1)."""
    limit = min(5.0, 0.25 * 2.0 ** min(attempt, 10))
    return limit * (0.5 + 0.5 * jitter)


class MqttConnection:
    """Holds a kept session with the broker, reconnecting for ever; publishes in order and acknowledges by connection.

    At most `queue_limit` messages wait for the broker. Records are the journal's business, not this queue's.
    """

    def __init__(
        self,
        *,
        broker: Broker,
        client_id: str,
        subscriptions: tuple[tuple[str, SubscribeOptions], ...],
        will: Outgoing,
        listener: ConnectionListener,
        queue_limit: int = 1000,
    ) -> None:
        self._subscriptions = subscriptions
        self._listener = listener
        self._client = client_for(broker, client_id, will)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name=f"mqtt-{client_id}", daemon=True)
        self._stopping = threading.Event()
        self._room = threading.BoundedSemaphore(256)
        # guards the three below: an acknowledgement or a publish never reaches another connection than it is meant for
        self._lock = threading.Lock()
        self._number = 0
        self._connected = False
        self._open = False
        self._acks = AckOrder()
        self._outbox = Outbox(limit=queue_limit)
        self._drained = asyncio.Event()
        self._losses = LossLog(broker, client_id=client_id)
        self._broker = broker
        self._loss = Loss(reason=HUNG_UP)
        self._taken = False
        self._stood_since = 0.0
        self._resumed = False
        self._complaints: set[str] = set()
        self._answer_by = 0.0

    @property
    def dropped(self) -> int:
        """How many messages were lost because too many waited."""
        return self._outbox.dropped

    @property
    def unacknowledged(self) -> int:
        """How many messages of the present connection wait for their acknowledgement."""
        return self._acks.waiting

    def start(self) -> None:
        """Begin to connect; call it on the running main loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self, farewell: Outgoing, *, limit_s: float = 2.0) -> None:
        """Publish `farewell` after all that waits, give the broker `limit_s` to confirm it, disconnect and end."""
        self._drained.clear()
        self.publish(farewell)
        if self._open:
            # without an answer in time the broker publishes the will, which says the same
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), limit_s)
        self._stopping.set()
        with self._lock:
            self._connected = self._open = False
            # the thread still has to write the DISCONNECT
            self._answer_by = time.monotonic() + 1.0
            self._client.disconnect()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, limit_s)

    def publish(self, outgoing: Outgoing) -> None:
        """Send `outgoing` at QoS 1 after all earlier ones, or let it wait for the next connection; never blocks."""
        self._outbox.put(outgoing)
        self._pump()

    def publish_now(self, outgoing: Outgoing) -> None:
        """Send `outgoing` ahead of what waits, or not at all without a connection; never blocks."""
        with self._lock:
            if self._open:
                self._send(outgoing)

    def acknowledge(self, delivery: Delivery) -> None:
        """Tell the broker that `delivery` is safe, once all before it are; without effect on another connection."""
        ready = self._acks.done(delivery.connection, delivery.message.mid) if delivery.message.qos else []
        with self._lock:
            if self._connected and delivery.connection == self._number:
                for mid in ready:
                    self._client.ack(mid, 1)

    def _pump(self) -> None:
        with self._lock:
            while self._open and (outgoing := self._outbox.take()) is not None:
                self._send(outgoing)

    def _send(self, outgoing: Outgoing) -> None:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ContentType = "application/json"
        if outgoing.correlation is not None:
            properties.CorrelationData = outgoing.correlation
        payload = outgoing.payload.encode("utf-8", "replace")
        try:
            self._client.publish(outgoing.topic, payload, qos=1, retain=outgoing.retain, properties=properties)
        except (ValueError, MQTTException) as exc:
            _log.warning("mqtt_publish_refused", topic=outgoing.topic, reason=str(exc))
            return
        self._outbox.sent()

    def _confirmed(self) -> None:
        self._outbox.confirmed()
        self._pump()
        if self._outbox.empty:
            self._drained.set()

    # ---- the network thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        attempt = 0
        while not self._stopping.is_set():
            self._one_connection()
            stood_s = self._closed()
            if self._stopping.is_set():
                return
            steady = stood_s is not None and stood_s > STEADY_S and not self._losses.rival
            attempt = 0 if steady else attempt + 1
            self._stopping.wait(backoff_s(10 if self._losses.rival else attempt, jitter=random.random()))

    def _one_connection(self) -> None:
        with self._lock:
            self._number += 1
        self._loss, self._taken = Loss(reason=UNANSWERED), False
        self._answer_by = time.monotonic() + ANSWER_LIMIT_S
        try:
            self._client.reconnect()
            while self._turn() == MQTTErrorCode.MQTT_ERR_SUCCESS:
                acknowledge_at_once(self._client.socket())
                if self._open:
                    self._losses.lasts(time.monotonic() - self._stood_since)
                elif time.monotonic() > self._answer_by:
                    self._loss = Loss(reason=f"no answer within {ANSWER_LIMIT_S:.0f} s")
                    break
        except _FAULTS as exc:
            self._loss = failed(exc, self._broker, answered=self._loss.reason == HUNG_UP)
        leftover = self._client.socket()
        if leftover is not None:
            leftover.close()

    def _turn(self) -> MQTTErrorCode:
        """Let the client read and write once.

        With as much unacknowledged as we have asked for, nothing more is read: mosquitto 2.0.11 goes beyond it under
        load, and what waits is to wait with the broker. Acknowledgements are written by those who give them.
        """
        if self._acks.waiting < self._broker.receive_maximum or self._stopping.is_set():
            return self._client.loop(timeout=1.0)
        time.sleep(HELD_S)
        return self._client.loop_misc()

    def _closed(self) -> float | None:
        """Mark the connection as gone; give for how long it stood, None if it never did."""
        with self._lock:
            stood, self._connected, self._open = self._open, False, False
        stood_s = time.monotonic() - self._stood_since if stood else None
        if not self._stopping.is_set():
            reason = self._losses.lost(self._loss, stood_s=stood_s, taken=self._taken)
            self._hand_over(self._listener.on_closed, reason)
        return stood_s

    def _on_connect(
        self, client: Client, _userdata: Any, flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._loss = refused(reason.value, str(reason))
            return
        self._loss = Loss(reason=HUNG_UP)
        if self._stopping.is_set():
            client.disconnect()
            return
        with self._lock:
            self._connected = True
        client.subscribe(list(self._subscriptions))
        self._resumed = flags.session_present
        self._hand_over(self._opened, self._number, flags.session_present)

    def _opened(self, number: int, resumed: bool) -> None:
        self._listener.on_opened(number, resumed=resumed)

    def _on_subscribe(
        self, _client: Client, _userdata: Any, _mid: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        # only now: right after the CONNACK the client sends again what was unconfirmed, and nothing may overtake that
        with self._lock:
            self._open = not self._stopping.is_set()
        self._stood_since = time.monotonic()
        self._losses.stands(resumed=self._resumed)
        pairs = zip(self._subscriptions, reasons, strict=False)
        refused = tuple(topic for (topic, _), reason in pairs if reason.is_failure)
        self._hand_over(self._subscribed, refused)

    def _subscribed(self, refused: tuple[str, ...]) -> None:
        self._listener.on_subscribed(refused=refused)
        self._pump()

    def _on_publish(self, _client: Client, _userdata: Any, _mid: int, reason: ReasonCode, _properties: Any) -> None:
        if reason.is_failure and str(reason) not in self._complaints:
            self._complaints.add(str(reason))
            _log.warning("mqtt_publish_refused", reason=str(reason), hint="allow our topics in the access list")
        self._hand_over(self._confirmed)

    def _on_disconnect(
        self, _client: Client, _userdata: Any, flags: DisconnectFlags, reason: ReasonCode, _properties: Any
    ) -> None:
        self._taken = reason.value == SESSION_TAKEN_OVER
        if flags.is_disconnect_packet_from_server and reason.is_failure:
            self._loss = Loss(reason=f"the broker hung up: {reason}")

    def _on_message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        # when the main loop is behind, not reading is the only brake that also holds for QoS 0
        while not self._room.acquire(timeout=0.5):
            if self._stopping.is_set():
                return
        arrived_ns = time.monotonic_ns()
        delivery = Delivery(message=message, connection=self._number, arrived_ns=arrived_ns, flaw=self._client.flaw)
        self._hand_over(self._arrived, delivery)

    def _arrived(self, delivery: Delivery) -> None:
        self._room.release()
        if delivery.message.qos:
            self._acks.arrived(delivery.connection, delivery.message.mid)
        self._listener.on_arrived(delivery)

    def _hand_over(self, call: Callable[..., None], *arguments: Any) -> None:
        loop = self._loop
        try:
            if loop is not None:
                loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            # the main loop is closed: the process ends, and what was not acknowledged stays with the broker
            self._stopping.set()
