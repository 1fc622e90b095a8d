"""The journey of a part: trigger, frame, scores, verdict, gate order, outputs, record. One walk, in trigger order.

What holds here, whatever happens: every accepted trigger ends in exactly one verdict; every failure becomes ERROR or
LATE in `_judge`, and nothing else gives a verdict; parts are judged one after the other, so verdicts leave in the order
of their triggers; nothing that is old reaches a gate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from bridge.domain.gate import NO_ORDER
from bridge.domain.gate_plan import GateOutcome, GatePlan
from bridge.domain.gate_track import PartKey
from bridge.domain.messages import Arrival
from bridge.domain.part import Part, Result
from bridge.domain.report import encode, verdict_document
from bridge.domain.verdict import Disposition, Judgement, VerdictCode, decide, disposition_for
from bridge.errors import CameraError, InferenceError, JournalError
from bridge.ports import Camera, Clock, Frame, GateOutput, Journal, Loaded, Outcome, PictureStore, VerdictOutput

COMMIT_LIMIT_NS = 10_000_000
"""A stalled disk never holds an output for longer than this."""
CAMERA_LOOK_NS = 20_000_000
"""How often the way to the camera is looked at again: the belt may have changed its speed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One accepted part waiting for its verdict; `at_once` is a verdict that needs no inference."""

    arrival: Arrival
    part: Part
    loaded: Loaded
    at_once: Judgement | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A judgement with what led to it."""

    judgement: Judgement
    frame: Frame | None = None
    timing_ms: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A part at its journey's end; `swept` are parts let pass before it that its gate order touches."""

    outcome: Outcome
    frame: Frame | None
    swept: tuple[PartKey, ...]


