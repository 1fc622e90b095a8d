"""Which of our tags go to, or come from, which nodes of a PLC's own OPC UA server; checked against that server."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from asyncua import ua
from asyncua.client.client import Client
from asyncua.common.ua_utils import data_type_to_variant_type
from asyncua.ua.attribute_ids import AttributeIds

from bridge.errors import ConfigError, RefusedError
from bridge.outputs.opcua.fit import Fit, fit, readable
from bridge.outputs.opcua.values import VARIANT_TYPES
from bridge.outputs.plc.control_block import CONTROL_NODES, ControlField
from bridge.outputs.plc.node_map import NODES, NodeSpec

WRITTEN: Mapping[str, NodeSpec] = {f"{each.group}.{each.name}": each for each in NODES}
READ: Mapping[str, ControlField] = {f"Control.{each.node}": each for each in CONTROL_NODES}

_ATTRIBUTES = (
    AttributeIds.DataType,
    AttributeIds.ValueRank,
    AttributeIds.UserAccessLevel,
    AttributeIds.Value,
)
_CAN_READ, _CAN_WRITE = 1, 2
_SCALAR, _SCALAR_OR_ARRAY, _ANY, _ONE_OR_MORE = -1, -3, -2, 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenNode:
    """A tag of ours and the node that takes it, as `kind`."""

    tag: str
    spec: NodeSpec
    node: ua.NodeId
    kind: ua.VariantType
    fit: Fit


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadNode:
    """A control tag and the node that it is read from."""

    tag: str
    control: ControlField
    node: ua.NodeId


def check_tags(nodes: Mapping[str, str], *, key: str) -> None:
    """See that each tag is one of ours and each node id can be read; raises ConfigError naming the nearest known tag."""
    known = [*WRITTEN, *READ]
    for tag, node in nodes.items():
        if tag not in known:
            near = difflib.get_close_matches(tag, known, n=1, cutoff=0.4)
            hint = (
                f"the nearest known one is {near[0]!r}"
                if near
                else "`linegate tags` lists them, such as Result.Verdict"
            )
            raise ConfigError(f"{key}: unknown tag {tag!r}; {hint}")
        try:
            ua.NodeId.from_string(node)
        except (ua.uaerrors.UaError, ValueError) as exc:
            raise ConfigError(f"{key}.{tag} = {node!r}: allowed is a node id such as ns=3;s=NAME") from exc


async def find_nodes(
    client: Client, nodes: Mapping[str, str], *, key: str
) -> tuple[Sequence[WrittenNode], Sequence[ReadNode]]:
    """Find every node on the server and what type it has; raises RefusedError naming tag, node and what is wrong.

    Nodes to write come in the order of our tree, in which the sequence of a result stands last.
    """
    spaces = await client.get_namespace_array()
    ids = {tag: _node_id(node, spaces, f"{key}.{tag} = {node!r}") for tag, node in nodes.items()}
    written, read = [], []
    for tag, spec in WRITTEN.items():
        if tag in ids:
            kind = await _kind(
                client, ids[tag], f"{key}.{tag} = {nodes[tag]!r}", right=_CAN_WRITE, array=bool(spec.length)
            )
            kind = VARIANT_TYPES[spec.data_type] if kind is ua.VariantType.Variant else kind
            how = None if spec.length and kind is ua.VariantType.String else fit(spec.data_type, kind)
            if how is None:
                raise RefusedError(
                    f"{key}.{tag} = {nodes[tag]!r}: a node of type {kind.name} can't hold a {spec.data_type}"
                )
            written.append(WrittenNode(tag=tag, spec=spec, node=ids[tag], kind=kind, fit=how))
    for tag, control in READ.items():
        if tag in ids:
            kind = await _kind(client, ids[tag], f"{key}.{tag} = {nodes[tag]!r}", right=_CAN_READ, array=False)
            if kind is not ua.VariantType.Variant and not readable(control.kind, kind):
                raise RefusedError(
                    f"{key}.{tag} = {nodes[tag]!r}: a node of type {kind.name} can't give a {control.ua_type}"
                )
            read.append(ReadNode(tag=tag, control=control, node=ids[tag]))
    return written, read


def _node_id(text: str, spaces: Sequence[str], what: str) -> ua.NodeId:
    """Read a node id, a namespace by its URI looked up among the server's."""
    if not text.startswith("nsu="):
        return ua.NodeId.from_string(text)
    uri, _, rest = text.removeprefix("nsu=").partition(";")
    if uri not in spaces:
        raise RefusedError(f"{what}: the PLC's server has no namespace {uri!r}, but {', '.join(spaces[1:])}")
    return ua.NodeId.from_string(f"ns={spaces.index(uri)};{rest}")


async def _kind(client: Client, node: ua.NodeId, what: str, *, right: int, array: bool) -> ua.VariantType:
    """Give the type that a node's value has; raises RefusedError for one that is absent or can't be used so."""
    wanted = [ua.ReadValueId(NodeId=node, AttributeId=attribute) for attribute in _ATTRIBUTES]
    answers = await client.uaclient.read(ua.ReadParameters(NodesToRead=wanted))
    data_type, rank, access, value = answers
    if data_type.StatusCode is None or not data_type.StatusCode.is_good() or data_type.Value is None:
        name = data_type.StatusCode.name if data_type.StatusCode else "no status"
        raise RefusedError(f"{what}: the PLC's server has no such variable ({name})")
    level = access.Value.Value if access.Value is not None else None
    if isinstance(level, int) and not level & right:
        verb = "written" if right == _CAN_WRITE else "read"
        raise RefusedError(f"{what}: it can't be {verb} by this user (UserAccessLevel {level})")
    dimensions = rank.Value.Value if rank.Value is not None else None
    if isinstance(dimensions, int) and dimensions not in _ranks(array=array):
        wrong = "it takes one value, not an array" if array else "it is an array"
        raise RefusedError(f"{what}: {wrong} (ValueRank {dimensions})")
    kind = await data_type_to_variant_type(client.get_node(data_type.Value.Value))
    if (
        kind is ua.VariantType.Variant
        and value.Value is not None
        and value.Value.VariantType is not ua.VariantType.Null
    ):
        return value.Value.VariantType
    return kind


def _ranks(*, array: bool) -> frozenset[int]:
    return frozenset({1, _ONE_OR_MORE, _SCALAR_OR_ARRAY, _ANY} if array else {_SCALAR, _SCALAR_OR_ARRAY, _ANY})
