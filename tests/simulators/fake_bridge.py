"""A bridge of forty lines: judges a part by the folder that its picture's path names, and shows the results by Modbus."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

U32 = 2**32


def words(value: int) -> list[int]:
    return [value % U32 >> 16, value % 65536]


class FakeBridge:
    """Subscribe to triggers (image form `path`), answer with LET_PASS for `good/...` and an order for anything else."""

    def __init__(self, *, window_mm: tuple[float, float] = (585.0, 715.0), latency_s: float = 0.02) -> None:
        self.registers = [0] * 324
        self.holding = [0] * 16
        self.sequences: list[int] = []
        self.port = 0
        self._window_mm, self._latency_s = window_mm, latency_s
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)

    async def start(self, *, mqtt_port: int) -> None:
        loop = asyncio.get_running_loop()
        space = [SimData(0, count=324, values=0, datatype=DataType.REGISTERS)]
        bits = [SimData(0, count=16, values=False, datatype=DataType.BITS)]
        device = SimDevice(id=0, simdata=(bits, bits, space, space), action=self._act)
        self._server = ModbusTcpServer(device, address=("127.0.0.1", 0))
        assert await self._server.listen()
        transport: Any = self._server.transport
        self.port = transport.sockets[0].getsockname()[1]
        subscribed = asyncio.Event()

        def on_message(_client: Client, _data: Any, message: MQTTMessage) -> None:
            loop.call_soon_threadsafe(loop.call_later, self._latency_s, self.judge, json.loads(message.payload))

        self._client.on_message = on_message
        self._client.on_connect = lambda client, *_: client.subscribe("linegate/line1/station1/trigger", qos=1)
        self._client.on_subscribe = lambda *_: loop.call_soon_threadsafe(subscribed.set)
        self._client.connect("127.0.0.1", mqtt_port)
        self._client.loop_start()
        await subscribed.wait()

    async def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        server: Any = self._server
        await server.shutdown()

    def judge(self, trigger: dict[str, Any]) -> None:
        """Show one result, unless the trigger came twice."""
        sequence, count = trigger["sequence"], trigger["encoder"]
        if sequence in self.sequences:
            return
        self.sequences.append(sequence)
        good = trigger["image"]["path"].startswith("good/")
        verdict, disposition, flags = (1, 1, 0) if good else (2, 2, 0b101)
        opens, closes = (words(count + round(mm * 10)) for mm in self._window_mm)
        slot = [*words(sequence), verdict, disposition, 0, 9000, *opens, *closes, 0, 0, 108, flags]
        at = 100 + sequence % 16 * 14
        live = self.registers
        live[at : at + 14] = slot
        live[2:8] = [*words(sequence), verdict, disposition, 0, 9000]
        live[9], live[10:12], live[44:46] = flags, opens, closes
        live[38:40] = words(len(self.sequences))

    async def _act(
        self, code: int, _start: int, address: int, _count: int, registers: list[int], values: list[Any] | None
    ) -> ExcCodes | None:
        if code == 16 and values is not None:
            self.holding[address : address + len(values)] = values
        elif code == 4:
            self.registers[1] = time.monotonic_ns() // 500_000_000 % 65536
            registers[:324] = self.registers
        return None