class Journey:
    """Carry parts from their trigger to their record."""

    def __init__(
        self,
        *,
        plan: GatePlan,
        camera: Camera,
        journal: Journal,
        pictures: PictureStore,
        outputs: Sequence[VerdictOutput],
        clock: Clock,
        verdict_timeout_ms: float,
        gate: GateOutput | None = None,
        dry_run: bool = False,
    ) -> None:
        self._dry_run = dry_run
        self._plan = plan
        self._camera = camera
        self._journal = journal
        self._pictures = pictures
        self._outputs = outputs
        self._clock = clock
        self._gate = gate
        self._verdict_timeout_ns = round(verdict_timeout_ms * 1e6)
        self._under_way: tuple[Part, asyncio.Timeout] | None = None
        self._usual_ns = 0

    async def travel(self, job: Job) -> Arrived:
        """Take one part all the way to the outputs; its record is committed, not yet on the disk."""
        begun_ns = self._clock.now_ns()
        judged = await self._judge(job, begun_ns)
        result, ordered = self._settle(job, judged, begun_ns)
        outcome = Outcome(result=result, document=encode(verdict_document(result)))
        await self._commit(outcome)
        if self._gate is not None:
            self._gate.drive(_key(job.part), ordered.order, ordered.release)
        for place, output in enumerate(self._outputs):
            if place:
                await asyncio.sleep(0)  # the thread that the output before handed over to needs the interpreter now
            output.publish(outcome)
        return Arrived(outcome=outcome, frame=judged.frame, swept=ordered.collateral)

    async def _judge(self, job: Job, begun_ns: int) -> Judged:
        """Give one part its verdict by its deadline: the one place where a failure becomes a verdict."""
        timing: dict[str, float] = {}
        if job.at_once is not None:
            return Judged(judgement=job.at_once, timing_ms=timing)
        if self.limit_ns(job.part) < begun_ns + self._usual_ns // 2:
            return Judged(judgement=self._out_of_time(job.part, begun_ns), timing_ms=timing)
        frame: Frame | None = None
        try:
            async with asyncio.timeout_at(self._loop_time(self.limit_ns(job.part))) as limit:
                self._under_way = (job.part, limit)
                frame = await self._camera.capture(job.part, await self._at_camera(job.part))
                for output in self._outputs:
                    output.captured(job.part.sequence, frame.captured_utc_ns)
                inference = await job.loaded.model.infer(frame, job.part)
                timing = inference.timing_ms
                self._usual_ns += (self._clock.now_ns() - begun_ns - self._usual_ns) // 8
                judgement = decide(inference.scores, job.part.recipe)
            now_ns = self._clock.now_ns()
            if now_ns > self.limit_ns(job.part):
                # The loop itself was held up, so the timeout has not struck: a verdict past its deadline is none.
                judgement = self._out_of_time(job.part, now_ns)
        except TimeoutError:
            judgement = self._out_of_time(job.part, self._clock.now_ns())
        except (CameraError, InferenceError) as exc:
            judgement = _error(str(exc))
        except Exception as exc:  # noqa: BLE001 - whatever breaks on the way of one part, that part gets ERROR
            structlog.get_logger().exception("part failed", part_id=job.part.part_id)
            judgement = _error(f"internal: {type(exc).__name__}: {exc}"[:200])
        finally:
            self._under_way = None
        return Judged(judgement=judgement, frame=frame, timing_ms=timing)

    def belt_changed(self) -> None:
        """Move the deadline of the part under way: a slower belt gives it more time, a standing one the timeout's."""
        if self._under_way is not None:
            part, limit = self._under_way
            if not limit.expired():
                limit.reschedule(self._loop_time(self.limit_ns(part)))

    @property
    def camera_trouble(self) -> str | None:
        """Why the station's camera gives no frame; None when it does."""
        return self._camera.trouble

    def limit_ns(self, part: Part) -> int:
        """Give the monotonic moment at which a verdict must stand: the gate's deadline or the wall-time limit."""
        timeout_ns = part.triggered_ns + self._verdict_timeout_ns
        deadline_ns = self._plan.deadline_ns(_key(part), self._clock.now_ns())
        return timeout_ns if deadline_ns is None else min(deadline_ns, timeout_ns)

    def _out_of_time(self, part: Part, now_ns: int) -> Judgement:
        deadline_ns = self._plan.deadline_ns(_key(part), now_ns)
        timeout_ns = part.triggered_ns + self._verdict_timeout_ns
        if deadline_ns is None or timeout_ns < deadline_ns:
            return _error(f"no verdict within {self._verdict_timeout_ns / 1e6:.0f} ms")
        allowed_ms = (deadline_ns - part.triggered_ns) / 1e6
        if allowed_ms < 0:
            late = f"its trigger came {-allowed_ms:.1f} ms after the deadline: the part was on its way already"
            return Judgement(code=VerdictCode.LATE, reason=late)
        return Judgement(
            code=VerdictCode.LATE, reason=f"no verdict by the deadline, {allowed_ms:.1f} ms after the trigger"
        )

    async def _at_camera(self, part: Part) -> int:
        """Wait until the front edge is at the camera and give that moment, which is the trigger's for a camera at the beam.

        A trigger's own picture has been taken already. Neither depends on the belt, which may have stopped by now.
        """
        if part.trigger.image is not None or self._plan.camera_at_beam:
            return part.triggered_ns
        while (moment_ns := self._plan.capture_ns(_key(part), self._clock.now_ns())) is None or (
            moment_ns > self._clock.now_ns()
        ):
            wait_ns = CAMERA_LOOK_NS if moment_ns is None else min(CAMERA_LOOK_NS, moment_ns - self._clock.now_ns())
            await asyncio.sleep(max(0, wait_ns) / 1e9)
        return moment_ns

    def _settle(self, job: Job, judged: Judged, begun_ns: int) -> tuple[Result, GateOutcome]:
        """Join a judgement with its disposition, moment, gate order and the name of its picture."""
        part, trigger, code = job.part, job.part.trigger, judged.judgement.code
        now_ns = self._clock.now_ns()
        deadline_ns = self._plan.deadline_ns(_key(part), now_ns)
        disposition = Disposition.NONE if self._dry_run else disposition_for(code, part.recipe)
        ordered: GateOutcome = GateOutcome(order=NO_ORDER)
        if self._dry_run:
            self._plan.forget(_key(part))
        elif not trigger.backlog:
            ordered = self._plan.order_for(_key(part), disposition, now_ns)
        picture = None
        if judged.frame is not None and not trigger.backlog:
            picture = self._pictures.name_for(part, judged.frame, code)
        waited_ms = max(0, begun_ns - trigger.arrived_ns) / 1e6
        result = Result(
            part=part,
            judgement=judged.judgement,
            disposition=disposition,
            order=ordered.order,
            captured_utc_ns=judged.frame.captured_utc_ns if judged.frame else None,
            decided_ns=now_ns,
            decided_utc_ns=self._clock.utc_ns(),
            timing_ms={"queue": waited_ms} | judged.timing_ms | {"total": (now_ns - trigger.arrived_ns) / 1e6},
            model=job.loaded.model.reference,
            model_sha256=job.loaded.model.sha256,
            picture=picture,
            replayed=trigger.backlog,
            deadline_ns=deadline_ns,
        )
        return result, ordered

    async def _commit(self, outcome: Outcome) -> None:
        """Wait for the record's commit, but not for long: an output must never stand behind a disk."""
        limit_ns = self._plan.publish_limit_ns(outcome.result.order)
        wait_ns = COMMIT_LIMIT_NS
        if limit_ns is not None:
            wait_ns = max(0, min(wait_ns, limit_ns - self._clock.now_ns()))
        try:
            committed = self._journal.record(outcome)
        except JournalError:
            return  # the journal tells of it itself, and keeps the row if it can
        if outcome.result.replayed:
            committed.cancel()  # nothing acts on it; a long backlog must not hold up the live parts behind it
            return
        await asyncio.wait({committed}, timeout=wait_ns / 1e9)
        committed.cancel()

    def _loop_time(self, moment_ns: int) -> float:
        return asyncio.get_running_loop().time() + (moment_ns - self._clock.now_ns()) / 1e9


def _key(part: Part) -> PartKey:
    return part.epoch, part.sequence


def _error(reason: str) -> Judgement:
    return Judgement(code=VerdictCode.ERROR, reason=reason)
