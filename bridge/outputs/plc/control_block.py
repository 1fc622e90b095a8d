"""What a PLC writes: one table for Modbus (holding 0 to 15, coils 100 to 115) and for OPC UA's Control group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bridge.outputs.plc.words import WordOrder, join_u32

ControlType = Literal["bit", "u16", "u32", "mm_s", "text"]
ControlValue = bool | int | float | str

BLOCK_SIZE = 16
NOT_SUPPLIED = 65535
COIL_BASE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlField:
    """One thing a PLC can write. `address` and `bit` are its place in Modbus, `node` its name in OPC UA; None = absent."""

    key: str
    kind: ControlType
    text: str
    address: int | None = None
    bit: int | None = None
    node: str | None = None
    ua_type: str | None = None
    initial: int = 0

    @property
    def width(self) -> int:
        """Registers it takes."""
        return 2 if self.kind == "u32" else 1


# fmt: off
CONTROL_FIELDS: tuple[ControlField, ...] = (
    ControlField(key="enable", kind="bit", address=0, bit=0, node="Enable", ua_type="Boolean", initial=1,
                 text="enable the station; a trigger while disabled gets ERROR"),
    ControlField(key="trigger", kind="bit", address=0, bit=1, node="Trigger", ua_type="Boolean",
                 text="rising edge with Ready = 1: a part is at the photo-eye; drop it after TriggerAck"),
    ControlField(key="result_ack", kind="bit", address=0, bit=2,
                 text="with result_ack = true: up after ResultValid, down after ResultValid has fallen"),
    ControlField(key="clear_error", kind="bit", address=0, bit=3, node="ClearError", ua_type="Boolean",
                 text="rising edge: clear latched alarms, MissedTrigger, Overrun and StopRequest"),
    ControlField(key="recipe_change", kind="bit", address=0, bit=4,
                 text="rising edge: select the recipe whose number is in register 7"),
    ControlField(key="reset_counters", kind="bit", address=0, bit=5, node="ResetCounters", ua_type="Boolean",
                 text="rising edge: counters to 0, triggers to the number in flight"),
    ControlField(key="heartbeat", kind="u16", address=1, node="PlcHeartbeat", ua_type="UInt32",
                 text="change it at least once a second; once seen, unchanged for 2 s = lost"),
    ControlField(key="trigger_sequence", kind="u32", address=2, node="TriggerSequence", ua_type="UInt32",
                 text="sequence of the part that Trigger announces; its part id is the decimal"),
    ControlField(key="encoder_count", kind="u32", address=4, node="EncoderCount", ua_type="UInt32",
                 text="encoder count now"),
    ControlField(key="belt_speed", kind="mm_s", address=6, node="BeltSpeed", ua_type="Double", initial=NOT_SUPPLIED,
                 text="belt speed in mm/s, 0 = stopped; not supplied: 65535, NaN in OPC UA"),
    ControlField(key="recipe_number", kind="u16", address=7, node="RecipeNumber", ua_type="UInt16",
                 text="requested recipe number; in OPC UA its change asks for it"),
    ControlField(key="reject_confirm", kind="u32", address=8, node="RejectConfirm", ua_type="UInt32",
                 text="count of parts seen in the reject bin"),
    ControlField(key="inhibit", kind="u16", address=10, node="Inhibit", ua_type="UInt16",
                 text="inhibit bits: 0 bin full, 1 air low, 2 line stopped"),
    ControlField(key="trigger_age_ms", kind="u16", address=11, node="TriggerAgeMs", ua_type="UInt16",
                 text="age of the trigger in ms when written, 65535 = unknown"),
    ControlField(key="trigger_encoder", kind="u32", address=12, node="TriggerEncoder", ua_type="UInt32",
                 text="encoder count latched at the photo-eye; written anew for each trigger"),
    ControlField(key="gate_fired", kind="u32", address=14, node="GateFired", ua_type="UInt32",
                 text="gate operations counted by the PLC"),
    ControlField(key="result_ack_sequence", kind="u32", node="ResultAck", ua_type="UInt32",
                 text="with result_ack = true: the sequence acknowledged"),
    ControlField(key="recipe_request", kind="text", node="RecipeRequest", ua_type="String",
                 text="name of the requested recipe; its change asks for it"),
)
# fmt: on

_HELD = "every trigger gets ERROR with this reason"
INHIBIT_TEXTS: tuple[tuple[int, str, str], ...] = (
    (0, "BinFull", f"the reject bin is full: {_HELD}"),
    (1, "AirLow", f"the gate's air pressure is low: {_HELD}"),
    (2, "LineStopped", f"the line stands by intent: {_HELD}"),
)

CONTROL_BITS: tuple[ControlField, ...] = tuple(
    each for each in CONTROL_FIELDS if each.kind == "bit" and each.bit is not None
)
CONTROL_REGISTERS: tuple[ControlField, ...] = tuple(
    each for each in CONTROL_FIELDS if each.address is not None and each.kind != "bit"
)
CONTROL_NODES: tuple[ControlField, ...] = tuple(each for each in CONTROL_FIELDS if each.node is not None)


def initial_block() -> list[int]:
    """Give holding registers 0 to 15 as they stand at start: 0, but Enable = 1 and belt speed 65535."""
    words = [0] * BLOCK_SIZE
    for each in CONTROL_FIELDS:
        if each.address is not None and each.initial:
            words[each.address] |= each.initial << (each.bit or 0)
    return words


def read_block(words: Sequence[int], *, start: int, count: int, word_order: WordOrder) -> Mapping[str, ControlValue]:
    """Give what one request wrote to registers `start` to `start + count - 1`, the block standing in `words`.

    A value of two registers takes effect when its second register is written, so that two single writes can't tear it.
    """
    touched = range(start, start + count)
    values: dict[str, ControlValue] = {}
    for each in CONTROL_REGISTERS:
        address = each.address if each.address is not None else 0
        if address + each.width - 1 not in touched:
            continue
        if each.width == 2:
            values[each.key] = join_u32(words[address], words[address + 1], word_order)
        elif each.kind == "mm_s":
            values[each.key] = float("nan") if words[address] == NOT_SUPPLIED else float(words[address])
        else:
            values[each.key] = words[address]
    if 0 in touched:
        for each in CONTROL_BITS:
            values[each.key] = bool(words[0] >> (each.bit or 0) & 1)
    return values
