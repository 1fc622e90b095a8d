"""The truth about a random belt: where it is, what lies on it, and when a gate swept or met a part.

Nothing here knows of the bridge's own plan.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from dataclasses import dataclass

MS = 1_000_000
EPOCH_NS = 5_000_000_000_000  # a machine that has been up for a while

Key = tuple[int, int]


class TrueBelt:
    """Where the belt really is: even speed between breaks."""

    def __init__(self, breaks: list[tuple[int, float]]) -> None:
        self.breaks = breaks
        self.times = [at_ns for at_ns, _ in breaks]
        self.speeds = [speed for _, speed in breaks]
        self.places = [0.0]
        for i in range(1, len(breaks)):
            self.places.append(self.places[-1] + self.speeds[i - 1] * (self.times[i] - self.times[i - 1]) / 1e9)

    def at(self, t_ns: float) -> float:
        i = max(0, bisect_right(self.times, t_ns) - 1)
        return self.places[i] + self.speeds[i] * (t_ns - self.times[i]) / 1e9

    def speed(self, t_ns: float) -> float:
        return self.speeds[max(0, bisect_right(self.times, t_ns) - 1)]

    def reach(self, place: float, from_ns: int = 0, lead_ms: float = 0.0) -> int:
        """First moment from `from_ns` at which the belt is at `place`, less the lead at the speed of that moment."""
        i = max(0, bisect_right(self.times, from_ns) - 1)
        while True:
            start = max(from_ns, self.times[i])
            end = self.times[i + 1] if i + 1 < len(self.times) else None
            speed = self.speeds[i]
            left = place - self.at(start) - speed * lead_ms / 1e3
            if left <= 0:
                return start
            if speed > 0 and (end is None or start + left / speed * 1e9 < end):
                return int(start + left / speed * 1e9)
            assert end is not None, "the last stretch runs"
            i += 1


@dataclass
class TruePart:
    key: Key
    x0: float
    length: float
    reject: bool
    delay_ms: float
    hung: bool
    latched: bool
    said_length: float | None
    decided: bool = False


def random_breaks(rng: random.Random, top: float) -> tuple[list[tuple[int, float]], str]:
    kind = rng.choices(("even", "ramps", "stops"), (5, 3, 2))[0]
    t, speed = EPOCH_NS, top
    breaks = [(t, speed)]
    if kind == "even":
        return breaks, kind
    for _ in range(rng.randint(1, 2)):
        t += round(rng.uniform(100, 900) * MS)
        goal = 0.0 if kind == "stops" else rng.uniform(0.3, 1.0) * top
        for goal_now in (goal, top * rng.uniform(0.5, 1.0)):
            step = rng.uniform(500.0, 2500.0) * 0.02
            while abs(speed - goal_now) > 1e-6:
                change = goal_now - speed
                speed = goal_now if abs(change) <= step else speed + (step if change > 0 else -step)
                breaks.append((t, speed))
                t += 20 * MS
            t += round((rng.choice((150, 600, 900, 2600)) if speed == 0 else rng.uniform(50, 400)) * MS)
    return breaks, kind


def swept_mm(
    belt: TrueBelt, switches: list[tuple[int, int]], front_mm: float, length_mm: float, clear_ns: float
) -> float:
    """How much of a part went past while the gate was not closed."""
    entry, leaving = belt.reach(front_mm), belt.reach(front_mm + length_mm)
    most = 0.0
    for on, off in switches:
        start, end = max(on, entry), min(off + clear_ns, leaving)
        if start < end:
            most = max(most, belt.at(end) - belt.at(start))
    return most


def met(
    belt: TrueBelt,
    switches: list[tuple[int, int]],
    front_mm: float,
    length_mm: float,
    lead_ns: float,
    *,
    stroke: bool,
    slack_mm: float,
) -> bool:
    """Whether the gate was fully open over the part's middle third, or a stroke fell within it."""
    early, late = front_mm + length_mm / 3 + slack_mm, front_mm + length_mm * 2 / 3 - slack_mm
    if stroke:
        early, late = late + 2 * slack_mm, early - 2 * slack_mm
    first, last = belt.reach(early), belt.reach(late)
    return any(on + lead_ns <= first and last <= off for on, off in switches)
