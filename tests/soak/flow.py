"""Parts as fast as a bridge takes them, or faster, and what becomes of each."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.cli.processes import STATION, eventually
from tests.soak.feeder import no_delay


@dataclass(slots=True)
class Told:
    """One part: when it was sent (monotonic s, and wall clock in ns), and its verdict when it came."""

    at_s: float
    utc_ns: int
    verdict_s: float = 0.0
    document: dict[str, Any] | None = None

    @property
    def latency_ms(self) -> float:
        return (self.verdict_s - self.at_s) * 1e3


class Flow:
    """A client that sends triggers and hears their verdicts; `parts` is by sequence, `repeated` counts second verdicts."""

    def __init__(self, port: int, pictures: Sequence[bytes], *, bright_each: int = 4) -> None:
        self._port, self._pictures, self._bright_each = port, pictures, bright_each
        self.parts: list[Told] = []
        self.repeated = 0
        self.done = 0
        self._heard = threading.Condition()
        self._subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="flow", protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_socket_open = no_delay
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._keep
        self._client.max_inflight_messages_set(1000)

    def __enter__(self) -> Flow:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        self._client.subscribe(STATION + "verdict", qos=1)
        assert self._subscribed.wait(10)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def send(self) -> None:
        sequence = len(self.parts)
        properties = Properties(PacketTypes.PUBLISH)
        properties.ContentType = "image/jpeg"
        properties.UserProperty = [("sequence", str(sequence)), ("part_id", f"F-{sequence}")]
        self.parts.append(Told(time.monotonic(), time.time_ns()))
        picture = self._pictures[sequence % self._bright_each == 0]
        self._client.publish(STATION + "trigger", picture, qos=1, properties=properties)

    def full_speed(self, count: int, *, in_flight: int = 4) -> float:
        """Send `count` parts with `in_flight` always under way; gives parts/s."""
        begun, first = time.monotonic(), len(self.parts)
        while len(self.parts) < first + count:
            with self._heard:
                assert self._heard.wait_for(lambda: len(self.parts) - self.done < in_flight, 20), self.missing()
            self.send()
        self.wait_done()
        return count / (time.monotonic() - begun)

    def paced(self, seconds: float, *, rate: float) -> range:
        """Send at a fixed rate whatever comes back; gives the sequences."""
        begun, first = time.monotonic(), len(self.parts)
        for number in range(round(seconds * rate)):
            time.sleep(max(0.0, begun + number / rate - time.monotonic()))
            self.send()
        return range(first, len(self.parts))

    def wait_done(self, limit_s: float = 60.0) -> None:
        """Wait until every part has its verdict."""
        with self._heard:
            assert self._heard.wait_for(lambda: self.done >= len(self.parts), limit_s), self.missing()

    def missing(self) -> str:
        without = [sequence for sequence, part in enumerate(self.parts) if part.document is None]
        return f"{len(without)} of {len(self.parts)} without a verdict: {without[:10]}"

    def _keep(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        document = json.loads(message.payload)
        part = self.parts[document["sequence"]]
        with self._heard:
            if part.document is not None:
                self.repeated += 1
                return
            part.document, part.verdict_s = document, time.monotonic()
            self.done += 1
            self._heard.notify()


def at_rest(flow: Flow, in_flight: Any) -> None:
    """Wait until nothing is under way any more, acknowledgements and files included."""
    flow.wait_done()
    eventually(lambda: in_flight() == 0)
    time.sleep(0.5)
