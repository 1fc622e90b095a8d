"""In-memory twins of the station's ports, and a station built of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from bridge.challenges import Challenges
from bridge.domain.belt import Belt, BeltSettings
from bridge.domain.challenge import ChallengeTest
from bridge.domain.condition import Condition
from bridge.domain.confirmation import Confirmations
from bridge.domain.gate import GateOrder
from bridge.domain.gate_plan import GatePlan
from bridge.domain.gate_settings import GateSettings
from bridge.domain.guards import NO_GUARDS, GuardSettings
from bridge.domain.messages import Arrival, LinkChange
from bridge.domain.part import InlineImage, Part, Result, Trigger
from bridge.domain.reception import Reception, ReceptionRules
from bridge.domain.recipe import Policy, Recipe, Threshold
from bridge.domain.sequence import SequenceLedger
from bridge.domain.status import StationStatus
from bridge.domain.verdict import Inference, Scores
from bridge.errors import CameraError, ConfigError, JournalError
from bridge.gate_notes import GateNotes
from bridge.gate_reports import GateReports
from bridge.ports import Alarm, Frame, GateEvent, Loaded, Outcome
from bridge.station import Journey
from bridge.station_loop import StationLoop

UTC_NS = 1_767_225_600_000_000_000  # 2026-01-01, when the loop's time was 0


def recipe(*, name: str = "bracket", policy: Policy | None = None) -> Recipe:
    return Recipe(
        name=name,
        number=1,
        revision=3,
        bundle="fake",
        labels=("crack",),
        thresholds={"crack": Threshold(reject=0.5, doubt=0.3)},
        policy=policy or Policy(),
    )


class FakeClock:
    """The event loop's own time, virtual in these tests."""

    def now_ns(self) -> int:
        return round(asyncio.get_running_loop().time() * 1e9)

    def utc_ns(self) -> int:
        return UTC_NS + self.now_ns()


class FakeModel:
    """Scores by a function of the part; a function that raises or sleeps is a model in trouble."""

    reference = "fake@1.0.0"
    sha256 = "00" * 32
    trouble = ""

    def __init__(self, score: Callable[[Part], Coroutine[Any, Any, float]]) -> None:
        self._score = score
        self.seen: list[int] = []
        self.closed = False

    async def infer(self, frame: Frame, part: Part) -> Inference:
        self.seen.append(part.sequence)
        return Inference(scores=Scores(by_label={"crack": await self._score(part)}), timing_ms={"inference": 1.0})

    async def close(self) -> None:
        self.closed = True


class FakeCamera:
    """Gives what the trigger brought; set `trouble` to lose it."""

    def __init__(self) -> None:
        self.trouble: str | None = None
        self.moments_ns: list[int] = []

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def capture(self, part: Part, moment_ns: int) -> Frame:
        self.moments_ns.append(moment_ns)
        if not isinstance(part.trigger.image, InlineImage):
            raise CameraError("no picture came with the trigger")
        return Frame(data=part.trigger.image.data, media_type="image/jpeg", captured_utc_ns=UTC_NS)


class FakeJournal:
    def __init__(self) -> None:
        self.accepted: list[tuple[int, int]] = []
        self.outcomes: list[Outcome] = []
        self.events: list[tuple[str, int]] = []
        self.healthy = True
        self.stalled = asyncio.Event()
        self.stalled.set()

    def accept(self, part: Part, *, at_utc_ns: int) -> None:
        self.accepted.append((part.epoch, part.sequence))

    def gate_event(self, *, sequence: int, event: str, **_rest: object) -> None:
        self.events.append((event, sequence))

    def record(self, outcome: Outcome) -> asyncio.Future[None]:
        if not self.healthy:
            raise JournalError("the disk is full")
        self.outcomes.append(outcome)
        committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.stalled.is_set():
            committed.set_result(None)
        return committed

    async def on_disk(self) -> None:
        await self.stalled.wait()
        if not self.healthy:
            raise JournalError("the disk is full")

    def recent_triggers(self, line: str, station: str, limit: int) -> list[tuple[int, int, str, str | None]]:
        return []


class FakePictures:
    def __init__(self) -> None:
        self.kept: list[str] = []

    def name_for(self, part: Part, frame: Frame, code: int) -> str | None:
        return f"{part.sequence}.jpg"

    def keep(self, name: str, frame: Frame) -> None:
        self.kept.append(name)


