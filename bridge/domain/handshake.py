"""The two handshakes with a PLC, as tables: how it raises a trigger, and how it acknowledges a result.

Rules of the trigger
- An edge is a change of the Trigger bit that this side has seen both sides of: 0, then 1.
- With Ready = 1 the edge takes the trigger and TriggerAck rises; it falls when the PLC drops Trigger.
- With Ready = 0 the edge sets MissedTrigger, until ClearError, without TriggerAck; the part still gets ERROR.
- After the link was lost a Trigger that is already 1 is no edge: when it rose is not known, so no gate may be timed by it.

Rules of the acknowledgement
- ResultValid up, ResultAck up, ResultValid down, ResultAck down, then the next result.
- Up to `QUEUE_LIMIT` results wait; beyond that Overrun, until ClearError, and the oldest waiting one is dropped from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Generic, TypeVar

QUEUE_LIMIT = 16

T = TypeVar("T")


class TriggerState(StrEnum):
    """What is known of the PLC's Trigger bit."""

    LOW = "low"
    TAKEN = "taken"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    STANDING = "standing"


class TriggerEvent(StrEnum):
    """What happens to the trigger's handshake: the bit as written, with this side's Ready, or a lost link."""

    HIGH_READY = "high, ready"
    HIGH_NOT_READY = "high, not ready"
    FALL = "low"
    LINK_LOST = "link lost"


class TriggerAction(StrEnum):
    """What the station is to do with the part."""

    NOTHING = "nothing"
    TAKE = "take"
    REFUSE = "refuse"


_S, _E, _A = TriggerState, TriggerEvent, TriggerAction

