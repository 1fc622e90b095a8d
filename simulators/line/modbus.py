"""The field's I/O as a Modbus TCP server: values are those of the moment at which a request came, and so are writes.

Like an I/O module's own, its watchdog looks after the client that last wrote the coil: once that one is gone, or has
asked for nothing for a while, `unguarded` is called, until the next write.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.server.requesthandler import ServerRequestHandler
from pymodbus.simulator import DataType, SimData, SimDevice

from simulators.line.arrivals import Arrivals, StampedSocket, stamp
from simulators.line.field_io import DISCRETE_INPUTS, INPUT_REGISTERS, FieldState, encode_discrete, encode_inputs

READ_COILS, READ_DISCRETE, READ_INPUTS = 1, 2, 4
WRITE_COIL, WRITE_COILS = 5, 15


class PortBusyError(Exception):
    """The port can't be bound; the text names it."""


class Watchdog:
    """Tells once when the writer of the coil is gone: its connection closed, or silent for `limit_ms` (0: off)."""

    def __init__(self, *, limit_ms: float, unguarded: Callable[[str], None]) -> None:
        self._limit_s, self._unguarded = limit_ms / 1e3, unguarded
        self._writer: object | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heard_s = 0.0

    def wrote(self, client: object) -> None:
        """Note who has written the coil: the one to be watched."""
        self._writer = client
        self.heard(client)

    def heard(self, client: object) -> None:
        """Note a request."""
        if client is not self._writer or not self._limit_s:
            return
        loop = asyncio.get_running_loop()
        self._heard_s = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self._limit_s, self._look)

    def closed(self, client: object) -> None:
        """Note the end of a connection."""
        if client is self._writer and self._limit_s:
            self._bite("its connection closed")

    def _look(self) -> None:
        """Look whether the writer was heard since the timer was set: one timer, however often it asks."""
        loop = asyncio.get_running_loop()
        self._timer = None
        left_s = self._heard_s + self._limit_s - loop.time()
        if left_s > 0:
            self._timer = loop.call_later(left_s, self._look)
        elif self._writer is not None:
            self._bite(f"it asked for nothing for {self._limit_s * 1e3:.0f} ms")

    def _bite(self, why: str) -> None:
        self._writer = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._unguarded(why)


_CLIENT: ContextVar[object] = ContextVar("client")
_MOMENT_NS: ContextVar[int] = ContextVar("moment_ns")


class _Connection(ServerRequestHandler):
    """One client, known to the watchdog. Its requests come from `Arrivals`: asyncio's own reading stays paused."""

    def __init__(self, server: _WatchedServer) -> None:
        super().__init__(server, server.trace_packet, server.trace_pdu, server.trace_connect)  # type: ignore[no-untyped-call]
        self._watchdog, self._arrivals = server.watchdog, server.arrivals
        self._reader: StampedSocket | None = None

    def connection_made(self, transport: Any) -> None:
        """Take the connection from asyncio."""
        super().connection_made(transport)
        # Some versions of asyncio begin to read after this call whatever it says (Python 3.11.2): theirs comes first.
        asyncio.get_running_loop().call_soon(self._take_over, transport)

    def _take_over(self, transport: Any) -> None:
        """Read in asyncio's place, unless the connection has gone already."""
        if transport.is_closing():
            return
        transport.pause_reading()
        sock = transport.get_extra_info("socket")
        self._reader = self._arrivals.add(sock, answer=self._answer, ended=transport.abort)

    async def _answer(self, moment_ns: int, frame: bytes) -> None:
        """Answer a request, with its client and its moment known to what it calls."""
        _CLIENT.set(self)
        _MOMENT_NS.set(moment_ns)
        self._watchdog.heard(self)
        self.data_received(frame)
        await super().handle_request()  # type: ignore[no-untyped-call]

    def handle_later(self) -> None:
        """Do nothing: `_answer` answers, before it takes the next request."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the connection, whoever ended it."""
        super().connection_lost(exc)
        if self._reader is not None:
            self._arrivals.drop(self._reader)

    def callback_disconnected(self, exc: Exception | None) -> None:
        """Take the end of the connection."""
        super().callback_disconnected(exc)
        self._watchdog.closed(self)


class _WatchedServer(ModbusTcpServer):
    watchdog: Watchdog
    arrivals: Arrivals

    def callback_new_connection(self) -> _Connection:
        """Make what serves one client."""
        return _Connection(self)


class FieldServer:
    """Serve `read(moment_ns)` as inputs and give coil 0 to `write_gate(on, moment_ns)`, on the server's loop.

    The moments are those of the requests, on the monotonic clock; they never go back.
    """

    def __init__(
        self,
        *,
        read: Callable[[int], FieldState],
        write_gate: Callable[[bool, int], None],
        watchdog: Watchdog | None = None,
    ) -> None:
        self._read, self._write_gate = read, write_gate
        self._arrivals = Arrivals()
        self._watchdog = watchdog or Watchdog(limit_ms=0.0, unguarded=lambda _why: None)
        self._gate = False
        self._server: _WatchedServer | None = None
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)

    async def start(self, host: str, port: int, *, patience_s: float = 3.0) -> int:
        """Listen, trying for `patience_s` while the port is in use; gives the port (0 asks for a free one)."""
        deadline = asyncio.get_running_loop().time() + patience_s
        while True:
            self._server = _WatchedServer(self._device(), address=(host, port))
            self._server.watchdog, self._server.arrivals = self._watchdog, self._arrivals
            if await self._server.listen():
                break
            if asyncio.get_running_loop().time() > deadline:
                raise PortBusyError(f"field I/O port {port} on {host} can't be opened: {_why(host, port)}")
            await asyncio.sleep(0.1)
        transport: Any = self._server.transport
        for listening in transport.sockets:
            stamp(listening)
        return int(transport.sockets[0].getsockname()[1])

    async def take(self) -> None:
        """Answer what has come by now, at its moments: before the line lives on to a later one."""
        await self._arrivals.take()

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
            self._watchdog.wrote(_CLIENT.get())
            self._write_gate(self._gate, _MOMENT_NS.get())
        elif function_code == READ_INPUTS:
            registers[:INPUT_REGISTERS] = encode_inputs(self._read(_MOMENT_NS.get()))
        elif function_code == READ_DISCRETE and address + 1 <= DISCRETE_INPUTS:
            registers[0] = sum(bit << place for place, bit in enumerate(encode_discrete(self._read(_MOMENT_NS.get()))))
        return None


def _why(host: str, port: int) -> str:
    """Say in words why a port could not be bound."""
    with socket.socket() as probe:
        try:
            probe.bind((host, port))
        except OSError as exc:
            return "it is in use" if exc.errno == errno.EADDRINUSE else str(exc)
    return "the address is not ours"
