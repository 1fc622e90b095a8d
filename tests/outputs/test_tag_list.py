"""The printed tags are what the servers serve: every address, bit, node and code, in every format."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest

from bridge.domain.alarms import ALARMS
from bridge.domain.condition import Condition
from bridge.domain.messages import Inhibit
from bridge.domain.status import StationState
from bridge.outputs.plc.control_block import (
    CONTROL_BITS,
    CONTROL_FIELDS,
    CONTROL_NODES,
    CONTROL_REGISTERS,
    INHIBIT_TEXTS,
    initial_block,
)
from bridge.outputs.plc.node_map import METHODS, NODES
from bridge.outputs.plc.register_map import FLAG_TEXTS, INPUT_REGISTERS, INPUT_SIZE, SLOT_FIELDS, STATUS_BITS, encode
from bridge.outputs.plc.tag_list import COLUMNS, FORMATS, TagFormat, render_tags, tags
from bridge.outputs.plc.view import PlcView


def test_every_table_is_in_the_list() -> None:
    addresses = {(each.section.split(" ")[0], each.address) for each in tags("belt", ["a", "b"])}
    for register in INPUT_REGISTERS:
        last = register.address + register.width - 1
        assert ("Modbus", str(register.address) if register.width == 1 else f"{register.address}-{last}") in addresses
    for slot in SLOT_FIELDS:
        assert any(where == "Ring" and at.startswith(f"+{slot.offset}") for where, at in addresses)
    for station in ("a", "b"):
        for node in NODES:
            assert ("OPC", f"ns=2;s=belt.{station}.{node.group}.{node.name}") in addresses
        for control in CONTROL_NODES:
            assert ("OPC", f"ns=2;s=belt.{station}.Control.{control.node}") in addresses
        for method in METHODS:
            assert ("OPC", f"ns=2;s=belt.{station}.{method.name}") in addresses
    for kind in ALARMS.values():
        assert ("Error", str(kind.code)) in addresses
    for state in StationState:
        assert ("State", state.value) in addresses


def test_unit_ids_follow_the_stations() -> None:
    units = [(each.address, each.name) for each in tags("belt", ["a", "b", "c"]) if each.section == "Modbus unit ids"]
    assert units == [("0, 1, 255", "belt.a"), ("2", "belt.b"), ("3", "belt.c")]


def test_csv_and_json_have_the_same_rows() -> None:
    table = list(csv.reader(io.StringIO(render_tags("csv"))))
    assert tuple(table[0]) == COLUMNS
    listed = json.loads(render_tags("json"))
    assert [["" if value is None else str(value) for value in each.values()] for each in listed] == table[1:]
    assert len(table) > 150


def test_csv_places_are_plain_integers_and_names_are_unique_in_their_area() -> None:
    table = list(csv.DictReader(io.StringIO(render_tags("csv"))))
    for row in table:
        assert all(re.fullmatch(r"\d*", row[column]) for column in ("start", "count", "bit")), row
        assert (row["area"] == "opcua") == bool(row["node"]), row
        assert bool(row["start"]) == (row["area"] not in ("opcua", "state")), row
        assert bool(row["count"]) == (row["area"] in ("input", "discrete", "holding", "coil", "slot")), row
    named = [(row["area"], row["name"]) for row in table if row["name"] != "Reserved" and row["area"] != "unit"]
    assert len(named) == len(set(named))
    found = {(row["area"], row["name"]): (row["start"], row["count"], row["bit"]) for row in table}
    assert found["input", "ResultsWritten"] == ("38", "2", "")
    assert found["input", "StatusBits.PlcHeartbeatLost"] == ("0", "1", "10")
    assert found["discrete", "PlcHeartbeatLost"] == ("10", "1", "")
    assert found["slot", "CloseCount"] == ("8", "2", "")
    assert found["coil", "ClearError"] == ("103", "1", "")
    assert found["holding", "Control.ClearError"] == ("0", "1", "3")
    assert [row["start"] for row in table if row["area"] == "unit"] == ["0", "1", "255"]


def test_each_place_stands_in_the_spellings_that_tools_ask_for() -> None:
    table = csv.DictReader(io.StringIO(render_tags("csv")))
    found = {(row["area"], row["name"]): row for row in table}
    spelling = ("start", "one_based", "classic", "mirror", "iec_type")
    assert [found["input", "ResultsWritten"][each] for each in spelling] == ["38", "39", "30039", "41039", "UDINT"]
    assert [found["input", "StatusBits.StopRequest"][each] for each in spelling] == [
        "0",
        "1",
        "30001.11",
        "41001.11",
        "BOOL",
    ]
    assert [found["input", "Ring"][each] for each in spelling] == [
        "100",
        "101",
        "30101",
        "41101",
        "ARRAY[0..223] OF UINT",
    ]
    assert [found["input", "FiringError"][each] for each in spelling] == ["54", "55", "30055", "41055", "INT"]
    assert [found["holding", "EncoderCount"][each] for each in spelling] == ["4", "5", "40005", "", "UDINT"]
    assert [found["discrete", "LetPass"][each] for each in spelling] == ["16", "17", "10017", "", "BOOL"]
    assert [found["coil", "ClearError"][each] for each in spelling] == ["103", "104", "00104", "", "BOOL"]
    node = found["opcua", "Ring.Words"]
    assert [node[each] for each in spelling] == ["", "", "", "", "ARRAY[0..223] OF UINT"]


def test_every_value_has_a_type_of_iec_61131() -> None:
    elementary = r"BOOL|WORD|UINT|INT|UDINT|DINT|LREAL|STRING|DATE_AND_TIME"
    for row in csv.DictReader(io.StringIO(render_tags("csv"))):
        value = row["area"] in ("input", "discrete", "holding", "coil", "slot") or row["node"]
        if value and row["access"] != "call" and row["name"] != "Reserved":
            assert re.fullmatch(rf"(ARRAY\[0\.\.\d+\] OF )?({elementary})", row["iec_type"]), row


def test_the_tables_show_every_spelling_beside_the_address() -> None:
    text = render_tags("md")
    assert "| 38-39 | 39 | 30039 | 41039 | ResultsWritten | u32 | UDINT |" in text
    assert "| 3, coil 103 | 1, 104 | 40001.3, 00104 | ClearError | bit | BOOL |" in text


def test_csv_places_cover_what_a_plc_can_reach() -> None:
    def covered(area: str) -> list[int]:
        whole = [
            row for row in csv.DictReader(io.StringIO(render_tags("csv"))) if row["area"] == area and not row["bit"]
        ]
        return sorted(int(row["start"]) + step for row in whole for step in range(int(row["count"])))

    assert covered("input") == list(range(INPUT_SIZE))
    assert covered("holding") == list(range(16))
    assert covered("discrete") == [*range(14), *range(16, 20)]  # 14 and 15 are status bits that mean nothing yet
    assert covered("coil") == [0, *range(100, 106)]
    assert covered("slot") == list(range(14))


@pytest.mark.parametrize("fmt", FORMATS)
def test_every_bit_has_its_line_of_text(fmt: TagFormat) -> None:
    text = render_tags(fmt)
    for _, name, line in (*STATUS_BITS, *FLAG_TEXTS, *INHIBIT_TEXTS):
        assert line, name
        assert "\n" not in line
        assert line in text, name
    for each in CONTROL_BITS:
        assert each.text in text, each.key
    assert "read whole slots: 100-211 and 212-323, at most 125 registers a request" in text


def test_inhibit_bits_are_those_of_the_station() -> None:
    for number, name, _ in INHIBIT_TEXTS:
        condition = Condition()
        condition.inhibited(Inhibit(bits=1 << number))
        assert condition.obstacle == "inhibited: " + re.sub(r"(?<!^)([A-Z])", r" \1", name).lower()


def test_what_can_be_not_available_says_so() -> None:
    empty = encode(PlcView(), now_ns=0, word_order="high_first")
    for register in INPUT_REGISTERS:
        assert (empty[register.address] == 65_535) == ("65535 =" in register.text), register.name


def test_markdown_tables_are_whole() -> None:
    for block in re.findall(r"(?:^\|.*\n)+", render_tags("md"), flags=re.MULTILINE):
        lines = block.splitlines()
        assert len({len(re.findall(r"(?<!\\)\|", each)) for each in lines}) == 1, lines[0]


@pytest.mark.parametrize("fmt", FORMATS)
def test_no_format_is_empty(fmt: TagFormat) -> None:
    assert len(render_tags(fmt)) > 1_000


def test_structured_text_is_balanced_and_names_are_unique_identifiers() -> None:
    text = render_tags("st")
    bare = re.sub(r"\(\*.*?\*\)", "", text, flags=re.DOTALL)
    assert "(*" not in bare
    assert "*)" not in bare
    blocks = ("IF", "FOR", "WHILE", "FUNCTION", "FUNCTION_BLOCK", "TYPE", "STRUCT")
    pairs = [(rf"\b{name}\b", rf"\bEND_{name}\b") for name in blocks]
    pairs += [(r"\bVAR(_INPUT|_OUTPUT|_GLOBAL|_IN_OUT)?\b", r"\bEND_VAR\b"), (r"\(", r"\)"), (r"\[", r"\]")]
    for opening, closing in pairs:
        assert len(re.findall(opening, bare)) == len(re.findall(closing, bare)), opening
    names = re.findall(r"^\s+(LG_\w+) : UINT := \d+;", bare, flags=re.MULTILINE)
    assert len(names) == len(set(names)) > 100
    assert f"LG_ALARM_ENCODER_RESET : UINT := {ALARMS['ENCODER_RESET'].code};" in bare


def test_no_alarm_shares_its_code() -> None:
    codes = [kind.code for kind in ALARMS.values()]
    assert len(codes) == len(set(codes))


def test_the_control_block_is_covered_once_and_starts_as_the_contract_says() -> None:
    taken = [0, *(each.address or 0 for each in CONTROL_REGISTERS)]
    taken += [(each.address or 0) + 1 for each in CONTROL_REGISTERS if each.width == 2]
    assert sorted(taken) == list(range(16))
    assert [each.bit for each in CONTROL_BITS] == list(range(6))
    assert initial_block() == [1, 0, 0, 0, 0, 0, 65_535] + [0] * 9
    assert len({each.key for each in CONTROL_FIELDS}) == len(CONTROL_FIELDS)
