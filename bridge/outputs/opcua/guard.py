"""Keep an OPC UA server in step with its files: users, trusted certificates, its own certificate."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from bridge.domain.messages import AlarmState
from bridge.errors import StartError
from bridge.outputs.opcua.access import Access
from bridge.outputs.opcua.channel import GuardedProcessor, GuardedServer
from bridge.outputs.opcua.pki import until
from bridge.outputs.opcua.session import PlcSession

_log = structlog.get_logger(__name__)

PERIOD_S = 2.0
CLOSED = (
    "run `linegate users add NAME --role plc`; or set opcua.anonymous = true, or opcua.enabled = false to do without"
)


class AccessWatch:
    """Read the files again and again; open the port for the first user, and end whoever is let in no more.

    `open_port` is called while there is no server and somebody could log in; `post` takes the alarms.
    """

    def __init__(
        self,
        access: Access,
        *,
        open_port: Callable[[], Awaitable[GuardedServer]],
        post: Callable[[AlarmState], None],
        period_s: float = PERIOD_S,
    ) -> None:
        self.server: GuardedServer | None = None
        self._access = access
        self._open_port = open_port
        self._post = post
        self._period_s = period_s
        self._told: dict[str, str] = {}
        self._trouble = ""

    async def begin(self) -> None:
        """Open the port if anybody could log in. Raises StartError."""
        if self._access.is_open:
            self.server = await self._open_port()
        self._tell()

    async def run(self) -> None:
        """Look for changes, for ever; first tell what the start has found, but not beside the one line of a failed start."""
        await asyncio.sleep(self._period_s)
        own = self._access.own
        if own is not None and own.made:
            _log.info("opcua_certificate_made", hosts=sorted(own.hosts), until=until(own), uri=own.uri)
        if self.server is None and not self._access.is_open:
            _log.warning("opcua_closed", text=CLOSED)
        while True:
            await self.look()
            await asyncio.sleep(self._period_s)

    async def look(self) -> None:
        """Take up what has changed."""
        changed = await self._access.refresh()
        if self.server is None and self._access.is_open:
            await self._try_to_open()
        elif self.server is not None and changed:
            self.server.show_endpoints()
            await self._end_the_dismissed(self.server)
        self._tell()

    async def _try_to_open(self) -> None:
        try:
            self.server = await self._open_port()
            _log.info("opcua_opened")
        except StartError as exc:
            if str(exc) != self._trouble:
                _log.error("opcua_not_opened", reason=str(exc))
            self._trouble = str(exc)

    async def _end_the_dismissed(self, server: GuardedServer) -> None:
        """Close sessions and connections of users and certificates that were taken out."""
        for session in list(server.iserver._external_sessions.values()):
            peer = session.channel[2] if isinstance(session, PlcSession) and session.channel else None
            if not self._access.still_admits(peer, session.user):
                _log.info("opcua_session_ended", user=session.user.name, reason="user or certificate was taken out")
                await session.close_session(True)
        for client in list(server.bserver.clients) if server.bserver else []:
            processor = client.processor
            user = processor.session.user if processor and processor.session else None
            peer = processor.peer if isinstance(processor, GuardedProcessor) else None
            if client.transport is not None and not self._access.still_admits(peer, user):
                client.transport.abort()

    def _tell(self) -> None:
        """Raise and end the alarms, each when it changes."""
        now = {
            "OPCUA_CLOSED": "no user is configured and anonymous is false" if self.server is None else "",
            "OPCUA_CERTIFICATE": self._access.certificate_warning,
        }
        for name, text in now.items():
            if text != self._told.get(name, ""):
                self._post(AlarmState(name=name, standing=bool(text), text=text))
                if text and name == "OPCUA_CERTIFICATE":
                    _log.warning("opcua_certificate", text=text)
        self._told = now
