"""How long a thing has been stuck, in time that this process was there to see."""

from __future__ import annotations

MS = 1_000_000
LONGEST_STEP_NS = 600 * MS


class Patience:
    """Adds up how long the same thing has been waited for; not for use from two threads at once.

    A process that was stopped (SIGSTOP, a suspended machine) finds its work overdue when it wakes, though nothing was
    ever stuck. So one step between two looks counts as 0.6 s at most: whoever wants an answer within a second looks
    at least that often.
    """

    def __init__(self, limit_ns: int) -> None:
        self._limit_ns = limit_ns
        self._thing: int | None = None
        self._seen_ns = 0
        self._stuck_ns = 0

    def look(self, thing: int | None, now_ns: int) -> bool:
        """Note what is waited for now (None: nothing) and say whether that has lasted for the limit."""
        if thing is None or thing != self._thing:
            self._thing, self._stuck_ns = thing, 0
        else:
            self._stuck_ns += min(now_ns - self._seen_ns, LONGEST_STEP_NS)
        self._seen_ns = now_ns
        return self._stuck_ns >= self._limit_ns
