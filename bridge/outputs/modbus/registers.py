"""One station's registers as Modbus clients read and write them: which addresses there are, and what they hold.

It answers pymodbus' requests in place of a data store: `async_getValues` and `async_setValues` are the names they call.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from pymodbus.constants import ExcCodes

from bridge.outputs.plc.control_block import BLOCK_SIZE, COIL_BASE, initial_block, read_block
from bridge.outputs.plc.panel import PlcPanel
from bridge.outputs.plc.register_map import (
    CLOCK,
    DISCRETE_SIZE,
    GATE_COIL,
    INPUT_SIZE,
    MIRROR_OFFSET,
    RING_BASE,
    UNTIL_OPEN,
    encode_discrete,
    encode_status,
    moment_of,
)
from bridge.outputs.plc.view import PlcView

READ_COILS, READ_DISCRETE, READ_HOLDING, READ_INPUT = 1, 2, 3, 4
WRITE_COIL, WRITE_REGISTER, WRITE_COILS, WRITE_REGISTERS, MASK_WRITE, READ_WRITE = 5, 6, 15, 16, 22, 23
_COIL_CODES = frozenset({READ_COILS, WRITE_COIL, WRITE_COILS})

_BLOCK = range(BLOCK_SIZE)
_COILS = range(COIL_BASE, COIL_BASE + 16)
_INPUTS = range(INPUT_SIZE)
_ALL_INPUTS = struct.Struct(f">{INPUT_SIZE}H")
_WORD, _TWO_WORDS = struct.Struct(">H"), struct.Struct(">HH")


def _inside(address: int, count: int, place: range) -> bool:
    return address in place and address + count <= place.stop


class StationRegisters:
    """The address rules of one station. `clock_ns` is monotonic; `mirror` shows input registers at holding +1000."""

    def __init__(self, panel: PlcPanel, *, clock_ns: Callable[[], int], mirror: bool) -> None:
        self._panel = panel
        self._clock_ns = clock_ns
        self._mirror = range(MIRROR_OFFSET, MIRROR_OFFSET + INPUT_SIZE) if mirror else range(0)
        self._block = initial_block()
        self._encoded: PlcView | None = None
        self._image = bytearray(_ALL_INPUTS.size)

    def read(self, code: int, address: int, count: int) -> bytes | None:
        """Give `count` registers for function 3 or 4 as they go out; None outside the map.

        A view is encoded at its first read; every other one is a slice, with the moment's registers put in.
        """
        if code == READ_INPUT:
            return self._input(address, count) if _inside(address, count, _INPUTS) else None
        if _inside(address, count, _BLOCK):
            return struct.pack(f">{count}H", *self._block[address : address + count])
        if _inside(address, count, self._mirror):
            return self._input(address - MIRROR_OFFSET, count)
        return None

    async def async_getValues(  # noqa: N802 - pymodbus calls it by this name
        self, _unit: int, code: int, address: int, count: int = 1
    ) -> list[int] | list[bool] | ExcCodes:
        """Read `count` registers or bits for function `code`; ILLEGAL_ADDRESS outside the map."""
        if code in _COIL_CODES:
            return self._coils(address, count)
        if code == READ_DISCRETE:
            if not _inside(address, count, range(DISCRETE_SIZE)):
                return ExcCodes.ILLEGAL_ADDRESS
            return encode_discrete(self._panel.view)[address : address + count]
        found = self.read(code, address, count)
        return ExcCodes.ILLEGAL_ADDRESS if found is None else list(struct.unpack(f">{count}H", found))

    async def async_setValues(  # noqa: N802 - pymodbus calls it by this name
        self, _unit: int, code: int, address: int, values: list[int] | list[bool]
    ) -> ExcCodes | None:
        """Write into the PLC's block, the only place a client can write; ILLEGAL_ADDRESS elsewhere."""
        if code in _COIL_CODES:
            if not _inside(address, len(values), _COILS):
                return ExcCodes.ILLEGAL_ADDRESS
            for bit, on in enumerate(values, start=address - COIL_BASE):
                self._block[0] = self._block[0] & ~(1 << bit) | bool(on) << bit
            self._written(0, 1)
            return None
        if not _inside(address, len(values), _BLOCK):
            return ExcCodes.ILLEGAL_ADDRESS
        self._block[address : address + len(values)] = [int(value) for value in values]
        self._written(address, len(values))
        return None

    def holds(self, address: int, count: int) -> bool:
        """Whether these holding registers can be read."""
        return _inside(address, count, _BLOCK) or _inside(address, count, self._mirror)

    def _written(self, start: int, count: int) -> None:
        written = read_block(self._block, start=start, count=count, word_order=self._panel.word_order)
        self._panel.control("modbus", written, now_ns=self._clock_ns())

    def _coils(self, address: int, count: int) -> list[bool] | ExcCodes:
        if (address, count) == (GATE_COIL, 1):
            return [self._panel.view.status.gate_on]
        if not _inside(address, count, _COILS):
            return ExcCodes.ILLEGAL_ADDRESS
        return [bool(self._block[0] >> bit & 1) for bit in range(address - COIL_BASE, address - COIL_BASE + count)]

    def _input(self, address: int, count: int) -> bytes:
        view = self._panel.view
        if view is not self._encoded:
            _ALL_INPUTS.pack_into(self._image, 0, *encode_status(view, self._panel.word_order), *view.ring)
            self._encoded = view
        if address < RING_BASE:
            order = view.shown.order if view.shown else None
            until_open, clock = moment_of(order, now_ns=self._clock_ns(), word_order=self._panel.word_order)
            _WORD.pack_into(self._image, 2 * UNTIL_OPEN, until_open)
            _TWO_WORDS.pack_into(self._image, 2 * CLOCK, *clock)
        return bytes(self._image[2 * address : 2 * (address + count)])
