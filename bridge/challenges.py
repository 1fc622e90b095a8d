"""The challenge tests of one station: announced by command, noted in the journal, alarmed when failed or overdue."""

from __future__ import annotations

import structlog

from bridge.domain.challenge import FAILED, MET, PASSED, ChallengeTest
from bridge.domain.condition import Condition
from bridge.domain.gate_track import PartKey
from bridge.domain.messages import Reply
from bridge.domain.part import Part, Result
from bridge.domain.status import ChallengeShown
from bridge.gate_notes import GateNotes
from bridge.ports import Clock


class Challenges:
    """Tell condition and journal of each test; see `bridge.domain.challenge` for what passes one."""

    def __init__(self, *, condition: Condition, notes: GateNotes, clock: Clock, test: ChallengeTest) -> None:
        self._condition = condition
        self._note = notes.note
        self._clock = clock
        self._test = test
        self._log = structlog.get_logger()
        self.watch()

    def announce(self, part_id: str | None, sequence: int | None) -> Reply:
        """Make the next part, or the one named, the challenge part; refused where no part can be rejected."""
        if self._condition.dry_run:
            return Reply(ok=False, text="dry run: no part is rejected, so no challenge test can be passed")
        self._test.announce(part_id=part_id, sequence=sequence)
        self._log.info("challenge_announced", part_id=part_id, sequence=sequence)
        self.watch()
        return Reply(ok=True)

    def met(self, part: Part) -> None:
        """Take an accepted part, which may be the challenge part."""
        key = part.epoch, part.sequence
        if self._test.met(key, part.part_id):
            self._note(MET, key, "a part known to be bad")
            self.watch()

    def decided(self, result: Result) -> None:
        """Take a verdict: one that doesn't reject the challenge part fails the test at once."""
        key = result.part.epoch, result.part.sequence
        self._failed(key, self._test.decided(key, result.judgement, result.disposition))

    def failed(self, key: PartKey, reason: str) -> None:
        """Take that a part can't be rejected, or was not seen in the bin."""
        self._failed(key, self._test.failed(key, reason))

    def confirmed(self, key: PartKey) -> None:
        """Take that a rejected part was seen in the bin."""
        if self._test.confirmed(key, self._clock.utc_ns()):
            self._note(PASSED, key, None)
            self._log.info("challenge_passed", sequence=key[1])
            self.watch()

    def watch(self) -> None:
        """Show how the test stands, and alarm one that is overdue."""
        due = self._test.due(self._clock.utc_ns())
        self._condition.set_alarm("CHALLENGE_DUE", standing=due)
        self._condition.challenge = ChallengeShown(
            state=self._test.state, due=due, passed_utc_ns=self._test.passed_utc_ns
        )

    def _failed(self, key: PartKey, reason: str) -> None:
        if reason:
            self._condition.raise_alarm("CHALLENGE_FAILED", reason)
            self._note(FAILED, key, reason)
            self.watch()
