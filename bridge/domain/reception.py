"""Admission of a trigger: whether it is new, when its part met the beam, and whether it can be judged at all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from bridge.domain.belt import Belt, Placement
from bridge.domain.clock_filter import ClockFilter
from bridge.domain.part import Part, Trigger
from bridge.domain.recipe import Recipe
from bridge.domain.sequence import Acceptance, SequenceLedger
from bridge.domain.verdict import Judgement, VerdictCode

MAX_AHEAD_NS = 50_000_000
"""A source's stamp may lie this far ahead and still count as now (contract of the trigger clock)."""
NO_STAMP = 'the trigger has no ts, by which trigger_clock = "filtered" places it'
NOWHERE = Placement(x0_mm=None, count_at_trigger=None)

TriggerClock = Literal["arrival", "source", "filtered"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceptionRules:
    """How a station places triggers in time and on the belt. `transport_ms` is taken off every arrival.

    What is measured longer than a part by more than `touching_tolerance_mm` is two parts that touch; 0 = off.
    """

    line: str
    station: str
    trigger_clock: TriggerClock
    transport_ms: float
    part_length_mm: float
    touching_tolerance_mm: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What stands against judging a part just now; `reason` is empty when nothing does."""

    recipe: Recipe
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The answer to one trigger. `part` is None for a duplicate; `at_once` is a verdict that needs no inference.

    `touching` says how two parts that touch were noticed; empty where there is one.
    """

    acceptance: Acceptance
    part: Part | None
    at_once: Judgement | None = None
    clock_ahead: bool = False
    touching: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moment:
    """When a part's front edge met the beam, monotonic; `doubt` is why that can't be relied on."""

    at_ns: int
    ahead: bool = False
    doubt: str = ""


class Reception:
    """Admit triggers in their order of arrival."""

    def __init__(self, *, rules: ReceptionRules, ledger: SequenceLedger, belt: Belt) -> None:
        self._rules = rules
        self._ledger = ledger
        self._belt = belt
        self._clock = ClockFilter()

    @property
    def clock_doubt(self) -> str:
        """Why the source's clock can't be relied on by now; empty when it can, or when nothing depends on it."""
        return self._clock.doubt if self._rules.trigger_clock == "filtered" else ""

    @property
    def clock_steps(self) -> int:
        """How often the source's clock was found to have been set, or the source restarted."""
        return self._clock.steps

    def admit(self, trigger: Trigger, conditions: Conditions, *, now_ns: int, now_utc_ns: int) -> Admission:
        """Give the part of a new trigger, or tell that it is a duplicate."""
        acceptance = self._ledger.accept(trigger.sequence, trigger.part_id, trigger.ts)
        if not acceptance.accepted:
            return Admission(acceptance=acceptance, part=None)
        moment = self._moment(trigger, acceptance, now_ns=now_ns, now_utc_ns=now_utc_ns)
        lost = trigger.held_back and self._placed_by_arrival(trigger)
        # Where the belt stood when a backlog's part passed is unknown, and nothing old is placed for a gate.
        place, measured_mm = NOWHERE, None
        if not (trigger.backlog or lost):
            counts = trigger.encoder_counts
            place = self._belt.place(triggered_ns=moment.at_ns, latched_count=counts, now_ns=now_ns)
            latched = counts is not None and self._belt.settings.speed_source == "encoder" and not place.latch_ignored
            if moment.doubt and latched:
                moment = replace(moment, doubt="")
            elif moment.doubt:
                place = NOWHERE
            # The trigger leaves after the rear edge: only a latched count says when the front edge was there.
            front_ns = self._belt.moment_ns(place.x0_mm, moment.at_ns) if latched and place.x0_mm is not None else None
            measured_mm = self._measured_mm(trigger, moment.at_ns if front_ns is None else front_ns)
        triggered_ns, touching = moment.at_ns, self._touching(measured_mm)
        part = Part(
            line=self._rules.line,
            station=self._rules.station,
            trigger=trigger,
            epoch=acceptance.epoch,
            triggered_ns=triggered_ns,
            triggered_utc_ns=now_utc_ns - (now_ns - triggered_ns),
            length_mm=self._length_mm(trigger, measured_mm),
            recipe=conditions.recipe,
            x0_mm=place.x0_mm,
            count_at_trigger=place.count_at_trigger,
        )
        return Admission(
            acceptance=acceptance,
            part=part,
            at_once=_at_once(trigger, conditions, moment, lost=lost, touching=touching),
            clock_ahead=moment.ahead,
            touching=touching,
        )

    def _measured_mm(self, trigger: Trigger, front_ns: int) -> float | None:
        """Give the length at the photo-eye: as told, else how far the belt ran while the beam was held."""
        if trigger.length_mm is not None or trigger.eye_on_ms is None:
            return trigger.length_mm
        front_mm = self._belt.position_mm(front_ns)
        rear_mm = self._belt.position_mm(front_ns + round(trigger.eye_on_ms * 1e6))
        return None if front_mm is None or rear_mm is None else rear_mm - front_mm

    def _length_mm(self, trigger: Trigger, measured_mm: float | None) -> float:
        """Give the length that the gate must cover; a flicker of the eye never makes a part shorter than it is."""
        if trigger.length_mm is not None:
            return trigger.length_mm
        return max(self._rules.part_length_mm, measured_mm or 0.0)

    def _touching(self, measured_mm: float | None) -> str:
        part_mm, tolerance_mm = self._rules.part_length_mm, self._rules.touching_tolerance_mm
        if not tolerance_mm or measured_mm is None or measured_mm <= part_mm + tolerance_mm:
            return ""
        return f"parts touch: {measured_mm:.0f} mm at the photo-eye, a part is {part_mm:.0f} mm"

    def _placed_by_arrival(self, trigger: Trigger) -> bool:
        """Give whether nothing but the moment of arrival says where the part is."""
        by_source = self._rules.trigger_clock != "arrival" and trigger.source_utc_ns is not None
        return trigger.encoder_counts is None and trigger.age_ms is None and not by_source

    def _moment(self, trigger: Trigger, acceptance: Acceptance, *, now_ns: int, now_utc_ns: int) -> _Moment:
        """Give the monotonic moment at which the front edge met the beam, as far as it is known."""
        if trigger.age_ms is not None:
            return _Moment(at_ns=trigger.arrived_ns - round(trigger.age_ms * 1e6))
        if self._rules.trigger_clock == "source" and trigger.source_utc_ns is not None:
            # a stamp before 1970 counts as 1970: it is LATE all the same, and outputs can write it
            age_ns = now_utc_ns - max(0, trigger.source_utc_ns)
            return _Moment(at_ns=now_ns - max(0, age_ns), ahead=age_ns < -MAX_AHEAD_NS)
        transport_ns = round(self._rules.transport_ms * 1e6)
        arrival = _Moment(at_ns=trigger.arrived_ns - transport_ns)
        if self._rules.trigger_clock != "filtered" or trigger.source != "mqtt" or trigger.backlog:
            return arrival
        if trigger.source_utc_ns is None:
            return replace(arrival, doubt=NO_STAMP)
        if acceptance.kind == "restarted":
            self._clock.forget()
        in_order = acceptance.kind != "out_of_order"
        stamped_ns = self._clock.place(trigger.source_utc_ns, trigger.arrived_ns, in_order=in_order)
        if stamped_ns is None:
            return replace(arrival, doubt=self._clock.doubt)
        return _Moment(at_ns=stamped_ns - transport_ns)


def _at_once(
    trigger: Trigger, conditions: Conditions, moment: _Moment, *, lost: bool, touching: str
) -> Judgement | None:
    """Give the verdict of a part that can't be judged, None for one that can."""
    if trigger.backlog:
        return Judgement(
            code=VerdictCode.LATE, reason="backlog: the trigger waited at the broker while the bridge was away"
        )
    if trigger.problem is not None:
        reason = "; ".join(filter(None, (trigger.problem, conditions.reason)))
        return Judgement(code=VerdictCode.ERROR, reason=reason, withheld=bool(conditions.reason))
    if lost:
        return Judgement(
            code=VerdictCode.LATE, reason="held back: the trigger waited at the broker, too many were open"
        )
    if moment.ahead:
        return Judgement(code=VerdictCode.ERROR, reason="clock: the trigger's ts lies more than 50 ms ahead")
    if moment.doubt:
        return Judgement(code=VerdictCode.ERROR, reason=f"clock: {moment.doubt}")
    if trigger.recipe is not None and trigger.recipe not in (conditions.recipe.name, conditions.recipe.reference):
        reason = f"recipe mismatch: the trigger names {trigger.recipe!r}, active is {conditions.recipe.name!r}"
        return Judgement(code=VerdictCode.ERROR, reason=reason[:200])
    if conditions.reason:
        return Judgement(code=VerdictCode.ERROR, reason=conditions.reason, withheld=True)
    if touching:
        return Judgement(code=VerdictCode.ERROR, reason=touching)
    return None
