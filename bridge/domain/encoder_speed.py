"""The speed of a belt from stamped encoder positions, although stamps are late by whatever delayed the message.

A stamp can be late, never early: it is when a sample arrived. So the samples that arrived soonest tell the time, and one
that seems to say that the belt braked harder than a belt can was on its way for longer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

NS_PER_S = 1_000_000_000
WINDOW_NS = 100_000_000  # long enough to average the counts' grain, short enough to follow a ramp
STEADY_NS = 500_000_000
STEADY_POINTS = 32
STILL_NS = 30_000_000  # the same count for so long, where several were due, is a stop
STILL_COUNTS = 3.0
NEIGHBOURS = 16
BRAKING_MM_S2 = 10_000.0  # harder than belts brake with parts on them, or gather speed


def likely_ns(
    stamps_ns: Sequence[int], positions_mm: Sequence[float], at_ns: int, position_mm: float, speed_mm_s: float | None
) -> int:
    """Give when a sample at `position_mm`, stamped `at_ns`, was likely taken, by the samples of the 100 ms before it.

    Earlier than its stamp where the belt, from one of those at its present speed, would have had to brake harder than a
    belt brakes to come no further.
    """
    if speed_mm_s is None or speed_mm_s <= 0:
        return at_ns
    earliest_ns = at_ns
    for i in range(len(stamps_ns) - 1, max(-1, len(stamps_ns) - 1 - NEIGHBOURS), -1):
        passed_ns = at_ns - stamps_ns[i]
        if passed_ns > WINDOW_NS:
            break
        braked_mm = BRAKING_MM_S2 / 2 * (passed_ns / NS_PER_S) ** 2
        travel_ns = (position_mm - positions_mm[i] + braked_mm) / speed_mm_s * NS_PER_S
        earliest_ns = min(earliest_ns, stamps_ns[i] + max(0, round(travel_ns)))
    return earliest_ns


def move_back(
    times_ns: list[int],
    stamps_ns: list[int],
    positions_mm: Sequence[float],
    *,
    at_ns: int,
    position_mm: float,
    usual_mm_s: float,
) -> None:
    """Correct in place when earlier samples were taken, by one at `position_mm` that arrived at `at_ns`.

    Earlier than noted where the belt, from its steady speed or the `usual_mm_s` it is built for, would have had to gather
    speed harder than a belt does to come so far since: then it was the earlier sample that had waited. Without it a burst
    after standstills of this process, or of the network, would show a belt many times as fast as it is.
    """
    speed_mm_s = max(usual_mm_s, steady_speed(stamps_ns, positions_mm) or 0.0)
    later_ns = at_ns + 1
    for i in range(len(times_ns) - 1, -1, -1):
        travel_mm = max(0.0, position_mm - positions_mm[i])
        gained_mm_s = (speed_mm_s**2 + 2 * BRAKING_MM_S2 * travel_mm) ** 0.5 - speed_mm_s
        latest_ns = min(later_ns - 1, at_ns - round(gained_mm_s / BRAKING_MM_S2 * NS_PER_S))
        if times_ns[i] <= latest_ns:
            break
        times_ns[i], stamps_ns[i] = latest_ns, min(stamps_ns[i], latest_ns)
        later_ns = latest_ns


def present_speed(times_ns: Sequence[int], positions_mm: Sequence[float], grain_mm: float) -> float | None:
    """Average the last 100 ms, or the last step where samples are rarer; a standing count is a stop at once.

    None with less than two moments.
    """
    last = len(times_ns) - 1
    if last == 0:
        return None
    first = bisect_right(times_ns, times_ns[last] - WINDOW_NS - 1)
    first = min(first, last - 1)
    speed_mm_s = (positions_mm[last] - positions_mm[first]) * NS_PER_S / (times_ns[last] - times_ns[first])
    still = last
    while still > first and positions_mm[still - 1] == positions_mm[last]:
        still -= 1
    still_ns = times_ns[last] - times_ns[still]
    expected = speed_mm_s * still_ns / NS_PER_S / grain_mm
    return 0.0 if still_ns >= STILL_NS and expected >= STILL_COUNTS else speed_mm_s


def steady_speed(times_ns: Sequence[int], positions_mm: Sequence[float], since_ns: int | None = None) -> float | None:
    """Fit a line to the last 500 ms, or to all since a moment: single late stamps hardly move it.

    None with less than 200 ms of samples.
    """
    last = len(times_ns) - 1
    if last < 1:
        return None
    first = bisect_right(times_ns, (times_ns[last] - STEADY_NS if since_ns is None else since_ns) - 1)
    if first >= last:
        return None
    span_ns = times_ns[last] - times_ns[first]
    if span_ns < STEADY_NS * 2 // 5:
        return None
    chosen = range(first, last + 1, max(1, (last - first) // STEADY_POINTS))
    mean_ns = sum(times_ns[i] - times_ns[first] for i in chosen) / len(chosen)
    offsets_ns = [times_ns[i] - times_ns[first] - mean_ns for i in chosen]
    square = sum(offset_ns**2 for offset_ns in offsets_ns)
    return sum(offset_ns * positions_mm[i] for offset_ns, i in zip(offsets_ns, chosen, strict=True)) / square * NS_PER_S