TRIGGER_TABLE: Mapping[tuple[TriggerState, TriggerEvent], tuple[TriggerState, TriggerAction]] = MappingProxyType(
    {
        (_S.LOW, _E.HIGH_READY): (_S.TAKEN, _A.TAKE),
        (_S.LOW, _E.HIGH_NOT_READY): (_S.REFUSED, _A.REFUSE),
        (_S.LOW, _E.FALL): (_S.LOW, _A.NOTHING),
        (_S.LOW, _E.LINK_LOST): (_S.UNKNOWN, _A.NOTHING),
        (_S.TAKEN, _E.HIGH_READY): (_S.TAKEN, _A.NOTHING),
        (_S.TAKEN, _E.HIGH_NOT_READY): (_S.TAKEN, _A.NOTHING),
        (_S.TAKEN, _E.FALL): (_S.LOW, _A.NOTHING),
        (_S.TAKEN, _E.LINK_LOST): (_S.TAKEN, _A.NOTHING),
        (_S.REFUSED, _E.HIGH_READY): (_S.REFUSED, _A.NOTHING),
        (_S.REFUSED, _E.HIGH_NOT_READY): (_S.REFUSED, _A.NOTHING),
        (_S.REFUSED, _E.FALL): (_S.LOW, _A.NOTHING),
        (_S.REFUSED, _E.LINK_LOST): (_S.REFUSED, _A.NOTHING),
        (_S.UNKNOWN, _E.HIGH_READY): (_S.STANDING, _A.NOTHING),
        (_S.UNKNOWN, _E.HIGH_NOT_READY): (_S.STANDING, _A.NOTHING),
        (_S.UNKNOWN, _E.FALL): (_S.LOW, _A.NOTHING),
        (_S.UNKNOWN, _E.LINK_LOST): (_S.UNKNOWN, _A.NOTHING),
        (_S.STANDING, _E.HIGH_READY): (_S.STANDING, _A.NOTHING),
        (_S.STANDING, _E.HIGH_NOT_READY): (_S.STANDING, _A.NOTHING),
        (_S.STANDING, _E.FALL): (_S.LOW, _A.NOTHING),
        (_S.STANDING, _E.LINK_LOST): (_S.UNKNOWN, _A.NOTHING),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerHandshake:
    """One PLC link's trigger handshake. Give `state=UNKNOWN` to a link whose Trigger bit was never seen."""

    state: TriggerState = TriggerState.LOW
    missed: bool = False

    @property
    def ack(self) -> bool:
        """The TriggerAck bit."""
        return self.state is TriggerState.TAKEN

    def advance(self, event: TriggerEvent) -> tuple[TriggerHandshake, TriggerAction]:
        """Give the handshake after `event`, and what becomes of the part."""
        state, action = TRIGGER_TABLE[self.state, event]
        missed = self.missed or action is TriggerAction.REFUSE
        return TriggerHandshake(state=state, missed=missed), action

    def cleared(self) -> TriggerHandshake:
        """Give the handshake after ClearError."""
        return replace(self, missed=False)


class ResultState(StrEnum):
    """Where the acknowledgement of results stands."""

    EMPTY = "empty"
    OFFERED = "offered"
    ACKNOWLEDGED = "acknowledged"


class ResultEvent(StrEnum):
    """What happens to the acknowledgement of results."""

    RESULT = "result"
    ACK_UP = "ack up"
    ACK_DOWN = "ack down"


class ResultAction(StrEnum):
    """What is to be done with a result."""

    NOTHING = "nothing"
    SHOW = "show"
    QUEUE = "queue"
    NEXT = "next"


_R, _V, _D = ResultState, ResultEvent, ResultAction

RESULT_TABLE: Mapping[tuple[ResultState, ResultEvent], tuple[ResultState, ResultAction]] = MappingProxyType(
    {
        (_R.EMPTY, _V.RESULT): (_R.OFFERED, _D.SHOW),
        (_R.EMPTY, _V.ACK_UP): (_R.EMPTY, _D.NOTHING),
        (_R.EMPTY, _V.ACK_DOWN): (_R.EMPTY, _D.NOTHING),
        (_R.OFFERED, _V.RESULT): (_R.OFFERED, _D.QUEUE),
        (_R.OFFERED, _V.ACK_UP): (_R.ACKNOWLEDGED, _D.NOTHING),
        (_R.OFFERED, _V.ACK_DOWN): (_R.OFFERED, _D.NOTHING),
        (_R.ACKNOWLEDGED, _V.RESULT): (_R.ACKNOWLEDGED, _D.QUEUE),
        (_R.ACKNOWLEDGED, _V.ACK_UP): (_R.ACKNOWLEDGED, _D.NOTHING),
        (_R.ACKNOWLEDGED, _V.ACK_DOWN): (_R.EMPTY, _D.NEXT),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultHandshake(Generic[T]):
    """Results on their way past a PLC that acknowledges each one. `shown` stays after its acknowledgement."""

    state: ResultState = ResultState.EMPTY
    shown: T | None = None
    waiting: tuple[T, ...] = ()
    overrun: bool = False

    @property
    def valid(self) -> bool:
        """The ResultValid bit."""
        return self.state is ResultState.OFFERED

    def offer(self, result: T) -> ResultHandshake[T]:
        """Show `result`, or let it wait behind the one that stands."""
        state, action = RESULT_TABLE[self.state, ResultEvent.RESULT]
        if action is ResultAction.SHOW:
            return replace(self, state=state, shown=result)
        waiting = (*self.waiting, result)
        return replace(
            self,
            state=state,
            waiting=waiting[-QUEUE_LIMIT:],
            overrun=self.overrun or len(waiting) > QUEUE_LIMIT,
        )

    def acknowledge(self, *, up: bool) -> ResultHandshake[T]:
        """Follow the ResultAck bit; on its fall the next waiting result is offered."""
        state, action = RESULT_TABLE[self.state, ResultEvent.ACK_UP if up else ResultEvent.ACK_DOWN]
        moved = replace(self, state=state)
        if action is ResultAction.NEXT and moved.waiting:
            return replace(moved, waiting=moved.waiting[1:]).offer_next(moved.waiting[0])
        return moved

    def offer_next(self, result: T) -> ResultHandshake[T]:
        """Offer a result that waited, now that nothing stands."""
        state, _ = RESULT_TABLE[ResultState.EMPTY, ResultEvent.RESULT]
        return replace(self, state=state, shown=result)

    def cleared(self) -> ResultHandshake[T]:
        """Give the handshake after ClearError."""
        return replace(self, overrun=False)
