"""The challenge test: a part known to be bad must be rejected by its verdict and reach the reject bin.

Rules: one announced part at a time, a later announcement takes the place of an earlier one; a test is passed only by the
bin's confirmation, and failed by everything else that can become of its part; nobody's silence passes a test.
"""

from __future__ import annotations

from bridge.domain.gate_track import PartKey
from bridge.domain.verdict import Disposition, Judgement, VerdictCode

MET, PASSED, FAILED = "challenge", "challenge passed", "challenge failed"
"""What the journal's gate events call the part of a test, and its end; a test without an end has no result."""
NS_PER_H = 3_600_000_000_000
_BAD = (VerdictCode.FAIL, VerdictCode.UNCERTAIN)


class ChallengeTest:
    """Follow challenge parts from their announcement to the bin. `passed_utc_ns` is when a test was last passed."""

    def __init__(self, *, hours: float = 0.0, passed_utc_ns: int | None = None) -> None:
        self._period_ns = round(hours * NS_PER_H)
        self._announced: tuple[str | None, int | None] | None = None
        self._under_way: dict[PartKey, str] = {}
        self._last: str = "idle"
        self.passed_utc_ns = passed_utc_ns

    def announce(self, *, part_id: str | None = None, sequence: int | None = None) -> None:
        """Wait for the part with this id or sequence; for the next one where neither is given."""
        self._announced = part_id, sequence

    def met(self, key: PartKey, part_id: str) -> bool:
        """Take an accepted part; gives whether it is the challenge part."""
        if self._announced is None:
            return False
        wanted_id, wanted_sequence = self._announced
        if (wanted_id is not None and wanted_id != part_id) or (wanted_sequence not in (None, key[1])):
            return False
        self._announced = None
        self._under_way[key] = part_id
        return True

    def decided(self, key: PartKey, judgement: Judgement, disposition: Disposition) -> str:
        """Take a verdict; gives why the test has failed with it, empty when it has not or the part is none of the test."""
        if key not in self._under_way:
            return ""
        if judgement.code not in _BAD:
            return self._ended(key, f"its verdict is {judgement.code.name}: {judgement.reason}")
        if disposition is not Disposition.REJECT:
            return self._ended(key, f"{judgement.code.name} does not reject it")
        return ""

    def failed(self, key: PartKey, reason: str) -> str:
        """Take that a part will not be confirmed; gives the reason where it is the challenge part, else nothing."""
        return self._ended(key, reason) if key in self._under_way else ""

    def confirmed(self, key: PartKey, now_utc_ns: int) -> bool:
        """Take that a rejected part was seen in the bin; gives whether a test is passed with it."""
        if self._under_way.pop(key, None) is None:
            return False
        self._last, self.passed_utc_ns = "passed", now_utc_ns
        return True

    def due(self, now_utc_ns: int) -> bool:
        """Say whether a test is overdue: none was passed within the period, or none ever."""
        if not self._period_ns:
            return False
        return self.passed_utc_ns is None or now_utc_ns - self.passed_utc_ns > self._period_ns

    @property
    def state(self) -> str:
        """The test in a word: announced, under way, else how the last one ended, idle before any."""
        if self._announced is not None:
            return "announced"
        return "under way" if self._under_way else self._last

    def _ended(self, key: PartKey, reason: str) -> str:
        part_id = self._under_way.pop(key)
        self._last = "failed"
        return f"{part_id}: {reason}"
