"""One OPC UA connection to a PLC's own server, whose nodes the bridge writes: a new client of the library for each try.

The library's own reconnection can hang, and its teardown logs what is no news; here a loss ends the connection, and what
was still on its way is dropped with it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto import security_policies, uacrypto
from asyncua.ua.attribute_ids import AttributeIds

from bridge.errors import OutputError, RefusedError, first_line
from bridge.outputs.opcua.fit import control_value
from bridge.outputs.opcua.nodes import ReadNode, WrittenNode, find_nodes
from bridge.outputs.opcua.pki import application_uris
from bridge.outputs.plc.client import Found, PlcClientName
from bridge.outputs.plc.control_block import ControlValue
from bridge.outputs.plc.fresh_orders import FreshOrders, Place
from bridge.outputs.plc.listening import keep_alive, reset_on_close
from bridge.outputs.plc.node_map import value_of
from bridge.outputs.plc.panel import PlcPanel
from bridge.outputs.plc.register_map import EMPTY_SLOT, encode_slot
from bridge.outputs.plc.view import PlcView, Shown

CONNECT_TIMEOUTS = 5
"""Connecting takes many requests; all together get the time of so many."""
PROBE_NS = 1_000_000_000
SESSION_TIMEOUT_MS = 15_000
"""PLCs have few sessions: those of lost connections must be gone before many new ones are asked for."""
_CLOSE_S = 0.3
_RESULT = frozenset({"Result", "Gate", "Ring"})
_PLACES: Mapping[str, Place] = {"Result": "shown", "Gate": "newest", "Ring": "ring"}
# What the library raises while a connection fails, a server breaks the protocol, or a certificate can't be used.
_FAULTS = (OSError, TimeoutError, ua.uaerrors.UaError, ValueError, TypeError, LookupError, AttributeError, RuntimeError)
_OURS = frozenset({"BadUserAccessDenied", "BadIdentityTokenRejected", "BadIdentityTokenInvalid", "BadCertificateUntrusted",
                   "BadSecurityChecksFailed", "BadSecurityPolicyRejected"})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class OpcUaClientSettings:
    """Where a PLC's server is, who the bridge is to it, and which nodes take which tags. `key` names it in errors."""

    endpoint: str
    nodes: Mapping[str, str]
    key: str = "opcua_client.nodes"
    username: str = ""
    password: str = field(default="", repr=False)
    security: str = "none"
    mode: Literal["Sign", "SignAndEncrypt"] = "SignAndEncrypt"
    certificate: Path | None = None
    private_key: Path | None = None
    server_certificate: Path | None = None
    timeout_s: float = 1.0
    read_s: float = 0.05
    write_s: float = 0.1
    drives_gate: bool = True

    @property
    def name(self) -> PlcClientName:
        """The section of the configuration that they come from."""
        return "opcua_client"

    @property
    def where(self) -> str:
        """The PLC's address, for people."""
        return self.endpoint

    @property
    def places(self) -> frozenset[Place]:
        """Where the PLC sees orders, by the tags that it takes: their flags are what an order is."""
        seen = {"Gate.Flags": "Gate", "Ring.Words": "Ring"}
        found = {group for tag, group in seen.items() if tag in self.nodes}
        return frozenset(_PLACES[group] for group in found or {"Result"})

    @property
    def reads(self) -> bool:
        """Whether there is anything to read."""
        return any(tag.startswith("Control.") for tag in self.nodes)

    def connection(self, panel: PlcPanel, orders: FreshOrders, *, clock_ns: Callable[[], int]) -> OpcUaConnection:
        """Make a connection that is not open yet."""
        return OpcUaConnection(self, panel, orders, clock_ns=clock_ns)


