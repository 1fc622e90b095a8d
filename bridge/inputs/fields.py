"""The fields that triggers, samples and commands share: each reads one JSON value or says what is wrong with it."""

from __future__ import annotations

import math

from bridge.domain.part import U32
from bridge.domain.rfc3339 import parse_utc
from bridge.errors import MessageError

MAX_ID_CHARACTERS = 128
MAX_LENGTH_MM = 100_000.0
MAX_SPEED_MM_S = 100_000.0
MAX_EYE_ON_MS = 3_600_000.0
_MAX_TEXT = 64


def whole(value: object, *, name: str, low: int, high: int) -> int:
    """Read a whole number from `low` to `high`; 12.0 is one, true and "12" are not. Raises MessageError."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise MessageError(f"{name} is {show(value)}: allowed are whole numbers from {low} to {high}")
    return value


def sequence_of(value: object) -> int:
    """Read a trigger's sequence, u32; 0 is legal. Raises MessageError."""
    if value is None:
        raise MessageError("sequence is missing")
    return whole(value, name="sequence", low=0, high=U32 - 1)


def counts_of(value: object, *, name: str) -> int:
    """Read an encoder count and give it modulo 2^32: a PLC's signed DINT counts as its bits. Raises MessageError."""
    return whole(value, name=name, low=-(2**31), high=U32 - 1) % U32


def measure(value: object, *, name: str, high: float, zero: bool) -> float:
    """Read a finite number above 0 (or from 0, with `zero`) up to `high`. Raises MessageError."""
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if not numeric or (isinstance(value, float) and not math.isfinite(value)):
        raise MessageError(f"{name} is {show(value)}: a finite number is needed")
    # compared before it is converted: an int of hundreds of digits has no float
    if value > high or value < 0 or (value == 0 and not zero):  # type: ignore[operator]
        raise MessageError(f"{name} is {show(value)}: allowed is {'from' if zero else 'above'} 0 up to {high:g}")
    return float(value)  # type: ignore[arg-type]


def printable(value: object, *, name: str, high: int = MAX_ID_CHARACTERS) -> str:
    """Read 1 to `high` printable characters. Raises MessageError."""
    if not isinstance(value, str):
        raise MessageError(f"{name} is {show(value)}: text is needed")
    if not 1 <= len(value) <= high or not value.isprintable():
        raise MessageError(f"{name} is {show(value)} ({len(value)} characters): 1 to {high} printable ones are allowed")
    return value


def stamp(value: object, *, name: str = "ts") -> tuple[str, int]:
    """Read an RFC 3339 time as (the text as it came, nanoseconds since 1970). Raises MessageError."""
    if not isinstance(value, str):
        raise MessageError(f"{name} is {show(value)}: an RFC 3339 time is needed")
    try:
        return value, parse_utc(value)
    except ValueError as exc:
        raise MessageError(f"{name}: {exc}") from exc


def show(value: object) -> str:
    """Quote a stranger's value in a text, cut short, so that 10 kB of it never reach a log or a reason."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**_MAX_TEXT:
        return "a number of more than 64 digits"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = ascii(value[: _MAX_TEXT + 1] if isinstance(value, str) else value)
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "..."
