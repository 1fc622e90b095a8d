"""The part of the bridge's OPC UA tree that the PLC's client uses, on a server of its own."""

from __future__ import annotations

import json
from typing import Any

from asyncua import Server, ua, uamethod
from asyncua.common.node import Node

TYPES = {
    "Written": ua.VariantType.UInt32, "PartId": ua.VariantType.String, "Verdict": ua.VariantType.Int32,
    "Disposition": ua.VariantType.Int32, "Label": ua.VariantType.String, "LabelId": ua.VariantType.UInt16,
    "Score": ua.VariantType.Double, "Reason": ua.VariantType.String, "LatencyMs": ua.VariantType.Double,
    "Sequence": ua.VariantType.UInt32,
}  # fmt: skip
CONTROL = {
    "TriggerSequence": ua.VariantType.UInt32, "TriggerEncoder": ua.VariantType.UInt32,
    "TriggerAgeMs": ua.VariantType.UInt16, "Trigger": ua.VariantType.Boolean,
}  # fmt: skip


class FakeOpcua:
    """Serve results that a test writes, and remember the handshakes that a client makes."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.documents: dict[int, str] = {}
        self.asked: list[int] = []
        self.written = 0

    async def start(self, port: int) -> str:
        self._server = Server()
        await self._server.init()
        endpoint = f"opc.tcp://127.0.0.1:{port}/linegate/"
        self._server.set_endpoint(endpoint)
        self._server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        index = await self._server.register_namespace("urn:linegate")
        base = "line1.station1"
        station = await self._server.nodes.objects.add_object(ua.NodeId(base, index), f"{index}:station1")
        groups = {
            "Result": TYPES,
            "Control": CONTROL,
            "Status": {"Ready": ua.VariantType.Boolean, "TriggerAck": ua.VariantType.Boolean},
        }
        for group, variables in groups.items():
            parent = await station.add_object(ua.NodeId(f"{base}.{group}", index), f"{index}:{group}")
            for name, kind in variables.items():
                value: Any = "" if kind == ua.VariantType.String else name == "Ready" if "Bool" in kind.name else 0
                node = await parent.add_variable(
                    ua.NodeId(f"{base}.{group}.{name}", index), f"{index}:{name}", ua.Variant(value, kind)
                )
                await node.set_writable()
                self.nodes[f"{group}.{name}"] = node
        await station.add_method(
            ua.NodeId(f"{base}.GetResult", index), f"{index}:GetResult", self._get_result,
            [ua.VariantType.UInt32], [ua.VariantType.String],
        )  # fmt: skip
        await self._server.start()
        return endpoint

    async def stop(self) -> None:
        await self._server.stop()

    def drop_sessions(self) -> None:
        """Close every client's connection, as a server does that has not heard of it for too long."""
        for transport in list(self._server.bserver.clients):
            transport.transport.close()

    async def show(self, sequence: int, verdict: int, *, at_once: bool = True, replayed: bool = False) -> None:
        """Write a result; with `at_once` False the tags are overwritten before anybody can see them."""
        self.written += not replayed
        disposition = 1 if verdict == 1 else 2
        names = {1: "LET_PASS", 2: "REJECT"}
        self.documents[sequence] = json.dumps(
            {"code": verdict, "disposition": names[disposition], "replayed": replayed}
        )
        if not at_once:
            return
        values = {"Written": self.written, "Verdict": verdict, "Disposition": disposition, "Sequence": sequence}
        for name, value in values.items():
            await self.nodes[f"Result.{name}"].write_value(ua.Variant(value, TYPES[name]))

    @uamethod
    async def _get_result(self, _parent: ua.NodeId, sequence: int) -> Any:
        self.asked.append(sequence)
        if sequence not in self.documents:
            return ua.StatusCode(ua.StatusCodes.BadNoData)
        return self.documents[sequence]
