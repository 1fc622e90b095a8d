"""One station's registers as Modbus clients read and write them: which addresses there are, and what they hold.

It answers pymodbus' requests in place of a data store: `async_getValues` and `async_setValues` are the names they call.
"""

from __future__ import annotations

from collections.abc import Callable

from pymodbus.constants import ExcCodes

from bridge.outputs.plc.control_block import BLOCK_SIZE, COIL_BASE, initial_block, read_block
from bridge.outputs.plc.panel import PlcPanel
from bridge.outputs.plc.register_map import (
    DISCRETE_SIZE,
    GATE_COIL,
    INPUT_SIZE,
    MIRROR_OFFSET,
    RING_BASE,
    encode_discrete,
    encode_moment,
    encode_status,
)
from bridge.outputs.plc.view import PlcView

READ_COILS, READ_DISCRETE, READ_HOLDING, READ_INPUT = 1, 2, 3, 4
WRITE_COIL, WRITE_REGISTER, WRITE_COILS, WRITE_REGISTERS, MASK_WRITE, READ_WRITE = 5, 6, 15, 16, 22, 23
_COIL_CODES = frozenset({READ_COILS, WRITE_COIL, WRITE_COILS})

_BLOCK = range(BLOCK_SIZE)
_COILS = range(COIL_BASE, COIL_BASE + 16)


def _inside(address: int, count: int, place: range) -> bool:
    return address in place and address + count <= place.stop


class StationRegisters:
    """The address rules of one station. `clock_ns` is monotonic; `mirror` shows input registers at holding +1000."""

    def __init__(self, panel: PlcPanel, *, clock_ns: Callable[[], int], mirror: bool) -> None:
        self._panel = panel
        self._clock_ns = clock_ns
        self._mirror = range(MIRROR_OFFSET, MIRROR_OFFSET + INPUT_SIZE) if mirror else range(0)
        self._block = initial_block()
        self._status = encode_status(panel.view, panel.word_order)
        self._discrete = encode_discrete(panel.view)
        panel.watch(self._encode)

    def _encode(self, view: PlcView) -> None:
        self._status = encode_status(view, self._panel.word_order)
        self._discrete = encode_discrete(view)

    async def async_getValues(  # noqa: N802 - pymodbus calls it by this name
        self, _unit: int, code: int, address: int, count: int = 1
    ) -> list[int] | list[bool] | ExcCodes:
        """Read `count` registers or bits for function `code`; ILLEGAL_ADDRESS outside the map."""
        if code in _COIL_CODES:
            return self._coils(address, count)
        if code == READ_DISCRETE:
            if not _inside(address, count, range(DISCRETE_SIZE)):
                return ExcCodes.ILLEGAL_ADDRESS
            return self._discrete[address : address + count]
        if code == READ_INPUT:
            return (
                self._input(address, count) if _inside(address, count, range(INPUT_SIZE)) else ExcCodes.ILLEGAL_ADDRESS
            )
        if _inside(address, count, _BLOCK):
            return self._block[address : address + count]
        if _inside(address, count, self._mirror):
            return self._input(address - MIRROR_OFFSET, count)
        return ExcCodes.ILLEGAL_ADDRESS

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

    def _input(self, address: int, count: int) -> list[int]:
        if address < RING_BASE:
            shown = self._panel.view.shown
            encode_moment(
                self._status,
                shown.order if shown else None,
                now_ns=self._clock_ns(),
                word_order=self._panel.word_order,
            )
        if address + count <= RING_BASE:
            return self._status[address : address + count]
        if address >= RING_BASE:
            return list(self._panel.view.ring[address - RING_BASE : address - RING_BASE + count])
        return [*self._status, *self._panel.view.ring][address : address + count]