class OpcUaConnection:
    """Write a panel's view into a PLC's nodes, and read the PLC's Control tags from others."""

    def __init__(
        self, settings: OpcUaClientSettings, panel: PlcPanel, orders: FreshOrders, *, clock_ns: Callable[[], int]
    ) -> None:
        self._settings = settings
        self._panel = panel
        self._orders = orders
        self._clock_ns = clock_ns
        self._client: Client | None = None
        self._written: Sequence[WrittenNode] = ()
        self._read: Sequence[ReadNode] = ()
        self._known: dict[str, Any] = {}
        self._heard_ns = 0

    async def open(self) -> None:
        """Connect, log in and find the nodes; raises OutputError, RefusedError for what the configuration must mend."""
        # The library tells of each loss at length, on every try; one line here does.
        for wordy in ("asyncua.client", "asyncua.crypto.uacrypto"):
            logging.getLogger(wordy).setLevel(logging.CRITICAL + 1)
        limit_s = CONNECT_TIMEOUTS * self._settings.timeout_s
        try:
            async with asyncio.timeout(limit_s):
                client = self._client = await self._configured()
                await client.connect()
                self._harden(client)
                self._written, self._read = await find_nodes(client, self._settings.nodes, key=self._settings.key)
        except TimeoutError as exc:
            raise self._lost(f"no session within {limit_s:g} s") from exc
        except _FAULTS as exc:
            raise self._fault(exc) from exc

    async def write(self) -> bool:
        """Write what has changed in ONE call, of a result all its values, its sequence last.

        Gives False when an order's answer came after it was due. Raises OutputError, RefusedError for a value not taken.
        """
        now_ns, view = self._clock_ns(), self._panel.view
        # A station that stops or hangs has no live order: nothing of the last one is left in the gate's tags.
        view = self._orders.view(view if view.live else replace(view, newest=None), now_ns)
        due = self._due(self._values(view, now_ns))
        if not due:
            await self._probe(now_ns)
            return True
        values = [
            ua.WriteValue(NodeId=node.node, AttributeId=AttributeIds.Value, Value=_plain(value, node.kind))
            for node, value in due
        ]
        answers = await self._ask(lambda client: client.uaclient.write(ua.WriteParameters(NodesToWrite=values)))
        for (node, value), status in zip(due, answers, strict=True):
            if not status.is_good():
                where = f"{self._settings.key}.{node.tag} = {self._settings.nodes[node.tag]!r}"
                raise RefusedError(f"{where}: the PLC's server answers {status.name} to {_short(value)}")
            self._known[node.tag] = value
        return self._answered(view)

    async def read(self) -> Found:
        """Read all Control tags in one call; they are counted from the middle of its time. One of Bad quality is absent."""
        asked_ns = self._clock_ns()
        wanted = [ua.ReadValueId(NodeId=each.node, AttributeId=AttributeIds.Value) for each in self._read]
        answers = await self._ask(lambda client: client.uaclient.read(ua.ReadParameters(NodesToRead=wanted)))
        found: dict[str, ControlValue] = {}
        for each, answer in zip(self._read, answers, strict=True):
            good = answer.Value is not None and (answer.StatusCode is None or answer.StatusCode.is_good())
            value = control_value(each.control.kind, answer.Value.Value) if good else None
            if value is not None:
                found[each.control.key] = value
        return Found(values=found, at_ns=(asked_ns + self._clock_ns()) // 2)

    async def close(self, *, orderly: bool) -> None:
        """End the session if the PLC is known to be there, then reset the connection, so that nothing is sent after this."""
        client, self._client = self._client, None
        if client is None:
            return
        if not orderly:
            self._abort(client)
            await asyncio.sleep(0)  # the library learns of it in the next step of the loop
        with suppress(*_FAULTS):
            async with asyncio.timeout(_CLOSE_S):
                await client.close_session()
        self._abort(client)

    def _values(self, view: PlcView, now_ns: int) -> list[tuple[WrittenNode, Any]]:
        """Give each tag's value as its node takes it."""
        values = []
        for each in self._written:
            value = self._ring(view) if each.tag == "Ring.Words" else value_of(each.spec, view, now_ns=now_ns)[0]
            fitted = [each.fit(one) for one in value] if isinstance(value, tuple) else each.fit(value)
            values.append((each, fitted))
        return values

    def _ring(self, view: PlcView) -> tuple[int, ...]:
        """Give the ring with the orders that may be sent now."""
        order = self._panel.word_order
        slots = [EMPTY_SLOT if shown is None else encode_slot(shown, order) for shown in view.slots]
        return tuple(word for slot in slots for word in slot)

    def _due(self, values: list[tuple[WrittenNode, Any]]) -> list[tuple[WrittenNode, Any]]:
        """Leave out what the PLC has; of a result that has changed in one value all go, so that one call brings it whole."""
        changed = [(node, value) for node, value in values if not self._has(node.tag, value)]
        if any(node.spec.group in _RESULT and not node.spec.clock for node, _ in changed):
            tags = {node.tag for node, _ in changed}
            return [(node, value) for node, value in values if node.tag in tags or node.spec.group in _RESULT]
        return changed

    def _has(self, tag: str, value: Any) -> bool:
        if tag not in self._known:
            return False
        known = self._known[tag]
        both_nan = isinstance(value, float) and isinstance(known, float) and math.isnan(value) and math.isnan(known)
        return bool(both_nan or known == value)

    def _answered(self, view: PlcView) -> bool:
        now_ns = self._clock_ns()
        slots: list[tuple[Place, Shown | None]] = [("shown", view.shown), ("newest", view.newest)]
        slots += [("ring", each) for each in view.slots]
        told = [self._orders.answered(place, shown, now_ns)
                for place, shown in slots]  # fmt: skip
        return all(told)

    async def _probe(self, now_ns: int) -> None:
        """Ask the server for its state when it has not been heard for a while, so that a loss is found with nothing to write."""
        if now_ns - self._heard_ns >= PROBE_NS:
            await self._ask(lambda client: client.nodes.server_state.read_value())

    async def _ask(self, call: Callable[[Client], Any]) -> Any:
        if self._client is None:
            raise self._lost("not connected")
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                answer = await call(self._client)
        except TimeoutError as exc:
            raise self._lost(f"no answer within {self._settings.timeout_s:g} s") from exc
        except _FAULTS as exc:
            raise self._fault(exc) from exc
        self._heard_ns = self._clock_ns()
        return answer

    async def _configured(self) -> Client:
        """Make a client that is allowed to log in as the settings say."""
        settings = self._settings
        client = Client(settings.endpoint, timeout=settings.timeout_s)
        client.name = client.description = "Linegate"
        client.application_uri = "urn:linegate:client"
        client.session_timeout = SESSION_TIMEOUT_MS
        if settings.username:
            client.set_user(settings.username)
            client.set_password(settings.password)
        if settings.security != "none" and settings.certificate and settings.private_key:
            policy = getattr(security_policies, f"SecurityPolicy{settings.security}")
            own = await uacrypto.load_certificate(settings.certificate)
            client.application_uri = next(iter(application_uris(own)), client.application_uri)
            self._client = client  # it connects once to ask for the server's certificate
            await client.set_security(
                policy,
                settings.certificate,
                settings.private_key,
                server_certificate=str(settings.server_certificate) if settings.server_certificate else None,
                mode=getattr(ua.MessageSecurityMode, settings.mode),
            )
        return client

    def _harden(self, client: Client) -> None:
        transport = client.uaclient.protocol.transport if client.uaclient.protocol else None
        connection = transport.get_extra_info("socket") if transport else None
        if connection is not None:
            keep_alive(connection)
            reset_on_close(connection)

    def _abort(self, client: Client) -> None:
        transport = client.uaclient.protocol.transport if client.uaclient.protocol else None
        if transport is not None:
            transport.abort()

    def _fault(self, exc: Exception) -> OutputError:
        """Tell a PLC that is away from one that refuses us."""
        if isinstance(exc, ua.uaerrors.UaStatusCodeError):
            name = ua.status_codes.get_name_and_doc(exc.code)[0]
            return RefusedError(f"{self._settings.where}: {name}") if name in _OURS else self._lost(name)
        if isinstance(exc, ConnectionRefusedError):
            return self._lost("connection refused")
        return self._lost(exc.strerror if isinstance(exc, OSError) and exc.strerror else first_line(exc))

    def _lost(self, why: str) -> OutputError:
        return OutputError(f"{self._settings.where}: {why}")


def _plain(value: Any, kind: ua.VariantType) -> ua.DataValue:
    """Wrap a value without status and time: many PLCs answer BadWriteNotSupported to those."""
    return ua.DataValue(ua.Variant(value, kind), StatusCode=None)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
