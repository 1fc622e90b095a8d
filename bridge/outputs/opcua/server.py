"""The OPC UA server: the address space of all stations, its limits, and the telling of subscribers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol
from urllib.parse import urlsplit

import structlog
from asyncua import ua
from asyncua.common.connection import TransportLimits
from asyncua.common.node import Node
from asyncua.server.server import Server

from bridge import __version__
from bridge.domain.messages import AlarmState
from bridge.errors import StartError
from bridge.outputs.opcua.access import Access, Security
from bridge.outputs.opcua.channel import GuardedServer
from bridge.outputs.opcua.control import ControlAttributes, Place, add_methods
from bridge.outputs.opcua.events import CLIENT_FAULTS, OpcUaEvents
from bridge.outputs.opcua.guard import PERIOD_S, AccessWatch
from bridge.outputs.opcua.transport import quieten
from bridge.outputs.opcua.tree import Change, StationTree, add_enumerations
from bridge.outputs.opcua.values import node_id
from bridge.outputs.opcua.watch import BoundedSubscriptions, BoundedView, ConnectionWatch
from bridge.outputs.plc.listening import listen
from bridge.outputs.plc.node_map import NAMESPACE
from bridge.outputs.plc.panel import PlcPanel

_log = structlog.get_logger(__name__)

NAMESPACE_INDEX = 2
MAX_CONNECTIONS = 20
MAX_SUBSCRIPTIONS = 20
SESSION_TIMEOUT_MS = 60_000.0
MAX_MESSAGE = 4 * 2**20
PATIENCE_S = 10.0
_BUFFER = 65_535


class CompanionModel(Protocol):
    """A companion specification's nodes beside the flat tree, and what keeps them up to date."""

    async def build(
        self,
        server: Server,
        stations: Sequence[tuple[PlcPanel, Node, str]],
        *,
        index: int,
        tell: Callable[[Change], None],
    ) -> None:
        """Add nodes below each station's object; `index` is our own namespace, `tell` takes changes for subscribers."""

    async def run(self) -> None:
        """Follow the stations, for ever."""


