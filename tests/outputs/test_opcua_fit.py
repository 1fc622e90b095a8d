"""Our values in the types of other servers' nodes: what holds them, what can't, and how they read there."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import variant_to_binary

from bridge.outputs.opcua.fit import control_value, fit, readable

K = ua.VariantType


@pytest.mark.parametrize(
    ("data_type", "kind", "value", "expected"),
    [
        ("VerdictEnum", K.Int16, 2, 2),
        ("VerdictEnum", K.SByte, 5, 5),
        ("VerdictEnum", K.Byte, 5, 5),
        ("VerdictEnum", K.String, 2, "FAIL"),
        ("DispositionEnum", K.String, 1, "LET_PASS"),
        ("DispositionEnum", K.Float, 2, 2.0),
        ("Boolean", K.Boolean, True, True),
        ("Boolean", K.Int16, True, 1),
        ("Boolean", K.String, False, "false"),
        ("UInt16", K.Int16, 65_535, -1),
        ("UInt16", K.Int32, 65_535, 65_535),
        ("UInt16", K.Float, 65_535, 65_535.0),
        ("UInt32", K.UInt32, 2**32 - 1, 2**32 - 1),
        ("UInt32", K.Int32, 2**32 - 1, -1),
        ("UInt32", K.Int32, 2**31 - 1, 2**31 - 1),
        ("UInt32", K.Int64, 2**32 - 1, 2**32 - 1),
        ("UInt32", K.Double, 2**32 - 1, float(2**32 - 1)),
        ("UInt32", K.String, 4_711, "4711"),
        ("Double", K.Float, 0.93, 0.93),
        ("Double", K.String, 0.93, "0.93"),
        ("Double", K.String, math.nan, ""),
        ("String", K.String, "crack", "crack"),
        ("DateTime", K.String, datetime(2026, 11, 21, 8, tzinfo=UTC), "2026-11-21T08:00:00Z"),
    ],
)
def test_a_value_takes_the_type_of_the_node(data_type: str, kind: K, value: Any, expected: Any) -> None:
    how = fit(data_type, kind)
    assert how is not None
    assert how(value) == expected
    assert type(how(value)) is type(expected)
    variant_to_binary(ua.Variant(how(value), kind))


@pytest.mark.parametrize(
    ("data_type", "kind"),
    [
        ("UInt32", K.Int16), ("UInt32", K.UInt16), ("UInt32", K.Float), ("UInt16", K.Byte), ("UInt32", K.Boolean),
        ("VerdictEnum", K.Boolean), ("Double", K.Int32), ("String", K.Int32), ("DateTime", K.Double), ("Double", K.Boolean),
        ("UInt32", K.ByteString), ("String", K.LocalizedText),
    ],
)  # fmt: skip
def test_what_could_lose_something_is_refused(data_type: str, kind: K) -> None:
    assert fit(data_type, kind) is None


@pytest.mark.parametrize(
    ("control", "value", "expected"),
    [
        ("bit", True, True), ("bit", 1, True), ("bit", 0, False), ("bit", None, None),
        ("u32", -1, 2**32 - 1), ("u32", 7.0, 7), ("u32", math.nan, None), ("u16", -1, 65_535),
        ("mm_s", 1200.5, 1200.5), ("mm_s", 1200, 1200.0), ("text", "bracket-a", "bracket-a"), ("text", 3, None),
    ],
)  # fmt: skip
def test_what_a_plc_holds_becomes_a_control_value(control: Any, value: Any, expected: Any) -> None:
    assert control_value(control, value) == expected


@pytest.mark.parametrize("value", [math.nan, -1.0, math.inf, 65_535])
def test_a_speed_can_be_not_supplied(value: float) -> None:
    speed = control_value("mm_s", value)
    assert isinstance(speed, float)
    assert math.isnan(speed)


def test_control_tags_come_from_numbers_and_texts_from_strings() -> None:
    assert readable("bit", K.Boolean)
    assert readable("u32", K.Int32)
    assert readable("mm_s", K.Float)
    assert not readable("u32", K.Boolean)
    assert not readable("u32", K.String)
    assert not readable("text", K.Int32)
