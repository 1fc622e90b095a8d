"""A PLC that is an OPC UA server itself, as asyncua makes one: variables of the types that PLCs have, every Write noted."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from asyncua import Server, ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.address_space import AddressSpace, AttributeService

from tests.ports import free_ports

K = ua.VariantType
NAMESPACE = "urn:acme:plc"
VARIABLES: dict[str, tuple[ua.VariantType, Any]] = {
    "verdict": (K.Int16, 0), "disposition": (K.String, ""), "label": (K.String, ""), "score": (K.Float, 0.0),
    "sequence": (K.UInt32, 0), "written": (K.Int32, 0), "heartbeat": (K.Int32, 0), "ready": (K.Boolean, False),
    "flags": (K.UInt16, 0), "openCount": (K.UInt32, 0), "openAt": (K.UInt32, 0), "clock": (K.UInt32, 0),
    "gateSequence": (K.UInt32, 0), "triggerAck": (K.Boolean, False), "ring": (K.UInt16, [0] * 224),
    "speed": (K.Float, -1.0), "encoder": (K.Int32, 0), "beat": (K.Int16, 0), "enable": (K.Boolean, True),
    "trigger": (K.Boolean, False), "triggerSequence": (K.UInt32, 0), "recipe": (K.String, ""), "picture": (K.ByteString, b""),
}  # fmt: skip
TAGS = {
    "Result.Verdict": "verdict", "Result.Disposition": "disposition", "Result.Label": "label", "Result.Score": "score",
    "Result.Sequence": "sequence", "Result.Written": "written", "Status.Heartbeat": "heartbeat", "Status.Ready": "ready",
    "Status.TriggerAck": "triggerAck", "Gate.Flags": "flags", "Gate.OpenCount": "openCount", "Gate.OpenAtMs": "openAt",
    "Gate.ClockMs": "clock", "Gate.Sequence": "gateSequence", "Ring.Words": "ring", "Control.BeltSpeed": "speed",
    "Control.EncoderCount": "encoder", "Control.PlcHeartbeat": "beat", "Control.Enable": "enable",
    "Control.Trigger": "trigger", "Control.TriggerSequence": "triggerSequence", "Control.RecipeRequest": "recipe",
}  # fmt: skip


def nodes(*tags: str) -> dict[str, str]:
    """Give the table of a configuration for these tags, or all."""
    return {tag: f"ns=2;s={name}" for tag, name in TAGS.items() if not tags or tag in tags}


class _Noting(AttributeService):
    def __init__(self, space: AddressSpace, twin: OpcUaTwin) -> None:
        super().__init__(space)
        self._twin = twin

    async def write(self, params: ua.WriteParameters, user: User = User(role=UserRole.Admin)) -> list[ua.StatusCode]:  # noqa: B008 - the library's signature
        call = [(str(each.NodeId.Identifier), each.Value.Value.Value) for each in params.NodesToWrite]
        if call[0][0] in VARIABLES:  # the server writes some of its own too
            self._twin.calls.append(call)
        await asyncio.sleep(self._twin.delay_s)
        return await super().write(params, user)


class _Users:
    def get_user(
        self, _session: Any, username: str | None = None, password: str | None = None, **_: Any
    ) -> User | None:
        return User(role=UserRole.User) if (username, password) == ("linegate", "swordfish") else None


class OpcUaTwin:
    """Serves the variables of `VARIABLES` below namespace 2; `calls` are the Writes that came, as (name, value) each."""

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self.calls: list[list[tuple[str, Any]]] = []
        self.delay_s = 0.0
        self.secure: tuple[Path, Path] | None = None
        self.preset: dict[str, Any] = {}
        self._server: Any = None

    @property
    def url(self) -> str:
        return f"opc.tcp://127.0.0.1:{self.port}/plc"

    async def start(self) -> None:
        self._server = Server(user_manager=_Users() if self.secure else None)  # type: ignore[arg-type]
        await self._server.init()
        self._server.set_endpoint(self.url)
        if self.secure:
            await self._server.set_application_uri("urn:acme:plc:server")
            await self._server.load_certificate(self.secure[0])
            await self._server.load_private_key(self.secure[1])
            self._server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
            self._server.set_identity_tokens([ua.UserNameIdentityToken])
        else:
            self._server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        assert await self._server.register_namespace(NAMESPACE) == 2
        for name, (kind, value) in VARIABLES.items():
            variable = await self._server.nodes.objects.add_variable(
                ua.NodeId(name, 2), ua.QualifiedName(name, 2), ua.Variant(self.preset.get(name, value), kind)
            )
            await variable.set_writable()
        fixed = await self._server.nodes.objects.add_variable(
            ua.NodeId("fixed", 2), ua.QualifiedName("fixed", 2), 3, K.Int16
        )
        assert fixed is not None
        await self._server.nodes.objects.add_object(ua.NodeId("folder", 2), ua.QualifiedName("folder", 2))
        self._server.iserver.attribute_service = _Noting(self._server.iserver.aspace, self)
        self.calls.clear()
        await self._server.start()

    async def stop(self) -> None:
        # The library's clock would take up to 1 s to see that it is to stop.
        self._server.iserver.time_task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._server.iserver.time_task
        self._server.iserver.time_task = None
        await self._server.stop()

    async def reset(self) -> None:
        """Put every variable back to what it was at the start."""
        self.delay_s = 0.0
        for name, (_, value) in VARIABLES.items():
            await self.put(name, self.preset.get(name, value))
        self.calls.clear()

    async def put(self, name: str, value: Any) -> None:
        """Set a variable as the PLC's own program does."""
        await self._server.write_attribute_value(
            ua.NodeId(name, 2), ua.DataValue(ua.Variant(value, VARIABLES[name][0]))
        )

    async def value(self, name: str) -> Any:
        return await self._server.get_node(ua.NodeId(name, 2)).read_value()

    async def until(self, name: str, expected: Any, limit_s: float = 8.0) -> None:
        """Wait for a variable to have a value."""
        async with asyncio.timeout(limit_s):
            while await self.value(name) != expected:
                await asyncio.sleep(0.005)
