"""A Modbus server with panels that need no bridge behind them, and the bytes to talk to it."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from bridge.domain.messages import Inbound
from bridge.outputs.modbus.requests import ModbusStations
from bridge.outputs.modbus.server import ModbusServer
from bridge.outputs.plc.panel import PlcPanel
from bridge.outputs.plc.words import WordOrder

MS = 1_000_000


@dataclass
class Bench:
    """The server under test. `now_ns` is its clock, `posted` what the stations were told."""

    panels: list[PlcPanel] = field(default_factory=list)
    posted: list[Inbound] = field(default_factory=list)
    now_ns: int = 5_010 * MS
    port: int = 0
    tls_port: int = 0
    server: ModbusServer | None = None

    async def start(
        self,
        *,
        stations: int = 1,
        result_ack: bool = False,
        mirror: bool = True,
        word_order: WordOrder = "high_first",
        **settings: object,
    ) -> Bench:
        self.panels = [
            PlcPanel(
                station=f"station{n + 1}",
                post=self.posted.append,
                word_order=word_order,
                result_ack=result_ack,
                open_lead_ms=40.0,
            )
            for n in range(stations)
        ]
        self.stations = ModbusStations(self.panels, clock_ns=lambda: self.now_ns, mirror=mirror)
        self.server = ModbusServer(self.stations, **{"host": "127.0.0.1", "port": 0, **settings})  # type: ignore[arg-type]
        await self.server.start()
        self.port, self.tls_port = self.server.port or 0, self.server.tls_port or 0
        return self

    async def stop(self) -> None:
        assert self.server is not None
        await self.server.stop()


def frame(pdu: bytes, *, unit: int = 1, transaction: int = 1) -> bytes:
    return struct.pack(">HHHB", transaction, 0, len(pdu) + 1, unit) + pdu


def read(code: int, address: int, count: int) -> bytes:
    return struct.pack(">BHH", code, address, count)


def write_registers(address: int, values: Sequence[int]) -> bytes:
    return struct.pack(f">BHHB{len(values)}H", 16, address, len(values), 2 * len(values), *values)


class RawClient:
    """A socket that sends bytes and cuts the answers at their MBAP headers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, port: int, *, source: str | None = None) -> RawClient:
        local = (source, 0) if source else None
        return cls(*await asyncio.open_connection("127.0.0.1", port, local_addr=local))

    async def answer(self) -> tuple[int, int, bytes]:
        """Give (transaction, unit, PDU) of the next answer."""
        header = await asyncio.wait_for(self.reader.readexactly(7), 5)
        transaction, protocol, length, unit = struct.unpack(">HHHB", header)
        assert protocol == 0
        return transaction, unit, await asyncio.wait_for(self.reader.readexactly(length - 1), 5)

    async def ask(self, pdu: bytes, *, unit: int = 1) -> bytes:
        self.writer.write(frame(pdu, unit=unit))
        _, answered, body = await self.answer()
        assert answered == unit
        return body

    async def registers(self, code: int, address: int, count: int, *, unit: int = 1) -> list[int]:
        body = await self.ask(read(code, address, count), unit=unit)
        assert body[0] == code, body.hex()
        return list(struct.unpack(f">{count}H", body[2:]))

    async def is_closed(self) -> bool:
        try:
            return await asyncio.wait_for(self.reader.read(1), 5) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.writer.close()
