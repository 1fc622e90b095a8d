"""Finds the sequences that are missing in one epoch of a counter that rolls over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bridge.domain.sequence import SEQUENCES

MOST_GAPS = 1000


def gaps_of(ascending: Iterable[int]) -> Iterator[tuple[int, int, int]]:
    """Give (first, last, how many) of each gap among u32 sequences in ascending order, doubles allowed.

    On the ring of a counter the largest gap is what the epoch has not reached. Beyond 1,000 gaps the rest is one.
    """
    gaps: list[tuple[int, int]] = []
    beyond = 0
    first = before = largest = None
    for sequence in ascending:
        if before is None:
            first = sequence
        elif sequence - before > 1:
            gap = (before + 1, sequence - before - 1)
            if largest is None or gap[1] > largest[1]:
                gap, largest = largest or (0, 0), gap
            if gap[1] and len(gaps) < MOST_GAPS:
                gaps.append(gap)
            else:
                beyond += gap[1]
        before = sequence
    if first is None or before is None or largest is None:
        return
    outside = SEQUENCES - 1 - before + first
    if largest[1] <= outside:
        gaps.append(largest)
    elif outside:
        gaps.append(((before + 1) % SEQUENCES, outside))
    for start, missed in sorted(gaps):
        yield start, (start + missed - 1) % SEQUENCES, missed
    if beyond:
        yield 0, SEQUENCES - 1, beyond
