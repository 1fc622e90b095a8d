"""Happenings of a VisionSystem as the events of OPC 40100-1, told to whoever subscribed to it or to the server."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog
from asyncua import ua
from asyncua.common.events import get_event_obj_from_type_node
from asyncua.server.server import Server

from bridge.domain.vision_states import Transition
from bridge.outputs.opcua.events import CLIENT_FAULTS
from bridge.outputs.plc.node_map import utc
from bridge.outputs.vision.nodes import AUTOMATIC, TOP, ModelIds, VisionNodes
from bridge.outputs.vision.nodeset import model_id
from bridge.outputs.vision.station import (
    Acquired,
    Failed,
    Happening,
    JobEnded,
    JobStarted,
    Moved,
    RecipePrepared,
    Recovered,
    ResultReady,
)
from bridge.outputs.vision.values import job_id, recipe_ids, result_fields

_log = structlog.get_logger(__name__)

_STRUCTURE, _TEXT = ua.VariantType.ExtensionObject, ua.VariantType.LocalizedText
Fields = dict[str, tuple[Any, ua.VariantType]]

EVENT_TYPES: Mapping[type[Happening], int] = {
    Moved: 1018,
    Failed: 1019,
    Recovered: 1020,
    RecipePrepared: 1022,
    JobEnded: 1023,
    ResultReady: 1024,
    Acquired: 1025,
    JobStarted: 1013,
}
SEVERITIES: Mapping[type[Happening], int] = {Failed: 800}
SEVERITY = 100


class VisionEvents:
    """Tell one VisionSystem's happenings. `build` comes after its nodes have been built."""

    def __init__(self, server: Server, nodes: VisionNodes, *, space: int, ids: ModelIds) -> None:
        self._server = server
        self._nodes = nodes
        self._space, self._ids = space, ids
        self._events: dict[type[Happening], Any] = {}
        self._fields: Mapping[type[Happening], Callable[[Any], tuple[str, Fields]]] = {
            Moved: lambda each: self._transition(each.transition, ""),
            Failed: lambda each: self._transition(each.transition, each.text or "fault"),
            Recovered: lambda each: self._transition(each.transition, "the fault is over"),
            RecipePrepared: _recipe_fields,
            JobEnded: lambda each: (f"ready after job {each.job.job_id}", _job_fields(each.job.job_id)),
            JobStarted: lambda each: (f"job {each.job.job_id} has begun", _job_fields(each.job.job_id)),
            Acquired: lambda each: ("picture taken", _job_fields(each.job.job_id)),
            ResultReady: lambda each: (f"result of part {each.result.part_id}", result_fields(each.result)),
        }

    async def build(self) -> None:
        """Make one event of each type, with the fields of the specification."""
        for kind, number in EVENT_TYPES.items():
            event: Any = await get_event_obj_from_type_node(self._server.get_node(model_id(number, self._space)))
            event.EventType = model_id(number, self._space)
            self._events[kind] = event

    @property
    def _heard(self) -> bool:
        """Whether anybody has a subscription; without one nothing is built."""
        return bool(self._server.iserver.subscription_service.subscriptions)

    async def tell(self, happened: Happening) -> None:
        """Notify every subscription that listens; one client's fault is no other's."""
        if not self._heard:
            return
        kind = type(happened)
        message, fields = self._fields[kind](happened)
        event = self._events[kind]
        for name, (value, variant_type) in fields.items():
            event.add_property(name, value, variant_type)
        now = datetime.now(UTC)
        event.EventId = uuid.uuid4().bytes
        event.Time = utc(happened.at_utc_ns) if isinstance(happened, Acquired) else now
        event.ReceiveTime = now
        event.LocalTime = ua.TimeZoneDataType(Offset=ua.Int16(0), DaylightSavingInOffset=False)
        event.Message = ua.LocalizedText(message)
        event.Severity = SEVERITIES.get(kind, SEVERITY)
        source = self._nodes.node(self._source(happened))
        event.SourceNode, event.SourceName = source.nodeid, str(source.nodeid.Identifier)
        for emitter in (self._nodes.node().nodeid, self._server.nodes.server.nodeid):
            event.emitting_node = emitter
            for subscription in list(self._server.iserver.subscription_service.subscriptions.values()):
                try:
                    await subscription.monitored_item_srv.trigger_event(event)
                except CLIENT_FAULTS as exc:
                    _log.debug("vision event lost", reason=str(exc))

    def _source(self, happened: Happening) -> str:
        """Give the path of the object that an event is about."""
        if isinstance(happened, Moved | Failed | Recovered):
            return AUTOMATIC if happened.transition.automatic_mode else TOP
        return {RecipePrepared: "RecipeManagement", ResultReady: "ResultManagement"}.get(type(happened), AUTOMATIC)

    def _transition(self, taken: Transition, text: str) -> tuple[str, Fields]:
        before, after = taken.before, taken.after
        fields: Fields = {
            "Transition": (ua.LocalizedText(taken.name), _TEXT),
            "Transition/Id": (self._ids.transitions[taken.number], ua.VariantType.NodeId),
            "FromState": (ua.LocalizedText(before.browse_name), _TEXT),
            "FromState/Id": (self._ids.states[before], ua.VariantType.NodeId),
            "ToState": (ua.LocalizedText(after.browse_name), _TEXT),
            "ToState/Id": (self._ids.states[after], ua.VariantType.NodeId),
        }
        return text or f"{before.browse_name} to {after.browse_name}", fields


def _job_fields(job: str) -> Fields:
    return {"JobId": (job_id(job), _STRUCTURE)}


def _recipe_fields(happened: RecipePrepared) -> tuple[str, Fields]:
    external, internal = recipe_ids(happened.recipe)
    fields: Fields = {
        "ExternalId": (external, _STRUCTURE),
        "InternalId": (internal, _STRUCTURE),
        "ProductId": (None, _STRUCTURE),
    }
    return f"recipe {happened.recipe.reference} is prepared", fields
