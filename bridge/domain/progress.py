"""Whether a station gets on with its parts: what `/healthz` asks, and how many parts have waited at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from bridge.domain.part import Part

STILL_NS = 3_000_000_000
"""A loop that has not turned for so long stands still."""
GRACE_NS = 1_000_000_000
"""How long a part may go without a verdict beyond its limit."""


class Progress:
    """The accepted parts without a verdict, oldest first. The station's loop changes it, any thread may read it.

    Parts are judged in the order of their triggers, so the oldest one tells whether the station is stuck. Its limit is
    computed at every tick on the station's loop, for the belt may change its speed.
    """

    def __init__(self, now_ns: int) -> None:
        self.most = 0
        """The most parts that were in flight at once."""
        self._parts: deque[Part] = deque()
        self._ticked_ns = now_ns
        self._first_since_ns = now_ns
        self._overdue: tuple[Part, int] | None = None

    @property
    def waiting(self) -> int:
        """Accepted parts behind the one that is judged."""
        return max(0, len(self._parts) - 1)

    def accepted(self, part: Part, now_ns: int) -> None:
        """Take note of a part that is to get a verdict."""
        if not self._parts:
            self._first_since_ns = now_ns
        self._parts.append(part)
        self.most = max(self.most, len(self._parts))

    def decided(self, now_ns: int) -> None:
        """Take note that the oldest part has its verdict: the next one has the grace from now on, at least."""
        self._overdue = None
        self._parts.popleft()
        self._first_since_ns = now_ns

    def ticked(self, now_ns: int, limit_ns: Callable[[Part], int]) -> None:
        """Take note that the loop turns; `limit_ns` gives the moment at which a part's verdict must stand."""
        self._ticked_ns = now_ns
        if self._parts:
            oldest = self._parts[0]
            self._overdue = oldest, max(limit_ns(oldest), self._first_since_ns)

    def troubles(self, now_ns: int) -> list[str]:
        """Say what stands still; empty while parts get their verdicts, or none is due."""
        still_ns, overdue = now_ns - self._ticked_ns, self._overdue
        found = [f"the loop has stood still for {still_ns / 1e9:.1f} s"] if still_ns >= STILL_NS else []
        if overdue is not None and (late_ns := now_ns - overdue[1]) > GRACE_NS:
            part = overdue[0]
            found.append(f"part {part.part_id} (sequence {part.sequence}) is {late_ns / 1e9:.1f} s past its limit")
        return found
