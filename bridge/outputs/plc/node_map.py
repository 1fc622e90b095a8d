"""The OPC UA tree of one station: one table, from which the server, `linegate tags` and the README's tables come.

Turning a view into values is pure; nothing here knows the protocol's library. What the PLC writes is in `control_block`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from functools import lru_cache
from typing import Literal

from bridge.domain.gate import GateOrder
from bridge.domain.part import Result
from bridge.domain.verdict import Disposition, VerdictCode
from bridge.outputs.plc.register_map import STATUS_BITS, flags_of, open_clock_ms
from bridge.outputs.plc.view import EMPTY_RING, U16, U32, PlcView, Shown, bridge_clock_ms

NAMESPACE = "urn:linegate"
STRING_LIMIT = 254

DataType = Literal["Boolean", "UInt16", "UInt32", "Double", "String", "DateTime", "VerdictEnum", "DispositionEnum"]
Group = Literal["Status", "Counters", "Ring", "Gate", "Result"]
Value = bool | int | float | str | datetime | tuple[int, ...]

NO_TIME = datetime(1601, 1, 1, tzinfo=UTC)  # OPC UA's zero
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

ENUMERATIONS: dict[str, type[IntEnum]] = {"VerdictEnum": VerdictCode, "DispositionEnum": Disposition}

# Code of UN/CEFACT recommendation 20, symbol, name.
UNITS: dict[str, tuple[str, str]] = {
    "C16": ("mm/s", "millimetre per second"),
    "C26": ("ms", "millisecond"),
    "C62": ("1", "one"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """One variable that the bridge writes. `clock` values are taken when they are read; `length` is an array's."""

    group: Group
    name: str
    data_type: DataType
    text: str
    value: Callable[[PlcView], Value]
    unit: str | None = None
    clock: bool = False
    length: int | None = None


class Quality(IntEnum):
    """How good a value is; Bad ones carry none."""

    GOOD = 0
    UNCERTAIN_INITIAL = 1
    WAITING = 2
    OUT_OF_SERVICE = 3


def short(text: str | None) -> str:
    """Cut a text to 254 bytes of UTF-8 at a character's border; never null."""
    return (text or "").encode()[:STRING_LIMIT].decode(errors="ignore")


