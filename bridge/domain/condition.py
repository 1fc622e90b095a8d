"""A station's own condition: who has enabled it, what is wrong, what has been counted, and the status that follows."""

from __future__ import annotations

from bridge.domain import tally
from bridge.domain.alarm_board import AlarmBoard, AlarmChange
from bridge.domain.gate_settings import GateMode
from bridge.domain.guards import NO_GUARDS, GuardSettings, Runs
from bridge.domain.heartbeat import Heartbeat, HeartbeatWatch
from bridge.domain.histogram import Histogram
from bridge.domain.messages import AlarmState, GateNews, Inhibit, PlcBeat, PlcCounts, PlcEnable, PlcLink
from bridge.domain.recipe import Recipe
from bridge.domain.sequence import Acceptance
from bridge.domain.station_state import next_state, state_of
from bridge.domain.status import ChallengeShown, Counters, StationState, StationStatus
from bridge.domain.verdict import Judgement, VerdictCode

_U32 = 2**32
FIRING_ERROR_S = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
_INHIBITS = ((0, "bin full"), (1, "air low"), (2, "line stopped"))
_RUNS = ("CONSECUTIVE_REJECTS", "CONSECUTIVE_FAILURES")
_OPCUA_CLOSED = "the OPC UA port is closed: no user, and opcua.anonymous = false"
_NO_START = ("mqtt", "model", "worker", "loading", "opcua", "serial", "camera", "plc", "stopping")
_NO_READY = ("stopping", "mqtt", "journal", "loading", "recipe", "gate", "worker", "camera", "plc", "obstacle")
_UNGUARDED = (
    "the PLC's heartbeat has stood still for 2 s: nobody guards the gate, what the bridge orders may not be done"
)


