"""An I/O module at the belt: a photo-eye on discrete input 0 and an encoder in input registers 0 and 1, on Modbus TCP."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from tests.ports import free_ports

READ_DISCRETE, READ_INPUTS = 2, 4
SEEN_S = 0.1
"""How long a level stands, so that a reader who asks every 20 ms sees it."""


class FieldModule:
    """Serves from a thread of its own; `stop` takes it off the network and `start` brings it back."""

    def __init__(self) -> None:
        self.port = free_ports(1)[0]
        self.blocked = False
        self.count = 0
        self.asked = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server: Any = None

    def start(self) -> None:
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)

    def stop(self) -> None:
        if self._server is not None:
            asyncio.run_coroutine_threadsafe(self._server.shutdown(), self._loop).result(10)
            self._server = None

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def part(self) -> None:
        """Let one part go by, in 200 ms."""
        self.blocked = True
        time.sleep(SEEN_S)
        self.blocked = False
        time.sleep(SEEN_S)

    async def _start(self) -> None:
        bits = [SimData(0, count=16, values=False, datatype=DataType.BITS)]
        spare = [SimData(0, values=0, datatype=DataType.REGISTERS)]
        inputs = [SimData(0, count=2, values=0, datatype=DataType.REGISTERS)]
        device = SimDevice(id=0, simdata=(bits, bits, spare, inputs), action=self._act)
        self._server = ModbusTcpServer(device, address=("127.0.0.1", self.port))
        assert await self._server.listen()

    async def _act(
        self, function_code: int, _start: int, _address: int, _count: int, registers: list[int], _values: Any
    ) -> ExcCodes | None:
        self.asked += 1
        if function_code == READ_DISCRETE:
            registers[0] = int(self.blocked)
        elif function_code == READ_INPUTS:
            registers[:2] = divmod(self.count, 0x10000)
        return None


@contextlib.contextmanager
def field_module() -> Iterator[FieldModule]:
    """Run an I/O module."""
    module = FieldModule()
    module.start()
    try:
        yield module
    finally:
        module.close()
