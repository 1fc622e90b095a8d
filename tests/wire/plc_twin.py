"""A PLC that is a Modbus TCP server itself, as pymodbus makes one: its holding registers, and every request noted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from tests.ports import free_ports

SIZE = 1000


class PlcTwin:
    """Serves holding registers 0 to 999. `writes` are (address, words) as they came; `refuses` answers with an exception."""

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_ports(1)[0]
        self.refuses: ExcCodes | None = None
        self.limit = SIZE
        self.spoils: dict[int, int] = {}
        self.delay_s = 0.0
        self.writes: list[tuple[int, list[int]]] = []
        self.reads: list[tuple[int, int]] = []
        self.preset: dict[int, int] = {}
        self._words = [0] * SIZE
        self._server: Any = None

    async def start(self) -> None:
        """Begin with all registers at 0, as a PLC does that was switched on, but for `preset`."""
        self._words = [0] * SIZE
        values = SimData(0, count=SIZE, values=0, datatype=DataType.REGISTERS)
        self._server = ModbusTcpServer(
            SimDevice(id=0, simdata=[values], action=self._act), address=("127.0.0.1", self.port)
        )
        assert await self._server.listen()
        await self.put(dict(self.preset))

    async def stop(self) -> None:
        """Lose power: every connection ends."""
        await self._server.shutdown()

    async def put(self, words: dict[int, int]) -> None:
        """Set registers as the PLC's own program does."""
        for address, word in words.items():
            self._words[address] = word

    def words(self, address: int, count: int = 1) -> list[int]:
        """Give what registers hold."""
        return self._words[address : address + count]

    async def until(self, holds: Callable[[], Any], limit_s: float = 8.0) -> None:
        """Wait for something to hold."""
        async with asyncio.timeout(limit_s):
            while not holds():
                await asyncio.sleep(0.005)

    async def _act(
        self, code: int, _start: int, address: int, count: int, registers: list[int], values: Sequence[int] | None
    ) -> ExcCodes | None:
        await asyncio.sleep(self.delay_s)
        if self.refuses is not None:
            return self.refuses
        if address + (len(values) if values else count) > self.limit:
            return ExcCodes.ILLEGAL_ADDRESS
        if values is None:
            self.reads.append((address, count))
            registers[address - _start : address - _start + count] = self._words[address : address + count]
            return None
        assert code == 16
        self.writes.append((address, [int(each) for each in values]))
        self._words[address : address + len(values)] = [int(each) for each in values]
        self._words = [self.spoils.get(place, word) for place, word in enumerate(self._words)]
        return None
