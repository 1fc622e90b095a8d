"""A remote I/O module as its vendor makes it: coils on Modbus TCP, each write noted with its moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice


class RemoteIo:
    """Serves 16 coils; `writes` are (monotonic ns, coil, on) of every request, `edges` of those that changed something."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.refuses = False
        self.writes: list[tuple[int, int, bool]] = []
        self.edges: list[tuple[int, int, bool]] = []
        self.coils = [False] * 16
        self._server: Any = None

    async def start(self) -> None:
        bits = [SimData(0, count=16, values=False, datatype=DataType.BITS)]
        spare = [SimData(0, values=0, datatype=DataType.REGISTERS)]
        device = SimDevice(id=0, simdata=(bits, bits, spare, spare), action=self._act)
        self._server = ModbusTcpServer(device, address=("127.0.0.1", self.port))
        assert await self._server.listen()

    async def stop(self) -> None:
        """Lose power: every connection ends and the coils drop."""
        await self._server.shutdown()
        self.coils = [False] * 16

    async def _act(
        self, function_code: int, _start: int, address: int, _count: int, _registers: list[int], values: Any
    ) -> ExcCodes | None:
        if values is None or function_code not in (5, 15):
            return None
        if self.refuses:
            return ExcCodes.DEVICE_FAILURE
        on = bool(values[0])
        moment = (time.monotonic_ns(), address, on)
        self.writes.append(moment)
        if on != self.coils[address]:
            self.coils[address] = on
            self.edges.append(moment)
        return None

    async def until(self, holds: Callable[[], bool], limit_s: float = 8.0) -> None:
        async with asyncio.timeout(limit_s):
            while not holds():
                await asyncio.sleep(0.005)
