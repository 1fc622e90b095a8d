"""The Modbus TCP server, plain and with TLS: who is let in, and how many; each client is a `ServedClient`.

pymodbus' own server answers one request of a segment that holds several, stays open and deaf after a malformed header,
and drops buffers over 264 bytes.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Any

import structlog

from bridge.outputs.modbus.connection import ServedClient
from bridge.outputs.modbus.requests import ModbusStations
from bridge.outputs.plc.listening import listen

_log = structlog.get_logger(__name__)

PATIENCE_S = 5.0
QUIET_S = 30.0
COMPLAINTS = 100
_STEPS_TO_END = 4
"""Of the loop, in which a transport that was aborted reports its end, with TLS in between."""


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
        self._servers: list[asyncio.Server] = []
        self._patience_s, self._quiet_s = patience_s, quiet_s
        self._clients: set[ServedClient] = set()
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
        client = partial(ServedClient, self._stations, self, patience_s=self._patience_s, context=context)
        self._servers.append(await asyncio.get_running_loop().create_server(client, sock=listener))
        return int(listener.getsockname()[1])

    async def stop(self) -> None:
        """Close the ports and every connection."""
        for server in self._servers:
            server.close()
        for client in tuple(self._clients):
            client.abort()
        for _ in range(_STEPS_TO_END):
            await asyncio.sleep(0)
        self._servers = []

    def admits(self, client: ServedClient) -> bool:
        """Let a client in by its address if there is room; its place is its own from now on."""
        refusal = self._refusal(client.peer)
        if refusal:
            self.complain(client.peer, refusal)
            return False
        self._clients.add(client)
        return True

    def gone(self, client: ServedClient) -> None:
        """Free the place of a client; its station is told if it was the last that wrote."""
        self._clients.discard(client)
        self._stations.forget(client)

    def complain(self, peer: str, reason: str) -> None:
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
        if len(self._clients) >= self._max_connections and not self._made_room():
            return f"{self._max_connections} connections are open already, and none has been silent for {self._quiet_s:g} s"
        return None

    def _made_room(self) -> bool:
        """Close the connection that has been silent for the longest, if for long enough."""
        silent = min(self._clients, key=lambda each: each.last_s)
        if asyncio.get_running_loop().time() - silent.last_s < self._quiet_s:
            return False
        self._clients.discard(silent)
        silent.abort()
        _log.debug("modbus client closed", reason="silent for the longest while another one waited for its place")
        return True
