"""Our values as the types of somebody else's OPC UA nodes take them, and theirs as the control block takes them.

Rules: an integer goes into any integer at least as wide, the same bits into a signed one of the same width; into a Float
or Double that holds each of its values; a Double into a Float; a Boolean into integers as 0 or 1; everything but an array
into a String. What could lose something is refused when the connection is made, not when a part is on the belt.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import Any

from asyncua import ua

from bridge.outputs.plc.control_block import NOT_SUPPLIED, ControlType, ControlValue
from bridge.outputs.plc.node_map import ENUMERATIONS, Value

# Bits that a value of ours needs, as an unsigned number.
_NEEDS = {"Boolean": 1, "VerdictEnum": 3, "DispositionEnum": 2, "UInt16": 16, "UInt32": 32}
_SIGNED = {"SByte": 8, "Int16": 16, "Int32": 32, "Int64": 64}
_UNSIGNED = {"Byte": 8, "UInt16": 16, "UInt32": 32, "UInt64": 64}
_EXACT = {"Float": 24, "Double": 53}
_NUMBERS = frozenset({*_SIGNED, *_UNSIGNED, *_EXACT})

Fit = Callable[[Value], Any]


def fit(data_type: str, kind: ua.VariantType) -> Fit | None:
    """Give what turns a value of our `data_type` into one that a node of `kind` takes; None when it can't hold it."""
    name = kind.name
    if name == "String":
        return lambda value: as_text(value, data_type)
    needs = _NEEDS.get(data_type)
    if needs is not None:
        return _number(needs, name)
    if data_type == "Double" and name in _EXACT:
        return float  # type: ignore[return-value]
    return _same if data_type == name else None


def _number(needs: int, name: str) -> Fit | None:
    if name == "Boolean":
        return bool if needs == 1 else None
    if needs <= _EXACT.get(name, 0):
        return float  # type: ignore[return-value]
    if needs <= _UNSIGNED.get(name, 0):
        return int  # type: ignore[return-value]
    width = _SIGNED.get(name, 0)
    return (lambda value: _wrapped(int(value), width)) if needs <= width else None  # type: ignore[arg-type]


def _same(value: Value) -> Any:
    return value


def _wrapped(value: int, width: int) -> int:
    """Give the number that has the same bits in two's complement."""
    return value - (1 << width) if value >> (width - 1) else value


def as_text(value: Value, data_type: str) -> str:
    """Write a value as a String: a verdict by its name, true or false, RFC 3339 in UTC, nothing for no number."""
    if data_type in ENUMERATIONS:
        return ENUMERATIONS[data_type](int(value)).name  # type: ignore[arg-type]
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:g}"
    return str(value)


def readable(control: ControlType, kind: ua.VariantType) -> bool:
    """Whether a node of `kind` can bring a control value."""
    if control == "text":
        return kind.name == "String"
    return kind.name in _NUMBERS or (control == "bit" and kind.name == "Boolean")


def control_value(control: ControlType, value: Any) -> ControlValue | None:
    """Turn what was read into a control value; None for one that says nothing: absent, negative, not a number."""
    if control == "text":
        return value if isinstance(value, str) else None
    if not isinstance(value, bool | int | float):
        return None
    if control == "bit":
        return bool(value)
    if control == "mm_s":
        missing = value < 0 or not math.isfinite(value) or (isinstance(value, int) and value == NOT_SUPPLIED)
        return math.nan if missing else float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return int(value) & (0xFFFF if control == "u16" else 0xFFFFFFFF)