class FakeOutput:
    def __init__(self) -> None:
        self.captures: list[tuple[int, int]] = []
        self.outcomes: list[Outcome] = []
        self.revisions: list[tuple[int, GateOrder]] = []
        self.statuses: list[StationStatus] = []
        self.alarms: list[Alarm] = []
        self.reports: list[tuple[GateEvent, int, str | None]] = []

    def captured(self, sequence: int, at_utc_ns: int) -> None:
        self.captures.append((sequence, at_utc_ns))

    def publish(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def remember(self, sequence: int, document: str) -> None:
        raise AssertionError("the station never remembers")

    def revise(self, sequence: int, order: GateOrder) -> None:
        self.revisions.append((sequence, order))

    def show(self, status: StationStatus) -> None:
        self.statuses.append(status)

    def alarm(self, alarm: Alarm) -> None:
        self.alarms.append(alarm)

    def gate_report(
        self, event: GateEvent, result: Result, order: GateOrder, reason: str | None, error_ms: float | None = None
    ) -> None:
        self.reports.append((event, result.part.sequence, reason))

    @property
    def verdicts(self) -> list[tuple[int, str]]:
        return [(each.result.part.sequence, each.result.judgement.code.name) for each in self.outcomes]

    @property
    def raised(self) -> set[str]:
        return {alarm.kind.name for alarm in self.alarms if alarm.raised}


class FakeRecipes:
    def __init__(self) -> None:
        self.models: dict[str, Loaded] = {}

    async def load(self, *, name: str | None = None, number: int | None = None) -> Loaded:
        if name not in self.models:
            raise ConfigError(f"recipe = {name!r}: unknown")
        return self.models[name]

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.models))


class Bench:
    """A station on the bench: send triggers, wait for verdicts."""

    def __init__(
        self,
        score: Callable[[Part], Coroutine[Any, Any, float]],
        *,
        gate: GateSettings | None = None,
        belt: BeltSettings | None = None,
        verdict_timeout_ms: float = 5000.0,
        policy: Policy | None = None,
        guards: GuardSettings = NO_GUARDS,
        challenge_passed_utc_ns: int | None = None,
    ) -> None:
        self.belt = Belt(belt or BeltSettings())
        self.plan = GatePlan(gate or GateSettings(), self.belt)
        self.condition = Condition(guards=guards)
        self.journal, self.pictures, self.output = FakeJournal(), FakePictures(), FakeOutput()
        self.camera = FakeCamera()
        self.recipes, self.clock, self.model = FakeRecipes(), FakeClock(), FakeModel(score)
        self.acknowledged: list[int] = []
        rules = ReceptionRules(
            line="line1",
            station="station1",
            trigger_clock="arrival",
            transport_ms=0.0,
            part_length_mm=100.0,
            touching_tolerance_mm=guards.touching_tolerance_mm,
        )
        notes = GateNotes(line="line1", station="station1", journal=self.journal, clock=self.clock)
        challenges = Challenges(
            condition=self.condition,
            notes=notes,
            clock=self.clock,
            test=ChallengeTest(hours=guards.challenge_hours, passed_utc_ns=challenge_passed_utc_ns),
        )
        self.loop = StationLoop(
            belt=self.belt,
            plan=self.plan,
            reception=Reception(rules=rules, ledger=SequenceLedger(), belt=self.belt),
            journey=Journey(
                plan=self.plan,
                camera=self.camera,
                journal=self.journal,
                pictures=self.pictures,
                outputs=[self.output],
                clock=self.clock,
                verdict_timeout_ms=verdict_timeout_ms,
                dry_run=guards.dry_run,
            ),
            reports=GateReports(
                condition=self.condition,
                notes=notes,
                outputs=[self.output],
                clock=self.clock,
                confirmations=Confirmations(self.belt, guards, pitch_mm=175.0),
                challenges=challenges,
            ),
            condition=self.condition,
            journal=self.journal,
            pictures=self.pictures,
            recipes=self.recipes,
            outputs=[self.output],
            clock=self.clock,
        )
        self._task: asyncio.Task[None] | None = None
        self.loaded = Loaded(recipe=recipe(policy=policy), model=self.model)

    async def __aenter__(self) -> Bench:
        self.loop.activate(self.loaded)
        self.loop.post(LinkChange(link="mqtt", up=True))
        self._task = asyncio.create_task(self.loop.run())
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.journal.stalled.set()
        self.loop.stop()
        assert self._task is not None
        await self._task

    def send(self, sequence: int, *, image: bytes | None = b"\xff\xd8 picture", **changes: Any) -> None:
        picture = None if image is None else InlineImage(media_type="image/jpeg", data=image)
        fields: dict[str, Any] = {"part_id": str(sequence), "arrived_ns": self.clock.now_ns(), "image": picture}
        trigger = Trigger(sequence=sequence, **(fields | changes))
        self.loop.post(Arrival(trigger=trigger, acknowledge=lambda: self.acknowledged.append(sequence)))

    async def until(self, holds: Callable[[], bool], limit_s: float = 10.0) -> None:
        async with asyncio.timeout(limit_s):
            while not holds():
                await asyncio.sleep(0.002)

    async def verdicts(self, count: int) -> list[tuple[int, str]]:
        await self.until(lambda: len(self.output.outcomes) >= count)
        return self.output.verdicts
