"""Everything a PLC programmer types in, printed from the tables that the servers themselves use."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bridge.domain.alarms import ALARMS
from bridge.domain.status import StationState
from bridge.domain.verdict import Disposition, VerdictCode
from bridge.outputs.plc.control_block import (
    COIL_BASE,
    CONTROL_BITS,
    CONTROL_NODES,
    CONTROL_REGISTERS,
    INHIBIT_TEXTS,
    ControlField,
)
from bridge.outputs.plc.node_map import METHODS, NODES, UNITS
from bridge.outputs.plc.register_map import (
    FLAG_TEXTS,
    GATE_COIL,
    INPUT_REGISTERS,
    INPUT_SIZE,
    MIRROR_OFFSET,
    RESULT_INPUTS,
    RING_BASE,
    RING_SIZE,
    SLOT_FIELDS,
    STATUS_BITS,
    STATUS_SIZE,
    ring_reads,
)
from bridge.outputs.plc.structured_text import render_structured_text
from bridge.outputs.plc.view import RING_SLOTS, SLOT_SIZE

TagFormat = Literal["md", "csv", "json", "st"]
FORMATS: tuple[TagFormat, ...] = ("md", "csv", "json", "st")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One place where a tag is found, in numbers: `start` counts in `area`, a ring slot's from the slot's first register.

    `within` names the register of a bit, so that names are unique within an area.
    """

    area: str
    start: int | None = None
    count: int | None = None
    bit: int | None = None
    node: str = ""
    within: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """One line of the list for people: `address` is a register, bit, node id or code, by its section."""

    section: str
    address: str
    name: str
    type: str = ""
    unit: str = ""
    access: str = ""
    text: str = ""
    places: tuple[Place, ...]


TABLE_COLUMNS: tuple[str, ...] = ("address", "name", "type", "unit", "access", "text")
PLC_COLUMNS: tuple[str, ...] = (
    "address",
    "from 1",
    "classic",
    "mirror",
    "name",
    "type",
    "IEC type",
    "unit",
    "access",
    "text",
)
COLUMNS: tuple[str, ...] = (
    "area", "start", "count", "bit", "node", "name", "type", "unit", "access", "text",
    "one_based", "classic", "mirror", "iec_type",
)  # fmt: skip
"""`one_based` counts from 1; `classic` is the spelling with the area's digit in front, 40001; `mirror` that of the same
register as a holding register."""

_CLASSIC: Mapping[str, int] = {"coil": 1, "discrete": 10_001, "input": 30_001, "holding": 40_001}
_IEC_TYPES: Mapping[str, str] = {
    "bit": "BOOL", "bits": "WORD", "u16": "UINT", "u32": "UDINT", "i16": "INT",
    "Boolean": "BOOL", "UInt16": "UINT", "UInt32": "UDINT", "Double": "LREAL", "String": "STRING", "DateTime": "DATE_AND_TIME",
    "VerdictEnum": "DINT", "DispositionEnum": "DINT",
}  # fmt: skip

_STATE_TEXTS: Mapping[StationState, str] = {
    StationState.STARTING: "the model is loading, or the broker was not reached yet",
    StationState.READY: "waiting for a trigger",
    StationState.BUSY: "a part is being judged",
    StationState.DISABLED: "the PLC's or the operator's enable is off, or an inhibit bit stands",
    StationState.FAULT: "no part can be judged",
    StationState.STOPPING: "the bridge is ending",
}


def tags(line: str = "line1", stations: Sequence[str] = ("station1",)) -> list[Tag]:
    """Give the whole list for the stations of a line, in the order of their unit ids."""
    return [
        *_stations(line, stations),
        *_modbus_read(),
        *_modbus_written(),
        *_opcua(line, stations),
        *_codes(),
    ]


def rows(line: str = "line1", stations: Sequence[str] = ("station1",)) -> list[dict[str, int | str | None]]:
    """Give the list for machines, a row for each place: numbers are plain integers, None where there is none."""
    return [
        {
            "area": place.area, "start": place.start, "count": place.count, "bit": place.bit, "node": place.node,
            "name": f"{place.within}.{each.name}" if place.within else each.name,
            "type": each.type, "unit": each.unit, "access": each.access, "text": each.text,
            "one_based": _one_based(place), "classic": _classic(place), "mirror": _mirror(place),
            "iec_type": iec_type(each.type),
        }
        for each in tags(line, stations)
        for place in each.places
    ]  # fmt: skip


def iec_type(kind: str) -> str:
    """Give the data type of IEC 61131-3 for one of this list; empty for methods, codes and reserved registers."""
    element, _, length = kind.partition("[")
    if not length:
        return _IEC_TYPES.get(kind, "")
    return f"ARRAY[0..{int(length.rstrip(']')) - 1}] OF {_IEC_TYPES[element]}"


def _one_based(place: Place) -> int | None:
    return place.start + 1 if place.area in _CLASSIC and place.start is not None else None


