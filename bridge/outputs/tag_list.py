"""Everything a PLC programmer types in, printed from the tables that the servers themselves use."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Literal

from bridge.domain.alarms import ALARMS
from bridge.domain.status import StationState
from bridge.domain.verdict import Disposition, VerdictCode
from bridge.outputs.control_block import (
    COIL_BASE,
    CONTROL_BITS,
    CONTROL_NODES,
    CONTROL_REGISTERS,
    ControlField,
)
from bridge.outputs.node_map import METHODS, NODES, UNITS
from bridge.outputs.plc_view import SLOT_SIZE
from bridge.outputs.register_map import (
    FLAG_TEXTS,
    GATE_COIL,
    INPUT_REGISTERS,
    MIRROR_OFFSET,
    RESULT_INPUTS,
    RING_BASE,
    SLOT_FIELDS,
    STATUS_BIT_NAMES,
)
from bridge.outputs.structured_text import render_structured_text

TagFormat = Literal["md", "csv", "json", "st"]
FORMATS: tuple[TagFormat, ...] = ("md", "csv", "json", "st")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """One line of the list: `address` is a register, bit, node id or code, by its section."""

    section: str
    address: str
    name: str
    type: str = ""
    unit: str = ""
    access: str = ""
    text: str = ""


COLUMNS: tuple[str, ...] = tuple(each.name for each in fields(Tag))

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


def render_tags(fmt: TagFormat, line: str = "line1", stations: Sequence[str] = ("station1",)) -> str:
    """Render the list as Markdown tables, CSV, JSON, or IEC 61131-3 Structured Text."""
    renderers: Mapping[str, Callable[[], str]] = {
        "md": lambda: _markdown(line, tags(line, stations)),
        "csv": lambda: _csv(tags(line, stations)),
        "json": lambda: json.dumps([asdict(each) for each in tags(line, stations)], indent=1) + "\n",
        "st": render_structured_text,
    }
    return renderers[fmt]()


def _stations(line: str, stations: Sequence[str]) -> Iterator[Tag]:
    for number, station in enumerate(stations, start=1):
        units = "0, 1, 255" if number == 1 else str(number)
        yield Tag(section="Modbus unit ids", address=units, name=f"{line}.{station}")


def _modbus_read() -> Iterator[Tag]:
    mirror = f"also as holding registers at +{MIRROR_OFFSET}"
    for each in INPUT_REGISTERS:
        yield Tag(section="Modbus input registers", address=_span(each.address, each.width), name=each.name, type=each.kind,
                  access="read", text=each.text)  # fmt: skip
    yield Tag(section="Modbus input registers", address="15, 55-99", name="Reserved", access="read",
              text=f"0; all of these registers {mirror}")  # fmt: skip
    for number, name in STATUS_BIT_NAMES:
        yield Tag(section="Status bits (register 0, discrete inputs 0 to 15)", address=str(number), name=name, type="bit",
                  access="read")  # fmt: skip
    for number, name, _ in RESULT_INPUTS:
        yield Tag(section="Discrete inputs of the newest result", address=str(number), name=name, type="bit", access="read",
                  text="0 without a valid result")  # fmt: skip
    for number, name, text in FLAG_TEXTS:
        yield Tag(section="Flags (register 9, slot +13, Gate.Flags)", address=str(number), name=name, type="bit", access="read",
                  text=text)  # fmt: skip
    ring = f"Ring slots: register {RING_BASE} + {SLOT_SIZE} x (sequence mod 16)"
    for slot in SLOT_FIELDS:
        yield Tag(section=ring, address="+" + _span(slot.offset, slot.width), name=slot.name, type=slot.kind, access="read",
                  text=slot.text)  # fmt: skip


def _modbus_written() -> Iterator[Tag]:
    section = "Modbus holding registers, written by the PLC"
    yield Tag(section=section, address="0", name="Control", type="bits", access="read, write", text="control bits")
    for each in CONTROL_REGISTERS:
        yield Tag(section=section, address=_span(each.address or 0, each.width), name=_camel(each.key),
                  type="u16" if each.kind == "mm_s" else each.kind, access="read, write", text=each.text)  # fmt: skip
    section = "Control bits (holding register 0, coils 100 to 115)"
    for each in CONTROL_BITS:
        bit = each.bit or 0
        yield Tag(section=section, address=f"{bit}, coil {COIL_BASE + bit}", name=_camel(each.key), type="bit",
                  access="read, write", text=each.text)  # fmt: skip
    yield Tag(section="Modbus coils", address=str(GATE_COIL), name="RejectGate", type="bit", access="read",
              text="mirror of the reject gate when the bridge fires it")  # fmt: skip


def _opcua(line: str, stations: Sequence[str]) -> Iterator[Tag]:
    for station in stations:
        section, root = f"OPC UA, {line}.{station}", f"ns=2;s={line}.{station}"
        for node in NODES:
            kind = f"{node.data_type}[{node.length}]" if node.length else node.data_type
            yield Tag(section=section, address=f"{root}.{node.group}.{node.name}", name=f"{node.group}.{node.name}", type=kind,
                      unit=UNITS[node.unit][0] if node.unit else "", access="read", text=node.text)  # fmt: skip
        for each in CONTROL_NODES:
            yield Tag(section=section, address=f"{root}.Control.{each.node}", name=f"Control.{each.node}",
                      type=each.ua_type or "", unit=_control_unit(each), access="read, write", text=each.text)  # fmt: skip
        for method in METHODS:
            taken = ", ".join(f"{name}: {kind}" for name, kind, _ in method.inputs)
            given = ", ".join(f"{name}: {kind}" for name, kind, _ in method.outputs)
            yield Tag(section=section, address=f"{root}.{method.name}", name=method.name, type=f"({taken}) -> ({given})",
                      access="call", text=method.text)  # fmt: skip


def _codes() -> Iterator[Tag]:
    for verdict in VerdictCode:
        yield Tag(section="Verdict codes (VerdictEnum)", address=str(int(verdict)), name=verdict.name)
    for disposition in Disposition:
        yield Tag(section="Disposition codes (DispositionEnum)", address=str(int(disposition)), name=disposition.name)
    for state in StationState:
        yield Tag(section="State strings", address=state.value, name=state.value, text=_STATE_TEXTS[state])
    for kind in ALARMS.values():
        effects = {"StopRequest": kind.stop_request, "Degraded": kind.degraded, "until ClearError": kind.latched}
        ends = ", ".join(name for name, holds in effects.items() if holds)
        text = f"{kind.text} ({ends})" if ends else kind.text
        yield Tag(
            section="Error and alarm codes", address=str(kind.code), name=kind.name, type=kind.severity, text=text
        )


def _control_unit(each: ControlField) -> str:
    return "mm/s" if each.kind == "mm_s" else ""


def _span(address: int, width: int) -> str:
    return str(address) if width == 1 else f"{address}-{address + width - 1}"


def _camel(key: str) -> str:
    return "".join(word.capitalize() for word in key.split("_"))


def _markdown(line: str, rows: Sequence[Tag]) -> str:
    out = [f"# Tags of {line}", ""]
    for section in dict.fromkeys(each.section for each in rows):
        members = [each for each in rows if each.section == section]
        columns = [name for name in COLUMNS[1:] if any(getattr(each, name) for each in members)]
        out += [f"## {section}", "", "| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
        for each in members:
            out.append("| " + " | ".join(getattr(each, name).replace("|", "\\|") for name in columns) + " |")
        out.append("")
    return "\n".join(out)


def _csv(rows: Sequence[Tag]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([[getattr(each, name) for name in COLUMNS] for each in rows])
    return text.getvalue()
