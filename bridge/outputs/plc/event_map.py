"""What OPC UA events carry: two event types, each one table. Pure; nothing here knows the protocol's library."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from bridge.domain.alarms import Severity
from bridge.domain.verdict import VerdictCode
from bridge.outputs.plc.node_map import RESULT_NODES, DataType, Value, short
from bridge.outputs.plc.view import PlcView
from bridge.ports import Alarm

RESULT_EVENT = "ResultReadyEventType"
ALARM_EVENT = "StationAlarmType"

# OPC UA's severities run from 1 to 1000.
ALARM_SEVERITIES: Mapping[Severity, int] = {"warning": 400, "error": 700, "critical": 900}
RESULT_SEVERITIES: Mapping[VerdictCode, int] = {
    VerdictCode.PASS: 100,
    VerdictCode.FAIL: 200,
    VerdictCode.UNCERTAIN: 200,
    VerdictCode.ERROR: 400,
    VerdictCode.LATE: 400,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmField:
    """One field of an alarm's event that the standard's types don't have."""

    name: str
    data_type: DataType
    text: str
    value: Callable[[Alarm], Value]


ALARM_FIELDS: tuple[AlarmField, ...] = (
    AlarmField(name="Code", data_type="UInt16", text="error code", value=lambda a: a.kind.code),
    AlarmField(name="StopRequest", data_type="Boolean", text="sets StopRequest", value=lambda a: a.kind.stop_request),
    AlarmField(name="Degraded", data_type="Boolean", text="sets Degraded", value=lambda a: a.kind.degraded),
    AlarmField(name="Latched", data_type="Boolean", text="stands until ClearError", value=lambda a: a.kind.latched),
)


def result_fields(view: PlcView) -> dict[str, tuple[Value, DataType]]:
    """Give the newest result of a view, whether or not an older one waits for its acknowledgement: all of Result."""
    newest = replace(view, shown=view.newest)
    return {spec.name: (spec.value(newest), spec.data_type) for spec in RESULT_NODES}


def result_message(view: PlcView) -> str:
    """Say in a line what became of the newest part."""
    if view.newest is None:
        return ""
    result = view.newest.result
    return short(f"{result.part.part_id}: {result.judgement.code.name}, {result.judgement.reason}")


def event_id(*what: object) -> bytes:
    """Give the id of an event by what it is of: the same again when it is told again."""
    return hashlib.blake2b("\0".join(map(str, what)).encode(errors="replace"), digest_size=16).digest()
