"""A photo-eye with its camera on MQTT: triggers at a steady rate, each publish noted with the broker's acknowledgement."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from paho.mqtt.client import Client, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.cli.processes import STATION, eventually


@dataclass(slots=True, kw_only=True)
class Sent:
    """One trigger as its source knows it; moments are monotonic seconds, `utc_ns` the same as `at_s` by wall clock.

    `resent`: the connection was lost before the acknowledgement, so that the client sent it once more, later.
    """

    sequence: int
    bright: bool
    at_s: float
    utc_ns: int
    acknowledged_s: float | None = None
    resent: bool = False

    @property
    def part_id(self) -> str:
        return f"S-{self.sequence:06d}"


class Feeder:
    """Publishes a trigger each `period_s`; without a broker no part comes, as no source could tell of it."""

    def __init__(self, port: int, pictures: Sequence[bytes], *, period_s: float, bright_each: int = 4) -> None:
        """`pictures`: a dark one (good) and a bright one (to be rejected)."""
        self._port, self._pictures = port, pictures
        self._period_s, self._bright_each = period_s, bright_each
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._waiting: dict[int, Sent] = {}
        self._confirmed: dict[int, float] = {}
        self.sent: list[Sent] = []
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="photo-eye", protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_socket_open = no_delay
        self._client.on_publish = self._acknowledged
        self._client.on_disconnect = self._lost
        self._client.reconnect_delay_set(min_delay=0.1, max_delay=0.1)
        self._thread = threading.Thread(target=self._feed, name="feeder", daemon=True)

    def start(self) -> None:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        eventually(self._client.is_connected)
        self._thread.start()

    def stop(self) -> None:
        """End the flow of parts, and wait until the broker has all that were sent."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(10)
            eventually(lambda: not self._waiting)
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def acknowledged(self) -> list[Sent]:
        return [one for one in self.sent if one.acknowledged_s is not None]

    def _feed(self) -> None:
        due = time.monotonic()
        while not self._stopping.is_set():
            due = max(due + self._period_s, time.monotonic() - self._period_s)
            time.sleep(max(0.0, due - time.monotonic()))
            if self._client.is_connected():
                self.send()

    def send(self) -> Sent:
        """Publish the next trigger."""
        sequence = len(self.sent)
        one = Sent(
            sequence=sequence,
            bright=sequence % self._bright_each == 0,
            at_s=time.monotonic(),
            utc_ns=time.time_ns(),
        )
        properties = Properties(PacketTypes.PUBLISH)
        properties.ContentType = "image/jpeg"
        stamp = datetime.fromtimestamp(one.utc_ns / 1e9, UTC).isoformat().replace("+00:00", "Z")
        properties.UserProperty = [("sequence", str(sequence)), ("part_id", one.part_id), ("ts", stamp)]
        self.sent.append(one)
        info: MQTTMessageInfo = self._client.publish(
            STATION + "trigger", self._pictures[one.bright], qos=1, properties=properties
        )
        # the client holds a lock of its own while it tells of an acknowledgement: ours must not be held around a publish
        with self._lock:
            one.resent = one.resent or not self._client.is_connected()
            self._waiting[info.mid] = one
            self._settle(info.mid)
        return one

    def _acknowledged(self, _client: Client, _userdata: Any, mid: int, reason: Any, _properties: Any) -> None:
        if not reason.is_failure:
            with self._lock:
                self._confirmed[mid] = time.monotonic()
                self._settle(mid)

    def _settle(self, mid: int) -> None:
        """Join an acknowledgement with its trigger, whichever of the two is known first."""
        if mid in self._waiting and mid in self._confirmed:
            self._waiting.pop(mid).acknowledged_s = self._confirmed.pop(mid)

    def _lost(self, *_: Any) -> None:
        with self._lock:
            for one in self._waiting.values():
                one.resent = True


def no_delay(_client: Client, _userdata: Any, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