class OpcUaServer:
    """Serve the panels of all stations below one line's object. All calls belong to the loop that `start` ran on.

    `security` says where certificates and users lie; `anonymous` opens policy None beside it, with the rights of `plc`.
    While nobody could log in the port stays closed.
    """

    def __init__(
        self,
        panels: Sequence[PlcPanel],
        *,
        line: str,
        endpoint: str,
        clock_ns: Callable[[], int],
        anonymous: bool,
        security: Security | None = None,
        patience_s: float = PATIENCE_S,
        look_s: float = PERIOD_S,
        companion: CompanionModel | None = None,
    ) -> None:
        self._companion = companion
        self._patience_s = patience_s
        self._panels = tuple(panels)
        self._line = line
        self._endpoint = endpoint
        self._clock_ns = clock_ns
        self._access = Access(anonymous=anonymous, security=security, line=line, host=urlsplit(endpoint).hostname or "")
        self._guard = AccessWatch(self._access, open_port=self._open, post=self._post, period_s=look_s)
        self.port: int | None = None
        self._trees: list[StationTree] = []
        self._changes: asyncio.Queue[Change] = asyncio.Queue()
        self._guarding: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> int | None:
        """Build the tree, open the port and give its number; None while it stays closed. Raises StartError after 3 s."""
        quieten()
        await self._access.load()
        await self._guard.begin()
        self._guarding = asyncio.create_task(self._guard.run(), name="opcua-access")
        return self.port

    async def _open(self) -> GuardedServer:
        parts = urlsplit(self._endpoint)
        host, wanted = parts.hostname or "127.0.0.1", 4840 if parts.port is None else parts.port
        # The library logs a traceback for a port in use: find out before it tries.
        listener = await listen(host, wanted, what="OPC UA", key="[opcua] endpoint")
        port = int(listener.getsockname()[1])
        listener.close()
        server = GuardedServer(self._access)
        await server.init()
        self._limit(server)
        server.set_endpoint(f"{parts.scheme}://{host}:{port}{parts.path}")
        server.socket_address = (host, port)
        server.set_server_name("Linegate")
        server.application_type = ua.ApplicationType.Server
        await server.set_application_uri(self._access.own.uri if self._access.own else f"{NAMESPACE}:server")
        index = await server.register_namespace(NAMESPACE)
        if index != NAMESPACE_INDEX:
            raise StartError(f"OPC UA namespace {NAMESPACE} has index {index}, it must be {NAMESPACE_INDEX}")
        built = datetime.fromtimestamp(0, UTC)
        await server.set_build_info(f"{NAMESPACE}:bridge", "Linegate", "Linegate", __version__, "0", built)
        events = OpcUaEvents(server, line=self._line, index=index)
        await self._build(server, index, events)
        try:
            await server.start()
        except OSError as exc:
            raise StartError(f"OPC UA can't open port {port} on {host}: {exc.strerror or exc}") from exc
        self.port = port
        watch = ConnectionWatch(server, max_bytes=2 * MAX_MESSAGE, patience_s=self._patience_s)
        tasks = {"notifications": self._tell(), "events": events.run(), "connections": watch.run()}
        if self._companion is not None:
            tasks["companion"] = self._companion.run()
        self._tasks += [asyncio.create_task(each, name=f"opcua-{name}") for name, each in tasks.items()]
        return server

    async def stop(self) -> None:
        """Close every session and the port."""
        await _end(self._guarding)
        for task in self._tasks:
            await _end(task)
        if self._server is not None:
            # The library's clock would take up to 1 s to see that it is to stop.
            await _end(self._server.iserver.time_task)
            self._server.iserver.time_task = None
            await self._server.stop()
        self._access.close()
        self._guard.server, self._guarding, self._tasks = None, None, []

    @property
    def _server(self) -> GuardedServer | None:
        return self._guard.server

    def _post(self, alarm: AlarmState) -> None:
        for panel in self._panels:
            panel.post(alarm)

    def refresh_clocks(self) -> None:
        """Tell subscribers of the bridge clock what it is now."""
        for tree in self._trees:
            tree.refresh_clocks()

    def _limit(self, server: Server) -> None:
        server.iserver.max_connections = MAX_CONNECTIONS
        server.iserver.max_subscriptions = MAX_SUBSCRIPTIONS
        server.iserver.max_session_timeout_ms = SESSION_TIMEOUT_MS
        server.iserver.max_monitored_item_queue_size = 1_000
        server.iserver.max_pending_activation_seconds = 0.0  # the watch closes whoever has no session
        subscriptions = BoundedSubscriptions(server.iserver.aspace, server.iserver)
        server.iserver.subscription_service = server.iserver.isession.subscription_service = subscriptions
        server.iserver.view_service = BoundedView(server.iserver.aspace)
        server.iserver.allow_remote_admin = False
        server.limits = TransportLimits(
            max_recv_buffer=_BUFFER,
            max_send_buffer=_BUFFER,
            max_chunk_count=MAX_MESSAGE // _BUFFER + 1,
            max_message_size=MAX_MESSAGE,
        )

    async def _build(self, server: Server, index: int, events: OpcUaEvents) -> None:
        types = await add_enumerations(server, index)
        line = await server.nodes.objects.add_object(node_id(self._line, index), ua.QualifiedName(self._line, index))
        await events.build(line, types)
        places: dict[ua.NodeId, Place] = {}
        stations: list[tuple[PlcPanel, Node, str]] = []
        for panel in self._panels:
            tree = StationTree(
                panel, line=self._line, index=index, clock_ns=self._clock_ns, tell=self._changes.put_nowait
            )
            station = await tree.build(server, line, types)
            await add_methods(station, panel, root=tree.root, index=index)
            await events.add(station, panel)
            places |= {node: (panel, control) for node, control in tree.controls.items()}
            self._trees.append(tree)
            stations.append((panel, station, tree.root))
        if self._companion is not None:
            await self._companion.build(server, stations, index=index, tell=self._changes.put_nowait)
        server.iserver.attribute_service = ControlAttributes(
            server.iserver.aspace, places=places, clock_ns=self._clock_ns
        )

    async def _tell(self) -> None:
        """Tell subscribers of changes, in the order in which they were made."""
        while True:
            attribute, value = await self._changes.get()
            for handle, callback in list(attribute.datachange_callbacks.items()):
                try:
                    await callback(handle, value)
                except CLIENT_FAULTS as exc:
                    _log.debug("opcua notification lost", reason=str(exc))


async def _end(task: asyncio.Task[None] | None) -> None:
    if task is None:
        return
    task.cancel()
    with suppress(asyncio.CancelledError):  # it was asked to end just now
        await task