def _classic(place: Place) -> str:
    if place.area not in _CLASSIC or place.start is None:
        return ""
    bit = "" if place.bit is None else f".{place.bit}"
    return f"{_CLASSIC[place.area] + place.start:05d}{bit}"


def _mirror(place: Place) -> str:
    if place.area != "input" or place.start is None:
        return ""
    return _classic(replace(place, area="holding", start=place.start + MIRROR_OFFSET))


def render_tags(
    fmt: TagFormat,
    line: str = "line1",
    stations: Sequence[str] = ("station1",),
    columns: Sequence[str] = PLC_COLUMNS,
) -> str:
    """Render the list as Markdown tables with these columns, CSV, JSON, or IEC 61131-3 Structured Text."""
    renderers: Mapping[str, Callable[[], str]] = {
        "md": lambda: _markdown(line, tags(line, stations), columns),
        "csv": lambda: _csv(line, stations),
        "json": lambda: json.dumps(rows(line, stations), indent=1) + "\n",
        "st": render_structured_text,
    }
    return renderers[fmt]()


def _stations(line: str, stations: Sequence[str]) -> Iterator[Tag]:
    for number, station in enumerate(stations, start=1):
        units = (0, 1, 255) if number == 1 else (number,)
        yield Tag(section="Modbus unit ids", address=", ".join(map(str, units)), name=f"{line}.{station}",
                  text=f"on a serial line {number} alone",
                  places=tuple(Place(area="unit", start=unit) for unit in units))  # fmt: skip


def _modbus_read() -> Iterator[Tag]:
    section = "Modbus input registers"
    for each in INPUT_REGISTERS:
        yield Tag(section=section, address=_span(each.address, each.width), name=each.name, type=each.kind, access="read",
                  text=each.text, places=(Place(area="input", start=each.address, count=each.width),))  # fmt: skip
    yield Tag(section=section, address=f"15, {STATUS_SIZE}-{RING_BASE - 1}", name="Reserved", access="read",
              text=f"0; all input registers also as holding registers at +{MIRROR_OFFSET}",
              places=(Place(area="input", start=15, count=1),
                      Place(area="input", start=STATUS_SIZE, count=RING_BASE - STATUS_SIZE)))  # fmt: skip
    yield Tag(section=section, address=f"{RING_BASE}-{INPUT_SIZE - 1}", name="Ring", type=f"u16[{RING_SIZE}]", access="read",
              text=f"the last {RING_SLOTS} results, {SLOT_SIZE} registers each, see below; {ring_reads()}",
              places=(Place(area="input", start=RING_BASE, count=RING_SIZE),))  # fmt: skip
    yield from _bits_read()
    section = f"Ring slots: register {RING_BASE} + {SLOT_SIZE} x (sequence mod {RING_SLOTS})"
    for slot in SLOT_FIELDS:
        yield Tag(section=section, address="+" + _span(slot.offset, slot.width), name=slot.name, type=slot.kind, access="read",
                  text=slot.text, places=(Place(area="slot", start=slot.offset, count=slot.width),))  # fmt: skip


def _bits_read() -> Iterator[Tag]:
    for number, name, text in STATUS_BITS:
        yield Tag(section="Status bits (register 0, discrete inputs 0 to 15)", address=str(number), name=name, type="bit",
                  access="read", text=text,
                  places=(Place(area="input", start=0, count=1, bit=number, within="StatusBits"),
                          Place(area="discrete", start=number, count=1)))  # fmt: skip
    for number, name, text, _ in RESULT_INPUTS:
        yield Tag(section="Discrete inputs of the newest result", address=str(number), name=name, type="bit", access="read",
                  text=f"{text}; 0 without a valid result",
                  places=(Place(area="discrete", start=number, count=1),))  # fmt: skip
    for number, name, text in FLAG_TEXTS:
        yield Tag(section="Flags (register 9, slot +13, Gate.Flags)", address=str(number), name=name, type="bit", access="read",
                  text=text,
                  places=(Place(area="input", start=9, count=1, bit=number, within="Flags"),
                          Place(area="slot", start=13, count=1, bit=number, within="Flags")))  # fmt: skip


