"""The Modbus TCP server, plain and with TLS: frames are pymodbus', the rules about connections are here.

pymodbus' own server answers one request of a segment that holds several, stays open and deaf after a malformed header,
and drops buffers over 264 bytes; so each connection is a loop of its own, one request after the other.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Any, cast

import structlog
from pymodbus.framer.socket import FramerSocket
from pymodbus.pdu import DecodePDU

from bridge.errors import first_line
from bridge.outputs.modbus.requests import ModbusStations
from bridge.outputs.plc.listening import keep_alive, listen

_log = structlog.get_logger(__name__)

HEADER = 6  # transaction, protocol, length; the unit is the first byte of what the length counts
# 254 is the longest legal one; a write of 124 registers or a little more is answered with exception 03 all the same.
LENGTHS = range(2, 270)
PATIENCE_S = 5.0
QUIET_S = 30.0
COMPLAINTS = 100
FIRST_STATION = frozenset({0, 1, 255})


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsPort:
    """A port that speaks Modbus/TCP Security: the same frames within TLS."""

    port: int
    context: ssl.SSLContext


class ModbusServer:
    """Serve all stations: unit ids 0, 1 and 255 are the first, 2 the second and so on.

    `port` is the plain one and `tls` the secured one; either may be None. `allow` holds addresses or networks (raises
    ValueError for anything else). More than `max_connections`, of both ports together, are closed at once, unless one has
    been silent for `quiet_s`: then that one goes, as nobody may be behind it any more. A handshake, or a request, that
    takes longer than `patience_s` to arrive, or an answer that is not taken, ends its connection. All calls belong to
    the loop that `start` ran on.
    """

    def __init__(
        self,
        stations: ModbusStations,
        *,
        host: str,
        port: int | None,
        tls: TlsPort | None = None,
        allow: Sequence[str] = ("127.0.0.1",),
        max_connections: int = 20,
        patience_s: float = PATIENCE_S,
        quiet_s: float = QUIET_S,
    ) -> None:
        self._stations = stations
        self._host, self._wanted, self._tls = host, port, tls
        self._allow = [ip_network(each, strict=False) for each in allow]
        self._max_connections = max_connections
        self._framer = FramerSocket(DecodePDU(is_server=True))
        self._servers: list[asyncio.Server] = []
        self._patience_s, self._quiet_s = patience_s, quiet_s
        self._connections: dict[
            asyncio.Task[None], float
        ] = {}  # with the moment of the last request, on the loop's clock
        self._complained: set[str] = set()
        self.port: int | None = None
        self.tls_port: int | None = None

    async def start(self) -> None:
        """Open the ports and set `port` and `tls_port`; each is tried for 3 s, then raises StartError."""
        if self._wanted is not None:
            self.port = await self._open(self._wanted, key="[modbus] port", context=None)
        if self._tls is not None:
            self.tls_port = await self._open(self._tls.port, key="[modbus.tls] port", context=self._tls.context)

    async def _open(self, port: int, *, key: str, context: ssl.SSLContext | None) -> int:
        listener = await listen(self._host, port, what="Modbus", key=key)
        self._servers.append(await asyncio.start_server(partial(self._connected, context), sock=listener))
        return int(listener.getsockname()[1])

    async def stop(self) -> None:
        """Close the ports and every connection."""
        for server in self._servers:
            server.close()
        tasks = tuple(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the transports report their end in the next step of the loop
        self._servers = []

    async def _connected(
        self, context: ssl.SSLContext | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
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
            # Nothing may wait before the handshake begins: its first bytes would be read as a request.
            if context is None or await self._shook_hands(context, writer, peer):
                await self._serve(reader, writer, task)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as exc:
            _log.debug("modbus client gone", client=peer, reason=str(exc))
            writer.transport.abort()
        except asyncio.CancelledError:
            # `stop`, or a newcomer: a task that ends cancelled would be reported by asyncio's stream server.
            writer.transport.abort()
        finally:
            self._connections.pop(task, None)
            if context is not None:
                writer.transport.abort()  # `close` would wait half a minute for the client's farewell
            writer.close()
            self._stations.forget(task)

    async def _shook_hands(self, context: ssl.SSLContext, writer: asyncio.StreamWriter, peer: str) -> bool:
        try:
            await writer.start_tls(context, ssl_handshake_timeout=self._patience_s)
        except OSError as exc:
            self._complain(peer, f"no TLS: {exc.reason if isinstance(exc, ssl.SSLError) else first_line(exc)}")
            return False
        return True

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
            station = 0 if unit in FIRST_STATION else unit - 1
            response = await self._stations.answer(station, request, client=task)
            response.dev_id, response.transaction_id = unit, transaction
            writer.write(self._framer.buildFrame(response))
            async with asyncio.timeout(self._patience_s):
                await writer.drain()
