"""The OPC Foundation's nodeset of OPC 40100-1 (machine vision) in the server's address space."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from asyncua import ua
from asyncua.common.node import Node
from asyncua.common.xmlimporter import XmlImporter
from asyncua.server.server import Server
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.uatypes import extension_objects_by_typeid

NODESET = Path(__file__).parent / "nodesets" / "Opc.Ua.MachineVision.NodeSet2.xml"
NAMESPACE = "http://opcfoundation.org/UA/MachineVision"
_PIECE = 100
_ENCODINGS = (5002, 5090, 5268)
"""Binary encodings of RecipeIdExternal-, ConfigurationId- and RecipeIdInternalDataType, which have no fields of their own.

The library would not decode them. It sends such ids as their base type, which has the same fields and which every client
decodes; under their own encodings a client with this library gets bytes.
"""


async def import_nodeset(server: Server) -> int:
    """Add the specification's types; gives their namespace's index. It takes about 0.5 s, in which others have their turns."""
    await _TypesOnly(server).import_xml(str(NODESET))  # type: ignore[no-untyped-call]
    space = int(await server.get_namespace_index(NAMESPACE))
    for encoding in _ENCODINGS:
        extension_objects_by_typeid[model_id(encoding, space)] = getattr(ua, "BinaryIdBaseDataType")  # noqa: B009 - it has come with the nodeset
    return space


def model_id(number: int, space: int) -> ua.NodeId:
    """Give a node id of the specification's own namespace, whose index is `space`."""
    return ua.NodeId(ua.Int32(number), ua.Int16(space))


class _TypesOnly(XmlImporter):
    """Leave out what makes half of an import's time: references from the base types back to each of the nodeset's nodes.

    What is left is done in small pieces, for the loop serves PLCs as well.
    """

    async def _add_node_data(self, nodedata: Any, no_namespace_migration: bool = False) -> ua.NodeId:
        """Add one node."""
        await asyncio.sleep(0)
        return await super()._add_node_data(nodedata, no_namespace_migration)

    async def _add_references(self, refs: Any) -> None:
        """Add references, so many at a time."""
        for start in range(0, len(refs), _PIECE):
            await asyncio.sleep(0)
            await super()._add_references(refs[start : start + _PIECE])  # type: ignore[no-untyped-call]

    async def _add_missing_reverse_references(self, new_nodes: list[Any]) -> set[Node]:
        """Let the base types know their new subtypes alone, by which clients find them."""
        space = self.session.iserver.aspace
        subtype = ua.NodeId(ua.Int32(ObjectIds.HasSubtype))
        missing = [
            ua.AddReferencesItem(
                SourceNodeId=each.NodeId,
                TargetNodeId=node,
                ReferenceTypeId=subtype,
                IsForward=True,
                TargetNodeClass=space[node].attributes[AttributeIds.NodeClass].value.Value.Value,
            )
            for node in new_nodes
            for each in space[node].references
            if each.ReferenceTypeId == subtype
            and not each.IsForward
            and each.NodeId.NamespaceIndex == 0
            and not any(there.NodeId == node and there.IsForward for there in space[each.NodeId].references)
        ]
        await self._add_references(missing)
        return set()