def _modbus_written() -> Iterator[Tag]:
    section, access = "Modbus holding registers, written by the PLC", "read, write"
    yield Tag(section=section, address="0", name="Control", type="bits", access=access, text="control bits, see below",
              places=(Place(area="holding", start=0, count=1),))  # fmt: skip
    for each in CONTROL_REGISTERS:
        start = each.address or 0
        yield Tag(section=section, address=_span(start, each.width), name=_camel(each.key),
                  type="u16" if each.kind == "mm_s" else each.kind, access=access, text=each.text,
                  places=(Place(area="holding", start=start, count=each.width),))  # fmt: skip
    section = "Control bits (holding register 0, coils 100 to 115)"
    for each in CONTROL_BITS:
        bit = each.bit or 0
        yield Tag(section=section, address=f"{bit}, coil {COIL_BASE + bit}", name=_camel(each.key), type="bit", access=access,
                  text=each.text,
                  places=(Place(area="holding", start=0, count=1, bit=bit, within="Control"),
                          Place(area="coil", start=COIL_BASE + bit, count=1)))  # fmt: skip
    for number, name, text in INHIBIT_TEXTS:
        yield Tag(section="Inhibit bits (holding register 10)", address=str(number), name=name, type="bit", access=access,
                  text=text, places=(Place(area="holding", start=10, count=1, bit=number, within="Inhibit"),))  # fmt: skip
    yield Tag(section="Modbus coils", address=str(GATE_COIL), name="RejectGate", type="bit", access="read",
              text="mirror of the reject gate when the bridge fires it",
              places=(Place(area="coil", start=GATE_COIL, count=1),))  # fmt: skip


def _opcua(line: str, stations: Sequence[str]) -> Iterator[Tag]:
    for station in stations:
        section, root = f"OPC UA, {line}.{station}", f"ns=2;s={line}.{station}"
        for node in NODES:
            kind = f"{node.data_type}[{node.length}]" if node.length else node.data_type
            yield _node(section, root, f"{node.group}.{node.name}", kind, "read", node.text,
                        unit=UNITS[node.unit][0] if node.unit else "")  # fmt: skip
        for each in CONTROL_NODES:
            yield _node(section, root, f"Control.{each.node}", each.ua_type or "", "read, write", each.text,
                        unit=_control_unit(each))  # fmt: skip
        for method in METHODS:
            taken = ", ".join(f"{name}: {kind}" for name, kind, _ in method.inputs)
            given = ", ".join(f"{name}: {kind}" for name, kind, _ in method.outputs)
            yield _node(section, root, method.name, f"({taken}) -> ({given})", "call", method.text)


def _node(section: str, root: str, name: str, kind: str, access: str, text: str, *, unit: str = "") -> Tag:
    node = f"{root}.{name}"
    return Tag(section=section, address=node, name=name, type=kind, unit=unit, access=access, text=text,
               places=(Place(area="opcua", node=node),))  # fmt: skip


def _codes() -> Iterator[Tag]:
    for verdict in VerdictCode:
        yield Tag(section="Verdict codes (VerdictEnum)", address=str(int(verdict)), name=verdict.name,
                  places=(Place(area="verdict code", start=int(verdict)),))  # fmt: skip
    for disposition in Disposition:
        yield Tag(section="Disposition codes (DispositionEnum)", address=str(int(disposition)), name=disposition.name,
                  places=(Place(area="disposition code", start=int(disposition)),))  # fmt: skip
    for state in StationState:
        yield Tag(section="State strings", address=state.value, name=state.value, text=_STATE_TEXTS[state],
                  places=(Place(area="state"),))  # fmt: skip
    for kind in ALARMS.values():
        effects = {"StopRequest": kind.stop_request, "Degraded": kind.degraded, "until ClearError": kind.latched}
        ends = ", ".join(name for name, holds in effects.items() if holds)
        yield Tag(section="Error and alarm codes", address=str(kind.code), name=kind.name, type=kind.severity,
                  text=f"{kind.text} ({ends})" if ends else kind.text,
                  places=(Place(area="error code", start=kind.code),))  # fmt: skip


def _control_unit(each: ControlField) -> str:
    return "mm/s" if each.kind == "mm_s" else ""


def _span(address: int, width: int) -> str:
    return str(address) if width == 1 else f"{address}-{address + width - 1}"


def _camel(key: str) -> str:
    return "".join(word.capitalize() for word in key.split("_"))


def _markdown(line: str, rows: Sequence[Tag], columns: Sequence[str]) -> str:
    out = [f"# Tags of {line}", ""]
    for section in dict.fromkeys(each.section for each in rows):
        members = [_cells(each) for each in rows if each.section == section]
        shown = [name for name in columns if any(each[name] for each in members)]
        out += [f"## {section}", "", "| " + " | ".join(shown) + " |", "|" + " --- |" * len(shown)]
        for each in members:
            out.append("| " + " | ".join(each[name].replace("|", "\\|") for name in shown) + " |")
        out.append("")
    return "\n".join(out)


def _cells(each: Tag) -> Mapping[str, str]:
    """Give one line's cells by column; a tag found at several places shows each of its addresses."""
    ones = [str(number) for place in each.places if (number := _one_based(place)) is not None]
    return {
        "address": each.address, "from 1": ", ".join(dict.fromkeys(ones)),
        "classic": ", ".join(text for place in each.places if (text := _classic(place))),
        "mirror": ", ".join(text for place in each.places if (text := _mirror(place))),
        "name": each.name, "type": each.type, "IEC type": iec_type(each.type), "unit": each.unit, "access": each.access,
        "text": each.text,
    }  # fmt: skip


def _csv(line: str, stations: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(line, stations))
    return text.getvalue()
