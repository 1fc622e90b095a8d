"""One station as OPC 40100-1 sees it: its state machines, jobs and results, followed from what the PLC panel shows.

Nothing in it waits or knows of OPC UA: it turns views and methods into happenings, which become events and states.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from bridge.domain.status import StationStatus
from bridge.domain.vision_states import Seen, Transition, VisionMachine, VisionState
from bridge.outputs.plc.view import U32, PlcView
from bridge.outputs.vision.results import Job, RecipeIdentity, ResultStore, VisionResult, vision_result

_EXECUTING = (VisionState.SINGLE_EXECUTION, VisionState.CONTINUOUS_EXECUTION)
_RESOLVED = 340
ASSIGNED = 64
AHEAD = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A state machine took a transition."""

    transition: Transition


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStarted:
    """An execution began."""

    job: Job


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnded:
    """The automatic mode is ready again after an execution."""

    job: Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquired:
    """A part's picture was taken, its exposure at that moment; the verdict comes later."""

    job: Job
    at_utc_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultReady:
    """A verdict stands."""

    result: VisionResult


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipePrepared:
    """Another recipe is active, its model warm and checked."""

    recipe: RecipeIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The station went into a fault, `text` says why."""

    transition: Transition
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """The station's fault is over."""

    transition: Transition


Happening = Moved | JobStarted | JobEnded | Acquired | ResultReady | RecipePrepared | Failed | Recovered


