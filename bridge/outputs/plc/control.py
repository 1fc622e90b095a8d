"""What a PLC writes, turned into messages for the station: one interpreter for each way in that a PLC uses.

Bits act on a change, after everything of one request has been written. Each way in keeps a block of its own, so that one
PLC's cyclic rewriting of an old value never undoes a later change by another way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import structlog

from bridge.domain.handshake import TriggerAction, TriggerEvent, TriggerHandshake, TriggerState
from bridge.domain.messages import (
    Arrival,
    Command,
    EncoderSample,
    Inbound,
    Inhibit,
    PlcBeat,
    PlcCounts,
    PlcEnable,
    SpeedSample,
)
from bridge.domain.part import Trigger
from bridge.outputs.plc.control_block import CONTROL_FIELDS, NOT_SUPPLIED, ControlValue

PlcProtocol = Literal["modbus", "opcua"]
PlcWay = Literal["modbus", "opcua", "modbus_client", "opcua_client"]
"""How a PLC's block comes in: it writes into our server, or the bridge, as its client, reads it there."""
ACT_ON_CHANGE = ("result_ack", "clear_error", "recipe_change", "reset_counters", "heartbeat", "recipe_number",
                 "recipe_request")  # fmt: skip
NOT_READY = "trigger while not ready"
NO_EDGE = (
    "Trigger was 1 already in the first write after a connection was lost: no edge, no part, no TriggerAck; "
    "write it as 0, then as 1, over one connection that stays open"
)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What one request came to: messages for the station, and what the panel itself must do."""

    messages: tuple[Inbound, ...] = ()
    clear_error: bool = False
    result_ack: bool | None = None
    acknowledged_sequence: int | None = None
    trigger: bool = False


class ControlInterpreter:
    """Follow the control block of one station that comes in one way."""

    def __init__(self, protocol: PlcProtocol, *, way: PlcWay | None = None) -> None:
        self._protocol: PlcProtocol = protocol
        self._way: PlcWay = way or protocol
        self._values: dict[str, ControlValue] = {each.key: _initial(each.kind, each.initial) for each in CONTROL_FIELDS}
        self._latch_is_new = False
        self._latch_in_use = False
        self._heartbeat_seen = False
        self._counts_seen: set[str] = set()
        self._told_of_no_edge = False
        self.trigger = TriggerHandshake()
        self.taken_sequence = 0

    def link_lost(self) -> None:
        """Tell that the PLC's connection is gone: with a PLC that beats, a Trigger raised meanwhile is no edge.

        A client that writes no heartbeat may use a connection for each request; its edges count across connections.
        """
        if self._heartbeat_seen:
            self.trigger, _ = self.trigger.advance(TriggerEvent.LINK_LOST)

    def sight(self, found: Mapping[str, ControlValue]) -> None:
        """Know what stands in a PLC's own block when a connection begins: what acts by its change has not changed.

        Levels (Enable, the inhibit bits, speed, encoder) count by `apply`; a Trigger that is 1 already is no edge.
        """
        self._values.update({key: found[key] for key in ACT_ON_CHANGE if key in found})
        self.trigger, _ = self.trigger.advance(TriggerEvent.LINK_LOST)

    def clear_error(self) -> None:
        """Drop MissedTrigger."""
        self.trigger = self.trigger.cleared()

    def apply(self, written: Mapping[str, ControlValue], *, now_ns: int, ready: bool) -> Control:
        """Take what one request wrote, in the table's terms; `ready` is the Ready bit as the PLC could see it."""
        before = dict(self._values)
        self._values.update(written)
        risen = {key for key, value in written.items() if value is True and before[key] is False}
        changed = {key for key, value in written.items() if value != before[key]}
        messages = self._samples(written, changed, now_ns=now_ns)
        messages += self._commands(risen, changed)
        if "enable" in changed:
            messages.append(PlcEnable(enabled=bool(self._values["enable"])))
        arrival = self._trigger(written, now_ns=now_ns, ready=ready)
        return Control(
            messages=(*messages, *arrival),
            clear_error="clear_error" in risen,
            result_ack=bool(written["result_ack"]) if "result_ack" in changed else None,
            acknowledged_sequence=self._number("result_ack_sequence") if "result_ack_sequence" in written else None,
            trigger=bool(arrival),
        )

    def _number(self, key: str) -> int:
        return int(self._values[key])

    def _samples(self, written: Mapping[str, ControlValue], changed: set[str], *, now_ns: int) -> list[Inbound]:
        """Encoder and speed count as fresh each time they are written, the rest when they change."""
        messages: list[Inbound] = []
        if "trigger_encoder" in written:
            self._latch_is_new = True
            self._latch_in_use = self._latch_in_use or "trigger_encoder" in changed
        if "encoder_count" in written:
            messages.append(EncoderSample(counts=self._number("encoder_count"), at_ns=now_ns, origin="plc"))
        speed = written.get("belt_speed")
        if isinstance(speed, float) and math.isfinite(speed) and speed >= 0.0:
            messages.append(SpeedSample(mm_s=speed, at_ns=now_ns, origin="plc"))
        if "heartbeat" in changed:
            self._heartbeat_seen = True
            messages.append(PlcBeat(value=self._number("heartbeat"), at_ns=now_ns))
        if "inhibit" in changed:
            messages.append(Inhibit(bits=self._number("inhibit")))
        confirmed, fired = (self._told_count(key, written, changed) for key in ("reject_confirm", "gate_fired"))
        if confirmed is not None or fired is not None:
            counts = PlcCounts(origin=self._way, at_ns=now_ns, reject_confirm=confirmed, gate_fired=fired)
            messages.append(counts)
        return messages

    def _told_count(self, key: str, written: Mapping[str, ControlValue], changed: set[str]) -> int | None:
        """Give a running count that changed; the first one written counts even if it is 0: the next is then new."""
        if key not in written or (key in self._counts_seen and key not in changed):
            return None
        self._counts_seen.add(key)
        return self._number(key)

    def _commands(self, risen: set[str], changed: set[str]) -> list[Inbound]:
        messages: list[Inbound] = []
        if "clear_error" in risen:
            messages.append(Command(name="clear-error", origin=self._protocol))
        if "reset_counters" in risen:
            messages.append(Command(name="reset-counters", origin=self._protocol))
        by_number = "recipe_change" in risen if self._protocol == "modbus" else "recipe_number" in changed
        if by_number:
            number = self._number("recipe_number")
            messages.append(Command(name="select-recipe", origin=self._protocol, recipe_number=number))
        if "recipe_request" in changed and self._values["recipe_request"]:
            name = str(self._values["recipe_request"])
            messages.append(Command(name="select-recipe", origin=self._protocol, recipe=name))
        return messages

    def _trigger(self, written: Mapping[str, ControlValue], *, now_ns: int, ready: bool) -> tuple[Inbound, ...]:
        if "trigger" not in written:
            return ()
        high = TriggerEvent.HIGH_READY if ready else TriggerEvent.HIGH_NOT_READY
        self.trigger, action = self.trigger.advance(high if written["trigger"] else TriggerEvent.FALL)
        if self.trigger.state is TriggerState.STANDING and not self._told_of_no_edge:
            self._told_of_no_edge = True
            _log.warning("plc_trigger_no_edge", way=self._way, sequence=self._number("trigger_sequence"), text=NO_EDGE)
        if action is TriggerAction.NOTHING:
            return ()
        self._told_of_no_edge = False
        if action is TriggerAction.TAKE:
            self.taken_sequence = self._number("trigger_sequence")
        trigger = self._latched_trigger(now_ns, problem=None if action is TriggerAction.TAKE else NOT_READY)
        return (Arrival(trigger=trigger, acknowledge=nobody_waits),)

    def _latched_trigger(self, now_ns: int, *, problem: str | None) -> Trigger:
        """Build the trigger from the block. A latched count serves one trigger only; zeros never written over are none."""
        sequence, age = self._number("trigger_sequence"), self._number("trigger_age_ms")
        counts = self._number("trigger_encoder") if self._latch_is_new and self._latch_in_use else None
        self._latch_is_new = False
        return Trigger(
            sequence=sequence,
            part_id=str(sequence),
            arrived_ns=now_ns,
            encoder_counts=counts,
            age_ms=None if age == NOT_SUPPLIED else float(age),
            source=self._protocol,
            problem=problem,
        )


def nobody_waits() -> None:
    """Acknowledge nothing: a PLC has its TriggerAck or JobId already, and the record follows the verdict."""


def _initial(kind: str, initial: int) -> ControlValue:
    if kind == "bit":
        return bool(initial)
    if kind == "mm_s":
        return math.nan
    return "" if kind == "text" else initial
