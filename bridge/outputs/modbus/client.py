"""One Modbus TCP connection to a PLC whose own holding registers the bridge writes; frames are pymodbus'.

pymodbus' own client repeats requests and closes itself after some that were not answered; here a request that gets no
answer in time, or a wrong one, ends the connection, and what was still on its way is dropped with it.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.exceptions import ModbusException
from pymodbus.framer import FramerSocket
from pymodbus.pdu import DecodePDU, ModbusPDU
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, WriteMultipleRegistersRequest

from bridge.errors import OutputError, RefusedError
from bridge.outputs.modbus.block_writes import WRITE_LIMIT, ring_writes, status_writes
from bridge.outputs.plc.client import Found, PlcClientName
from bridge.outputs.plc.control_block import BLOCK_SIZE, read_block
from bridge.outputs.plc.fresh_orders import FreshOrders, Place
from bridge.outputs.plc.listening import keep_alive, reset_on_close
from bridge.outputs.plc.panel import PlcPanel
from bridge.outputs.plc.register_map import EMPTY_SLOT, encode_moment, encode_slot, encode_status
from bridge.outputs.plc.view import PlcView, Shown
from bridge.outputs.plc.words import WordOrder

_HEADER = 6  # transaction, protocol, length; the unit is the first byte of what the length counts
_LENGTHS = range(3, 255)
_SEQUENCE = slice(2, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModbusClientSettings:
    """Where a PLC's registers are, and how it takes them. `read_s` 0 reads nothing."""

    host: str
    port: int = 502
    unit: int = 1
    address: int = 0
    control_address: int = 400
    max_registers: int = WRITE_LIMIT
    word_order: WordOrder = "high_first"
    timeout_s: float = 1.0
    read_s: float = 0.05
    write_s: float = 0.1
    drives_gate: bool = True

    @property
    def name(self) -> PlcClientName:
        """The section of the configuration that they come from."""
        return "modbus_client"

    @property
    def where(self) -> str:
        """The PLC's address, for people."""
        return f"{self.host}:{self.port}"

    @property
    def places(self) -> frozenset[Place]:
        """Where the PLC sees orders."""
        return frozenset({"ring", "shown"})

    @property
    def reads(self) -> bool:
        """Whether the PLC's block is read."""
        return self.read_s > 0.0

    def connection(self, panel: PlcPanel, orders: FreshOrders, *, clock_ns: Callable[[], int]) -> ModbusConnection:
        """Make a connection that is not open yet."""
        return ModbusConnection(self, panel, orders, clock_ns=clock_ns)


