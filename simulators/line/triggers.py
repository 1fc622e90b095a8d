"""Photo-eye events as MQTT triggers: the picture inline, by path, or raw, and the client that publishes them."""

from __future__ import annotations

import base64
import json
import socket
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from simulators.line.camera import Picture

ImageForm = Literal["inline", "path", "raw"]
IMAGE_FORMS: tuple[ImageForm, ...] = ("inline", "path", "raw")
MOST_WAITING = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerMessage:
    """One MQTT message, ready to be sent. `properties` None = none."""

    payload: bytes
    content_type: str | None = None
    user: dict[str, str] = field(default_factory=dict)


def stamp(utc_ns: int) -> str:
    """Give wall-clock ns as RFC 3339 with microseconds and Z."""
    moment = datetime.fromtimestamp(utc_ns // 1_000_000_000, tz=UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{utc_ns % 1_000_000_000 // 1000:06d}Z"


def encode_trigger(
    *,
    sequence: int,
    part_id: str,
    utc_ns: int,
    count: int | None,
    length_mm: float,
    picture: Picture | None,
    form: ImageForm,
    eye_on_ms: float | None = None,
) -> TriggerMessage:
    """Make the trigger of one part, without what its source has not got; `eye_on_ms` is told instead of the length."""
    facts: dict[str, Any] = {"part_id": part_id, "sequence": sequence, "ts": stamp(utc_ns)}
    facts |= {"length_mm": length_mm} if eye_on_ms is None else {"eye_on_ms": round(eye_on_ms, 3)}
    if count is not None:
        facts["encoder"] = count
    if picture is None:
        return TriggerMessage(payload=json.dumps(facts).encode())
    if form == "raw":
        user = {key: str(value) for key, value in facts.items()}
        return TriggerMessage(payload=read_picture(picture.path), content_type=picture.media_type, user=user)
    if form == "path":
        return TriggerMessage(payload=json.dumps({**facts, "image": {"path": picture.name}}).encode())
    # The base64 text is made ahead of time and needs no escaping: writing it into the JSON by hand saves its encoding.
    head = json.dumps(facts)[:-1]
    image = b', "image": {"media_type": "%s", "data": "%s"}}' % (picture.media_type.encode(), encoded(picture.path))
    return TriggerMessage(payload=head.encode() + image)


@lru_cache(maxsize=64)
def read_picture(path: Path) -> bytes:
    """Read a picture's bytes, keeping the last few."""
    return path.read_bytes()


@lru_cache(maxsize=64)
def encoded(path: Path) -> bytes:
    """Give a picture in base64, keeping the last few."""
    return base64.b64encode(read_picture(path))


class TriggerPublisher:
    """Publish triggers by MQTT 5, QoS 1, from any thread; reconnects by itself."""

    def __init__(self, *, host: str, port: int, topic: str, client_id: str) -> None:
        self._topic = topic
        self._connected = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTv5)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_socket_open = _no_delay
        self._client.reconnect_delay_set(min_delay=1, max_delay=5)
        self._client.max_queued_messages_set(MOST_WAITING)
        self._client.connect_async(host, port, keepalive=30)

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted us and has not gone since."""
        return self._connected.is_set()

    def start(self) -> None:
        """Connect in the background, again and again until it works."""
        self._client.loop_start()

    def publish(self, message: TriggerMessage) -> None:
        """Send one trigger; while the broker is away it waits in memory, up to MOST_WAITING of them: more are lost."""
        make: Any = Properties  # paho leaves its constructor without types
        properties = make(PacketTypes.PUBLISH)
        if message.content_type is not None:
            properties.ContentType = message.content_type
        if message.user:
            properties.UserProperty = list(message.user.items())
        self._client.publish(self._topic, message.payload, qos=1, properties=properties)

    def stop(self) -> None:
        """Say goodbye to the broker."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, _client: Client, _data: Any, _flags: ConnectFlags, code: ReasonCode, _props: Any) -> None:
        if not code.is_failure:
            self._connected.set()

    def _on_disconnect(
        self, _client: Client, _data: Any, _flags: DisconnectFlags, _code: ReasonCode, _props: Any
    ) -> None:
        self._connected.clear()


def _no_delay(_client: Client, _data: Any, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
