"""The offset between a source's clock and ours, followed by the smallest delay seen (as NTP's clock filter, RFC 5905 section 10).

A message can be late, never early: of many, the ones that came soonest tell how the two clocks stand, and by how much each
other one was held up. No clock need be right, nor synchronised. What can't be known, and is not guessed:

- The smallest delay itself: `transport_ms` is taken off by who asks.
- Which of two things happened when messages are late from one moment on, all by the same: a longer way, or a clock set
  back. Three of them in a row are in doubt, eight are believed to be a clock set back.
- Where a part is while too few messages agree: `place` gives None, and the part must not be placed at all.
"""

from __future__ import annotations

from dataclasses import dataclass

NS_PER_MS = 1_000_000
DRIFT = 1e-4
"""The most by which the two clocks run apart, as a share: good for any quartz."""
SPREAD_NS = 5 * NS_PER_MS
"""Delays that differ by no more agree."""
AGREEING = 3
NEAR_NS = 60_000 * NS_PER_MS
"""Samples further apart say nothing of each other: the clocks may have run apart by more than the spread."""
LOWEST, MEMORY_NS = 32, 600_000 * NS_PER_MS
AHEAD_NS = 50 * NS_PER_MS
"""Further ahead of the others no message comes by being quick alone: the clock was set."""
UNCONFIRMED = 32
SUSPECT, STEPPED = 3, 8
LONGEST_NS = 60_000 * NS_PER_MS
"""A message held up for longer is of no part on the belt."""

LEARNING = "too few time stamps agree yet"
AHEAD = "its ts lies ahead of all that came before"
SUSPECTED = (
    "all time stamps since a moment are behind by the same: the clock was set back, or the way has become longer"
)
STALE = "no time stamp has come without delay for too long"
TOO_OLD = "its ts lies more than 60 s behind"


@dataclass(frozen=True, slots=True)
class _Sample:
    """When a message came, and how far our clock was then ahead of its stamp: the clocks' offset and its delay."""

    at_ns: int
    lead_ns: int

    @property
    def key_ns(self) -> float:
        """What stays in order with age: the offset may since have grown by the drift."""
        return self.lead_ns - DRIFT * self.at_ns

    def agrees(self, other: _Sample) -> bool:
        apart_ns = abs(self.at_ns - other.at_ns)
        return apart_ns <= NEAR_NS and abs(self.lead_ns - other.lead_ns) <= SPREAD_NS + DRIFT * apart_ns


class ClockFilter:
    """Follow one source's clock. `doubt` says why it can't be trusted by now, empty when it can; `steps` counts its jumps."""

    def __init__(self) -> None:
        self.doubt = LEARNING
        self.steps = 0
        self._lowest: list[_Sample] = []
        self._run: list[_Sample] = []
        self._before: _Sample | None = None
        self._stamp_ns: int | None = None
        self._learned = False
        self._confirmed_ns = 0
        self._unconfirmed = 0

    def forget(self) -> None:
        """Learn anew: the source was restarted, or its clock was set."""
        self.steps += bool(self._lowest)
        self._lowest, self._run, self._before, self._stamp_ns = [], [], None, None
        self._unconfirmed, self._learned = 0, False
        self.doubt = LEARNING

    def place(self, stamp_utc_ns: int, arrived_ns: int, *, in_order: bool = True) -> int | None:
        """Give the monotonic moment at which a message was stamped, None when that is in doubt.

        It lies never after `arrived_ns`. `in_order` says that its sequence follows those before: then so must its stamp.
        """
        if in_order and self._stamp_ns is not None and stamp_utc_ns < self._stamp_ns:
            self.forget()
        sample = _Sample(arrived_ns, arrived_ns - stamp_utc_ns)
        self._keep(sample)
        offset_ns = self._offset_ns(arrived_ns)
        self.doubt = self._doubt(sample, offset_ns)
        self._before = sample
        if self.doubt != AHEAD and in_order:
            self._stamp_ns = stamp_utc_ns
        if self.doubt or offset_ns is None:
            return None
        return stamp_utc_ns + min(offset_ns, sample.lead_ns)

    def _keep(self, sample: _Sample) -> None:
        """Keep the samples of the last ten minutes that were held up least."""
        young = [each for each in self._lowest if sample.at_ns - each.at_ns <= MEMORY_NS]
        self._lowest = sorted([*young, sample], key=lambda each: each.key_ns)[:LOWEST]

    def _offset_ns(self, now_ns: int) -> int | None:
        """Give the smallest offset that several samples agree on, as large as it can have become since.

        What is learned first must be the smallest of all: some of those held up may agree by chance.
        """
        for place, low in enumerate(self._lowest):
            needed = AGREEING if self._learned or place == 0 else STEPPED
            if sum(low.agrees(each) for each in self._lowest[place:]) >= needed:
                self._learned = True
                return round(low.key_ns + DRIFT * now_ns)
        self._learned = False
        return None

    def _doubt(self, sample: _Sample, offset_ns: int | None) -> str:
        if offset_ns is None:
            return LEARNING
        delay_ns = sample.lead_ns - offset_ns
        if delay_ns < -AHEAD_NS:
            return AHEAD
        stale = sample.at_ns - self._confirmed_ns > NEAR_NS
        if delay_ns <= SPREAD_NS:
            if stale and sum(sample.agrees(each) for each in self._lowest) < AGREEING:
                return STALE
            self._run, self._unconfirmed, self._confirmed_ns = [], 0, sample.at_ns
            return ""
        self._unconfirmed += 1
        if self._follow_run(sample) >= STEPPED:
            run = self._run
            self.forget()
            self._lowest, self._confirmed_ns = sorted(run, key=lambda each: each.key_ns), sample.at_ns
            return SUSPECTED
        if len(self._run) >= SUSPECT:
            return SUSPECTED
        if delay_ns > LONGEST_NS:
            return TOO_OLD
        return STALE if stale or self._unconfirmed > UNCONFIRMED else ""

    def _follow_run(self, sample: _Sample) -> int:
        """Count the samples late by the same since a jump; a delay that grows, or that differs, is a queue's."""
        if self._run and self._run[0].agrees(sample):
            self._run.append(sample)
        else:
            jumped = self._before is not None and not self._before.agrees(sample)
            self._run = [sample] if jumped else []
        return len(self._run)
