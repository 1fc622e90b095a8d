"""The field's I/O as a Modbus TCP server: values are made when they are asked for, coils act when they are written."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from simulators.line.field_io import DISCRETE_INPUTS, INPUT_REGISTERS, FieldState, encode_discrete, encode_inputs

READ_COILS, READ_DISCRETE, READ_INPUTS = 1, 2, 4
WRITE_COIL, WRITE_COILS = 5, 15


class PortBusyError(Exception):
    """The port can't be bound; the text names it."""


class FieldServer:
    """Serve `read()` as inputs and give coil 0 to `write_gate`; both are called on the server's loop."""

    def __init__(self, *, read: Callable[[], FieldState], write_gate: Callable[[bool], None]) -> None:
        self._read, self._write_gate = read, write_gate
        self._gate = False
        self._server: ModbusTcpServer | None = None
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)

    async def start(self, host: str, port: int, *, patience_s: float = 3.0) -> int:
        """Listen, trying for `patience_s` while the port is in use; gives the port (0 asks for a free one)."""
        deadline = asyncio.get_running_loop().time() + patience_s
        while True:
            self._server = ModbusTcpServer(self._device(), address=(host, port))
            if await self._server.listen():
                break
            if asyncio.get_running_loop().time() > deadline:
                raise PortBusyError(f"field I/O port {port} on {host} can't be opened: {_why(host, port)}")
            await asyncio.sleep(0.1)
        transport: Any = self._server.transport
        return int(transport.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            server: Any = self._server  # pymodbus leaves this method without types
            await server.shutdown()

    def _device(self) -> SimDevice:
        bits = [SimData(0, count=16, values=False, datatype=DataType.BITS)]
        spare = [SimData(0, values=0, datatype=DataType.REGISTERS)]
        inputs = [SimData(0, count=INPUT_REGISTERS, values=0, datatype=DataType.REGISTERS)]
        return SimDevice(id=0, simdata=(bits, bits, spare, inputs), action=self._act)

    async def _act(  # the signature is pymodbus's; positional
        self,
        function_code: int,
        _start: int,
        address: int,
        count: int,
        registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        if values is not None:
            if function_code not in (WRITE_COIL, WRITE_COILS) or address != 0 or len(values) != 1:
                return ExcCodes.ILLEGAL_ADDRESS
            self._gate = bool(values[0])
            self._write_gate(self._gate)
        elif function_code == READ_INPUTS:
            registers[:INPUT_REGISTERS] = encode_inputs(self._read())
        elif function_code == READ_DISCRETE and address + 1 <= DISCRETE_INPUTS:
            registers[0] = sum(bit << place for place, bit in enumerate(encode_discrete(self._read())))
        return None


def _why(host: str, port: int) -> str:
    """Say in words why a port could not be bound."""
    with socket.socket() as probe:
        try:
            probe.bind((host, port))
        except OSError as exc:
            return "it is in use" if exc.errno == errno.EADDRINUSE else str(exc)
    return "the address is not ours"
