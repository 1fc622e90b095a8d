"""The PLC's two Modbus connections: to the field's I/O and to the bridge. Each makes a new client after a failure."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException

from simulators.line.field_io import GATE_COIL, INPUT_REGISTERS, FieldState, decode_inputs
from simulators.plc.tables import (
    LIVE_REGISTERS,
    RING_HALVES,
    RING_SLOTS,
    U32,
    BridgeResult,
    ControlBlock,
    LiveBlock,
    decode_live,
    decode_ring,
    encode_control,
)

log = logging.getLogger(__name__)
REMEMBERED = 4 * RING_SLOTS


class LinkDownError(Exception):
    """The other end did not answer; the next call connects anew."""


class ModbusLink:
    """One Modbus TCP connection that is made when it is needed and made again when it has failed."""

    def __init__(self, *, name: str, host: str, port: int, timeout_s: float = 1.0) -> None:
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
        self._name, self._host, self._port, self._timeout_s = name, host, port, timeout_s
        self._client: AsyncModbusTcpClient | None = None
        self._was_up: bool | None = None

    async def read_inputs(self, address: int, count: int) -> list[int]:
        """Read input registers; raises LinkDownError."""
        client = await self._connected()
        try:
            answer = await client.read_input_registers(address, count=count)
        except (ModbusException, OSError, TimeoutError) as exc:
            raise self._down(str(exc)) from exc
        if answer.isError():
            raise self._down(f"read of {count} at {address} answered {answer}")
        return list(answer.registers)

    async def write_holding(self, address: int, values: list[int]) -> None:
        """Write holding registers in one request; raises LinkDownError."""
        client = await self._connected()
        try:
            answer = await client.write_registers(address, values)
        except (ModbusException, OSError, TimeoutError) as exc:
            raise self._down(str(exc)) from exc
        if answer.isError():
            raise self._down(f"write at {address} answered {answer}")

    async def write_coil(self, address: int, value: bool) -> None:
        """Write one coil; raises LinkDownError."""
        client = await self._connected()
        try:
            answer = await client.write_coil(address, value)
        except (ModbusException, OSError, TimeoutError) as exc:
            raise self._down(str(exc)) from exc
        if answer.isError():
            raise self._down(f"write of coil {address} answered {answer}")

    def close(self) -> None:
        """Drop the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    async def _connected(self) -> AsyncModbusTcpClient:
        if self._client is not None and self._client.connected:
            return self._client
        self.close()
        client = AsyncModbusTcpClient(
            self._host, port=self._port, timeout=self._timeout_s, retries=0, reconnect_delay=0
        )
        try:
            connected = await client.connect()
        except (ModbusException, OSError, TimeoutError) as exc:
            raise self._down(str(exc)) from exc
        if not connected:
            client.close()
            raise self._down("no connection")
        if self._was_up is False:
            log.warning("PLC: %s at %s:%s is back", self._name, self._host, self._port)
        self._client, self._was_up = client, True
        return client

    def _down(self, reason: str) -> LinkDownError:
        if self._was_up is not False:
            log.warning("PLC: %s at %s:%s does not answer: %s", self._name, self._host, self._port, reason)
        self._was_up = False
        self.close()
        return LinkDownError(f"{self._name}: {reason}")


class FieldLink:
    """The PLC's I/O image: inputs with the moment they were true, and the gate's output."""

    def __init__(self, link: ModbusLink) -> None:
        self._link = link

    async def read(self) -> tuple[int, FieldState]:
        """Read the inputs; the moment is the middle of the round trip, monotonic ns. Raises LinkDownError."""
        sent_ns = time.monotonic_ns()
        registers = await self._link.read_inputs(0, INPUT_REGISTERS)
        return (sent_ns + time.monotonic_ns()) // 2, decode_inputs(registers)

    async def write_gate(self, on: bool) -> None:
        """Switch the gate; raises LinkDownError."""
        await self._link.write_coil(GATE_COIL, on)


class BridgeLink:
    """The bridge's map: every result once, from the live block, or from the ring where more than one is new."""

    def __init__(self, link: ModbusLink) -> None:
        self._link = link
        self._written: int | None = None
        self._seen: OrderedDict[int, None] = OrderedDict()
        self.overrun = 0
        self._due = 0

    async def poll(self) -> tuple[LiveBlock, list[BridgeResult]]:
        """Read the live block and what results are new since the last poll; raises LinkDownError.

        What stands in the map at the very first poll is old. A count that ran back is a bridge that restarted.
        """
        live = decode_live(await self._link.read_inputs(0, LIVE_REGISTERS))
        if self._written is None or live.written < self._written:
            restarted, self._written = self._written is not None, 0 if self._written is not None else live.written
            self._seen.clear()
            self._due = 0
            if restarted:
                log.warning("PLC: the bridge has restarted")
        new = (live.written - self._written) % U32
        if new == 0:
            return live, []
        if new == 1:
            found = [live.newest]
        else:
            registers = [word for at, count in RING_HALVES for word in await self._link.read_inputs(at, count)]
            found = [result for result in decode_ring(registers) if result.sequence not in self._seen]
        self._written = live.written
        fresh = [result for result in found if result.sequence not in self._seen]
        self._note_missed(new, len(fresh))
        for result in fresh:
            self._seen[result.sequence] = None
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return live, fresh

    def _note_missed(self, new: int, found: int) -> None:
        """Count results that were written and are not in the ring: it holds 16, and of a slot's sequences the last alone.

        The ring is read after the count and may be ahead of it: what it shows too early is not missed the next time.
        """
        self._due += new - found
        if self._due > 0:
            self.overrun += self._due
            self._due = 0

    async def write(self, block: ControlBlock) -> None:
        """Write the PLC's block; raises LinkDownError."""
        await self._link.write_holding(0, encode_control(block))
