"""What became of each gate order: told to the outputs, noted in the journal, counted and alarmed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import structlog

from bridge.challenges import Challenges
from bridge.domain.belt import NS_PER_MS
from bridge.domain.condition import Condition
from bridge.domain.confirmation import Confirmations, Seen
from bridge.domain.gate_plan import Revision
from bridge.domain.gate_track import PartKey
from bridge.domain.messages import GateNews
from bridge.domain.part import Part, Result
from bridge.domain.verdict import Disposition
from bridge.gate_notes import GateNotes
from bridge.ports import Clock, GateEvent, GateOutput, VerdictOutput

STILL_MS = 1500.0  # the PLC rejects everything when the heartbeat has stood still for 2 s
SHORTEST_S = 0.005
FIRED_EARLY_NS = 50 * NS_PER_MS  # the bridge's idea of the on-command, by samples, against the PLC's own


class GateReports:
    """Report the orders of one station, and what the reject bin says of them; a report, nothing actuates from it."""

    def __init__(
        self,
        *,
        condition: Condition,
        notes: GateNotes,
        outputs: Sequence[VerdictOutput],
        clock: Clock,
        confirmations: Confirmations,
        challenges: Challenges,
        gate: GateOutput | None = None,
    ) -> None:
        self._condition = condition
        self._note = notes.note
        self._outputs = outputs
        self._clock = clock
        self._gate = gate
        self._ordered: dict[PartKey, Result] = {}
        self._unfired: dict[PartKey, None] = {}
        self._unconfirmed: dict[PartKey, Result] = {}
        self._confirmations = confirmations
        self.announce_challenge = challenges.announce
        self._challenges = challenges
        self._log = structlog.get_logger()

    def met(self, part: Part, *, gap: bool) -> None:
        """Take a part as it meets the beam; with a `gap` in the sequence another may lie before it."""
        self._confirmations.met((part.epoch, part.sequence), part.x0_mm, gap=gap)
        self._challenges.met(part)

    def decided(self, result: Result, swept: Sequence[PartKey]) -> None:
        """Tell of a new order, and of the parts let pass that it sweeps or that are swept."""
        self._challenges.decided(result)
        if result.disposition is Disposition.LET_PASS:
            self._let_pass(result)
        if result.order.state != "none":
            self._tell(result, swept)
        elif result.order.collateral:
            self._collateral((result.part.epoch, result.part.sequence))
        for key in swept:
            self._collateral(key)

    def revised(self, revisions: Sequence[Revision]) -> None:
        """Tell what a change of the belt has made of published orders."""
        for revision in revisions:
            if self._gate is not None:
                self._gate.drive(revision.key, revision.order, revision.release)
            if revision.release is not None:
                continue
            if revision.collateral:
                self._collateral(revision.key)
                continue
            for output in self._outputs:
                output.revise(revision.key[1], revision.order)
            result = self._ordered.get(revision.key)
            if result is not None:
                self._ordered[revision.key] = moved = replace(result, order=revision.order)
                if revision.missed:
                    self._tell(moved)

    def news(self, news: GateNews) -> None:
        """Tell what the bridge's own gate process did; orders that it missed come as revisions."""
        self._condition.gate_news(news)
        if news.event == "stuck":
            parts = ", ".join(str(sequence) for _epoch, sequence in news.keys)
            self._condition.raise_alarm("GATE_STUCK_ON", f"for sequence {parts}")
        for key in news.keys if news.event == "fired" else ():
            self._unfired.pop(key, None)
            if (result := self._ordered.get(key)) is not None:
                self._happened("fired", key, result, news.error_ms)

    def forget(self, key: PartKey) -> None:
        """Drop a part that is past the gate; the bin may still have to confirm it."""
        self._ordered.pop(key, None)
        self._unfired.pop(key, None)
        self._confirmations.passed(key, self._clock.now_ns())

    def counted(self, fired: int, confirmed: int, at_ns: int | None = None) -> None:
        """Tell of the gate's operations and of the parts in the bin that the PLC has newly counted, as it wrote at `at_ns`.

        It counts and does not name: the oldest order whose on-command has come is the one that was fired. Orders that
        merged share one operation; the later ones are not told.
        """
        soon_ns = self._clock.now_ns() + FIRED_EARLY_NS
        for key in list(self._unfired)[:fired]:
            result = self._ordered[key]
            if result.order.due_ns is not None and result.order.due_ns <= soon_ns:
                del self._unfired[key]
                self._happened("fired", key, result)
        for seen in self._confirmations.confirmed(confirmed, at_ns or self._clock.now_ns()):
            self._seen_in_bin(seen)

    def excuse(self, reason: str) -> None:
        """Take why the PLC may reject what is now on the belt, whatever it was told."""
        self._confirmations.excuse(reason)

    def watch(self) -> None:
        """Alarm the rejects that nobody saw in the bin, and a challenge test that is due."""
        self._challenges.watch()
        now_ns = self._clock.now_ns()
        if self._condition.heartbeat.still_ms(now_ns) > STILL_MS:
            self.excuse("the bridge's heartbeat stood still: the PLC rejects everything")
        for key in self._confirmations.overdue(now_ns):
            part = self._unconfirmed.pop(key).part
            self._challenges.failed(key, "it was not seen in the reject bin")
            if not self._confirmations.in_use:
                continue
            self._condition.raise_alarm("REJECT_NOT_CONFIRMED", f"{part.part_id} was not seen in the reject bin")
            self._note("not confirmed", key, None)

    def rest_s(self, limit_s: float) -> float:
        """Give how long to wait before the next `watch`, at most `limit_s`."""
        now_ns = self._clock.now_ns()
        next_ns = self._confirmations.next_ns(now_ns)
        return limit_s if next_ns is None else min(limit_s, max(SHORTEST_S, (next_ns - now_ns) / 1e9))

    def _let_pass(self, result: Result) -> None:
        """Expect a part to pass the bin, unless the PLC may not have learnt of it in time."""
        late = result.deadline_ns is not None and self._clock.now_ns() > result.deadline_ns
        excuse = "its LET_PASS was published after its deadline" if late else ""
        self._confirmations.let_pass((result.part.epoch, result.part.sequence), excuse=excuse)

    def _seen_in_bin(self, seen: Seen) -> None:
        """Tell of one part in the bin."""
        if seen.key is None:
            self._log.info("bin_count_of_no_known_part")
        elif seen.kind == "confirmed":
            self._happened("confirmed", seen.key, self._unconfirmed.pop(seen.key))
            self._challenges.confirmed(seen.key)
        elif seen.kind == "in bin":
            self._condition.raise_alarm(
                "PASS_IN_BIN", f"sequence {seen.key[1]} was let pass and seen in the reject bin"
            )
            self._note("passed part in bin", seen.key, None)
        else:
            self._note("seen in bin", seen.key, seen.text or None)

    def _happened(self, event: GateEvent, key: PartKey, result: Result, error_ms: float | None = None) -> None:
        for output in self._outputs:
            output.gate_report(event, result, result.order, None, error_ms)
        self._note(event, key, None)

    def _tell(self, result: Result, swept: Sequence[PartKey] = ()) -> None:
        order, part = result.order, result.part
        key = (part.epoch, part.sequence)
        event: GateEvent = "missed" if order.state == "missed" else "ordered"
        reason = "sweeps sequence " + ", ".join(str(sequence) for _epoch, sequence in swept) if swept else order.reason
        for output in self._outputs:
            output.gate_report(event, result, order, reason)
        self._note(event, key, reason)
        if event == "ordered":
            self._ordered[key] = result
            self._unfired[key] = None
            self._unconfirmed[key] = result
            self._confirmations.ordered(key)
            self._condition.ordered()
        else:
            self._ordered.pop(key, None)
            self._unfired.pop(key, None)
            self._unconfirmed.pop(key, None)
            self._confirmations.given_up(key)
            self._challenges.failed(key, f"its gate order was missed: {order.reason}")
            self._condition.count("gate_missed")
            self._condition.raise_alarm("ORDER_MISSED", f"{part.part_id}: {order.reason}")

    def _collateral(self, key: PartKey) -> None:
        self._confirmations.excuse("collateral", key)
        self._condition.count("collateral")
        self._condition.raise_alarm("COLLATERAL", f"the part with sequence {key[1]} was to pass and is swept")
        self._note("collateral", key, None)
