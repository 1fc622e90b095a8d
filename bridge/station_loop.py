"""A station at work: takes messages, admits triggers, sends their parts on the journey one by one, and beats."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from bridge.commands import Commands
from bridge.domain import messages
from bridge.domain.belt import Belt, BeltEvent
from bridge.domain.condition import Condition
from bridge.domain.gate_plan import GatePlan
from bridge.domain.messages import Arrival, Inbound
from bridge.domain.progress import Progress
from bridge.domain.reception import Conditions, Reception
from bridge.domain.status import StationStatus
from bridge.domain.verdict import Disposition, disposition_for
from bridge.errors import JournalError
from bridge.gate_reports import GateReports
from bridge.ports import (
    Alarm,
    Clock,
    Journal,
    Loaded,
    Model,
    PictureStore,
    RecipeBook,
    VerdictOutput,
)
from bridge.station import Arrived, Job, Journey
from bridge.waiting import Waiting

BEAT_S = 0.5
TICK_S = 0.1
MAX_UNSAFE = 10
RECIPES_S = 5.0  # how soon a recipe file that was put there can be chosen


@dataclass(frozen=True, slots=True)
class _Beat:
    """Asks the runner to prove that it could judge a part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Retire:
    """A model that no part behind this point needs."""

    model: Model


@dataclass(frozen=True, slots=True)
class _Stop:
    """The last entry of the queue."""


