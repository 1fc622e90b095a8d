"""The printed tags are what the servers serve: every address, bit, node and code, in every format."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest

from bridge.domain.alarms import ALARMS
from bridge.domain.status import StationState
from bridge.outputs.control_block import CONTROL_BITS, CONTROL_FIELDS, CONTROL_NODES, CONTROL_REGISTERS, initial_block
from bridge.outputs.node_map import METHODS, NODES
from bridge.outputs.register_map import INPUT_REGISTERS, SLOT_FIELDS
from bridge.outputs.tag_list import COLUMNS, FORMATS, TagFormat, render_tags, tags


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
    rows = list(csv.reader(io.StringIO(render_tags("csv"))))
    assert tuple(rows[0]) == COLUMNS
    assert [list(each.values()) for each in json.loads(render_tags("json"))] == rows[1:]
    assert len(rows) > 150


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
    pairs += [(r"\bVAR(_INPUT|_OUTPUT|_GLOBAL)?\b", r"\bEND_VAR\b"), (r"\(", r"\)"), (r"\[", r"\]")]
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
