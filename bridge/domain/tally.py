"""Counting parts so that triggers = pass + fail + uncertain + error + late + in flight, at any moment."""

from __future__ import annotations

from dataclasses import replace

from bridge.domain.status import COUNTER_NAMES, Counters
from bridge.domain.verdict import VerdictCode

_U32 = 2**32
_FIELD = {
    VerdictCode.PASS: "passed",
    VerdictCode.FAIL: "failed",
    VerdictCode.UNCERTAIN: "uncertain",
    VerdictCode.ERROR: "error",
    VerdictCode.LATE: "late",
}


def count(counters: Counters, name: str, by: int = 1) -> Counters:
    """Add to one counter, modulo 2^32. Raises KeyError for a name that is no counter."""
    if name not in COUNTER_NAMES:
        raise KeyError(name)
    return replace(counters, **{name: (getattr(counters, name) + by) % _U32})


def count_verdict(counters: Counters, code: VerdictCode) -> Counters:
    """Count one verdict, codes 1 to 5; its trigger was counted at acceptance."""
    return count(counters, _FIELD[code])


def reset(counters: Counters) -> Counters:
    """Zero everything but the parts in flight, which stay counted as triggers."""
    return Counters(triggers=counters.in_flight)