class ModbusConnection:
    """Write a panel's view into a PLC's registers, and read the PLC's block from it."""

    def __init__(
        self, settings: ModbusClientSettings, panel: PlcPanel, orders: FreshOrders, *, clock_ns: Callable[[], int]
    ) -> None:
        self._settings = settings
        self._panel = panel
        self._orders = orders
        self._clock_ns = clock_ns
        self._framer = FramerSocket(DecodePDU(is_server=False))
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._transaction = 0
        self._slots: list[tuple[int, ...]] | None = None
        self._encoded: dict[int, tuple[Shown, tuple[int, ...]]] = {}
        self._written: int | None = None

    async def open(self) -> None:
        """Connect; raises OutputError."""
        settings = self._settings
        try:
            async with asyncio.timeout(settings.timeout_s):
                self._streams = await asyncio.open_connection(settings.host, settings.port)
        except TimeoutError as exc:
            raise self._lost(f"no connection within {settings.timeout_s:g} s") from exc
        except OSError as exc:
            raise self._lost(exc.strerror or str(exc)) from exc
        connection = self._streams[1].get_extra_info("socket")
        keep_alive(connection)
        reset_on_close(connection)

    async def write(self) -> bool:
        """Write ring slots, then registers 0 to 54, and read the sequence back when a result is new.

        Gives False when an order's answer came after it was due. Raises OutputError, RefusedError for an exception of the
        PLC's, or a sequence that did not stay as it was written.
        """
        at_most = self._settings.max_registers
        begun_ns, source = self._clock_ns(), self._panel.view
        view, slots = self._fresh(source, begun_ns)
        for part in ring_writes(slots, self._slots, max_registers=at_most):
            await self._send(part.start, part.words)
        self._slots = slots
        if not self._answered(view, ring_too=True):
            return False
        # A result that came meanwhile is not announced before its slot is written: it goes next.
        if not ring_writes(self._fresh(self._panel.view, begun_ns)[1], slots):
            source = self._panel.view
        view, _ = self._fresh(source, begun_ns)
        words = encode_status(view, self._settings.word_order)
        order = view.shown.order if view.shown else None
        encode_moment(words, order, now_ns=self._clock_ns(), word_order=self._settings.word_order)
        for part in status_writes(words, max_registers=at_most):
            await self._send(part.start, part.words)
        in_time = self._answered(view)
        if view.written != self._written:
            await self._read_back(words[_SEQUENCE])
            self._written = view.written
        return in_time

    async def read(self) -> Found:
        """Read the PLC's 16 registers; they are counted from the middle of the request's time."""
        asked_ns = self._clock_ns()
        words = await self._registers(self._settings.control_address, BLOCK_SIZE)
        values = read_block(words, start=0, count=BLOCK_SIZE, word_order=self._settings.word_order)
        return Found(values=values, at_ns=(asked_ns + self._clock_ns()) // 2)

    async def close(self, *, orderly: bool) -> None:
        """Reset the connection, so that nothing is sent after this."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    def _fresh(self, view: PlcView, begun_ns: int) -> tuple[PlcView, list[tuple[int, ...]]]:
        """Give what of a view may be sent now, in a write that began at `begun_ns`, and its ring slots in words."""
        fresh = self._orders.view(view, self._clock_ns(), begun_ns=begun_ns)
        return fresh, [EMPTY_SLOT if shown is None else self._slot(n, shown) for n, shown in enumerate(fresh.slots)]

    def _slot(self, number: int, shown: Shown) -> tuple[int, ...]:
        known = self._encoded.get(number)
        if known is None or known[0] != shown:
            known = shown, tuple(encode_slot(shown, self._settings.word_order))
            self._encoded[number] = known
        return known[1]

    def _answered(self, view: PlcView, *, ring_too: bool = False) -> bool:
        now_ns = self._clock_ns()
        if not ring_too:
            return self._orders.answered("shown", view.shown, now_ns)
        told = [self._orders.answered("ring", each, now_ns) for each in view.slots]
        return all(told)

    async def _read_back(self, sequence: Sequence[int]) -> None:
        address = self._settings.address + _SEQUENCE.start
        found = await self._registers(address, len(sequence))
        if list(found) != list(sequence):
            raise RefusedError(
                f"{self._settings.where}: registers {address} and {address + 1} hold {found} right after {list(sequence)} "
                "was written: something else writes there too"
            )

    async def _send(self, start: int, words: Sequence[int]) -> None:
        address = self._settings.address + start
        request = WriteMultipleRegistersRequest(address=address, registers=list(words), dev_id=self._settings.unit)
        answer: Any = await self._ask(request, f"writing registers {address} to {address + len(words) - 1}")
        if (answer.address, answer.count) != (address, len(words)):
            raise self._lost(
                f"it confirmed {answer.count} registers from {answer.address}, not {len(words)} from {address}"
            )

    async def _registers(self, address: int, count: int) -> list[int]:
        request = ReadHoldingRegistersRequest(address=address, count=count, dev_id=self._settings.unit)
        answer = await self._ask(request, f"reading registers {address} to {address + count - 1}")
        if len(answer.registers) != count:
            raise self._lost(f"it answered {len(answer.registers)} registers, not {count}")
        return list(answer.registers)

    async def _ask(self, request: ModbusPDU, what: str) -> ModbusPDU:
        """Send one request and give its answer; raises RefusedError for an exception, OutputError for anything else."""
        self._transaction = self._transaction % 0xFFFF + 1
        request.transaction_id = self._transaction
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                frame = await self._exchange(self._framer.buildFrame(request))
            _, decoded = self._framer.handleFrame(frame, 0, 0)
        except TimeoutError as exc:
            raise self._lost(f"{what}: no answer within {self._settings.timeout_s:g} s") from exc
        except asyncio.IncompleteReadError as exc:
            raise self._lost(f"{what}: the PLC closed the connection") from exc
        except (OSError, ModbusException, ValueError, IndexError, struct.error) as exc:
            raise self._lost(f"{what}: {exc}") from exc
        answer: ModbusPDU | None = decoded
        if answer is None or answer.transaction_id != self._transaction:
            raise self._lost(f"{what}: the answer belongs to another request")
        if answer.isError():
            raise RefusedError(f"{self._settings.where}: {what}: exception {_exception(answer)}")
        if answer.function_code != request.function_code:
            raise self._lost(f"{what}: the answer is of function {answer.function_code}")
        return answer

    async def _exchange(self, frame: bytes) -> bytes:
        if self._streams is None:
            raise self._lost("not connected")
        reader, writer = self._streams
        writer.write(frame)
        await writer.drain()
        header = await reader.readexactly(_HEADER)
        _, protocol, length = struct.unpack(">HHH", header)
        if protocol != 0 or length not in _LENGTHS:
            raise self._lost(f"not a Modbus answer: {header.hex()}")
        return header + await reader.readexactly(length)

    def _lost(self, why: str) -> OutputError:
        return OutputError(f"{self._settings.where}: {why}")


def _exception(answer: Any) -> str:
    """Name an exception by number and by the standard's word for it."""
    code = int(answer.exception_code)
    known = {int(each): each.name.lower().replace("_", " ") for each in ExcCodes}
    return f"{code} ({known.get(code, 'unknown')})"
