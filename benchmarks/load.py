"""The load: triggers with pictures in, and the moment each result stands in the Modbus registers.

One measuring point for every program: from just before the trigger is published to the end of the Modbus read that
first shows its sequence in input registers 2-3, read once a millisecond as a fast PLC would. Results come in the order
of the triggers, so a later sequence shows that the earlier ones were there, too.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from asyncua import ua
from asyncua.client.client import Client as OpcUaClient
from asyncua.ua.attribute_ids import AttributeIds
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from pymodbus.client import ModbusTcpClient

from benchmarks.processes import Target

POLL_S = 0.001
_LIMIT_S = 10.0


class Load:
    """Publishes to one target and watches its registers; use it as a context manager."""

    def __init__(self, target: Target, pictures: Sequence[bytes]) -> None:
        self._target, self._pictures = target, pictures
        self._mqtt = Client(CallbackAPIVersion.VERSION2, client_id=f"load-{target.name}", protocol=MQTTv5)
        self._mqtt.on_socket_open = _send_at_once
        self._modbus = ModbusTcpClient("127.0.0.1", port=target.modbus_port)
        self._sequence = 0
        self._timings: list[dict[str, float]] = []

    @property
    def unjudged(self) -> int:
        """How many parts so far got ERROR or LATE: they cost no inference, and a rate that counts them flatters."""
        if self._target.unjudged is None:
            return 0
        errors_high, errors_low, late_high, late_low = self._registers(self._target.unjudged, 4)
        return (errors_high << 16 | errors_low) + (late_high << 16 | late_low)

    @property
    def steps(self) -> dict[str, float]:
        """Mean of what the program's own verdicts say each step took, in ms; empty for one that publishes none."""
        names = self._timings[0] if self._timings else {}
        return {name: sum(timing[name] for timing in self._timings) / len(self._timings) for name in names}

    def __enter__(self) -> Self:
        self._mqtt.connect("127.0.0.1", self._target.broker_port)
        self._mqtt.loop_start()
        if not self._modbus.connect():  # type: ignore[no-untyped-call]
            raise RuntimeError(f"{self._target.name}: its Modbus port is closed")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._mqtt.disconnect()
        self._mqtt.loop_stop()
        self._modbus.close()  # type: ignore[no-untyped-call]

    def paced(self, count: int, *, interval_s: float) -> list[float]:
        """Publish one trigger each `interval_s` or when its result stands, whichever is later; gives latencies in ms."""
        latencies = []
        due = time.perf_counter()
        for _ in range(count):
            time.sleep(max(0.0, due - time.perf_counter()))
            due = max(due, time.perf_counter() - interval_s) + interval_s
            start = time.perf_counter()
            sequence = self._publish()
            self._wait_for(sequence)
            latencies.append((time.perf_counter() - start) * 1e3)
        return latencies

    def flat_out(self, count: int, *, in_flight: int) -> float:
        """Publish so that `in_flight` parts are always under way; gives judged parts/s."""
        unjudged = self.unjudged
        start = time.perf_counter()
        first = self._sequence + 1
        while self._sequence < first + in_flight - 1:
            self._publish()
        last = first + count - 1
        done = first - 1
        while done < last:
            done = self._wait_for(done + 1)
            while self._sequence < min(last, done + in_flight):
                self._publish()
        took = time.perf_counter() - start
        return (count - (self.unjudged - unjudged)) / took

    async def output_delays(self, count: int, *, interval_s: float) -> tuple[list[float], list[float]]:
        """Give, in ms, how long after the verdict its registers and its tags show it.

        The verdict's moment is the SourceTimestamp of `Result.Sequence`; tags and registers are read in turn, so each
        figure is too long by half a turn (about 1 ms) for every program alike.
        """
        registers, tags = [], []
        if self._target.verdicts is not None:
            # only now: in the other measurements nobody listens, as nobody listens to the floor
            self._mqtt.on_message = lambda _client, _userdata, message: self._timings.append(
                json.loads(message.payload)["timing_ms"]
            )
            self._mqtt.subscribe(self._target.verdicts)
        async with OpcUaClient(self._target.endpoint, timeout=10) as client:
            index = await client.get_namespace_index(self._target.namespace)
            names = (
                "Verdict",
                "Disposition",
                "Label",
                "LabelId",
                "Score",
                "Reason",
                "LatencyMs",
                "PartId",
                "Written",
                "Sequence",
            )
            wanted = [
                client.get_node(ua.NodeId.from_string(f"ns={index};s={self._target.result}.{name}")) for name in names
            ]
            for _ in range(count):
                sequence = self._publish()
                end = time.monotonic() + _LIMIT_S
                in_registers = in_tags = None
                while in_registers is None or in_tags is None:
                    if in_registers is None and self._read() == sequence:
                        in_registers = datetime.now(UTC)
                    if in_tags is None:
                        values = await client.uaclient.read_attributes(
                            [node.nodeid for node in wanted], AttributeIds.Value
                        )
                        if values[-1].Value is not None and values[-1].Value.Value == sequence:
                            in_tags = datetime.now(UTC)
                            stamp = values[-1].SourceTimestamp
                    if time.monotonic() > end:
                        raise RuntimeError(f"{self._target.name}: no result for trigger {sequence}")
                    await asyncio.sleep(POLL_S)
                assert stamp is not None
                decided = stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)
                registers.append((in_registers - decided).total_seconds() * 1e3)
                tags.append((in_tags - decided).total_seconds() * 1e3)
                await asyncio.sleep(interval_s)
        return registers, tags

    def _publish(self) -> int:
        self._sequence += 1
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ContentType = "image/jpeg"
        properties.UserProperty = [("sequence", str(self._sequence)), ("part_id", f"P-{self._sequence}")]
        picture = self._pictures[self._sequence % len(self._pictures)]
        self._mqtt.publish(self._target.topic, picture, qos=1, properties=properties)
        return self._sequence

    def _wait_for(self, sequence: int) -> int:
        end = time.perf_counter() + _LIMIT_S
        while (shown := self._read()) < sequence:
            if time.perf_counter() > end:
                raise RuntimeError(f"{self._target.name}: no result for trigger {sequence}, the registers show {shown}")
            time.sleep(POLL_S)
        return shown

    def _read(self) -> int:
        high, low = self._registers(2, 2)
        return high << 16 | low

    def _registers(self, address: int, count: int) -> list[int]:
        answer = self._modbus.read_input_registers(address, count=count, device_id=1)
        if answer.isError():
            raise RuntimeError(f"{self._target.name}: Modbus answers {answer}")
        return [int(word) for word in answer.registers]


def _send_at_once(_client: Client, _userdata: object, opened: object) -> None:
    if isinstance(opened, socket.socket):
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
