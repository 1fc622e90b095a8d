"""What became of each gate order: told to the outputs, noted in the journal, counted and alarmed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bridge.domain.belt import NS_PER_MS
from bridge.domain.condition import Condition
from bridge.domain.confirmation import Confirmations
from bridge.domain.gate_plan import Revision
from bridge.domain.gate_track import PartKey
from bridge.domain.messages import GateNews
from bridge.domain.part import Result
from bridge.ports import Clock, GateEvent, GateOutput, Journal, VerdictOutput

FIRED_EARLY_NS = 50 * NS_PER_MS  # the bridge's idea of the on-command, by samples, against the PLC's own


class GateReports:
    """Report the orders of one station; a report, nothing actuates from it."""

    def __init__(
        self,
        *,
        line: str,
        station: str,
        condition: Condition,
        journal: Journal,
        outputs: Sequence[VerdictOutput],
        clock: Clock,
        gate: GateOutput | None = None,
    ) -> None:
        self._line = line
        self._station = station
        self._condition = condition
        self._journal = journal
        self._outputs = outputs
        self._clock = clock
        self._gate = gate
        self._ordered: dict[PartKey, Result] = {}
        self._unfired: dict[PartKey, None] = {}
        self._unconfirmed: dict[PartKey, Result] = {}
        self._confirmations = Confirmations()

    def decided(self, result: Result, swept: Sequence[PartKey]) -> None:
        """Tell of a new order, and of the parts let pass that it sweeps or that are swept."""
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

    def counted(self, fired: int, confirmed: int) -> None:
        """Tell of the gate's operations and of the parts in the bin that the PLC has newly counted.

        It counts and does not name: the oldest order whose on-command has come is the one that was fired. Orders that
        merged share one operation; the later ones are not told.
        """
        soon_ns = self._clock.now_ns() + FIRED_EARLY_NS
        for key in list(self._unfired)[:fired]:
            result = self._ordered[key]
            if result.order.due_ns is not None and result.order.due_ns <= soon_ns:
                del self._unfired[key]
                self._happened("fired", key, result)
        for key in self._confirmations.confirmed(confirmed):
            self._happened("confirmed", key, self._unconfirmed.pop(key))

    def watch(self) -> None:
        """Alarm the rejects that nobody saw in the bin."""
        for key in self._confirmations.overdue(self._clock.now_ns()):
            part = self._unconfirmed.pop(key).part
            if not self._confirmations.in_use:
                continue
            self._condition.raise_alarm("REJECT_NOT_CONFIRMED", f"{part.part_id} was not seen in the reject bin")
            self._note("not confirmed", key, None)

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
            self._condition.count("gate_missed")
            self._condition.raise_alarm("ORDER_MISSED", f"{part.part_id}: {order.reason}")

    def _collateral(self, key: PartKey) -> None:
        self._condition.count("collateral")
        self._condition.raise_alarm("COLLATERAL", f"the part with sequence {key[1]} was to pass and is swept")
        self._note("collateral", key, None)

    def _note(self, event: str, key: PartKey, reason: str | None) -> None:
        self._journal.gate_event(
            line=self._line,
            station=self._station,
            epoch=key[0],
            sequence=key[1],
            event=event,
            reason=reason,
            at_utc_ns=self._clock.utc_ns(),
        )
