"""The Modbus TCP server: frames and requests are pymodbus', the rules about connections are here.

pymodbus' own server answers one request of a segment that holds several, stays open and deaf after a malformed header,
and drops buffers over 264 bytes; so each connection is a loop of its own, one request after the other.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any, cast

import structlog
from pymodbus.constants import ExcCodes
from pymodbus.exceptions import ModbusException
from pymodbus.framer.socket import FramerSocket
from pymodbus.pdu import DecodePDU, ExceptionResponse, ModbusPDU
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
from bridge.outputs.listening import keep_alive, listen
from bridge.outputs.modbus_registers import WRITE_COIL, StationRegisters
from bridge.outputs.plc_panel import PlcPanel

_log = structlog.get_logger(__name__)

HEADER = 6  # transaction, protocol, length; the unit is the first byte of what the length counts
# 254 is the longest legal one; a write of 124 registers or a little more is answered with exception 03 all the same.
LENGTHS = range(2, 270)
PATIENCE_S = 5.0
QUIET_S = 30.0
COMPLAINTS = 100

_REQUESTS: Mapping[int, type[ModbusPDU]] = {
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


class ModbusServer:
    """Serve the panels of all stations: unit ids 0, 1 and 255 are the first, 2 the second and so on.

    `allow` holds addresses or networks (raises ValueError for anything else). More than `max_connections` are closed at
    once, unless one has been silent for `quiet_s`: then that one goes, as nobody may be behind it any more. A request
    that takes longer than `patience_s` to arrive, or its answer to be taken, ends its connection. All calls belong to
    the loop that `start` ran on.
    """

    def __init__(
        self,
        panels: Sequence[PlcPanel],
        *,
        host: str,
        port: int,
        clock_ns: Callable[[], int],
        allow: Sequence[str] = ("127.0.0.1",),
        max_connections: int = 20,
        mirror: bool = True,
        patience_s: float = PATIENCE_S,
        quiet_s: float = QUIET_S,
    ) -> None:
        self._host, self._port = host, port
        self._panels = tuple(panels)
        self._stations = [StationRegisters(panel, clock_ns=clock_ns, mirror=mirror) for panel in panels]
        self._allow = [ip_network(each, strict=False) for each in allow]
        self._max_connections = max_connections
        self._framer = FramerSocket(DecodePDU(is_server=True))
        self._server: asyncio.Server | None = None
        self._patience_s, self._quiet_s = patience_s, quiet_s
        self._connections: dict[
            asyncio.Task[None], float
        ] = {}  # with the moment of the last request, on the loop's clock
        self._complained: set[str] = set()
        self._writers: dict[int, set[asyncio.Task[None]]] = {index: set() for index in range(len(panels))}

    async def start(self) -> int:
        """Open the port and give its number; tried for 3 s, then raises StartError."""
        identity = cast(Any, ModbusControlBlock)().Identity
        identity.update({0: "Linegate", 1: "linegate", 2: __version__, 4: "Linegate", 5: "linegate"})
        listener = await listen(self._host, self._port, what="Modbus", key="[modbus] port")
        self._server = await asyncio.start_server(self._connected, sock=listener)
        return int(listener.getsockname()[1])

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            self._server.close()
        tasks = tuple(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the transports report their end in the next step of the loop
        self._server = None

    def has_connection_that_wrote(self, station: int) -> bool:
        """Whether a connection that wrote the control block of a station (counted from 0) is open."""
        return bool(self._writers[station])

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        peer = str(writer.get_extra_info("peername", ("unknown",))[0])
        refusal = self._refusal(peer)
        if refusal:
            self._complain(peer, refusal)
            writer.transport.abort()
            return
        self._connections[task] = asyncio.get_running_loop().time()
        keep_alive(writer.get_extra_info("socket"))
        try:
            await self._serve(reader, writer, task)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as exc:
            _log.debug("modbus client gone", client=peer, reason=str(exc))
            writer.transport.abort()
        except asyncio.CancelledError:
            # `stop`, or a newcomer: a task that ends cancelled would be reported by asyncio's stream server.
            writer.transport.abort()
        finally:
            self._connections.pop(task, None)
            writer.close()
            self._forget_writer(task)

    def _complain(self, peer: str, reason: str) -> None:
        """Log why a client was closed: at length once for each address, as most of them try again without end."""
        known = peer in self._complained or len(self._complained) >= COMPLAINTS
        if not known:
            self._complained.add(peer)
        log = _log.debug if known else _log.warning
        log("modbus client closed", client=peer, reason=reason)

    def _refusal(self, peer: str) -> str | None:
        """Give why a client is not let in: unknown address, or too many connections."""
        try:
            address: Any = ip_address(peer.partition("%")[0])
        except ValueError:
            return "its address can't be read"
        mapped = getattr(address, "ipv4_mapped", None)
        if not any((mapped or address) in network for network in self._allow):
            return "its address is not in [modbus] allow"
        if len(self._connections) >= self._max_connections and not self._made_room():
            return f"{self._max_connections} connections are open already, and none has been silent for {self._quiet_s:g} s"
        return None

    def _made_room(self) -> bool:
        """Close the connection that has been silent for the longest, if for long enough."""
        task, since = min(self._connections.items(), key=lambda each: each[1])
        if asyncio.get_running_loop().time() - since < self._quiet_s:
            return False
        del self._connections[task]
        task.cancel()
        _log.debug("modbus client closed", reason="silent for the longest while another one waited for its place")
        return True

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, task: asyncio.Task[None]
    ) -> None:
        """Answer request after request in order, until the client goes or sends what is no Modbus header."""
        clock = asyncio.get_running_loop().time
        while True:
            header = await reader.readexactly(1)
            async with asyncio.timeout(self._patience_s):
                header += await reader.readexactly(HEADER - 1)
                _, protocol, length = struct.unpack(">HHH", header)
                if protocol != 0 or length not in LENGTHS:
                    peer = str(writer.get_extra_info("peername", ("unknown",))[0])
                    self._complain(peer, f"malformed header {header.hex()}")
                    return
                body = await reader.readexactly(length)
            if task in self._connections:
                self._connections[task] = clock()
            _, unit, transaction, request = self._framer.decode(header + body)
            response = await self._answer(unit, request, task)
            response.dev_id, response.transaction_id = unit, transaction
            writer.write(self._framer.buildFrame(response))
            async with asyncio.timeout(self._patience_s):
                await writer.drain()

    async def _answer(self, unit: int, frame: bytes, task: asyncio.Task[None]) -> ModbusPDU:
        code = frame[0]
        kind = _REQUESTS.get(code)
        if kind is None:
            return ExceptionResponse(code & 0x7F, ExcCodes.ILLEGAL_FUNCTION)
        index = 0 if unit in {0, 1, 255} else unit - 1
        if index >= len(self._stations):
            return ExceptionResponse(code, ExcCodes.GATEWAY_NO_RESPONSE)
        request = _decode(kind, frame)
        if isinstance(request, ExceptionResponse):
            return request
        station = self._stations[index]
        if isinstance(request, ReadWriteMultipleRegistersRequest) and not station.holds(
            request.read_address, request.read_count
        ):
            return ExceptionResponse(code, ExcCodes.ILLEGAL_ADDRESS)
        response = await request.datastore_update(cast(Any, station), unit)
        if code not in {1, 2, 3, 4, _DEVICE_IDENTIFICATION} and not response.isError():
            self._writers[index].add(task)
        return response

    def _forget_writer(self, task: asyncio.Task[None]) -> None:
        """Tell a station when the last connection that wrote its control block is gone."""
        for index, writers in self._writers.items():
            if task in writers:
                writers.remove(task)
                if not writers:
                    self._panels[index].link_lost("modbus")


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
