"""Results and alarms as OPC UA events: at the station's object, at its line's, and at the server's.

A result is told by `ResultReadyEventType`, an alarm by `StationAlarmType`, a condition in the sense of OPC UA part 9 that
needs no acknowledgement. Telling is a task of its own; while nobody listens a result costs no more than to see that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog
from asyncua import ua
from asyncua.common.node import Node
from asyncua.server.server import Server
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaError

from bridge.outputs.opcua.filters import Notice
from bridge.outputs.opcua.items import StationItems
from bridge.outputs.opcua.values import DATA_TYPES, node_id, standard_id, status_code, variant
from bridge.outputs.plc.event_map import (
    ALARM_EVENT,
    ALARM_FIELDS,
    ALARM_SEVERITIES,
    RESULT_EVENT,
    RESULT_SEVERITIES,
    event_id,
    result_fields,
    result_message,
)
from bridge.outputs.plc.node_map import RESULT_NODES, DataType, Value, short, utc
from bridge.outputs.plc.panel import PlcPanel
from bridge.outputs.plc.view import PlcView
from bridge.ports import Alarm

_log = structlog.get_logger(__name__)

SERVER = standard_id(ObjectIds.Server)
_NO_NODE = ua.NodeId()
_CLASS = standard_id(ObjectIds.SystemConditionClassType)
_ALARM_BASES = (
    ObjectIds.AlarmConditionType,
    ObjectIds.AcknowledgeableConditionType,
    ObjectIds.ConditionType,
    ObjectIds.BaseEventType,
)
# What the library raises while a client goes away under a notification.
CLIENT_FAULTS = (LookupError, OSError, RuntimeError, ValueError, TypeError, AttributeError, UaError)


class OpcUaEvents:
    """The events of all stations of one server. `build` adds their types; `run` tells them, for ever."""

    def __init__(self, server: Server, *, line: str, index: int) -> None:
        self._server = server
        self._line = node_id(line, index)
        self._line_name = line
        self._index = index
        self._waiting: asyncio.Queue[Callable[[], Notice]] = asyncio.Queue()
        self._panels: list[PlcPanel] = []

    async def build(self, line: Node, types: Mapping[str, ua.NodeId]) -> None:
        """Add the event types, make server and line notifiers, and answer ConditionRefresh."""
        data_types = {**DATA_TYPES, **types}
        nodes = self._server.get_node
        for name, base, fields in (
            (RESULT_EVENT, ObjectIds.BaseEventType, RESULT_NODES),
            (ALARM_EVENT, ObjectIds.AlarmConditionType, ALARM_FIELDS),
        ):
            made = await nodes(standard_id(base)).add_object_type(
                node_id(name, self._index), ua.QualifiedName(name, self._index)
            )
            for each in fields:
                field = await made.add_property(
                    node_id(f"{name}.{each.name}", self._index),
                    ua.QualifiedName(each.name, self._index),
                    variant(_START[each.data_type], each.data_type),
                    datatype=data_types[each.data_type],
                )
                await field.set_modelling_rule(True)
        await self._is_notifier(nodes(SERVER))
        await self._is_notifier(line)
        for number in (ObjectIds.ConditionType_ConditionRefresh, ObjectIds.ConditionType_ConditionRefresh2):
            self._server.iserver.isession.add_method_callback(standard_id(number), self._refresh)

    async def add(self, station: Node, panel: PlcPanel) -> None:
        """Tell of one station from now on."""
        await self._is_notifier(station)
        self._panels.append(panel)
        written = panel.view.written

        def watch(view: PlcView) -> None:
            nonlocal written
            if view.written == written:
                return
            written = view.written
            if any(each.hears_events for each in self._items()):
                self._waiting.put_nowait(partial(self._of_result, panel.station, view))

        panel.watch(watch)
        panel.watch_alarms(lambda alarm: self._waiting.put_nowait(partial(self._of_alarm, panel.station, alarm)))

    async def run(self) -> None:
        """Tell every event to all who listen, in the order in which they came; who is gone holds up nobody."""
        while True:
            notice = (await self._waiting.get())()  # made here, so that it holds up no output
            for items in self._items():
                await _tell(items, notice)

    def _items(self) -> list[StationItems]:
        subscriptions = self._server.iserver.subscription_service.subscriptions.values()
        found = (each.monitored_item_srv for each in subscriptions)
        return [each for each in found if isinstance(each, StationItems)]

    async def _is_notifier(self, node: Node) -> None:
        await node.set_event_notifier([ua.EventNotifier.SubscribeToEvents])
        if node.nodeid != SERVER:
            await self._server.get_node(SERVER).add_reference(node, standard_id(ObjectIds.HasNotifier))

    def _of_result(self, station: str, view: PlcView) -> Notice:
        assert view.newest is not None
        result = view.newest.result
        moment = utc(result.decided_utc_ns)
        base = _base_fields(
            kind=node_id(RESULT_EVENT, self._index),
            number=event_id(station, result.part.epoch, result.part.sequence, result.decided_utc_ns),
            source=self._path(station),
            moment=moment,
            message=result_message(view),
            severity=RESULT_SEVERITIES[result.judgement.code],
        )
        ours = {name: variant(*each) for name, each in result_fields(view).items()}
        return self._notice(station, RESULT_EVENT, (ObjectIds.BaseEventType,), base | ours)

    def _of_alarm(self, station: str, alarm: Alarm) -> Notice:
        moment = utc(alarm.at_utc_ns)
        severity = ALARM_SEVERITIES[alarm.kind.severity]
        base = _base_fields(
            kind=node_id(ALARM_EVENT, self._index),
            number=event_id(station, alarm.kind.code, alarm.raised, alarm.at_utc_ns),
            source=self._path(station),
            moment=moment,
            message=short(alarm.text),
            severity=severity,
        )
        ours = {each.name: variant(each.value(alarm), each.data_type) for each in ALARM_FIELDS}
        fields = base | _condition_fields(alarm, moment, severity) | ours
        condition = node_id(f"{self._line_name}.{station}.Alarm.{alarm.kind.name}", self._index)
        return self._notice(station, ALARM_EVENT, _ALARM_BASES, fields, condition)

    def _notice(
        self,
        station: str,
        kind: str,
        bases: tuple[int, ...],
        fields: Mapping[str, ua.Variant],
        condition: ua.NodeId | None = None,
    ) -> Notice:
        types = frozenset({node_id(kind, self._index), *(standard_id(each) for each in bases)})
        sources = (self._path(station), self._line, SERVER)
        return Notice(sources=sources, types=types, fields=fields, condition=condition)

    def _path(self, station: str) -> ua.NodeId:
        return node_id(f"{self._line_name}.{station}", self._index)

    async def _refresh(self, _parent: ua.NodeId, *arguments: ua.Variant) -> Any:
        """Tell one subscription (or one item of it) of every alarm that stands: ConditionRefresh, ConditionRefresh2."""
        numbers = [each.Value for each in arguments]
        if not numbers or len(numbers) > 2 or any(each.VariantType != ua.VariantType.UInt32 for each in arguments):
            return status_code(StatusCodes.BadInvalidArgument)
        subscription = self._server.iserver.subscription_service.subscriptions.get(numbers[0])
        items = subscription.monitored_item_srv if subscription else None
        if not isinstance(items, StationItems):
            return status_code(StatusCodes.BadSubscriptionIdInvalid)
        only = numbers[1] if len(numbers) == 2 else None
        if only is not None and only not in items.numbers:
            return status_code(StatusCodes.BadMonitoredItemIdInvalid)
        await _tell(items, self._mark(ObjectIds.RefreshStartEventType), only=only, filtered=False)
        for panel in self._panels:
            for alarm in panel.alarms.values():
                await _tell(items, self._of_alarm(panel.station, alarm), only=only)
        await _tell(items, self._mark(ObjectIds.RefreshEndEventType), only=only, filtered=False)
        return []

    def _mark(self, kind: int) -> Notice:
        """Give the event that says where a refresh begins or ends."""
        now = datetime.now(UTC)
        fields = _base_fields(
            kind=standard_id(kind), number=event_id(kind, now), source=SERVER, moment=now, message="", severity=1
        )
        sources = (*(self._path(panel.station) for panel in self._panels), self._line, SERVER)
        bases = (kind, ObjectIds.SystemEventType, ObjectIds.BaseEventType)
        return Notice(sources=sources, types=frozenset(map(standard_id, bases)), fields=fields)


_START: Mapping[DataType, Value] = {
    "Boolean": False,
    "UInt16": 0,
    "UInt32": 0,
    "Double": 0.0,
    "String": "",
    "DateTime": utc(0),
    "VerdictEnum": 0,
    "DispositionEnum": 0,
}


async def _tell(items: StationItems, notice: Notice, *, only: int | None = None, filtered: bool = True) -> None:
    try:
        await items.tell(notice, only=only, filtered=filtered)
    except CLIENT_FAULTS as exc:
        _log.debug("opcua event lost", reason=str(exc))


def _base_fields(
    *, kind: ua.NodeId, number: bytes, source: ua.NodeId, moment: datetime, message: str, severity: int
) -> dict[str, ua.Variant]:
    """Give the fields that every event has, as OPC UA part 5, 6.4.2 lists them."""
    kinds = ua.VariantType
    name = "Server" if source == SERVER else str(source.Identifier)
    return {
        "EventId": ua.Variant(number, kinds.ByteString),
        "EventType": ua.Variant(kind, kinds.NodeId),
        "SourceNode": ua.Variant(source, kinds.NodeId),
        "SourceName": ua.Variant(name, kinds.String),
        "Time": ua.Variant(moment, kinds.DateTime),
        "ReceiveTime": ua.Variant(moment, kinds.DateTime),
        "Message": _text(message),
        "Severity": ua.Variant(severity, kinds.UInt16),
    }


def _condition_fields(alarm: Alarm, moment: datetime, severity: int) -> dict[str, ua.Variant]:
    """Give what OPC UA part 9 wants of an alarm: enabled, acknowledged, never shelved or suppressed."""
    kinds = ua.VariantType
    stamp = ua.Variant(moment, kinds.DateTime)
    return {
        "ConditionClassId": ua.Variant(_CLASS, kinds.NodeId),
        "ConditionClassName": _text("SystemConditionClassType"),
        "ConditionName": ua.Variant(alarm.kind.name, kinds.String),
        "BranchId": ua.Variant(_NO_NODE, kinds.NodeId),
        "Retain": ua.Variant(alarm.raised, kinds.Boolean),
        **_state("EnabledState", "Enabled", holds=True),
        **_state("AckedState", "Acknowledged", holds=True),
        **_state("ActiveState", "Active" if alarm.raised else "Inactive", holds=alarm.raised),
        "ActiveState/TransitionTime": stamp,
        "Quality": ua.Variant(status_code(StatusCodes.Good), kinds.StatusCode),
        "Quality/SourceTimestamp": stamp,
        "LastSeverity": ua.Variant(severity, kinds.UInt16),
        "LastSeverity/SourceTimestamp": stamp,
        "Comment": _text(""),
        "Comment/SourceTimestamp": stamp,
        "ClientUserId": ua.Variant("", kinds.String),
        "InputNode": ua.Variant(_NO_NODE, kinds.NodeId),
        "SuppressedOrShelved": ua.Variant(False, kinds.Boolean),
    }


def _state(name: str, text: str, *, holds: bool) -> dict[str, ua.Variant]:
    return {name: _text(text), f"{name}/Id": ua.Variant(holds, ua.VariantType.Boolean)}


def _text(text: str) -> ua.Variant:
    return ua.Variant(ua.LocalizedText(text, "en"), ua.VariantType.LocalizedText)
