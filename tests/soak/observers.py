"""Who watches a bridge from outside while it is killed: a subscriber, a PLC that polls Modbus, an OPC UA client.

Each keeps what it saw with the number of the bridge's run, so that what stood in two runs can be told.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from asyncua import Client as OpcUaClient
from asyncua import ua
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from simulators.plc.tables import (
    LIVE_REGISTERS,
    READY_BIT,
    RING_HALVES,
    BridgeResult,
    LiveBlock,
    decode_live,
    decode_ring,
)
from tests.cli.processes import STATION, eventually
from tests.soak.feeder import no_delay

OPCUA_FAULTS = (OSError, RuntimeError, ValueError, TimeoutError, asyncio.CancelledError, ua.UaError)


class Subscriber:
    """Keeps every verdict, gate report and status, over restarts of the broker too, by a session that it keeps."""

    def __init__(self, port: int) -> None:
        self.verdicts: list[dict[str, Any]] = []
        self.gate: list[dict[str, Any]] = []
        self.status: list[tuple[float, dict[str, Any]]] = []
        self.verdict_at_s: list[float] = []
        self._port = port
        self._ready = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="historian", protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_socket_open = no_delay
        self._client.on_connect = self._subscribe
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._keep
        self._client.reconnect_delay_set(min_delay=0.1, max_delay=0.1)

    def start(self) -> None:
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600
        self._client.connect("127.0.0.1", self._port, clean_start=False, properties=properties)
        self._client.loop_start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _subscribe(self, client: Client, *_: Any) -> None:
        client.subscribe([(STATION + topic, 1) for topic in ("verdict", "gate", "status")])

    def _keep(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        document, now_s = json.loads(message.payload), time.monotonic()
        if message.topic.endswith("/verdict"):
            self.verdicts.append(document)
            self.verdict_at_s.append(now_s)
        elif message.topic.endswith("/gate"):
            self.gate.append(document)
        else:
            self.status.append((now_s, document))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A result that stands in the map of one run: first seen between two polls, in monotonic seconds."""

    result: BridgeResult
    not_yet_s: float
    by_s: float


class Registers:
    """A PLC's view of the Modbus map: polls the live block and the ring, and connects again when the bridge is gone."""

    def __init__(self, port: int, run: Callable[[], int], *, period_s: float = 0.02) -> None:
        self._port, self._run, self._period_s = port, run, period_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="plc", daemon=True)
        self._seen_in = -1
        self._transaction = 0
        self.shown: dict[tuple[int, int], Shown] = {}
        """By run and sequence."""
        self.live: LiveBlock | None = None
        self.first_live_s: dict[int, float] = {}
        """When the first result of a run was seen."""
        self.ready_s: dict[int, float] = {}
        """When Ready was first seen set in a run."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(10)

    def _watch(self) -> None:
        while not self._stopping.is_set():
            run = self._run()
            with (
                contextlib.suppress(OSError, struct.error),
                socket.create_connection(("127.0.0.1", self._port), timeout=2) as connection,
            ):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._poll(connection, run)
            self.live = None
            time.sleep(self._period_s)

    def _poll(self, connection: socket.socket, run: int) -> None:
        before_s = time.monotonic()
        while not self._stopping.is_set():
            begun_s = time.monotonic()
            live = decode_live(self._read(connection, 0, LIVE_REGISTERS))
            ring = decode_ring([word for at, count in RING_HALVES for word in self._read(connection, at, count)])
            now_s = time.monotonic()
            newest = [live.newest] if live.newest.verdict else []
            for result in [*newest, *ring]:
                self.shown.setdefault((run, result.sequence), Shown(result=result, not_yet_s=before_s, by_s=now_s))
            if live.bit(READY_BIT):
                self.ready_s.setdefault(run, now_s)
            if live.written and run not in self.first_live_s:
                self.first_live_s[run] = now_s
            self.live, before_s = live, begun_s
            time.sleep(self._period_s)

    def _read(self, connection: socket.socket, address: int, count: int) -> list[int]:
        self._transaction = (self._transaction + 1) % 65536
        connection.sendall(struct.pack(">HHHBBHH", self._transaction, 0, 6, 1, 4, address, count))
        answer = b""
        while len(answer) < 9 + 2 * count:
            more = connection.recv(1024)
            if not more:
                raise ConnectionResetError("the bridge is gone")
            answer += more
        return list(struct.unpack(f">{count}H", answer[9:]))


@dataclass(kw_only=True)
class Tags:
    """An OPC UA client that only polls: sequences seen in Result, in the Gate group and in the ring, by run."""

    port: int
    run: Callable[[], int]
    period_s: float = 0.1
    results: set[tuple[int, int]] = field(default_factory=set)
    ring: set[tuple[int, int]] = field(default_factory=set)
    reads: int = 0

    def start(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._watch()), name="scada", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(10)

    async def _watch(self) -> None:
        while not self._stopping.is_set():
            run = self.run()
            with contextlib.suppress(*OPCUA_FAULTS):
                # a new client each time: the library's own reconnection can hang
                client = OpcUaClient(f"opc.tcp://127.0.0.1:{self.port}/linegate/", timeout=2)
                async with client:
                    await self._poll(client, run)
            await asyncio.sleep(self.period_s)

    async def _poll(self, client: OpcUaClient, run: int) -> None:
        index = await client.get_namespace_index("urn:linegate")
        names = ("Result.Sequence", "Result.Verdict", "Ring.Words")
        nodes = [client.get_node(f"ns={index};s=line1.station1.{name}") for name in names]
        while not self._stopping.is_set():
            answers = await client.uaclient.read_attributes([node.nodeid for node in nodes], ua.AttributeIds.Value)
            sequence, verdict, words = (answer.Value.Value if answer.Value else None for answer in answers)
            if verdict:
                self.results.add((run, sequence))
            self.ring |= {(run, result.sequence) for result in decode_ring(words or [0] * 224)}
            self.reads += 1
            await asyncio.sleep(self.period_s)


def wait_for_live(registers: Registers, run: int, *, limit_s: float = 20.0) -> float:
    """Give the monotonic moment at which a run's first result was seen by Modbus."""
    eventually(lambda: run in registers.first_live_s, limit_s)
    return registers.first_live_s[run]
