"""Modbus requests, whichever way they came: decoded by pymodbus, checked by the rules here, answered from the registers.

Reads of registers, which PLCs send a hundred times a second, are answered here in bytes: pymodbus packs each register by
itself, three objects and a coroutine for each request.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, cast

from pymodbus.constants import ExcCodes
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ExceptionResponse, ModbusPDU
from pymodbus.pdu.bit_message import (
    ReadCoilsRequest,
    ReadDiscreteInputsRequest,
    WriteMultipleCoilsRequest,
    WriteSingleCoilRequest,
)
from pymodbus.pdu.device import ModbusControlBlock
from pymodbus.pdu.mei_message import ReadDeviceInformationRequest
from pymodbus.pdu.register_message import (
    MaskWriteRegisterRequest,
    ReadHoldingRegistersRequest,
    ReadInputRegistersRequest,
    ReadWriteMultipleRegistersRequest,
    WriteMultipleRegistersRequest,
    WriteSingleRegisterRequest,
)

from bridge import __version__
from bridge.outputs.modbus.registers import READ_HOLDING, READ_INPUT, WRITE_COIL, StationRegisters
from bridge.outputs.plc.panel import PlcPanel
from bridge.outputs.plc.register_map import READ_LIMIT

REQUESTS: Mapping[int, type[ModbusPDU]] = {
    kind.function_code: kind
    for kind in (
        ReadCoilsRequest,
        ReadDiscreteInputsRequest,
        ReadHoldingRegistersRequest,
        ReadInputRegistersRequest,
        WriteSingleCoilRequest,
        WriteSingleRegisterRequest,
        WriteMultipleCoilsRequest,
        WriteMultipleRegistersRequest,
        MaskWriteRegisterRequest,
        ReadWriteMultipleRegistersRequest,
        ReadDeviceInformationRequest,
    )
}
# Bytes of a request with its function code, where it has one length; the others carry a count that pymodbus checks.
_FIXED_LENGTH: Mapping[int, int] = {1: 5, 2: 5, 3: 5, 4: 5, 5: 5, 6: 5, 22: 7, 43: 4}
_COIL_VALUES = frozenset({b"\x00\x00", b"\xff\x00"})
_DEVICE_IDENTIFICATION = 43
_READ_DEVICE_ID = 14
_READS = frozenset({1, 2, 3, 4, _DEVICE_IDENTIFICATION})
_REGISTER_READS = frozenset({READ_HOLDING, READ_INPUT})
_READ = struct.Struct(">BHH")
_HEAD = struct.Struct(">BB")
_ERROR = 0x80


class ModbusStations:
    """Answer requests to the panels of all stations, and know which client wrote which control block.

    `clock_ns` is monotonic; `mirror` shows input registers at holding +1000. Every way in shares it: what one client
    wrote, another one reads.
    """

    def __init__(self, panels: Sequence[PlcPanel], *, clock_ns: Callable[[], int], mirror: bool = True) -> None:
        identity = cast(Any, ModbusControlBlock)().Identity
        identity.update({0: "Linegate", 1: "linegate", 2: __version__, 4: "Linegate", 5: "linegate"})
        self._panels = tuple(panels)
        self._stations = [StationRegisters(panel, clock_ns=clock_ns, mirror=mirror) for panel in panels]
        self._writers: list[set[object]] = [set() for _ in panels]

    def __len__(self) -> int:
        return len(self._stations)

    def answer(self, station: int, request: bytes, *, client: object) -> bytes:
        """Answer one PDU to a station counted from 0; exception 0B where there is no such station."""
        code = request[0]
        if code not in REQUESTS:
            return _exception(code & ~_ERROR, ExcCodes.ILLEGAL_FUNCTION)
        if not 0 <= station < len(self._stations):
            return _exception(code, ExcCodes.GATEWAY_NO_RESPONSE)
        registers = self._stations[station]
        if code in _REGISTER_READS and len(request) == _READ.size:
            return _read(registers, request)
        response = _carried_out(registers, request)
        if code not in _READS and not response.isError():
            self._writers[station].add(client)
        return bytes((response.function_code,)) + response.encode()

    def has_client_that_wrote(self, station: int) -> bool:
        """Whether a client that wrote the control block of a station (counted from 0) is still there."""
        return bool(self._writers[station])

    def forget(self, client: object) -> None:
        """Tell each station when the last client that wrote its control block is gone."""
        for panel, writers in zip(self._panels, self._writers, strict=True):
            if client in writers:
                writers.remove(client)
                if not writers:
                    panel.link_lost("modbus")


def _exception(code: int, why: ExcCodes) -> bytes:
    return _HEAD.pack(code | _ERROR, why)


def _read(registers: StationRegisters, request: bytes) -> bytes:
    code, address, count = _READ.unpack(request)
    if not 1 <= count <= READ_LIMIT:
        return _exception(code, ExcCodes.ILLEGAL_VALUE)
    found = registers.read(code, address, count)
    return _exception(code, ExcCodes.ILLEGAL_ADDRESS) if found is None else _HEAD.pack(code, len(found)) + found


def _carried_out(registers: StationRegisters, request: bytes) -> ModbusPDU:
    """Let pymodbus decode and carry out what is no plain read."""
    code = request[0]
    decoded = _decode(REQUESTS[code], request)
    if isinstance(decoded, ExceptionResponse):
        return decoded
    if isinstance(decoded, ReadWriteMultipleRegistersRequest) and not registers.holds(
        decoded.read_address, decoded.read_count
    ):
        return ExceptionResponse(code, ExcCodes.ILLEGAL_ADDRESS)
    return _at_once(decoded.datastore_update(cast(Any, registers), 0))


def _at_once(work: Coroutine[Any, Any, ModbusPDU]) -> ModbusPDU:
    """Run a coroutine of pymodbus' to its end: all that it awaits are our registers, which never wait."""
    try:
        work.send(None)
    except StopIteration as done:
        response: ModbusPDU = done.value
        return response
    work.close()
    raise RuntimeError("a Modbus request waited for something")


def _decode(kind: type[ModbusPDU], frame: bytes) -> ModbusPDU:
    """Decode one request; gives an exception response (03, 01 for another MEI type) for what breaks the protocol."""
    code = frame[0]
    if code == _DEVICE_IDENTIFICATION and frame[1:2] != bytes([_READ_DEVICE_ID]):
        return ExceptionResponse(code, ExcCodes.ILLEGAL_FUNCTION)
    refused = ExceptionResponse(code, ExcCodes.ILLEGAL_VALUE)
    if len(frame) != _FIXED_LENGTH.get(code, len(frame)) or (code == WRITE_COIL and frame[3:5] not in _COIL_VALUES):
        return refused
    if code == _DEVICE_IDENTIFICATION and frame[2] not in {1, 2, 3, 4}:
        return refused
    request = kind()
    try:
        request.decode(frame[1:])
    except (ValueError, IndexError, struct.error, ModbusException):
        return refused
    return request