class StationLoop:
    """Run one station; all its methods are called on the station's own loop."""

    def __init__(
        self,
        *,
        belt: Belt,
        plan: GatePlan,
        reception: Reception,
        journey: Journey,
        reports: GateReports,
        condition: Condition,
        journal: Journal,
        pictures: PictureStore,
        recipes: RecipeBook,
        outputs: Sequence[VerdictOutput],
        clock: Clock,
    ) -> None:
        self._belt, self._plan = belt, plan
        self._reception = reception
        self._journey = journey
        self._reports = reports
        self._condition = condition
        self._journal = journal
        self._pictures = pictures
        self._recipes = recipes
        self._outputs = outputs
        self._clock = clock
        self._loaded: Loaded | None = None
        self._queue: asyncio.Queue[Job | _Beat | _Retire | _Stop] = asyncio.Queue()
        self._background: set[asyncio.Task[None]] = set()
        self._waiting = Waiting()
        self._unsafe: deque[Arrival] = deque()
        self._show_due = False
        self.turns = self.entries = 0  # counted on and on, for a watch in another thread
        self.progress = Progress(clock.now_ns())
        self.shown: StationStatus | None = None
        self._log = structlog.get_logger()
        self._commands = Commands(
            condition=condition,
            recipes=recipes,
            announce=reports.announce_challenge,
            activate=self.activate,
            spawn=self._spawn,
            show=self._show_soon,
        )
        self._take = self._ways_in(condition)

    def _ways_in(self, condition: Condition) -> Mapping[type, Callable[[Any], None]]:
        """Say what takes each kind of message."""
        return {
            messages.Arrival: self._admit,
            messages.SpeedSample: self._speed,
            messages.EncoderSample: self._encoder,
            messages.PlcBeat: condition.plc_beat,
            messages.PlcEnable: condition.plc_enable,
            messages.Inhibit: condition.inhibited,
            messages.PlcCounts: self._plc_counts,
            messages.Command: self._commands.carry_out,
            messages.Refused: lambda refused: condition.raise_alarm("TRIGGER_UNREADABLE", refused.reason),
            messages.LinkChange: self._link,
            messages.AlarmState: condition.alarm_told,
            messages.PlcLink: condition.plc_link,
            messages.GateNews: self._gate_news,
        }

    def post(self, message: Inbound) -> None:
        """Take one message from the outside."""
        self._take[type(message)](message)
        self._show_soon()

    async def run(self) -> None:
        """Judge parts until `stop`; ends when the last accepted part has its verdict."""
        async with asyncio.TaskGroup() as group:
            beat = group.create_task(self._beat(), name="station heartbeat")
            tick = group.create_task(self._tick(), name="station watch")
            listing = group.create_task(self._list_recipes(), name="recipe list")
            await self._judge_in_order()
            listing.cancel()
            beat.cancel()
            tick.cancel()
        if self._background:
            await asyncio.wait(self._background, timeout=2.0)
        if self._loaded is not None:
            await self._loaded.model.close()

    def stop(self) -> None:
        """Accept nothing more, finish what was accepted, show the outputs as stopping."""
        if not self._condition.stopping:
            self._condition.stopping = True
            self._queue.put_nowait(_Stop())
            self._show_soon()

    def activate(self, loaded: Loaded) -> None:
        """Make a recipe active from the next trigger on; the earlier model goes when its last part is done."""
        before, self._loaded = self._loaded, loaded
        self._condition.activate(loaded.recipe, loaded.model.reference, loaded.model.sha256)
        if before is not None and before.model is not loaded.model:
            self._queue.put_nowait(_Retire(model=before.model))
        self._show_soon()

    # -- triggers ------------------------------------------------------------------------------------------------

    def _admit(self, arrival: Arrival) -> None:
        if self._condition.stopping or self._loaded is None:
            # Not acknowledged: the broker keeps it, and it comes back as a backlog that actuates nothing.
            return
        now_ns, now_utc_ns = self._clock.now_ns(), self._clock.utc_ns()
        conditions = Conditions(recipe=self._loaded.recipe, reason=self._condition.obstacle)
        admission = self._reception.admit(arrival.trigger, conditions, now_ns=now_ns, now_utc_ns=now_utc_ns)
        self._condition.accepted(admission.acceptance, arrival.trigger.sequence)
        if admission.clock_ahead:
            self._condition.raise_alarm("CLOCK")
        if admission.touching:
            self._condition.raise_alarm("PARTS_TOUCH", f"{arrival.trigger.part_id}: {admission.touching}")
        self._condition.clock(self._reception.clock_doubt, self._reception.clock_steps)
        part = admission.part
        if part is None:
            self._log.warning("duplicate_dropped", sequence=arrival.trigger.sequence)
            self._spawn(self._acknowledge(arrival), "acknowledge a duplicate")
            return
        if not part.trigger.backlog:
            self._plan.expect(
                (part.epoch, part.sequence),
                x0_mm=part.x0_mm,
                count_at_trigger=part.count_at_trigger,
                length_mm=part.length_mm,
            )
            self._reports.met(part, gap=admission.acceptance.missed > 0 or admission.acceptance.kind == "restarted")
        self.progress.accepted(part, now_ns)
        self._journal.accept(part, at_utc_ns=now_utc_ns)
        job, surplus = self._waiting.job(arrival, part, self._loaded, admission.at_once)
        if surplus:
            self._condition.raise_alarm("QUEUE_OVERLOAD")
        self._queue.put_nowait(job)

    async def _judge_in_order(self) -> None:
        while not isinstance(entry := await self._queue.get(), _Stop):
            if isinstance(entry, Job):
                self._decided(entry, await self._journey.travel(entry))
                self._waiting.done(entry)
            elif isinstance(entry, _Retire):
                await entry.model.close()
            else:
                self._condition.heartbeat.passed(self._clock.now_ns())
            self.entries += 1
            self._show_soon()

    def _decided(self, job: Job, arrived: Arrived) -> None:
        """Count, report and alarm what a verdict means; then see its record onto the disk."""
        self.progress.decided(self._clock.now_ns())
        result = arrived.outcome.result
        rejects = disposition_for(result.judgement.code, result.part.recipe) is Disposition.REJECT
        self._condition.decided(result.part.part_id, result.judgement, rejects=rejects, replayed=result.replayed)
        self._reports.decided(result, arrived.swept)
        if result.picture is not None and arrived.frame is not None:
            self._pictures.keep(result.picture, arrived.frame)
        self._spawn(self._acknowledge(job.arrival), "acknowledge a part")

    async def _acknowledge(self, arrival: Arrival) -> None:
        """Tell the source once the record is safe on the disk; a broker keeps what was never acknowledged.

        A broker stops delivering at about 20 unacknowledged messages, and a dead journal must not starve the line:
        then the oldest are acknowledged with their records still in memory, while JOURNAL_DEAD stands.
        """
        try:
            await self._journal.on_disk()
        except JournalError as exc:
            self._log.debug("trigger_not_acknowledged", cause=str(exc))
            self._unsafe.append(arrival)
            if len(self._unsafe) > MAX_UNSAFE:
                self._unsafe.popleft().acknowledge()
            return
        arrival.acknowledge()

    def _retry_acknowledging(self) -> None:
        if self._journal.healthy:
            while self._unsafe:
                self._spawn(self._acknowledge(self._unsafe.popleft()), "acknowledge after the journal came back")

    def _plc_counts(self, message: messages.PlcCounts) -> None:
        fired, confirmed = self._condition.plc_counted(message)
        self._reports.counted(fired, confirmed, message.at_ns)

    def _gate_news(self, news: messages.GateNews) -> None:
        if news.event == "missed":
            self._reports.revised(self._plan.give_up(news.keys, news.text))
        self._reports.news(news)

    # -- the belt ------------------------------------------------------------------------------------------------

    def _speed(self, sample: messages.SpeedSample) -> None:
        from_plc = sample.origin == "plc"
        if from_plc != (self._belt.settings.speed_source == "plc") or (from_plc and self._condition.plc_lost):
            return
        self._moved(self._belt.speed_sample(sample.mm_s, sample.at_ns))

    def _encoder(self, sample: messages.EncoderSample) -> None:
        if sample.origin == "plc" and self._condition.plc_lost:
            return
        self._moved(self._belt.encoder_sample(sample.counts, sample.at_ns))

    def _moved(self, event: BeltEvent) -> None:
        now_ns = self._clock.now_ns()
        if event is BeltEvent.IGNORED:
            return
        if event is BeltEvent.RESET:
            self._condition.raise_alarm("ENCODER_RESET")
            self._reports.excuse("encoder reset: the PLC rejects what is on the belt")
            self._reports.revised(self._plan.reset(now_ns))
        elif event is BeltEvent.LOST:
            self._reports.revised(self._plan.lose(now_ns, "the speed was unknown", counted=False))
        self._reports.revised(self._plan.revise(now_ns))
        self._journey.belt_changed()

    def _link(self, change: messages.LinkChange) -> None:
        self._condition.mqtt_up = change.up
        self._condition.set_alarm("BROKER_LOST", standing=not change.up, text=change.reason[:200])

    # -- the watch -----------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            self._queue.put_nowait(_Beat())
            await asyncio.sleep(BEAT_S)

    async def _list_recipes(self) -> None:
        """Show which recipes can be asked for, as files come and go."""
        while True:
            self._condition.recipes = await asyncio.to_thread(self._recipes.names)
            await asyncio.sleep(RECIPES_S)

    async def _tick(self) -> None:
        while True:
            self.turns += 1
            now_ns = self._clock.now_ns()
            self.progress.ticked(now_ns, self._journey.limit_ns)
            self._condition.watch_plc(now_ns)
            self._condition.journal(alive=self._journal.healthy)
            self._condition.worker(self._loaded.model.trouble if self._loaded else "")
            self._condition.camera(self._journey.camera_trouble)
            self._condition.clock(self._reception.clock_doubt, self._reception.clock_steps)
            self._retry_acknowledging()
            self._condition.set_alarm("SPEED_STALE", standing=self._belt.speed_mm_s(now_ns) is None)
            self._reports.revised(self._plan.revise(now_ns))
            for key in self._plan.prune(now_ns):
                self._reports.forget(key)
            self._reports.watch()
            self._journey.belt_changed()
            self._show_soon()
            await asyncio.sleep(self._reports.rest_s(TICK_S))

    def _show_soon(self) -> None:
        """Show the status once for all that changes in one turn of the loop."""
        if not self._show_due:
            self._show_due = True
            asyncio.get_running_loop().call_soon(self._show)

    def _show(self) -> None:
        self._show_due = False
        status = self._condition.status(belt_speed_mm_s=self._belt.speed_mm_s(self._clock.now_ns()))
        self.shown = status
        for change in self._condition.changes():
            tell = self._log.warning if change.raised else self._log.info
            tell("alarm_raised" if change.raised else "alarm_cleared", name=change.kind.name, text=change.text)
            alarm = Alarm(kind=change.kind, raised=change.raised, text=change.text, at_utc_ns=self._clock.utc_ns())
            for output in self._outputs:
                output.alarm(alarm)
        for output in self._outputs:
            output.show(status)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
