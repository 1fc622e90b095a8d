"""One station's nodes in the server's address space, and how a new view gets into them.

All values of a view are put in place in one loop step, without awaiting, so that a Read is answered from one state;
subscribers are told afterwards, in the table's order, with the sequences last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from asyncua import ua
from asyncua.common.node import Node
from asyncua.server.address_space import AttributeValue
from asyncua.server.server import Server
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from bridge.outputs.opcua.values import DATA_TYPES, data_value, engineering_unit, node_id, standard_id, variant
from bridge.outputs.plc.control_block import CONTROL_NODES, ControlField
from bridge.outputs.plc.node_map import (
    ENUMERATIONS,
    SECTIONS,
    NodeSpec,
    Quality,
    Section,
    Value,
    source_of,
    utc,
    value_of,
)
from bridge.outputs.plc.panel import PlcPanel
from bridge.outputs.plc.view import PlcView, Shown

Change = tuple[AttributeValue, ua.DataValue]


async def add_enumerations(server: Server, index: int) -> Mapping[str, ua.NodeId]:
    """Add the enumerations as subtypes of Enumeration with EnumStrings; gives their data types by name."""
    types: dict[str, ua.NodeId] = {}
    for name, members in ENUMERATIONS.items():
        node = await server.nodes.enum_data_type.add_data_type(node_id(name, index), ua.QualifiedName(name, index))
        definition = ua.EnumDefinition(
            Fields=[
                ua.EnumField(Value=int(each), DisplayName=ua.LocalizedText(each.name), Name=each.name)
                for each in members
            ]
        )
        await server.iserver.isession.write(_attribute(node.nodeid, definition))
        texts = [ua.LocalizedText(each.name) for each in members]
        strings = node_id(f"{name}.EnumStrings", index)
        await node.add_property(strings, ua.QualifiedName("EnumStrings", 0), texts)
        types[name] = node.nodeid
    return types


def _attribute(node: ua.NodeId, definition: ua.EnumDefinition) -> ua.WriteParameters:
    value = ua.WriteValue(
        NodeId=node,
        AttributeId=AttributeIds.DataTypeDefinition,
        Value=ua.DataValue(ua.Variant(definition, ua.VariantType.ExtensionObject)),
    )
    return ua.WriteParameters(NodesToWrite=[value])


@dataclass(slots=True)
class _Variable:
    """One variable, and what was last written into it."""

    spec: NodeSpec
    attribute: AttributeValue
    written: tuple[Value, Quality, Shown | None] | None = None


@dataclass(slots=True)
class _Written:
    """The variables of one section, and what they were last written from."""

    section: Section
    variables: list[_Variable]
    read: object = None


class StationTree:
    """The variables of one station. `build` makes them; then each new view of the panel is written by `update`."""

    def __init__(
        self, panel: PlcPanel, *, line: str, index: int, clock_ns: Callable[[], int], tell: Callable[[Change], None]
    ) -> None:
        self.panel = panel
        self.root = f"{line}.{panel.station}"
        self.controls: dict[ua.NodeId, ControlField] = {}
        self._index = index
        self._clock_ns = clock_ns
        self._tell = tell
        self._sections: list[_Written] = []

    async def build(self, server: Server, line_node: Node, types: Mapping[str, ua.NodeId]) -> Node:
        """Add the station's object with its groups and variables; gives the object, for the methods."""
        station = await self._object(line_node, self.root)
        groups: dict[str, Node] = {}
        for group in ("Status", "Result", "Gate", "Ring", "Counters", "Control"):
            groups[group] = await self._object(station, f"{self.root}.{group}")
        for section in SECTIONS:
            variables = [await self._shown(server, groups[each.group], each, types) for each in section.nodes]
            self._sections.append(_Written(section, variables))
        for each in CONTROL_NODES:
            await self._control(groups["Control"], each)
        self.update(self.panel.view)
        self.panel.watch(self.update)
        return station

    async def _shown(self, server: Server, group: Node, spec: NodeSpec, types: Mapping[str, ua.NodeId]) -> _Variable:
        data_type = types.get(spec.data_type) or DATA_TYPES[spec.data_type]
        path = f"{self.root}.{spec.group}.{spec.name}"
        start = (0,) * spec.length if spec.length else spec.value(PlcView())
        node = await self._variable(group, path, start, spec.data_type, data_type, spec.text, spec.unit)
        if spec.length:
            await node.write_value_rank(ua.ValueRank.OneDimension)
            dimensions = ua.Variant([spec.length], ua.VariantType.UInt32)
            await node.write_attribute(AttributeIds.ArrayDimensions, ua.DataValue(dimensions))
        if spec.clock:
            server.iserver.aspace.set_attribute_value_callback(
                node.nodeid, AttributeIds.Value, self._clock_callback(spec)
            )
        return _Variable(spec, server.iserver.aspace[node.nodeid].attributes[AttributeIds.Value])

    def update(self, view: PlcView) -> None:
        """Put every changed value of `view` in place, and tell those who subscribed to it."""
        now = datetime.now(UTC)
        for each in self._sections:
            read = each.section.reads(view)
            if read == each.read:
                continue
            each.read = read
            for variable in each.variables:
                if not variable.spec.clock:
                    self._write(variable, view, now)

    def _write(self, variable: _Variable, view: PlcView, now: datetime) -> None:
        spec, attribute = variable.spec, variable.attribute
        value, quality = value_of(spec, view, now_ns=0)
        source = source_of(spec, view)
        if _is_written(variable.written, value, quality, source):
            return
        variable.written = value, quality, source
        moment = utc(source.result.decided_utc_ns) if source else now
        attribute.value = data_value(value, spec.data_type, quality, source=moment, server=now)
        if attribute.datachange_callbacks:
            self._tell((attribute, attribute.value))

    def refresh_clocks(self) -> None:
        """Tell subscribers of the clocks what they are now; a Read gets them fresh by itself."""
        for section in self._sections:
            for each in section.variables:
                if each.spec.clock and each.attribute.datachange_callbacks:
                    self._tell((each.attribute, self._clock_value(each.spec)))

    def _clock_callback(self, spec: NodeSpec) -> Callable[[ua.NodeId, AttributeIds], ua.DataValue]:
        return lambda _node, _attribute: self._clock_value(spec)

    def _clock_value(self, spec: NodeSpec) -> ua.DataValue:
        value, quality = value_of(spec, self.panel.view, now_ns=self._clock_ns())
        now = datetime.now(UTC)
        return data_value(value, spec.data_type, quality, source=now, server=now)

    async def _object(self, parent: Node, path: str) -> Node:
        name = ua.QualifiedName(path.rpartition(".")[2], self._index)
        return await parent.add_object(node_id(path, self._index), name)

    async def _control(self, group: Node, each: ControlField) -> None:
        kind = each.ua_type or "Boolean"
        starts: dict[str, Value] = {"Boolean": bool(each.initial), "String": "", "Double": float("nan")}
        start = starts.get(kind, each.initial)
        unit = "C16" if each.kind == "mm_s" else None
        path = f"{self.root}.Control.{each.node}"
        node = await self._variable(group, path, start, kind, DATA_TYPES[kind], each.text, unit)
        await node.set_writable()
        self.controls[node.nodeid] = each

    async def _variable(
        self, group: Node, path: str, start: Value, kind: str, data_type: ua.NodeId, text: str, unit: str | None
    ) -> Node:
        name = ua.QualifiedName(path.rpartition(".")[2], self._index)
        node = await group.add_variable(node_id(path, self._index), name, variant(start, kind), datatype=data_type)
        await node.write_attribute(
            AttributeIds.Description, ua.DataValue(ua.Variant(ua.LocalizedText(text), ua.VariantType.LocalizedText))
        )
        if unit:
            await node.add_property(
                node_id(f"{path}.EngineeringUnits", self._index),
                ua.QualifiedName("EngineeringUnits", 0),
                ua.Variant(engineering_unit(unit), ua.VariantType.ExtensionObject),
                datatype=standard_id(ObjectIds.EUInformation),
            )
        return node


def _is_written(
    last: tuple[Value, Quality, Shown | None] | None, value: Value, quality: Quality, source: Shown | None
) -> bool:
    if last is None or last[1] is not quality:
        return False
    same_result = last[2] is source or (last[2] is not None and source is not None and last[2].result is source.result)
    # A value that is not a number equals nothing, itself included, but needs no second writing.
    same_value = last[0] == value or (last[0] != last[0] and value != value)  # noqa: PLR0124
    return same_result and same_value
