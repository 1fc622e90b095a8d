"""The two state machines of OPC 40100-1 (machine vision), as one table, and how a station's real state walks them.

Rules
- The top machine shows what the station is: starting is Preoperational, switched off or stopping Halted, a fault or a
  station that hangs Error, everything else Operational.
- Within Operational a station that can't take a trigger as its PLC's handshake would (Ready = 0) is Initialized.
- One that can takes the line's triggers by itself: ContinuousExecution. Stop, Abort and StartSingleJob make it wait in
  Ready, with a SingleExecution for each part that comes, whoever triggers it; StartContinuous ends that.
- No state keeps a part from being judged: only the station's own condition does, and the machines follow it.
- A change that no client's method caused goes through the table's automatic transitions, one after the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from types import MappingProxyType

from bridge.domain.status import StationState


class VisionState(IntEnum):
    """States of both machines by the specification's StateNumber; from 5 on they are those of the automatic mode."""

    PREOPERATIONAL = 1
    HALTED = 2
    ERROR = 3
    OPERATIONAL = 4
    INITIALIZED = 5
    READY = 6
    SINGLE_EXECUTION = 7
    CONTINUOUS_EXECUTION = 8

    @property
    def browse_name(self) -> str:
        """The state's name as the specification writes it."""
        return "".join(word.capitalize() for word in self.name.split("_"))


@dataclass(frozen=True, slots=True)
class Transition:
    """One permitted change: its TransitionNumber, and the method that causes it; empty for an automatic one.

    `name` is the specification's browse name.
    """

    number: int
    name: str
    before: VisionState
    after: VisionState
    cause: str = ""

    @property
    def automatic_mode(self) -> bool:
        """Whether it is one of the automatic mode's machine."""
        return self.before >= VisionState.INITIALIZED


_S = VisionState


def _t(number: int, before: VisionState, after: VisionState, cause: str = "", ending: str = "") -> Transition:
    name = f"{before.browse_name}To{after.browse_name}{ending or ('' if cause else 'Auto')}"
    return Transition(number, name, before, after, cause)


TRANSITIONS: tuple[Transition, ...] = (
    _t(120, _S.PREOPERATIONAL, _S.HALTED),
    _t(121, _S.PREOPERATIONAL, _S.HALTED, "Halt"),
    _t(130, _S.PREOPERATIONAL, _S.ERROR),
    _t(140, _S.PREOPERATIONAL, _S.OPERATIONAL),
    _t(141, _S.PREOPERATIONAL, _S.OPERATIONAL, "SelectModeAutomatic"),
    _t(210, _S.HALTED, _S.PREOPERATIONAL),
    _t(211, _S.HALTED, _S.PREOPERATIONAL, "Reset"),
    _t(310, _S.ERROR, _S.PREOPERATIONAL),
    _t(311, _S.ERROR, _S.PREOPERATIONAL, "Reset"),
    _t(320, _S.ERROR, _S.HALTED),
    _t(321, _S.ERROR, _S.HALTED, "Halt"),
    _t(340, _S.ERROR, _S.OPERATIONAL),
    _t(410, _S.OPERATIONAL, _S.PREOPERATIONAL),
    _t(411, _S.OPERATIONAL, _S.PREOPERATIONAL, "Reset"),
    _t(420, _S.OPERATIONAL, _S.HALTED),
    _t(421, _S.OPERATIONAL, _S.HALTED, "Halt"),
    _t(430, _S.OPERATIONAL, _S.ERROR),
    _t(560, _S.INITIALIZED, _S.READY),
    _t(561, _S.INITIALIZED, _S.READY, "PrepareRecipe", "Recipe"),
    _t(650, _S.READY, _S.INITIALIZED),
    _t(670, _S.READY, _S.SINGLE_EXECUTION),
    _t(671, _S.READY, _S.SINGLE_EXECUTION, "StartSingleJob"),
    _t(680, _S.READY, _S.CONTINUOUS_EXECUTION),
    _t(681, _S.READY, _S.CONTINUOUS_EXECUTION, "StartContinuous"),
    _t(760, _S.SINGLE_EXECUTION, _S.READY),
    _t(761, _S.SINGLE_EXECUTION, _S.READY, "Stop", "Stop"),
    _t(762, _S.SINGLE_EXECUTION, _S.READY, "Abort", "Abort"),
    _t(860, _S.CONTINUOUS_EXECUTION, _S.READY),
    _t(861, _S.CONTINUOUS_EXECUTION, _S.READY, "Stop", "Stop"),
    _t(862, _S.CONTINUOUS_EXECUTION, _S.READY, "Abort", "Abort"),
)
"""What of the specification's table a station does; the rest (products, unprepared recipes, step models) it never does."""

