"""The belt: where it is, how fast it runs, and where a part stood when the photo-eye saw it.

One coordinate, the belt's position in mm, counts up while the belt runs. Everything that has to do with a part is a
position on it; a moment is a position divided by the present speed. Behind the position stands a list of knots
(moment, position): between two knots the belt ran evenly, after the last one it runs at the present speed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from bridge.domain.encoder_speed import likely_ns, move_back, present_speed, steady_speed

SpeedSource = Literal["fixed", "mqtt", "plc", "encoder"]

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
STANDING_MM_S = 2.0  # slower than this is vibration, not transport
BACK_MM = 100.0  # a belt may creep back this far; further is a reset of the counter
TOP_SPEED_FACTOR = 1.5
STAMP_SLACK_MS = 50.0  # samples carry their arrival: two may come closer together than they were taken
FRESH_MS = 100.0  # a count is extrapolated from a sample no older than this
RAMP_SHARE, RAMP_MM_S = 0.25, 200.0  # a speed that differs by more from the last half second's is on a ramp
AROUND_NS = 250 * NS_PER_MS
LATCH_BEHIND_S = 5.0  # a latched count further back than the belt can run in this time is of another counter
LOST_MM = 15.0  # after a silence the place is lost when it may be wrong by more than this
KNOTS = 4096


class BeltEvent(StrEnum):
    """What a sample did. After RESET and LOST the places of the parts on the belt are guesses."""

    TAKEN = "taken"
    IGNORED = "ignored"
    RESET = "reset"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class BeltSettings:
    """How the belt's movement is known. `speed_mm_s` is the speed itself for "fixed", else the one it is built for."""

    speed_mm_s: float = 1200.0
    speed_source: SpeedSource = "fixed"
    counts_per_mm: float = 10.0
    encoder_bits: int = 32
    speed_timeout_ms: float = 1000.0
    top_speed_mm_s: float = 3000.0

    @property
    def modulus(self) -> int:
        """Number of values the encoder's counter can show."""
        return int(2**self.encoder_bits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a part's front edge met the beam: belt position in mm and encoder count, None where unknown.

    `latch_ignored` says that the trigger's latched count cannot belong to the counter that the samples show.
    """

    x0_mm: float | None
    count_at_trigger: int | None
    latch_ignored: bool = False


def signed_step(new: int, old: int, modulus: int) -> int:
    """Give `new - old` on a counter that rolls over at `modulus`, as the nearer of the two ways round.

    With modulus 2^32 this is the PLC's `INT32(new - old)`.
    """
    return (new - old + modulus // 2) % modulus - modulus // 2


class Belt:
    """The belt's position as the integral of its speed, or as its encoder shows it."""

    def __init__(self, settings: BeltSettings) -> None:
        self._settings = settings
        self._times_ns: list[int] = []
        self._positions_mm: list[float] = []
        self._stamps_ns: list[int] = []
        self._speed_mm_s: float | None = settings.speed_mm_s if settings.speed_source == "fixed" else None
        self._count: int | None = None
        self._speed_before_mm_s: float | None = None
        self._doubts_ns: deque[tuple[int, int]] = deque(maxlen=8)

    @property
    def settings(self) -> BeltSettings:
        """The settings it was made with."""
        return self._settings

    def speed_sample(self, mm_s: float, at_ns: int) -> BeltEvent:
        """Take a measured speed that holds from `at_ns` until the next sample.

        IGNORED when the speed comes from elsewhere, is no plausible speed, or is older than the last sample. LOST when
        the samples were silent for longer than `speed_timeout_ms` and the speed has changed meanwhile.
        """
        if self._settings.speed_source not in ("mqtt", "plc") or not self._plausible(mm_s):
            return BeltEvent.IGNORED
        if not self._times_ns or self._speed_mm_s is None:
            self._restart(at_ns, 0.0)
            self._speed_mm_s = mm_s
            return BeltEvent.TAKEN
        passed_ns = at_ns - self._times_ns[-1]
        if passed_ns < 0:
            return BeltEvent.IGNORED
        doubt_mm = abs(mm_s - self._speed_mm_s) * passed_ns / NS_PER_S
        silent = passed_ns > self._settings.speed_timeout_ms * NS_PER_MS
        self._knot(at_ns, self._positions_mm[-1] + self._speed_mm_s * passed_ns / NS_PER_S, at_ns)
        self._speed_mm_s = mm_s
        return BeltEvent.LOST if silent and doubt_mm > LOST_MM else BeltEvent.TAKEN

    def encoder_sample(self, counts: int, at_ns: int) -> BeltEvent:
        """Take the encoder's count (modulo 2^encoder_bits) at `at_ns`.

        RESET when the step is larger than 1.5 x the top speed allows or goes back more than 100 mm; the position then
        runs on by dead reckoning from the new count. LOST when the belt did otherwise than expected during more than
        100 ms without a sample: parts placed meanwhile without a count of their own stand elsewhere. A stop is seen by
        samples of an unchanged count, so they must keep coming.
        """
        settings = self._settings
        if settings.speed_source != "encoder":
            return BeltEvent.IGNORED
        count = counts % settings.modulus
        if self._count is None or not self._times_ns:
            self._restart(at_ns, 0.0)
            self._count = count
            return BeltEvent.TAKEN
        if at_ns < self._stamps_ns[-1]:
            return BeltEvent.IGNORED
        silent = at_ns - self._stamps_ns[-1] > FRESH_MS * NS_PER_MS
        passed_ns = self._since_last_ns(count, at_ns)
        step_mm = self._step_mm(count, passed_ns)
        reckoned_mm = (self._speed_mm_s or 0.0) * passed_ns / NS_PER_S
        if step_mm is None:
            self._restart(at_ns, self._positions_mm[-1] + reckoned_mm)
            self._count, self._speed_mm_s = count, None
            return BeltEvent.RESET
        place_mm = self._positions_mm[-1] + step_mm
        history = self._times_ns, self._stamps_ns, self._positions_mm
        move_back(*history, at_ns=at_ns, position_mm=place_mm, usual_mm_s=settings.speed_mm_s)
        speed_mm_s = None if self._speed_mm_s is None else self.steady_speed_mm_s
        taken_ns = likely_ns(self._stamps_ns, self._positions_mm, at_ns, place_mm, speed_mm_s)
        self._speed_before_mm_s = self._speed_mm_s if silent else None
        surprise = silent and abs(step_mm - reckoned_mm) > LOST_MM
        if surprise:
            self._doubts_ns.append((self._times_ns[-1], at_ns))
        self._count = count
        self._knot(max(taken_ns, self._times_ns[-1]), place_mm, at_ns)
        self._speed_mm_s = present_speed(self._times_ns, self._positions_mm, grain_mm=1 / settings.counts_per_mm)
        return BeltEvent.LOST if surprise else BeltEvent.TAKEN

    def speed_mm_s(self, now_ns: int) -> float | None:
        """Give the present speed; None when it is unknown or older than `speed_timeout_ms`. A fixed one never ages."""
        if self._settings.speed_source == "fixed":
            return self._speed_mm_s
        stale = not self._stamps_ns or now_ns - self._stamps_ns[-1] > self._settings.speed_timeout_ms * NS_PER_MS
        return None if stale else self._speed_mm_s

    @property
    def held_speed_mm_s(self) -> float:
        """The last known speed however old, the one the belt is built for before any: for reports, never for orders."""
        return self._settings.speed_mm_s if self._speed_mm_s is None else self._speed_mm_s

    @property
    def steady_speed_mm_s(self) -> float:
        """The last known speed without the noise of single samples, to reckon with what lies ahead.

        On a ramp, the present one.
        """
        held_mm_s = self.held_speed_mm_s
        if self._settings.speed_source != "encoder" or not self._times_ns:
            return held_mm_s
        steady_mm_s = steady_speed(self._stamps_ns, self._positions_mm)
        if steady_mm_s is None or held_mm_s <= STANDING_MM_S:
            return held_mm_s
        ramp = abs(steady_mm_s - held_mm_s) > max(RAMP_SHARE * held_mm_s, RAMP_MM_S)
        return held_mm_s if ramp else steady_mm_s

    def speed_around_mm_s(self, at_ns: int) -> float:
        """Give the speed at a past moment by the samples on both sides of it, which late stamps move least."""
        if self._settings.speed_source != "encoder" or not self._times_ns:
            return self.held_speed_mm_s
        last = bisect_right(self._stamps_ns, at_ns + AROUND_NS)
        around_mm_s = steady_speed(self._stamps_ns[:last], self._positions_mm[:last], since_ns=at_ns - AROUND_NS)
        return self.steady_speed_mm_s if around_mm_s is None else around_mm_s

    @property
    def speed_doubt(self) -> float:
        """The share by which the present speed may be wrong: none where it is told, some where it is reckoned."""
        return RAMP_SHARE if self._settings.speed_source == "encoder" else 0.0

    def known_until_ns(self, now_ns: int) -> int:
        """Give the moment up to which the position was measured; beyond it, it is reckoned from the speed.

        Only an encoder measures: where the speed alone is known, what it says is all there is to know.
        """
        if self._settings.speed_source != "encoder" or not self._times_ns:
            return now_ns
        return self._times_ns[-1]

    def position_mm(self, at_ns: int) -> float | None:
        """Give the belt's position at a moment, past or a little ahead; None when it can't be known."""
        if self._settings.speed_source == "fixed":
            return self._settings.speed_mm_s * at_ns / NS_PER_S
        if not self._times_ns:
            return None
        if at_ns >= self._times_ns[-1]:
            return self._positions_mm[-1] + (self._speed_mm_s or 0.0) * (at_ns - self._times_ns[-1]) / NS_PER_S
        if at_ns < self._times_ns[0]:
            before_ns = self._times_ns[0] - at_ns
            if self._speed_mm_s is None or before_ns > FRESH_MS * NS_PER_MS:
                return None
            return self._positions_mm[0] - self._speed_mm_s * before_ns / NS_PER_S
        after = bisect_right(self._times_ns, at_ns)
        start_ns, end_ns = self._times_ns[after - 1], self._times_ns[after]
        start_mm, end_mm = self._positions_mm[after - 1], self._positions_mm[after]
        return start_mm + (end_mm - start_mm) * (at_ns - start_ns) / (end_ns - start_ns)

    def moment_ns(self, position_mm: float, now_ns: int) -> int:
        """Give when the belt was last at or before a past position; `now_ns` where its history does not say."""
        for at_ns, place_mm in zip(reversed(self._times_ns), reversed(self._positions_mm), strict=True):
            if place_mm <= position_mm:
                return at_ns
        return now_ns

    def bounds_mm(self, at_ns: int) -> tuple[float, float] | None:
        """Give the least and the greatest position the belt can have had at a moment: apart only within a doubt."""
        position_mm = self.position_mm(at_ns)
        if position_mm is None:
            return None
        for from_ns, to_ns in self._doubts_ns:
            if from_ns < at_ns < to_ns and from_ns >= self._times_ns[0]:
                ends_mm = (self.position_mm(from_ns) or position_mm, self.position_mm(to_ns) or position_mm)
                return min(ends_mm), max(ends_mm)
        return position_mm, position_mm

    def place(self, *, triggered_ns: int, latched_count: int | None, now_ns: int) -> Placement:
        """Place a part whose front edge met the beam at `triggered_ns`, by its latched count where there is one.

        A latched count that fits the counter decides alone: it needs no clock, and may be newer than the last sample.
        Without one the count is extrapolated from the samples if one lies within 100 ms.
        """
        settings = self._settings
        latched = None if latched_count is None else latched_count % settings.modulus
        if settings.speed_source != "encoder":
            return Placement(x0_mm=self.position_mm(triggered_ns), count_at_trigger=latched)
        if latched is not None and (self._count is None or self._fits(latched, now_ns)):
            return Placement(x0_mm=self.position_of_count(latched), count_at_trigger=latched)
        stale = not self._times_ns or triggered_ns - self._times_ns[-1] > settings.speed_timeout_ms * NS_PER_MS
        x0_mm = None if stale else self.position_mm(triggered_ns)
        return Placement(
            x0_mm=x0_mm,
            count_at_trigger=self._count_at(triggered_ns, x0_mm),
            latch_ignored=latched is not None,
        )

    def position_of_count(self, count: int) -> float | None:
        """Give the position at which the encoder shows or showed `count`; None without an encoder sample."""
        if self._count is None:
            return None
        step = signed_step(count, self._count, self._settings.modulus)
        return self._positions_mm[-1] + step / self._settings.counts_per_mm

    def when(self, position_mm: float, now_ns: int) -> int | None:
        """Give the moment the belt reaches a position at its present speed; None while it stands or is unknown.

        For a position already passed the moment lies before `now_ns`, reckoned at the present speed.
        """
        speed_mm_s = self.speed_mm_s(now_ns)
        here_mm = self.position_mm(now_ns)
        if speed_mm_s is None or here_mm is None or speed_mm_s <= STANDING_MM_S:
            return None
        return now_ns + round((position_mm - here_mm) / speed_mm_s * NS_PER_S)

    def _plausible(self, mm_s: float) -> bool:
        return abs(mm_s) <= TOP_SPEED_FACTOR * self._settings.top_speed_mm_s

    def _fits(self, latched: int, now_ns: int) -> bool:
        """Whether a latched count lies where one of this counter can: a few seconds behind, or passed since a sample."""
        assert self._count is not None
        ahead_mm = signed_step(latched, self._count, self._settings.modulus) / self._settings.counts_per_mm
        top_mm_s = self._settings.top_speed_mm_s
        since_s = max(0, now_ns - self._times_ns[-1]) / NS_PER_S + FRESH_MS / 1e3
        return -LATCH_BEHIND_S * top_mm_s <= ahead_mm <= TOP_SPEED_FACTOR * top_mm_s * since_s

    def _count_at(self, at_ns: int, position_mm: float | None) -> int | None:
        if self._count is None or position_mm is None:
            return None
        nearest = bisect_right(self._times_ns, at_ns)
        around = self._times_ns[max(0, nearest - 1) : nearest + 1]
        if min(abs(at_ns - time_ns) for time_ns in around) > FRESH_MS * NS_PER_MS:
            return None
        if at_ns > self._times_ns[-1] and self._speed_mm_s is None:
            return None
        step = round((position_mm - self._positions_mm[-1]) * self._settings.counts_per_mm)
        return (self._count + step) % self._settings.modulus

    def _step_mm(self, count: int, passed_ns: int) -> float | None:
        """Unwrap one step; None when no movement of the belt explains it, or when too long a silence hides the turns."""
        assert self._count is not None
        settings = self._settings
        forward = (count - self._count) % settings.modulus
        back_mm = (settings.modulus - forward) / settings.counts_per_mm
        reach_mm = settings.modulus / settings.counts_per_mm - BACK_MM
        limit_mm = TOP_SPEED_FACTOR * settings.top_speed_mm_s * (passed_ns / NS_PER_S + STAMP_SLACK_MS / 1e3)
        likely_mm = settings.top_speed_mm_s * passed_ns / NS_PER_S
        if likely_mm > reach_mm and (self._speed_mm_s or 0.0) > STANDING_MM_S:
            return None
        if back_mm <= BACK_MM:
            return -back_mm
        forward_mm = forward / settings.counts_per_mm
        return forward_mm if forward_mm <= limit_mm else None

    def _since_last_ns(self, count: int, at_ns: int) -> int:
        """Give the time since the last sample, which after a silence may be older than its stamp: it is then moved back.

        When this process, or the network, stood still, the first sample after it is one that had waited since it began.
        What shows is the next one: it comes too soon after it for so large a step at the speed from before.
        """
        passed_ns, speed_mm_s = at_ns - self._times_ns[-1], self._speed_before_mm_s
        if speed_mm_s is None or speed_mm_s <= STANDING_MM_S or len(self._times_ns) < 2 or self._count is None:
            return passed_ns
        settings = self._settings
        step_mm = signed_step(count, self._count, settings.modulus) / settings.counts_per_mm
        waited_ns, longest_ns = round(step_mm / speed_mm_s * NS_PER_S), at_ns - self._times_ns[-2] - 1
        if waited_ns <= passed_ns + STAMP_SLACK_MS * NS_PER_MS or waited_ns > longest_ns * TOP_SPEED_FACTOR:
            return passed_ns
        self._times_ns[-1] = self._stamps_ns[-1] = at_ns - min(waited_ns, longest_ns)
        return at_ns - self._times_ns[-1]

    def _knot(self, at_ns: int, position_mm: float, stamp_ns: int) -> None:
        if at_ns == self._times_ns[-1]:
            self._positions_mm[-1], self._stamps_ns[-1] = position_mm, stamp_ns
            return
        self._times_ns.append(at_ns)
        self._positions_mm.append(position_mm)
        self._stamps_ns.append(stamp_ns)
        if len(self._times_ns) > KNOTS:
            for history in (self._times_ns, self._positions_mm, self._stamps_ns):
                del history[: KNOTS // 2]

    def _restart(self, at_ns: int, position_mm: float) -> None:
        self._times_ns, self._positions_mm, self._stamps_ns = [at_ns], [position_mm], [at_ns]