class VisionStation:
    """Follow one station. `intent` is the method of a client that the next changes are owed to, empty without one."""

    def __init__(self, *, new_id: Callable[[], str]) -> None:
        self.machine = VisionMachine()
        self.results = ResultStore()
        self.intent = ""
        self.view = PlcView()
        self._new_id = new_id
        self._current: Job | None = None
        self._last = Job(job_id=new_id())
        self._next: Job | None = None
        self._assigned: OrderedDict[int, Job] = OrderedDict()
        self._issued: set[int] = set()
        self._issued_last: int | None = None
        self._awaited: set[int] = set()
        self._leftover = 0

    @property
    def recipe(self) -> RecipeIdentity:
        """The recipe that judges."""
        return _recipe_of(self.view.status)

    def see(self, view: PlcView) -> list[Happening]:
        """Take a new view; gives what happened since the one before, in its order."""
        before, self.view = self.view, view
        happened: list[Happening] = []
        recipe = _recipe_of(view.status)
        if view.status.recipe_ok and recipe.name and recipe != _recipe_of(before.status):
            happened.append(RecipePrepared(recipe=recipe))
        self._take_triggers(before.status, view.status)
        is_new = view.newest is not None and view.written != before.written
        leftover = is_new and self._leftover > 0
        if is_new and view.newest is not None:
            self._expect(view.newest.result.part.sequence)
        happened += self._follow()
        if happened and isinstance(happened[0], RecipePrepared) and self.intent == "PrepareRecipe":
            self.intent = ""
        if is_new and view.newest is not None:
            sequence = view.newest.result.part.sequence
            job = self._last if leftover else self._assigned.pop(sequence, self._current or self._last)
            self._leftover -= leftover
            result = vision_result(view.newest, job)
            self.results.keep(result)
            happened.append(ResultReady(result=result))
            self._awaited.discard(sequence)
            self._issued.discard(sequence)
            happened += self._follow()
        return happened

    def captured(self, sequence: int, at_utc_ns: int) -> list[Happening]:
        """Take that a part's picture was taken; gives what happened, the begin of its job first."""
        leftover = self._leftover > 0  # parts are taken in order, so this is one of them
        self._expect(sequence)
        happened = self._follow()
        if self.machine.single and self._current is not None and not leftover:
            self._assign(sequence, self._current)
        job = self._last if leftover else self._assigned.get(sequence, self._current or self._last)
        return [*happened, Acquired(job=job, at_utc_ns=at_utc_ns)]

    def call(self, method: str, job: Job | None = None, *, sequence: int | None = None) -> list[Happening]:
        """Take the transition of a client's method; the caller has seen that it is allowed.

        `job` is what StartSingleJob and StartContinuous begin, `sequence` the trigger that goes with a single job.
        """
        called = self.machine.call(method)
        if called is None:
            return []
        self._next = job
        if method in ("Stop", "Abort"):
            # what is under way keeps the job in which it was triggered, for it still gets its verdict
            continuous = self.machine.automatic is VisionState.CONTINUOUS_EXECUTION
            self._leftover = self.view.status.counters.in_flight if continuous else 0
            self._issued.clear()
            self._awaited.clear()
        if sequence is not None and job is not None:
            self._issued.add(sequence)
            self._issued_last = sequence
            self._assign(sequence, job)
        self.machine, transition = called
        return self._moved(transition) + self._follow()

    def next_sequence(self, newest_known: int | None) -> int:
        """Give the sequence of the next trigger where a client names none; `newest_known` is an earlier run's last.

        A trigger of ours, or a result, may be a little ahead of what the station has shown as accepted.
        """
        shown = self.view.newest
        last = self.view.accepted_sequence if self.view.status.counters.triggers else newest_known
        for ahead in (shown.result.part.sequence if shown else None, self._issued_last):
            if ahead is not None and (last is None or 0 < (ahead - last) & U32 <= AHEAD):
                last = ahead
        return 1 if last is None else (last + 1) & U32

    def _take_triggers(self, before: StationStatus, now: StationStatus) -> None:
        """Learn which triggers of a single execution are under way, and which will never have a result here."""
        if self.machine.single and now.counters.triggers > before.counters.triggers:
            self._issued.discard(now.last_sequence)
            self._awaited.add(now.last_sequence)
            if self._current is not None:
                self._assign(now.last_sequence, self._current)
        if now.counters.duplicate_triggers > before.counters.duplicate_triggers:
            self._issued.clear()
        if now.counters.in_flight == 0 and before.counters.in_flight > 0:
            self._awaited.clear()
            self._leftover = 0

    def _expect(self, sequence: int) -> None:
        """Wait for the result of a part that was photographed, or judged, before its acceptance was shown."""
        if self.machine.single and not (self._leftover > 0 or self._issued or self._awaited):
            self._awaited.add(sequence)

    def _assign(self, sequence: int, job: Job) -> None:
        self._assigned.setdefault(sequence, job)
        if len(self._assigned) > ASSIGNED:
            self._assigned.popitem(last=False)

    def _follow(self) -> list[Happening]:
        status = self.view.status
        seen = Seen(
            state=status.state,
            enabled=status.enabled,
            ready=status.ready,
            stale=self.view.stale,
            executing=bool(self._issued or self._awaited),
        )
        self.machine, taken = self.machine.follow(seen, cause=self.intent)
        if self.machine.automatic is None:
            self._issued.clear()
            self._awaited.clear()
        return [happened for each in taken for happened in self._moved(each)]

    def _moved(self, transition: Transition) -> list[Happening]:
        """Tell a transition with its effects by the specification's table."""
        happened: list[Happening] = [Moved(transition=transition)]
        left_automatic = transition.before is VisionState.OPERATIONAL
        if self._current is not None and (transition.before in _EXECUTING or left_automatic):
            self._last, self._current = self._current, None
            if not left_automatic:
                happened.append(JobEnded(job=self._last))
        if transition.after in _EXECUTING:
            self._current, self._next = self._next or Job(job_id=self._new_id()), None
            happened.append(JobStarted(job=self._current))
        if transition.after is VisionState.ERROR:
            why = "the station's heartbeat stands still" if self.view.stale else self.view.status.error_text
            happened.append(Failed(transition=transition, text=why))
        if transition.number == _RESOLVED:
            happened.append(Recovered(transition=transition))
        return happened


def _recipe_of(status: StationStatus) -> RecipeIdentity:
    return RecipeIdentity(
        name=status.recipe.partition("@")[0], reference=status.recipe, model=status.model, sha256=status.model_sha256
    )
