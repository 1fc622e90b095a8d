"""A station's VisionSystem object in the server's address space, and its states' variables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from asyncua import ua
from asyncua.common.node import Node
from asyncua.server.server import Server
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes

from bridge.domain.vision_states import TRANSITIONS, VisionMachine, VisionState
from bridge.outputs.opcua.tree import Change
from bridge.outputs.opcua.values import node_id, standard_id, status_code
from bridge.outputs.vision.nodeset import model_id

VISION_SYSTEM, STATE_MACHINE, AUTOMATIC_MODE = 1003, 1017, 1021
RECIPES, CONFIGURATIONS, RESULTS = 1004, 1006, 1007
SELECT_MODE_AUTOMATIC, CONFIRM_ALL, SIMULATION_MODE = 7095, 7066, 7100
"""Numbers of the specification's nodeset: types, and methods of theirs that are optional."""

TOP = "VisionStateMachine"
AUTOMATIC = f"{TOP}.AutomaticModeStateMachine"
_OBJECTS = (
    (AUTOMATIC, AUTOMATIC_MODE),
    ("RecipeManagement", RECIPES),
    ("ConfigurationManagement", CONFIGURATIONS),
    ("ResultManagement", RESULTS),
)
_OPTIONAL_METHODS = (
    (TOP, SELECT_MODE_AUTOMATIC),
    (TOP, CONFIRM_ALL),
    (AUTOMATIC, SIMULATION_MODE),
)


def _now() -> ua.DateTime:
    return cast("ua.DateTime", datetime.now(UTC))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIds:
    """Node ids of the specification's states, by state, and transitions, by number; they stand on the types."""

    states: dict[VisionState, ua.NodeId]
    transitions: dict[int, ua.NodeId]


async def model_ids(server: Server, space: int) -> ModelIds:
    """Find the states and transitions in the imported types."""
    named: dict[str, ua.NodeId] = {}
    for number in (STATE_MACHINE, AUTOMATIC_MODE):
        for child in await server.get_node(model_id(number, space)).get_children_descriptions():
            named[child.BrowseName.Name] = child.NodeId
    return ModelIds(
        states={state: named[state.browse_name] for state in VisionState},
        transitions={each.number: named[each.name] for each in TRANSITIONS},
    )


class VisionNodes:
    """The nodes of one VisionSystem; `show` writes where its machines stand."""

    def __init__(
        self,
        server: Server,
        station: Node,
        *,
        root: str,
        index: int,
        space: int,
        ids: ModelIds,
        tell: Callable[[Change], None],
    ) -> None:
        self._tell = tell
        self.root = f"{root}.VisionSystem"
        self.methods: dict[ua.NodeId, str] = {}
        self._server = server
        self._station = station
        self._index, self._space, self._ids = index, space, ids
        self._shown: VisionMachine | None = None

    def node(self, path: str = "") -> Node:
        """Give a node by its path of browse names below the VisionSystem; the VisionSystem itself without one."""
        return self._server.get_node(node_id(f"{self.root}.{path}" if path else self.root, self._index))

    async def build(self) -> None:
        """Add the object below its station, with a reference from Objects, where clients of the model look for it."""
        vision = await self._station.add_object(
            node_id(self.root, self._index),
            ua.QualifiedName("VisionSystem", self._index),
            objecttype=model_id(VISION_SYSTEM, self._space),
            instantiate_optional=False,
        )
        for path, kind in _OBJECTS:
            parent, _, name = path.rpartition(".")
            await self.node(parent).add_object(
                node_id(f"{self.root}.{path}", self._index),
                ua.QualifiedName(name, self._space),
                objecttype=model_id(kind, self._space),
                instantiate_optional=False,
            )
        for path, number in _OPTIONAL_METHODS:
            await self._add_method(path, number)
        shown = ua.LocalizedText(f"VisionSystem {self.root.removesuffix('.VisionSystem')}")
        await vision.write_attribute(
            AttributeIds.DisplayName, ua.DataValue(ua.Variant(shown, ua.VariantType.LocalizedText))
        )
        await self._server.nodes.objects.add_reference(vision.nodeid, standard_id(ObjectIds.Organizes))
        await self._server.nodes.server.add_reference(vision.nodeid, standard_id(ObjectIds.HasNotifier))
        await vision.add_reference(self.node(TOP).nodeid, standard_id(ObjectIds.HasEventSource))
        for each in (vision, self._server.nodes.server):
            await each.set_event_notifier([ua.EventNotifier.SubscribeToEvents])
        for path in (TOP, AUTOMATIC, "RecipeManagement", "ConfigurationManagement", "ResultManagement"):
            for child in await self.node(path).get_children_descriptions(nodeclassmask=ua.NodeClass.Method):
                self.methods[child.NodeId] = f"{path}.{child.BrowseName.Name}"

    async def arguments_of(self, path: str) -> list[ua.Argument]:
        """Give a method's input arguments; empty when it has none."""
        for child in await self.node(path).get_children():
            if child.nodeid.Identifier == f"{self.root}.{path}.InputArguments":
                return list(await child.read_value())
        return []

    def show(self, machine: VisionMachine) -> None:
        """Write both machines' CurrentState where it has changed; one that is not active says so by its status."""
        if machine == self._shown:
            return
        self._shown = machine
        self._show(TOP, machine.state)
        self._show(AUTOMATIC, machine.automatic)

    def write(self, path: str, value: Any, kind: ua.VariantType) -> None:
        """Put a variable's value in place; None says that its state is not active."""
        shown = (
            ua.DataValue(StatusCode=status_code(StatusCodes.BadStateNotActive), SourceTimestamp=_now())
            if value is None
            else ua.DataValue(ua.Variant(value, kind), SourceTimestamp=_now(), ServerTimestamp=_now())
        )
        attribute = self._server.iserver.aspace[self.node(path).nodeid].attributes[AttributeIds.Value]
        attribute.value = shown
        if attribute.datachange_callbacks:
            self._tell((attribute, shown))

    def _show(self, path: str, state: VisionState | None) -> None:
        name, number = (None, None) if state is None else (ua.LocalizedText(state.browse_name), self._ids.states[state])
        self.write(f"{path}.CurrentState", name, ua.VariantType.LocalizedText)
        self.write(f"{path}.CurrentState.Id", number, ua.VariantType.NodeId)

    async def _add_method(self, path: str, number: int) -> None:
        """Add one of the type's optional methods, with its arguments."""
        model = self._server.get_node(model_id(number, self._space))
        name = (await model.read_browse_name()).Name
        own = f"{self.root}.{path}.{name}"
        method = await self.node(path).add_method(
            node_id(own, self._index), ua.QualifiedName(name, self._space), None, [], []
        )
        for each in await model.get_properties():
            kind = await each.read_browse_name()
            await method.add_property(
                node_id(f"{own}.{kind.Name}", self._index),
                kind,
                await each.read_value(),
                varianttype=ua.VariantType.ExtensionObject,
                datatype=standard_id(ObjectIds.Argument),
            )