class Condition:
    """Gather what a station knows of itself; every change of an alarm waits in `changes` until it is told."""

    def __init__(self, *, gate_mode: GateMode = "plc", guards: GuardSettings = NO_GUARDS) -> None:
        self.alarms = AlarmBoard()
        self.counters = Counters()
        self.heartbeat = Heartbeat()
        self.operator_enabled = True
        self.plc_enabled = True
        self.inhibit = 0
        self.mqtt_up = False
        self.journal_alive = True
        self.worker_trouble = ""
        self.camera_trouble: str | None = None
        self.stopping = False
        self.loading = False
        self.recipe_ok = False
        self.recipe: Recipe | None = None
        self.recipes: tuple[str, ...] = ()
        self.model: tuple[str, str] | None = None
        self.last_sequence = 0
        self.firing_error_ms: float | None = None
        self.firing_errors = {event: Histogram.within(*FIRING_ERROR_S) for event in ("fired", "released")}
        """In s, by what left: a reject's on-command, or the release of a part that is to pass."""
        self.gate_on = False
        self.challenge = ChallengeShown()
        self._runs = Runs(guards)
        self.dry_run = guards.dry_run
        self._gate_mode = gate_mode
        self._gate_up = gate_mode == "plc" or guards.dry_run
        self._plc = HeartbeatWatch()
        self._plc_silent = True
        self._plc_links: dict[str, PlcLink] = {}
        self._state = StationState.STARTING
        self._plc_counts: dict[tuple[str, str], int] = {}
        self._orders = self._clock_steps = 0
        self._changes: list[AlarmChange] = []
        self.set_alarm("DRY_RUN", standing=guards.dry_run)

    def changes(self) -> list[AlarmChange]:
        """Take the alarm changes that nobody has been told of yet."""
        taken, self._changes = self._changes, []
        return taken

    def raise_alarm(self, name: str, text: str = "") -> None:
        """Let an alarm stand."""
        self._note(self.alarms.raise_alarm(name, text))

    def set_alarm(self, name: str, *, standing: bool, text: str = "") -> None:
        """Raise or end an alarm by its condition."""
        self._note(self.alarms.set(name, standing=standing, text=text))

    def clear_error(self) -> None:
        """Clear the latched alarms; a dead journal and a lost gate output stay alarmed."""
        mended = {"JOURNAL_DEAD": self.journal_alive, "GATE_OUTPUT_LOST": self._gate_up}
        still_true = {name for name, well in mended.items() if not well}
        self._changes += self.alarms.clear_latched(still_true=frozenset(still_true))
        self.recipe_ok = self.recipe is not None
        self._runs.clear()

    def reset_counters(self) -> None:
        """Zero the counters but the parts in flight."""
        self.counters = tally.reset(self.counters)

    def count(self, name: str, by: int = 1) -> None:
        """Add to one counter."""
        self.counters = tally.count(self.counters, name, by)

    def accepted(self, acceptance: Acceptance, sequence: int) -> None:
        """Count one trigger, with what its sequence says of the ones before it."""
        if not acceptance.accepted:
            self.count("duplicate_triggers")
            return
        self.count("triggers")
        self.last_sequence = sequence
        self.count("missed_triggers", acceptance.missed)
        if acceptance.missed > 0:
            self.raise_alarm("TRIGGER_MISSED", f"{acceptance.missed} missing before sequence {sequence}")
        if acceptance.kind == "restarted":
            self.raise_alarm("SEQUENCE_RESTARTED", f"at sequence {sequence}; epoch {acceptance.epoch} has begun")

    def decided(self, part_id: str, judgement: Judgement, *, rejects: bool, replayed: bool) -> None:
        """Count one verdict and alarm the ones that are failures of ours; `rejects` is what the recipe has for it."""
        self.counters = tally.count_verdict(self.counters, judgement.code)
        if judgement.code is VerdictCode.ERROR:
            self.raise_alarm("PART_ERROR", f"{part_id}: {judgement.reason}")
        if judgement.code is VerdictCode.LATE:
            self.raise_alarm("PART_LATE", f"{part_id}: {judgement.reason}")
        for name, text in () if replayed else self._runs.decided(judgement, rejects=rejects):
            self.raise_alarm(name, text)

    def activate(self, recipe: Recipe, model: str, sha256: str) -> None:
        """Take a recipe whose model is warm and checked."""
        self.recipe, self.model, self.recipe_ok = recipe, (model, sha256), True
        self.set_alarm("MODEL_NOT_READY", standing=False)
        self.set_alarm("LENIENT_POLICY", standing=recipe.policy.lets_failures_pass)

    def plc_beat(self, beat: PlcBeat) -> None:
        """Take the PLC's heartbeat as last written."""
        self._plc.seen(beat.value, now_ns=beat.at_ns)
        self.watch_plc(beat.at_ns)

    def watch_plc(self, now_ns: int) -> None:
        """Look whether the PLC's heartbeat stands still."""
        self._plc_silent = self._plc.lost(now_ns)
        text = _UNGUARDED if self._gate_mode == "plc" else ""
        self.set_alarm("PLC_HEARTBEAT_LOST", standing=self.plc_lost, text=text)

    @property
    def plc_lost(self) -> bool:
        """Whether a PLC that was seen beats no more: what it writes counts as stale."""
        return self._plc_silent and self._plc.ever_seen

    def plc_link(self, link: PlcLink) -> None:
        """Take how it stands with a PLC that the bridge writes into."""
        self._plc_links[link.link] = link
        for alarm, state in (("PLC_LINK_LOST", "lost"), ("PLC_REFUSES", "refused")):
            reasons = [f"{each.link}: {each.reason}" for each in self._plc_links.values() if each.state == state]
            self.set_alarm(alarm, standing=bool(reasons), text="; ".join(reasons))

    @property
    def plc_cut_off(self) -> str:
        """Why a PLC that drives the gate does not get its orders; empty when it does, or fetches them itself."""
        cut = [each for each in self._plc_links.values() if each.drives_gate and each.state != "up"]
        return "; ".join(f"{each.link}: {each.reason or 'not connected yet'}" for each in cut)

    def plc_enable(self, message: PlcEnable) -> None:
        """Take the PLC's Enable bit."""
        self.plc_enabled = message.enabled

    def inhibited(self, message: Inhibit) -> None:
        """Take the PLC's inhibit bits; the alarm always names those that stand now."""
        self.inhibit = message.bits
        self.set_alarm("INHIBITED", standing=False)
        self.set_alarm("INHIBITED", standing=bool(self._held), text=", ".join(self._held))

    def journal(self, *, alive: bool) -> None:
        """Take whether the journal commits."""
        self.journal_alive = alive
        if not alive:
            self.raise_alarm("JOURNAL_DEAD")

    def worker(self, trouble: str) -> None:
        """Take why the model's worker can't be relied on; empty when it is warm."""
        self.worker_trouble = trouble
        self.set_alarm("WORKER_LOST", standing=bool(trouble), text=trouble)

    def camera(self, trouble: str | None) -> None:
        """Take why the camera gives no frame, None when it does."""
        self.camera_trouble = trouble
        self.set_alarm("CAMERA_LOST", standing=trouble is not None, text=trouble or "")

    def alarm_told(self, message: AlarmState) -> None:
        """Take an alarm whose condition somebody else watches."""
        self.set_alarm(message.name, standing=message.standing, text=message.text)

    def clock(self, doubt: str, steps: int) -> None:
        """Take why the clock of the triggers' source can't be relied on, empty when it can, and how often it was set."""
        self.set_alarm("CLOCK_UNSURE", standing=bool(doubt), text=doubt)
        if steps > self._clock_steps:
            self.raise_alarm("CLOCK_STEPPED")
        self._clock_steps = steps

    def plc_counted(self, counts: PlcCounts) -> tuple[int, int]:
        """Take the PLC's running counts; gives how many gate firings and confirmations are new."""
        fired = self._grown(counts.origin, "gate_fired", counts.gate_fired) if self._gate_mode == "plc" else 0
        confirmed = self._grown(counts.origin, "reject_confirm", counts.reject_confirm)
        self.count("gate_fired", fired)
        self.count("gate_confirmed", confirmed)
        return fired, confirmed

    def gate_news(self, news: GateNews) -> None:
        """Take what the bridge's own gate process tells of itself and its output."""
        if news.event in self.firing_errors and news.error_ms is not None:
            self.firing_errors[news.event] = self.firing_errors[news.event].having(news.error_ms / 1e3)
        if news.event in ("up", "down"):
            self._gate_up = news.event == "up"
            if not self._gate_up:
                self.raise_alarm("GATE_OUTPUT_LOST", news.text)
        elif news.event in ("realtime", "ordinary"):
            self.set_alarm("GATE_NOT_REALTIME", standing=news.event == "ordinary", text=news.text)
        elif news.event in ("on", "off"):
            self.gate_on = news.event == "on"
        elif news.event == "fired":
            self.count("gate_fired")
            self.firing_error_ms = news.error_ms

    def ordered(self) -> None:
        """Note that an order was given, which a PLC's counts must follow."""
        self._orders += 1

    def _grown(self, origin: str, name: str, now: int | None) -> int:
        """Give how far a running u32 count has moved; one that ran back was restarted and counts nothing.

        The first one seen opens the count, for the PLC may have run longer than the bridge, unless it is no more than
        what the bridge itself can have caused: a PLC that writes only after its first firing must not lose that one.
        """
        if now is None:
            return 0
        before = self._plc_counts.get((origin, name))
        self._plc_counts[origin, name] = now
        if before is None:
            return now if now <= max(1, self._orders) else 0
        step = (now - before) % _U32
        return step if step < _U32 // 2 else 0

    @property
    def _held(self) -> tuple[str, ...]:
        """What the inhibit bits say."""
        return tuple(text for bit, text in _INHIBITS if self.inhibit >> bit & 1)

    @property
    def obstacle(self) -> str:
        """Why no part is to be judged just now; empty when one is."""
        if not (self.plc_enabled and self.operator_enabled):
            return "station disabled by the " + ("operator" if self.plc_enabled else "PLC")
        if self._held:
            return "inhibited: " + ", ".join(self._held)
        return "" if self.model else "no model is loaded"

    @property
    def not_ready(self) -> list[str]:
        """Reasons why the line must not start yet, for /readyz."""
        return self._causes(_NO_START)

    @property
    def unready(self) -> tuple[str, ...]:
        """Reasons why Ready is off: the PLC's handshake may not trigger."""
        return (*self._causes(_NO_READY), *self.alarms.texts(*_RUNS))

    def _causes(self, asked: tuple[str, ...]) -> list[str]:
        """Give the texts of what stands of the causes asked for, in their order."""
        causes = {
            "stopping": (self.stopping, "stopping"),
            "mqtt": (not self.mqtt_up, "MQTT is not connected and subscribed"),
            "journal": (not self.journal_alive, "the journal can't commit"),
            "model": (self.model is None, "the model is not warm"),
            "worker": (bool(self.worker_trouble), self.worker_trouble),
            "loading": (self.loading, "another recipe is being loaded"),
            "recipe": (not self.recipe_ok, "the recipe last asked for is not active"),
            "gate": (not self._gate_up, "the gate's output can't be written"),
            "opcua": ("OPCUA_CLOSED" in self.alarms.standing, _OPCUA_CLOSED),
            "serial": ("MODBUS_SERIAL_LOST" in self.alarms.standing, "the Modbus serial line is lost"),
            "camera": (self.camera_trouble is not None, f"the camera is lost: {self.camera_trouble}"),
            "plc": (bool(self.plc_cut_off), f"the PLC at the gate gets no orders: {self.plc_cut_off}"),
            "obstacle": (bool(self.obstacle), self.obstacle),
        }
        return [text for so, text in (causes[name] for name in asked) if so]

    @property
    def _gate_unguarded(self) -> bool:
        """Whether nobody would reject a part without a result, or get an order to reject one."""
        if self._gate_mode == "plc":
            return self._plc_silent or bool(self.plc_cut_off)
        return self.dry_run or not self._gate_up

    def status(self, *, belt_speed_mm_s: float | None) -> StationStatus:
        """Give the status that outputs show."""
        code, text = self.alarms.foremost
        model, sha256 = self.model or ("", "")
        wanted = state_of(
            stopping=self.stopping,
            fault=not self.journal_alive or bool(self.worker_trouble) or self.camera_trouble is not None,
            starting=not (self.model and self.mqtt_up),
            disabled=not (self.plc_enabled and self.operator_enabled),
            inhibited=self.inhibit != 0,
            busy=self.counters.in_flight > 0,
        )
        if wanted is StationState.STARTING and self._state is not StationState.STARTING:
            wanted = StationState.FAULT  # it has been ready: what is gone now, the broker say, was lost
        self._state = next_state(self._state, wanted)
        unready = self.unready
        return StationStatus(
            state=self._state,
            online=not self.stopping,
            ready=not unready,
            busy=self.counters.in_flight > 0,
            error=self.alarms.error,
            recipe_ok=self.recipe_ok,
            degraded=self.alarms.degraded,
            plc_heartbeat_lost=self._plc_silent,
            stop_request=self.alarms.stop_request,
            gate_unguarded=self._gate_unguarded,
            clock_ok=not {"CLOCK", "CLOCK_UNSURE"} & set(self.alarms.standing),
            heartbeat=self.heartbeat.value,
            error_code=code,
            error_text=text,
            recipe=self.recipe.reference if self.recipe else "",
            recipe_number=self.recipe.number if self.recipe else 0,
            model=model,
            model_sha256=sha256,
            belt_speed_mm_s=belt_speed_mm_s,
            counters=self.counters,
            last_sequence=self.last_sequence,
            firing_error_ms=self.firing_error_ms,
            gate_on=self.gate_on,
            enabled=self.plc_enabled and self.operator_enabled,
            not_ready=unready,
            inhibited=self._held,
            dry_run=self.dry_run,
            challenge=self.challenge,
            alarms=self.alarms.standing_with_text,
            recipes=self.recipes,
        )

    def _note(self, change: AlarmChange | None) -> None:
        if change is not None:
            self._changes.append(change)
