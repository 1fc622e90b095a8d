"""What guards a station beside its verdicts: settings, and the runs of verdicts that no healthy line has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bridge.domain.verdict import Judgement, VerdictCode

CONFIRM_WINDOW_MS = 100.0
_FAILURES = (VerdictCode.ERROR, VerdictCode.LATE)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSettings:
    """One station's guards; 0 switches each off.

    `confirm_distance_mm` is how far a part's front edge has moved since the beam when the bin's sensor counts it, 0 =
    unknown; the count may rise `confirm_window_ms` before or after that moment.
    """

    confirm_distance_mm: float = 0.0
    confirm_window_ms: float = CONFIRM_WINDOW_MS
    max_consecutive_rejects: int = 10
    max_consecutive_failures: int = 3
    touching_tolerance_mm: float = 0.0
    challenge_hours: float = 0.0
    dry_run: bool = False


NO_GUARDS = GuardSettings(max_consecutive_rejects=0, max_consecutive_failures=0)


class Runs:
    """Count verdicts of one kind in a row; a run that is too long is told once, at the part that makes it so."""

    def __init__(self, settings: GuardSettings) -> None:
        self._settings = settings
        self._rejects = self._failures = 0

    def decided(self, judgement: Judgement, *, rejects: bool) -> Iterator[tuple[str, str]]:
        """Take one live verdict; gives each alarm that it calls for, with its text.

        A part that nobody was to judge says nothing of the station and neither counts nor breaks a run.
        """
        if judgement.withheld:
            return
        self._rejects = self._rejects + 1 if rejects else 0
        self._failures = self._failures + 1 if judgement.code in _FAILURES else 0
        if self._rejects == self._settings.max_consecutive_rejects != 0:
            yield "CONSECUTIVE_REJECTS", f"{self._rejects} rejects in a row: {judgement.reason}"
        if self._failures == self._settings.max_consecutive_failures != 0:
            yield "CONSECUTIVE_FAILURES", f"{self._failures} ERROR or LATE in a row: {judgement.reason}"

    def clear(self) -> None:
        """Begin to count anew."""
        self._rejects = self._failures = 0
