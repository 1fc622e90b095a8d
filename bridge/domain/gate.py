"""Gate orders: when the reject gate must be open for one part, and whether that can still be met; and releases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GateState = Literal["none", "ordered", "missed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOrder:
    """The request to open the reject gate for one part, or why there is none.

    `due_ns` (the on-command), `open_ns` (fully open) and `off_ns` (the off-command) are monotonic and None while the
    belt stands or its speed is unknown; the counts are modulo 2^32 and, like `window_ms`, never change once published.
    `reason` says why an order is missed.
    `collateral` is set on a reject whose sweep touches a part that is to pass, and on that part.
    """

    state: GateState = "none"
    open_count: int | None = None
    close_count: int | None = None
    due_ns: int | None = None
    open_ns: int | None = None
    off_ns: int | None = None
    window_ms: float | None = None
    merged: bool = False
    guard_given_up: bool = False
    collateral: bool = False
    reason: str | None = None


NO_ORDER = GateOrder()


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """When the gate begins to clear the way for a part, and when it may come back.

    The moments are monotonic, None while the belt stands. With `refused`, why the part can't be let pass, it has none.
    """

    due_ns: int | None = None
    off_ns: int | None = None
    refused: str | None = None

    def over(self, now_ns: int) -> bool:
        """Whether it needs no more care: refused, or its part is through."""
        return self.refused is not None or (self.off_ns is not None and now_ns >= self.off_ns)
