"""What the outside asks of a station: frozen messages, whichever protocol brought them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from bridge.domain.part import Trigger

Origin = Literal["mqtt", "modbus", "opcua", "plc", "operator"]
CommandName = Literal["select-recipe", "enable", "disable", "reset-counters", "clear-error", "challenge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedSample:
    """Belt speed in mm/s at a monotonic moment."""

    mm_s: float
    at_ns: int
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSample:
    """Encoder count (modulo 2^encoder_bits) at a monotonic moment."""

    counts: int
    at_ns: int
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class PlcBeat:
    """The PLC's heartbeat register as last written."""

    value: int
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlcEnable:
    """The PLC's Enable bit changed."""

    enabled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Inhibit:
    """Inhibit bits: 0 bin full, 1 air low, 2 line stopped."""

    bits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlcCounts:
    """Running counts that the PLC keeps, u32: parts seen in the reject bin, and gate operations. None = unchanged.

    Each way in has counts of its own: `origin` is "modbus", "opcua", "modbus_client" or
    "opcua_client". `at_ns` is when they were written, None = now.
    """

    origin: str
    at_ns: int | None = field(default=None, compare=False)
    reject_confirm: int | None = None
    gate_fired: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to a command: `text` is empty when ok."""

    ok: bool
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A request with an answer. `recipe` is a name, `recipe_number` its number for PLCs; `respond` is called once.

    `part_id` and `sequence` say which part is the challenge part; neither: the next one.
    """

    name: CommandName
    origin: Origin
    recipe: str | None = None
    recipe_number: int | None = None
    part_id: str | None = None
    sequence: int | None = None
    respond: Callable[[Reply], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A trigger with the way to tell its source that it is safely recorded. `acknowledge` is called at most once."""

    trigger: Trigger
    acknowledge: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """An input whose sequence could not be read: already at the dead letters, the station raises the alarm."""

    reason: str
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkChange:
    """A connection that the station's readiness depends on came or went; `reason` is for people."""

    link: Literal["mqtt"]
    up: bool
    reason: str = field(default="", compare=False)


PlcLinkState = Literal["opening", "up", "lost", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlcLink:
    """How it stands with a PLC that the bridge is a client of: `link` is "modbus_client" or "opcua_client".

    `refused` is one that answers and does not hold what was written. With `drives_gate` its orders reach the gate this
    way alone.
    """

    link: str
    state: PlcLinkState
    drives_gate: bool
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmState:
    """An alarm that stands or stands no more, told by an adapter that knows its condition."""

    name: str
    standing: bool
    text: str = ""


GateEventName = Literal["fired", "released", "missed", "stuck", "on", "off", "up", "down", "realtime", "ordinary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateNews:
    """What the bridge's own gate process tells.

    `fired` and `released` name the parts whose on-command left, with its measured error in ms (late is positive);
    `missed` those whose order could not be carried out; `stuck` those that kept the gate on for too long. `on` and
    `off` are the coil, `up` and `down` the way to it, `realtime` and `ordinary` how the process is scheduled.
    """

    event: GateEventName
    keys: tuple[tuple[int, int], ...] = ()
    error_ms: float | None = None
    text: str = ""


Inbound = (
    Arrival
    | SpeedSample
    | EncoderSample
    | PlcBeat
    | PlcEnable
    | Inhibit
    | PlcCounts
    | Command
    | Refused
    | LinkChange
    | AlarmState
    | PlcLink
    | GateNews
)
