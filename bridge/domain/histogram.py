"""How many values lay in which range: what a monitoring system computes its quantiles from."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import NamedTuple


class Histogram(NamedTuple):
    """Values counted by the smallest of `bounds` that they don't exceed; the last of `counts` is for the larger ones.

    It never changes: a thread that reads one beside the loop that measures sees all of a value or nothing.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float

    @classmethod
    def within(cls, *bounds: float) -> Histogram:
        """Give an empty one; `bounds` rise."""
        return cls(bounds, (0,) * (len(bounds) + 1), 0.0)

    def having(self, value: float) -> Histogram:
        """Give the histogram with one value more."""
        counts = list(self.counts)
        counts[bisect_left(self.bounds, value)] += 1
        return Histogram(self.bounds, tuple(counts), self.total + value)

    @property
    def cumulative(self) -> list[tuple[float, int]]:
        """For each bound how many values don't exceed it; the last bound is infinite, its count that of all values."""
        return list(zip((*self.bounds, float("inf")), accumulate(self.counts), strict=True))
