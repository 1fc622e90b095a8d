"""Bounds that the OPC UA library doesn't keep: what a connection may make it hold, and for how long it may be nobody's.

The library reads a message of any announced length before it looks at its limits, writes answers to a client that reads
none, and leaves the connection open when its session has timed out.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from asyncua import ua
from asyncua.server.address_space import ViewService
from asyncua.server.binary_server_asyncio import OPCUAProtocol
from asyncua.server.internal_session import SessionState
from asyncua.server.server import Server
from asyncua.server.subscription_service import SubscriptionService

from bridge.outputs.opcua.items import StationItems
from bridge.outputs.opcua.values import at_most
from bridge.outputs.plc.listening import keep_alive

_log = structlog.get_logger(__name__)

PERIOD_S = 0.2
SHORTEST_INTERVAL_MS = 5.0
MAX_BROWSED = 1_000


class BoundedSubscriptions(SubscriptionService):
    """Subscriptions that publish at most every 5 ms, or (at an interval of 0) at each change; items as `StationItems`."""

    async def create_subscription(
        self, params: ua.CreateSubscriptionParameters, *arguments: Any, **named: Any
    ) -> ua.CreateSubscriptionResult:
        """Create one, its interval revised; raises ServiceError where there are too many."""
        if 0.0 < params.RequestedPublishingInterval < SHORTEST_INTERVAL_MS:
            params.RequestedPublishingInterval = SHORTEST_INTERVAL_MS
        created = await super().create_subscription(params, *arguments, **named)
        subscription = self.subscriptions[created.SubscriptionId]
        subscription.monitored_item_srv = StationItems(subscription, self.aspace)
        return created


class BoundedView(ViewService):
    """Browses and translates no more at once than costs the other clients some tenths of a second."""

    def browse(self, params: ua.BrowseParameters) -> list[ua.BrowseResult]:
        """Browse; raises ServiceError."""
        at_most(MAX_BROWSED, len(params.NodesToBrowse))
        return super().browse(params)

    def translate_browsepaths_to_nodeids(self, browsepaths: list[ua.BrowsePath]) -> list[ua.BrowsePathResult]:
        """Translate; raises ServiceError."""
        at_most(MAX_BROWSED, len(browsepaths))
        return super().translate_browsepaths_to_nodeids(browsepaths)


class ConnectionWatch:
    """Close connections of a server that hold more than `max_bytes` in or out, or that are nobody's for `patience_s`.

    Nobody's is a connection without an active session, and one that has left answers lying all the while.
    """

    def __init__(self, server: Server, *, max_bytes: int, patience_s: float) -> None:
        self._server = server
        self._max_bytes = max_bytes
        self._patience_s = patience_s
        self._alone_since: dict[OPCUAProtocol, float] = {}
        self._deaf_since: dict[OPCUAProtocol, float] = {}
        self._seen: set[OPCUAProtocol] = set()
        self._is_full = False

    async def run(self) -> None:
        """Look at every connection, for ever."""
        while True:
            self.check(asyncio.get_running_loop().time())
            await asyncio.sleep(PERIOD_S)

    def check(self, now_s: float) -> None:
        """Look at every connection once; `now_s` is monotonic."""
        clients = list(self._server.bserver.clients) if self._server.bserver else []
        self._say_when_full(is_full=len(clients) >= self._server.iserver.max_connections)
        self._seen.intersection_update(clients)
        for marks in (self._alone_since, self._deaf_since):
            for gone in marks.keys() - self._seen:
                del marks[gone]
        for client in clients:
            transport = client.transport
            if transport is None or transport.is_closing():
                continue
            if client not in self._seen:
                self._seen.add(client)
                keep_alive(transport.get_extra_info("socket"))
            reason = self._fault(client, transport, now_s)
            if reason:
                _log.debug("opcua client closed", client=str(client.peer_name), reason=reason)
                transport.abort()

    def _say_when_full(self, *, is_full: bool) -> None:
        if is_full and not self._is_full:
            _log.warning(
                "opcua_full", text="no more clients are let in", connections=self._server.iserver.max_connections
            )
        elif self._is_full and not is_full:
            _log.info("opcua_has_room")
        self._is_full = is_full

    def _fault(self, client: OPCUAProtocol, transport: asyncio.Transport, now_s: float) -> str:
        if len(client._buffer) > self._max_bytes:
            return "its message is too long"
        waiting = transport.get_write_buffer_size()
        if waiting > self._max_bytes or self._lasts(self._deaf_since, client, now_s, holds=waiting > 0):
            return "it takes no answers"
        session = client.processor.session if client.processor else None
        alone = session is None or session.state is not SessionState.Activated
        return "it has no session" if self._lasts(self._alone_since, client, now_s, holds=alone) else ""

    def _lasts(self, marks: dict[OPCUAProtocol, float], client: OPCUAProtocol, now_s: float, *, holds: bool) -> bool:
        """Tell whether something holds for a client at every look for longer than `patience_s`."""
        if not holds:
            marks.pop(client, None)
            return False
        return now_s - marks.setdefault(client, now_s) > self._patience_s
