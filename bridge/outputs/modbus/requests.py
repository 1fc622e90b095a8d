"""Modbus requests, whichever way they came: decoded by pymodbus, checked by the rules here, answered from the registers."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
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
from bridge.outputs.modbus.registers import WRITE_COIL, StationRegisters
from bridge.outputs.plc.panel import PlcPanel

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

    async def answer(self, station: int, request: bytes, *, client: object) -> ModbusPDU:
        """Answer one PDU to a station counted from 0; exception 0B where there is no such station."""
        code = request[0]
        kind = REQUESTS.get(code)
        if kind is None:
            return ExceptionResponse(code & 0x7F, ExcCodes.ILLEGAL_FUNCTION)
        if station not in range(len(self._stations)):
            return ExceptionResponse(code, ExcCodes.GATEWAY_NO_RESPONSE)
        decoded = _decode(kind, request)
        if isinstance(decoded, ExceptionResponse):
            return decoded
        registers = self._stations[station]
        if isinstance(decoded, ReadWriteMultipleRegistersRequest) and not registers.holds(
            decoded.read_address, decoded.read_count
        ):
            return ExceptionResponse(code, ExcCodes.ILLEGAL_ADDRESS)
        response = await decoded.datastore_update(cast(Any, registers), station)
        if code not in _READS and not response.isError():
            self._writers[station].add(client)
        return response

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