_BY_CAUSE: Mapping[tuple[VisionState, str], Transition] = MappingProxyType(
    {(each.before, each.cause): each for each in TRANSITIONS if each.cause}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a station shows of itself: `executing` says that a part of a single execution is under way."""

    state: StationState
    enabled: bool
    ready: bool
    stale: bool = False
    executing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionMachine:
    """Where both machines stand. `automatic` is None outside of Operational; `single` says that it waits in Ready."""

    state: VisionState = VisionState.PREOPERATIONAL
    automatic: VisionState | None = None
    single: bool = False

    def follow(self, seen: Seen, *, cause: str = "") -> tuple[VisionMachine, tuple[Transition, ...]]:
        """Go where the station is; gives the transitions in between, those of method `cause` before automatic ones."""
        taken = _path(self.state, _top(seen), cause)
        machine = self
        for each in taken:
            machine = machine._after(each)
        if machine.automatic is None:
            return machine, taken
        more = _path(machine.automatic, machine._wanted(seen), cause)
        for each in more:
            machine = machine._after(each)
        return machine, taken + more

    def call(self, method: str) -> tuple[VisionMachine, Transition] | None:
        """Take the transition that a client's method causes just now; None where the table has none."""
        for state in (self.state, self.automatic):
            if state is not None and (found := _BY_CAUSE.get((state, method))):
                return self._after(found), found
        return None

    def allows(self, method: str) -> bool:
        """Whether the table has a transition that a client's method causes just now."""
        return self.call(method) is not None

    def _wanted(self, seen: Seen) -> VisionState:
        if not seen.ready:
            return VisionState.INITIALIZED
        if not self.single:
            return VisionState.CONTINUOUS_EXECUTION
        return VisionState.SINGLE_EXECUTION if seen.executing else VisionState.READY

    def _after(self, taken: Transition) -> VisionMachine:
        if taken.automatic_mode:
            single = taken.cause != "StartContinuous" if taken.cause in _CHOOSING else self.single
            return replace(self, automatic=taken.after, single=single)
        # Entering Operational starts the automatic mode at its first state, and anew with the line's own triggers.
        operational = taken.after is VisionState.OPERATIONAL
        return VisionMachine(state=taken.after, automatic=VisionState.INITIALIZED if operational else None)


_CHOOSING = frozenset({"StartSingleJob", "StartContinuous", "Stop", "Abort"})
_TOP: Mapping[StationState, VisionState] = MappingProxyType(
    {
        StationState.STARTING: VisionState.PREOPERATIONAL,
        StationState.FAULT: VisionState.ERROR,
        StationState.STOPPING: VisionState.HALTED,
    }
)


def _top(seen: Seen) -> VisionState:
    """Give the top machine's state: switched off outranks a fault, for a client's Halt must be seen."""
    if not seen.enabled or seen.state is StationState.STOPPING:
        return VisionState.HALTED
    if seen.stale:
        return VisionState.ERROR
    return _TOP.get(seen.state, VisionState.OPERATIONAL)


def _path(before: VisionState, after: VisionState, cause: str) -> tuple[Transition, ...]:
    """Give the shortest way from state to state by automatic transitions and those of `cause`."""
    if before is after:
        return ()
    usable = sorted((each for each in TRANSITIONS if each.cause in ("", cause)), key=lambda each: each.cause == "")
    ways: deque[tuple[Transition, ...]] = deque([()])
    reached = {before}
    while ways:
        way = ways.popleft()
        here = way[-1].after if way else before
        if here is after:
            return way
        for each in usable:
            if each.before is here and each.after not in reached:
                reached.add(each.after)
                ways.append((*way, each))
    return ()
