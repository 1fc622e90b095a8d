"""The tables as IEC 61131-3 Structured Text, with a function block that follows the rule of positive release."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from importlib.resources import files

from bridge.domain.alarms import ALARMS
from bridge.domain.status import StationState, StatusBit
from bridge.domain.verdict import Disposition, VerdictCode
from bridge.outputs.plc.control_block import COIL_BASE, CONTROL_BITS, CONTROL_REGISTERS, INHIBIT_TEXTS
from bridge.outputs.plc.register_map import (
    FLAG_TEXTS,
    INPUT_REGISTERS,
    INPUT_SIZE,
    MIRROR_OFFSET,
    RING_BASE,
    SLOT_FIELDS,
    STATUS_BITS,
    STATUS_SIZE,
    ring_reads,
)
from bridge.outputs.plc.view import RING_SLOTS, SLOT_SIZE


def render_structured_text() -> str:
    """Give constants for every address, bit and code, and the function blocks of the reject gate."""
    block = files("bridge.outputs.plc").joinpath("linegate_blocks.st").read_text(encoding="utf-8")
    out = [
        "(* Linegate: addresses, bits and codes, counted from zero, and the reject gate's function block.",
        "   IEC 61131-3, third edition, as CODESYS and TwinCAT take it: there each TYPE, the VAR_GLOBAL list, FUNCTION and",
        "   FUNCTION_BLOCK becomes an object of its own (DUT, GVL, POU). Written by `linegate tags --format st`. *)",
        "",
    ]
    for name, members in (("E_LinegateVerdict", VerdictCode), ("E_LinegateDisposition", Disposition)):
        out += _enumeration(name, members)
    out += ["VAR_GLOBAL CONSTANT", *(f"    {each}" for each in _constants()), "END_VAR", "", block]
    return "\n".join(out)


def _enumeration(name: str, members: type[IntEnum]) -> list[str]:
    prefix = name.removeprefix("E_Linegate").upper()
    values = ", ".join(f"{prefix}_{each.name} := {int(each)}" for each in members)
    return [f"TYPE {name} : ({values}) INT; END_TYPE", ""]


def _constants() -> Iterator[str]:
    yield "(* input registers, written by the bridge *)"
    for register in INPUT_REGISTERS:
        yield _constant("LG_IN", register.name, register.address, f"{register.kind}: {register.text}")
    yield _constant("LG_IN", "Size", INPUT_SIZE, "input registers in all")
    yield _constant("LG_IN", "StatusSize", STATUS_SIZE, "of them in one read, the ring apart")
    yield _constant("LG_IN", "MirrorOffset", MIRROR_OFFSET, "where they stand as holding registers")
    yield "(* bits of LG_IN_STATUSBITS *)"
    for bit, (number, _, text) in zip(StatusBit, STATUS_BITS, strict=True):
        yield _constant("LG_BIT", bit.name, number, text)
    yield "(* bits of LG_IN_FLAGS and LG_SLOT_FLAGS *)"
    for number, name, text in FLAG_TEXTS:
        yield _constant("LG_FLAG", name, number, text)
    yield "(* the ring: slot = sequence MOD LG_RING_SLOTS *)"
    yield _constant("LG_RING", "Base", RING_BASE, f"first input register of slot 0; {ring_reads()}")
    yield _constant("LG_RING", "Slots", RING_SLOTS, "slots")
    yield _constant("LG_RING", "SlotSize", SLOT_SIZE, "registers of one slot")
    for slot in SLOT_FIELDS:
        yield _constant("LG_SLOT", slot.name, slot.offset, f"{slot.kind}: {slot.text}")
    yield "(* holding registers and coils, written by the PLC *)"
    for each in CONTROL_REGISTERS:
        yield _constant("LG_OUT", each.key, each.address or 0, each.text)
    for each in CONTROL_BITS:
        coil = COIL_BASE + (each.bit or 0)
        yield _constant("LG_CTRL", each.key, each.bit or 0, f"bit of register 0, coil {coil}: {each.text}")
    yield "(* bits of LG_OUT_INHIBIT *)"
    for number, name, text in INHIBIT_TEXTS:
        yield _constant("LG_INHIBIT", name, number, text)
    yield "(* State, as OPC UA's Status.State spells it *)"
    for state in StationState:
        yield f"LG_STATE_{state.value} : STRING(8) := '{state.value}';"
    yield "(* error and alarm codes *)"
    for kind in ALARMS.values():
        yield _constant("LG_ALARM", kind.name, kind.code, kind.text)


def _constant(group: str, name: str, value: int, text: str) -> str:
    comment = f" (* {text} *)" if text else ""
    return f"{group}_{name.upper()} : UINT := {value};{comment}"
