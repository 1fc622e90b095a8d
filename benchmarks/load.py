"""The load: triggers with pictures in, and the moment each result stands in the Modbus registers.

One measuring point for every program: from just before the trigger is published to the end of the Modbus read that
first shows its sequence in input registers 2-3, read once a millisecond as a fast PLC would. Results come in the order
of the triggers, so a later sequence shows that the earlier ones were there, too.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from pymodbus.client import ModbusTcpClient

from benchmarks.pictures import Payload
from benchmarks.processes import Target

POLL_S = 0.001
LIMIT_S = 10.0
JUDGED = (1, 2, 3)
"""Verdict codes of parts that the model has judged; ERROR and LATE cost no inference."""
_GRACE_S = 0.3


class Load:
    """Publishes to one target and watches its registers; use it as a context manager."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._mqtt = Client(CallbackAPIVersion.VERSION2, client_id=f"load-{target.name}", protocol=MQTTv5)
        self._mqtt.on_socket_open = send_at_once
        self._mqtt.on_message = self._hear
        self._modbus = ModbusTcpClient("127.0.0.1", port=target.modbus_port)
        self._sequence = 0
        self._timings: list[dict[str, float]] = []

    @property
    def unjudged(self) -> int:
        """How many parts so far got ERROR or LATE: they cost no inference, and a rate that counts them flatters."""
        if self.target.unjudged is None:
            return 0
        errors_high, errors_low, late_high, late_low = self._registers(self.target.unjudged, 4)
        return (errors_high << 16 | errors_low) + (late_high << 16 | late_low)

    def __enter__(self) -> Self:
        self._mqtt.connect("127.0.0.1", self.target.broker_port)
        self._mqtt.loop_start()
        if not self._modbus.connect():  # type: ignore[no-untyped-call]
            raise RuntimeError(f"{self.target.name}: its Modbus port is closed")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._mqtt.disconnect()
        self._mqtt.loop_stop()
        self._modbus.close()  # type: ignore[no-untyped-call]

    def paced(self, payload: Payload, count: int, *, interval_s: float) -> list[float]:
        """Publish one trigger each `interval_s` or when its result stands, whichever is later; gives latencies in ms."""
        latencies = []
        due = time.perf_counter()
        for _ in range(count):
            time.sleep(max(0.0, due - time.perf_counter()))
            due = max(due, time.perf_counter() - interval_s) + interval_s
            start = time.perf_counter()
            sequence = self.publish(payload)
            self._wait_for(sequence)
            latencies.append((time.perf_counter() - start) * 1e3)
        return latencies

    def flat_out(self, payload: Payload, count: int, *, in_flight: int) -> float:
        """Publish so that `in_flight` parts are always under way; gives judged parts/s."""
        unjudged = self.unjudged
        start = time.perf_counter()
        first = self._sequence + 1
        while self._sequence < first + in_flight - 1:
            self.publish(payload)
        last = first + count - 1
        done = first - 1
        while done < last:
            done = self._wait_for(done + 1)
            while self._sequence < min(last, done + in_flight):
                self.publish(payload)
        took = time.perf_counter() - start
        return (count - (self.unjudged - unjudged)) / took

    def split(self, payload: Payload, count: int, *, interval_s: float) -> dict[str, float]:
        """Give the mean of each step of `count` paced parts by the program's own stopwatch, and `registers`, the whole.

        A bridge tells its steps in its verdicts: only here somebody listens to them, as nobody listens to the floor.
        """
        if self.target.own_timing is not None:
            whole = self.paced(payload, count, interval_s=interval_s)
            return {**self.target.own_timing(count), "registers": sum(whole) / count}
        self._timings.clear()
        self._mqtt.subscribe(self.target.verdicts)
        time.sleep(_GRACE_S)
        whole = self.paced(payload, count, interval_s=interval_s)
        time.sleep(_GRACE_S)
        self._mqtt.unsubscribe(self.target.verdicts)
        return {**_means(self._timings), "registers": sum(whole) / count}

    def publish(self, payload: Payload) -> int:
        """Publish the next trigger; gives its sequence."""
        self._sequence += 1
        publish(self._mqtt, self.target.topic, payload, self._sequence)
        return self._sequence

    def shown(self) -> int:
        """Read the sequence of the result that stands in the registers."""
        high, low = self._registers(2, 2)
        return high << 16 | low

    def _wait_for(self, sequence: int) -> int:
        end = time.perf_counter() + LIMIT_S
        while (shown := self.shown()) < sequence:
            if time.perf_counter() > end:
                raise RuntimeError(f"{self.target.name}: no result for trigger {sequence}, the registers show {shown}")
            time.sleep(POLL_S)
        return shown

    def _registers(self, address: int, count: int) -> list[int]:
        answer = self._modbus.read_input_registers(address, count=count, device_id=1)
        if answer.isError():
            raise RuntimeError(f"{self.target.name}: Modbus answers {answer}")
        return [int(word) for word in answer.registers]

    def _hear(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        verdict = json.loads(message.payload)
        if verdict["code"] in JUDGED:
            self._timings.append(verdict["timing_ms"])


def publish(client: Client, topic: str, payload: Payload, sequence: int) -> None:
    """Publish one trigger as a camera does."""
    body, content_type = payload.message(sequence)
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if content_type is not None:
        properties.ContentType = content_type
        properties.UserProperty = [("sequence", str(sequence)), ("part_id", f"P-{sequence}")]
    client.publish(topic, body, qos=1, properties=properties)


def send_at_once(_client: Client, _userdata: object, opened: object) -> None:
    """Take Nagle's delay off a new connection."""
    if isinstance(opened, socket.socket):
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _means(timings: list[dict[str, float]]) -> Mapping[str, float]:
    if not timings:
        raise RuntimeError("no verdict told what its steps took: every part ended in ERROR or LATE")
    return {name: sum(timing[name] for timing in timings) / len(timings) for name in timings[0]}