@lru_cache(maxsize=16)  # one result's moment stamps each of its values
def utc(ns: int) -> datetime:
    """Turn nanoseconds since 1970 into a time stamp."""
    return _EPOCH + timedelta(microseconds=ns // 1000)


def _result(read: Callable[[Result], Value], absent: Value) -> Callable[[PlcView], Value]:
    return lambda view: absent if view.shown is None else read(view.shown.result)


def _gate(read: Callable[[Result, GateOrder], Value], absent: Value) -> Callable[[PlcView], Value]:
    return lambda view: absent if view.newest is None else read(view.newest.result, view.newest.order)


def _delay_ms(result: Result, order: GateOrder) -> float:
    return math.nan if order.open_ns is None else (order.open_ns - result.decided_ns) / 1e6


def _due_at(result: Result, order: GateOrder) -> datetime:
    return NO_TIME if order.due_ns is None else utc(result.decided_utc_ns + order.due_ns - result.decided_ns)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _status_bit(number: int) -> Callable[[PlcView], Value]:
    return lambda view: bool(view.bits >> number & 1)


# fmt: off
_STATUS_BITS = (
    NodeSpec(group="Status", name="Bits", data_type="UInt16", text="status bits, as Modbus register 0", value=lambda v: v.bits),
    *(NodeSpec(group="Status", name=name, data_type="Boolean", text=text, value=_status_bit(number))
      for number, name, text in STATUS_BITS),
)

_STATUS_WORDS = (
    NodeSpec(group="Status", name="State", data_type="String", text="state in a word", value=lambda v: v.status.state.value),
    NodeSpec(group="Status", name="Heartbeat", data_type="UInt32", text="+1 every 500 ms; stands still when the station hangs",
             value=lambda v: v.status.heartbeat & U32),
    NodeSpec(group="Status", name="ErrorCode", data_type="UInt16", text="code of the foremost standing alarm, 0 = none",
             value=lambda v: v.status.error_code & U16),
    NodeSpec(group="Status", name="ErrorText", data_type="String", text="its text", value=lambda v: short(v.status.error_text)),
    NodeSpec(group="Status", name="Recipe", data_type="String", text="active recipe and revision",
             value=lambda v: short(v.status.recipe)),
    NodeSpec(group="Status", name="Model", data_type="String", text="active model and version",
             value=lambda v: short(v.status.model)),
    NodeSpec(group="Status", name="ModelSha256", data_type="String", text="SHA-256 of its manifest",
             value=lambda v: short(v.status.model_sha256)),
    NodeSpec(group="Status", name="BeltSpeed", data_type="Double", unit="C16", text="belt speed; NaN = unknown",
             value=lambda v: _or_nan(v.status.belt_speed_mm_s)),
)

_COUNTERS = tuple(
    NodeSpec(group="Counters", name=name, data_type="UInt32", text=text,
             value=lambda v, field=field: getattr(v.status.counters, field) & U32)  # type: ignore[misc]
    for name, field, text in (
        ("Triggers", "triggers", "accepted triggers"),
        ("Pass", "passed", "verdicts PASS"),
        ("Fail", "failed", "verdicts FAIL"),
        ("Uncertain", "uncertain", "verdicts UNCERTAIN"),
        ("Error", "error", "verdicts ERROR"),
        ("Late", "late", "verdicts LATE"),
        ("MissedTriggers", "missed_triggers", "parts that passed the photo-eye without a trigger"),
        ("DuplicateTriggers", "duplicate_triggers", "duplicates, which give no second verdict"),
        ("GateFired", "gate_fired", "gate operations"),
        ("GateMissed", "gate_missed", "gate orders that could not be met"),
        ("GateConfirmed", "gate_confirmed", "rejects seen in the bin"),
        ("Collateral", "collateral", "parts that were to pass and were swept"),
    )
)

_RING = (
    NodeSpec(group="Ring", name="Words", data_type="UInt16", length=len(EMPTY_RING),
             text="the last 16 results, exactly input registers 100 to 323", value=lambda v: v.ring),
    NodeSpec(group="Ring", name="ClockMs", data_type="UInt32", text="bridge clock in ms, rolls over",
             clock=True, value=lambda _: 0),
    NodeSpec(group="Ring", name="Written", data_type="UInt32", text="results written since the start, 0 = none",
             value=lambda v: v.written & U32),
)

_GATE = (
    NodeSpec(group="Gate", name="OpenCount", data_type="UInt32", text="encoder count at which the gate must be fully open",
             value=_gate(lambda _, o: o.open_count or 0, 0)),
    NodeSpec(group="Gate", name="CloseCount", data_type="UInt32", text="encoder count up to which it must be",
             value=_gate(lambda _, o: o.close_count or 0, 0)),
    NodeSpec(group="Gate", name="OpenAtMs", data_type="UInt32", text="moment on the bridge clock when it must be fully open",
             value=_gate(lambda _, o: open_clock_ms(o), 0)),
    NodeSpec(group="Gate", name="ClockMs", data_type="UInt32", text="bridge clock in ms, rolls over",
             clock=True, value=lambda _: 0),
    NodeSpec(group="Gate", name="DelayMs", data_type="Double", unit="C26", text="decided to fully open; NaN = none",
             value=_gate(_delay_ms, math.nan)),
    NodeSpec(group="Gate", name="WindowMs", data_type="Double", unit="C26", text="gate window; NaN = none",
             value=_gate(lambda _, o: _or_nan(o.window_ms), math.nan)),
    NodeSpec(group="Gate", name="ErrorMs", data_type="Double", unit="C26", text="last firing error; NaN = none",
             value=lambda v: _or_nan(v.status.firing_error_ms)),
    NodeSpec(group="Gate", name="Flags", data_type="UInt16", text="flags, as Modbus register 9", value=_gate(flags_of, 0)),
    NodeSpec(group="Gate", name="DueAt", data_type="DateTime", text="the on-command, for people",
             value=_gate(_due_at, NO_TIME)),
    NodeSpec(group="Gate", name="Sequence", data_type="UInt32", text="sequence of the part, written last",
             value=_gate(lambda r, _: r.part.sequence, 0)),
)

RESULT_NODES = (
    NodeSpec(group="Result", name="PartId", data_type="String", text="part id",
             value=_result(lambda r: short(r.part.part_id), "")),
    NodeSpec(group="Result", name="Verdict", data_type="VerdictEnum", text="verdict, 0 without a valid result",
             value=_result(lambda r: int(r.judgement.code), 0)),
    NodeSpec(group="Result", name="Disposition", data_type="DispositionEnum", text="disposition, 0 without a valid result",
             value=_result(lambda r: int(r.disposition), 0)),
    NodeSpec(group="Result", name="Label", data_type="String", text="deciding label, empty = none",
             value=_result(lambda r: short(r.judgement.label), "")),
    NodeSpec(group="Result", name="LabelId", data_type="UInt16", text="1 + index in the bundle's labels, 0 = none",
             value=_result(lambda r: r.judgement.label_id & U16, 0)),
    NodeSpec(group="Result", name="Score", data_type="Double", unit="C62", text="its score, 0 to 1; NaN = none",
             value=_result(lambda r: _or_nan(r.judgement.score), math.nan)),
    NodeSpec(group="Result", name="Reason", data_type="String", text="why",
             value=_result(lambda r: short(r.judgement.reason), "")),
    NodeSpec(group="Result", name="LatencyMs", data_type="Double", unit="C26", text="triggered to decided",
             value=_result(lambda r: r.latency_ms, math.nan)),
    NodeSpec(group="Result", name="TriggeredAt", data_type="DateTime", text="front edge at the beam, for people",
             value=_result(lambda r: utc(r.part.triggered_utc_ns), NO_TIME)),
    NodeSpec(group="Result", name="Json", data_type="String", text="the whole verdict",
             value=lambda v: v.shown.document if v.shown else ""),
    NodeSpec(group="Result", name="Written", data_type="UInt32", text="results since the start",
             value=lambda v: v.written & U32),
    NodeSpec(group="Result", name="Sequence", data_type="UInt32", text="sequence of the part, written last",
             value=_result(lambda r: r.part.sequence, 0)),
)
# fmt: on


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Variables whose values come from `reads` of a view alone: while that stays the same, so do they."""

    reads: Callable[[PlcView], object]
    nodes: tuple[NodeSpec, ...]


def _words_of(view: PlcView) -> object:
    status = view.status
    return (status.state, status.heartbeat, status.error_code, status.error_text, status.recipe, status.model,
            status.model_sha256, status.belt_speed_mm_s)  # fmt: skip


# In this order values are written and their changes told: the sequences that clients wait for come last.
SECTIONS: tuple[Section, ...] = (
    Section(reads=lambda v: v.bits, nodes=_STATUS_BITS),
    Section(reads=_words_of, nodes=_STATUS_WORDS),
    Section(reads=lambda v: v.status.counters, nodes=_COUNTERS),
    Section(reads=lambda v: (v.ring, v.written), nodes=_RING),
    Section(reads=lambda v: (v.newest, v.live, v.status.firing_error_ms), nodes=_GATE),
    Section(reads=lambda v: (v.shown, v.valid, v.written), nodes=RESULT_NODES),
)
NODES: tuple[NodeSpec, ...] = tuple(node for section in SECTIONS for node in section.nodes)
_CODED = frozenset({"Verdict", "Disposition"})


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSpec:
    """One method; arguments are (name, type, text)."""

    name: str
    text: str
    inputs: tuple[tuple[str, DataType, str], ...] = ()
    outputs: tuple[tuple[str, DataType, str], ...] = ()


METHODS: tuple[MethodSpec, ...] = (
    MethodSpec(
        name="SelectRecipe",
        text="make a recipe the active one; answers once it was accepted or refused",
        inputs=(("name", "String", "name of the recipe"),),
        outputs=(("ok", "Boolean", "whether it was accepted"), ("text", "String", "why not")),
    ),
    MethodSpec(name="ResetCounters", text="counters to 0, triggers to the number in flight"),
    MethodSpec(
        name="GetResult",
        text="one of the last 1,000 verdicts, replayed ones too; BadNoData when unknown",
        inputs=(("sequence", "UInt32", "sequence of the part"),),
        outputs=(("json", "String", "the whole verdict"),),
    ),
)


def value_of(spec: NodeSpec, view: PlcView, *, now_ns: int) -> tuple[Value, Quality]:
    """Give a variable's value and its quality; the value means nothing where the quality is Bad."""
    quality = _quality(spec, view)
    if quality is Quality.UNCERTAIN_INITIAL:
        return 0, quality
    return (bridge_clock_ms(now_ns) if spec.clock else spec.value(view)), quality


def source_of(spec: NodeSpec, view: PlcView) -> Shown | None:
    """Give the result whose decided moment is the value's source time stamp; None when the value is of now."""
    if spec.clock or _quality(spec, view) is not Quality.GOOD:
        return None
    return {"Result": view.shown, "Gate": view.newest}.get(spec.group)


def _quality(spec: NodeSpec, view: PlcView) -> Quality:
    if spec.group == "Result":
        standing, shown = view.valid, view.shown
        if not standing and spec.name in _CODED:
            return Quality.UNCERTAIN_INITIAL
    elif spec.group == "Gate":
        standing, shown = view.live, view.newest
    else:
        return Quality.GOOD
    if standing:
        return Quality.GOOD
    return Quality.WAITING if shown is None else Quality.OUT_OF_SERVICE
