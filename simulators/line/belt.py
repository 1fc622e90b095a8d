"""The belt and its encoder: position as the exact integral of a speed that changes in straight ramps."""

from __future__ import annotations

import math
from dataclasses import dataclass

U32 = 2**32
NS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A time with constant acceleration. `duration_ns` None lasts for ever, at constant speed."""

    start_ns: int
    start_mm: float
    from_mm_s: float
    to_mm_s: float
    duration_ns: int | None = None

    def speed_at(self, now_ns: int) -> float:
        """Give the speed in mm/s at a moment inside the stretch."""
        if self.duration_ns is None:
            return self.from_mm_s
        return self.from_mm_s + (self.to_mm_s - self.from_mm_s) * (now_ns - self.start_ns) / self.duration_ns

    def position_at(self, now_ns: int) -> float:
        """Give the belt's position in mm at a moment inside the stretch."""
        elapsed_s = (now_ns - self.start_ns) / NS
        return self.start_mm + (self.from_mm_s + self.speed_at(now_ns)) / 2 * elapsed_s

    def when_at(self, position_mm: float) -> float | None:
        """Give the seconds after the start at which `position_mm` is reached, None when not within the stretch."""
        way = position_mm - self.start_mm
        if way <= 0:
            return 0.0
        limit_s = math.inf if self.duration_ns is None else self.duration_ns / NS
        half_gain = 0.0 if self.duration_ns is None else (self.to_mm_s - self.from_mm_s) / limit_s / 2
        if half_gain == 0.0:
            elapsed_s = way / self.from_mm_s if self.from_mm_s > 0 else math.inf
        else:
            root = self.from_mm_s**2 + 4 * half_gain * way
            elapsed_s = 2 * way / (self.from_mm_s + math.sqrt(root)) if root >= 0 else math.inf
        return elapsed_s if elapsed_s <= limit_s and math.isfinite(elapsed_s) else None


class Belt:
    """Run at a speed, change it in ramps, and say where the belt is, was or will be.

    The encoder counts `counts_per_mm` for each mm from `first_count`, modulo 2^32, as the belt moves.
    """

    def __init__(self, *, speed_mm_s: float, now_ns: int, counts_per_mm: float = 10.0, first_count: int = 0) -> None:
        self.counts_per_mm = counts_per_mm
        self.first_count = first_count
        self._plan: list[Stretch] = []
        self._end = (now_ns, 0.0, speed_mm_s)
        self._rest()

    def speed_at(self, now_ns: int) -> float:
        """Give the speed in mm/s."""
        return self._stretch(now_ns).speed_at(now_ns)

    def position_at(self, now_ns: int) -> float:
        """Give how far the belt has moved since it was made, in mm."""
        return self._stretch(now_ns).position_at(now_ns)

    def count_at(self, now_ns: int) -> int:
        """Give the encoder's count."""
        return self.count_for(self.position_at(now_ns))

    def count_for(self, position_mm: float) -> int:
        """Give the count that the encoder shows at a position: what a touch probe latches there."""
        return (self.first_count + math.floor(position_mm * self.counts_per_mm + 1e-6)) % U32

    def reset_count(self, now_ns: int) -> None:
        """Have the encoder show 0 now and count on from there; what it has latched before stays latched."""
        self.first_count = (self.first_count - self.count_at(now_ns)) % U32

    def when_at(self, position_mm: float) -> int | None:
        """Give the moment at which the belt reaches a position by the present plan; None when it never does."""
        for stretch in self._plan:
            elapsed_s = stretch.when_at(position_mm)
            if elapsed_s is not None:
                return stretch.start_ns + math.ceil(elapsed_s * NS)
        return None

    def ramp(self, now_ns: int, *, to_mm_s: float, duration_s: float) -> None:
        """Change the speed to `to_mm_s` in a straight ramp that begins now; what was planned after now is dropped."""
        self._cut(now_ns)
        self._add(to_mm_s, duration_s)
        self._rest()

    def stop(self, now_ns: int, *, duration_s: float, ramp_s: float) -> None:
        """Stop in a ramp, stand for `duration_s` and come back to the speed the belt was making for."""
        goal_mm_s = self._plan[-1].to_mm_s
        self._cut(now_ns)
        self._add(0.0, ramp_s)
        self._add(0.0, duration_s)
        self._add(goal_mm_s, ramp_s)
        self._rest()

    def _stretch(self, now_ns: int) -> Stretch:
        for stretch in reversed(self._plan):
            if stretch.start_ns <= now_ns:
                return stretch
        return self._plan[0]

    def _cut(self, now_ns: int) -> None:
        """End the plan at `now_ns`; what lies behind stays, so that past positions remain known."""
        present = self._stretch(now_ns)
        speed = present.speed_at(now_ns)
        kept = [stretch for stretch in self._plan if stretch.start_ns < present.start_ns]
        if now_ns > present.start_ns:
            kept.append(
                Stretch(
                    start_ns=present.start_ns,
                    start_mm=present.start_mm,
                    from_mm_s=present.from_mm_s,
                    to_mm_s=speed,
                    duration_ns=now_ns - present.start_ns,
                )
            )
        self._plan = kept
        self._end = (now_ns, present.position_at(now_ns), speed)

    def _add(self, to_mm_s: float, duration_s: float) -> None:
        start_ns, start_mm, from_mm_s = self._end
        duration_ns = round(duration_s * NS)
        if duration_ns > 0:
            stretch = Stretch(
                start_ns=start_ns, start_mm=start_mm, from_mm_s=from_mm_s, to_mm_s=to_mm_s, duration_ns=duration_ns
            )
            self._plan.append(stretch)
            start_ns += duration_ns
            start_mm = stretch.position_at(start_ns)
        self._end = (start_ns, start_mm, to_mm_s)

    def _rest(self) -> None:
        start_ns, start_mm, speed = self._end
        self._plan.append(Stretch(start_ns=start_ns, start_mm=start_mm, from_mm_s=speed, to_mm_s=speed))
