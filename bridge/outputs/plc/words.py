"""Numbers as 16-bit registers: word order, saturation, "not available"."""

from __future__ import annotations

import math
from typing import Literal

WordOrder = Literal["high_first", "low_first"]

NOT_AVAILABLE = 65535
LARGEST = 65534
NO_SIGNED = -32768


def split_u32(value: int, word_order: WordOrder) -> tuple[int, int]:
    """Split a number, taken modulo 2^32, into two registers."""
    high, low = value >> 16 & 0xFFFF, value & 0xFFFF
    return (high, low) if word_order == "high_first" else (low, high)


def join_u32(first: int, second: int, word_order: WordOrder) -> int:
    """Join two registers to a number; the reverse of `split_u32`."""
    return first << 16 | second if word_order == "high_first" else second << 16 | first


def quantity(value: float | None, *, scale: float = 1.0) -> int:
    """Turn a quantity into a u16: rounded, at least 0, saturating at 65534; 65535 when there is none."""
    if value is None or math.isnan(value):
        return NOT_AVAILABLE
    scaled = value * scale
    return LARGEST if scaled >= LARGEST else max(0, round(scaled))


def signed(value: float | None, *, scale: float = 1.0) -> int:
    """Turn a quantity into an i16 in two's complement, saturating at +-32767; -32768 when there is none."""
    if value is None or math.isnan(value):
        return NO_SIGNED & 0xFFFF
    return max(-32767, min(32767, round(max(-1e9, min(1e9, value * scale))))) & 0xFFFF
