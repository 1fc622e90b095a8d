"""The moments and counts of one order: given at the verdict, moved with the belt, missed when they can't be met."""

from __future__ import annotations

from dataclasses import replace

from bridge.domain.belt import LOST_MM, NS_PER_MS, NS_PER_S, STANDING_MM_S, Belt
from bridge.domain.gate import NO_ORDER, GateOrder
from bridge.domain.gate_settings import BRIDGE_LATE_MS, GateSettings, Window, window_for
from bridge.domain.gate_track import Stretch, Track

REVISED_NS = NS_PER_MS // 2  # a moment that moved less is not worth telling

SPEED_UNKNOWN = "speed unknown"
PLACE_UNKNOWN = "place on the belt unknown"


class GateTiming:
    """Joins the gate's settings with the belt; holds no state of its own."""

    def __init__(self, settings: GateSettings, belt: Belt) -> None:
        self._settings = settings
        self._belt = belt

    def planning_speed_mm_s(self) -> float:
        """Give the speed to reckon leads with: the last known one, for a standing belt the one it is built for."""
        speed_mm_s = self._belt.steady_speed_mm_s
        return speed_mm_s if speed_mm_s > STANDING_MM_S else self._belt.settings.speed_mm_s

    def window(self, track: Track, *, front_guard: bool = True, rear_guard: bool = True) -> Window:
        """Give the window of a part, from its trigger."""
        return window_for(
            self._settings,
            track.length_mm,
            self.planning_speed_mm_s(),
            front_guard=front_guard,
            rear_guard=rear_guard,
        )

    def reach(self, track: Track) -> Stretch:
        """Give the belt that the sweep of a part's window may touch, whoever fires being early or late by his jitter."""
        settings = self._settings
        per_ms_mm = self.planning_speed_mm_s() / 1e3
        return Stretch(
            start_mm=track.start_mm - (settings.open_lead_ms + settings.firing_jitter_ms) * per_ms_mm,
            end_mm=track.end_mm + (settings.close_lead_ms + settings.firing_jitter_ms) * per_ms_mm,
        )

    def by_count(self, order: GateOrder) -> bool:
        """Whether a PLC fires this order by its counts, so that no moment of ours decides."""
        return self._settings.mode == "plc" and order.open_count is not None

    def publish_limit_ns(self, due_ns: int) -> int:
        """Give the last moment at which an order due at `due_ns` may be published."""
        late_ms = BRIDGE_LATE_MS if self._settings.mode == "bridge" else -self._settings.publish_ms
        return due_ns + round(late_ms * NS_PER_MS)

    def deadline_ns(self, track: Track, now_ns: int) -> int | None:
        """Give the moment by which the verdict must stand; None while the belt stands or anything is unknown."""
        if track.x0_mm is None:
            return None
        open_ns = self._belt.when(track.x0_mm + self.window(track).start_mm, now_ns)
        if open_ns is None:
            return None
        settings = self._settings
        return open_ns - round((settings.open_lead_ms + settings.publish_ms + settings.margin_ms) * NS_PER_MS)

    def too_late(self, track: Track, now_ns: int, position_mm: float) -> str | None:
        """Say why an order published now could not be met, None if it can."""
        open_ns = self._belt.when(track.start_mm, now_ns)
        if open_ns is None:
            return "the window has begun" if position_mm > track.start_mm else None
        late_ns = now_ns - self.publish_limit_ns(open_ns - round(self._settings.open_lead_ms * NS_PER_MS))
        if late_ns <= 0:
            return None
        return "the window has passed" if position_mm > track.end_mm else f"too late by {late_ns / NS_PER_MS:.1f} ms"

    def new_order(self, track: Track, now_ns: int) -> GateOrder:
        """Give the order for a part whose window is set: counts where its own is known, moments while the belt runs."""
        return self._timed(track, self._counted(track), now_ns)

    def revised(self, track: Track, now_ns: int, position_mm: float, last_mm: float) -> GateOrder:
        """Give an order as it is now: the very same object when nothing worth telling changed.

        `last_mm` is the belt's position at the revision before. Notes in `track` where the gate went on and cleared.
        """
        self.note_firing(track, now_ns, position_mm, last_mm)
        speed_mm_s = self._belt.speed_mm_s(now_ns)
        if self._ended(track, now_ns, position_mm):
            return self._looked_back(track, now_ns)
        if speed_mm_s is None:
            return self._revised_blind(track, position_mm)
        if speed_mm_s <= STANDING_MM_S:
            return _frozen(track.order, fired=track.on_mm is not None)
        if track.on_mm is None and self._settings.kind == "pulse" and not self.by_count(track.order):
            track.set_window(self.window(track))
        order = self._timed(track, track.order, now_ns)
        if track.on_mm is not None:
            order = replace(order, due_ns=track.order.due_ns, open_ns=track.order.open_ns)
        elif not self.by_count(order):
            order = self._still_met(track, order, now_ns, speed_mm_s)
        return order if _worth_telling(track.order, order) else track.order

    def _ended(self, track: Track, now_ns: int, position_mm: float) -> bool:
        """Whether the off-command has been: by count at the window's end, by time at the moment last told."""
        if self.by_count(track.order):
            return position_mm >= track.end_mm
        return track.on_mm is not None and track.order.off_ns is not None and now_ns >= track.order.off_ns

    def _looked_back(self, track: Track, now_ns: int) -> GateOrder:
        """Close an order that has ended, once the belt was measured since: one that failed its part after all is MISSED.

        So a change of speed that nobody saw while samples were silent, or a late publication that seemed in time, is
        reported when an encoder shows it.
        """
        settings, order = self._settings, track.order
        clear_ns = round((settings.close_lead_ms + settings.firing_jitter_ms) * NS_PER_MS)
        clear_mm = max(self._belt.speed_around_mm_s(now_ns), 0.0) * clear_ns / NS_PER_S
        if self.by_count(order) or order.off_ns is None or order.open_ns is None or order.due_ns is None:
            on = off = None
            track.on_mm = self._on_by_count_mm(track, now_ns)
            open_ns = track.ordered_ns + round((settings.publish_ms + settings.open_lead_ms) * NS_PER_MS)
            measured = self._belt.known_until_ns(now_ns) >= open_ns
        else:
            open_ns, on, off = order.open_ns, self._belt.bounds_mm(order.due_ns), self._belt.bounds_mm(order.off_ns)
            measured = self._belt.known_until_ns(now_ns) >= order.off_ns
        if not measured and (on is None or self._belt.speed_mm_s(now_ns) is not None):
            return order
        opened = self._belt.bounds_mm(open_ns) or (track.start_mm, track.start_mm)
        closed = off or (track.end_mm, track.end_mm)
        if on is not None:
            track.on_mm = _settled(self._on_mm(track), on[0])
        track.clear_mm = clear_mm + _settled(track.end_mm, closed[1])
        if not measured:
            return missed(order, "the encoder fell silent: nobody saw where the gate opened")
        return self._judged(track, _settled(track.start_mm, opened[1]), _settled(track.end_mm, closed[0]))

    def _on_by_count_mm(self, track: Track, now_ns: int) -> float | None:
        """Where a PLC switched the gate on, by the speed that the belt had there as it was measured since."""
        if track.on_mm is None:
            return None
        # Published when the belt was past the on-command already, it went on there and not before.
        on_ns = self._belt.moment_ns(track.on_mm, now_ns)
        on_mm = track.start_mm - self._settings.open_lead_ms / 1e3 * self._belt.speed_around_mm_s(on_ns)
        ordered_mm = self._belt.position_mm(track.ordered_ns)
        return on_mm if ordered_mm is None else max(on_mm, ordered_mm)

    def _on_mm(self, track: Track) -> float:
        """Where the on-command of an order is meant to be given."""
        return track.start_mm - self._settings.open_lead_ms / 1e3 * self.planning_speed_mm_s()

    def _judged(self, track: Track, opened_mm: float, closed_mm: float) -> GateOrder:
        """Say whether a gate open between two belt positions met its part: over its middle third, a stroke within it."""
        front_mm = track.front_mm + self._settings.distance_mm
        first_mm, last_mm = front_mm + track.length_mm / 3, front_mm + track.length_mm * 2 / 3
        if self._settings.kind == "pulse":
            first_mm, last_mm = last_mm, first_mm
        if opened_mm > first_mm:
            return missed(
                track.order, f"the belt was faster than known: open {opened_mm - front_mm:.0f} mm into the part"
            )
        if closed_mm < last_mm:
            return missed(track.order, f"the belt was slower than known: closed {closed_mm - front_mm:.0f} mm into it")
        return track.order

    def _counted(self, track: Track) -> GateOrder:
        belt = self._belt.settings
        if track.count is None or track.x0_mm is None:
            return NO_ORDER
        start = round((track.start_mm - track.x0_mm) * belt.counts_per_mm)
        end = round((track.end_mm - track.x0_mm) * belt.counts_per_mm)
        return GateOrder(
            open_count=(track.count + start) % belt.modulus,
            close_count=(track.count + end) % belt.modulus,
        )

    def _timed(self, track: Track, order: GateOrder, now_ns: int) -> GateOrder:
        open_ns, off_ns = self._belt.when(track.start_mm, now_ns), self._belt.when(track.end_mm, now_ns)
        if open_ns is None or off_ns is None:
            return order
        due_ns = open_ns - round(self._settings.open_lead_ms * NS_PER_MS)
        window_ms = order.window_ms or (off_ns - open_ns) / NS_PER_MS
        off_ns = max(off_ns, due_ns + round(self._settings.min_on_ms * NS_PER_MS))
        return replace(order, due_ns=due_ns, open_ns=open_ns, off_ns=off_ns, window_ms=window_ms)

    def _still_met(self, track: Track, order: GateOrder, now_ns: int, speed_mm_s: float) -> GateOrder:
        """Judge a timed order that a change of speed has moved: late within the guard is fired now, later is MISSED."""
        if order.due_ns is None or order.open_ns is None or track.x0_mm is None:
            return order
        settings = self._settings
        reach_ns = 0 if settings.mode == "bridge" else round(settings.publish_ms * NS_PER_MS)
        late_ns = now_ns + reach_ns - order.due_ns
        if late_ns <= 0:
            return order
        kept_mm = track.x0_mm + settings.distance_mm - track.start_mm
        allowed_mm = max(kept_mm, settings.firing_jitter_ms / 1e3 * speed_mm_s)
        if late_ns / NS_PER_S * speed_mm_s > allowed_mm:
            return missed(order, f"the belt ran faster: too late by {late_ns / NS_PER_MS:.1f} ms")
        if settings.mode == "bridge":
            return replace(order, due_ns=now_ns, open_ns=now_ns + order.open_ns - order.due_ns)
        return order

    def _revised_blind(self, track: Track, position_mm: float) -> GateOrder:
        """Without a speed: a PLC goes on by counts; a timed order is missed once the belt may have carried it past."""
        if track.on_mm is not None:
            return track.order
        lead_mm = self._settings.open_lead_ms / 1e3 * max(self._belt.held_speed_mm_s, 0.0)
        if not self.by_count(track.order) and position_mm > track.start_mm - lead_mm:
            return missed(track.order, SPEED_UNKNOWN)
        return _frozen(track.order, fired=False)

    def note_firing(self, track: Track, now_ns: int, position_mm: float, last_mm: float) -> None:
        """Note where the gate was switched on, once it must have been: by count, or when its time had come."""
        if track.on_mm is not None:
            return
        speed_mm_s = max(self._belt.held_speed_mm_s, 0.0)
        if self.by_count(track.order):
            on_mm = track.start_mm - self._settings.open_lead_ms / 1e3 * speed_mm_s
            if position_mm >= on_mm:
                track.on_mm = max(on_mm, min(position_mm, last_mm))
            return
        due_ns = track.order.due_ns
        reach_ms = 0.0 if self._settings.mode == "bridge" else self._settings.publish_ms
        if due_ns is not None and now_ns >= due_ns - round(reach_ms * NS_PER_MS):
            track.on_mm = _settled(self._on_mm(track), position_mm + speed_mm_s * (due_ns - now_ns) / NS_PER_S)


def _settled(planned_mm: float, measured_mm: float) -> float:
    """Give the place as planned where the measured one differs by no more than late stamps make it differ."""
    return planned_mm if abs(measured_mm - planned_mm) <= LOST_MM else measured_mm


def missed(order: GateOrder, reason: str) -> GateOrder:
    """Give the order as missed: its counts stand as published, its moments are gone."""
    return replace(order, state="missed", reason=reason, due_ns=None, open_ns=None, off_ns=None)


def _frozen(order: GateOrder, *, fired: bool) -> GateOrder:
    """Give the order without moments; a fired one keeps its on-command, which has been."""
    frozen = replace(order, off_ns=None) if fired else replace(order, due_ns=None, open_ns=None, off_ns=None)
    return order if frozen == order else frozen


def _worth_telling(old: GateOrder, new: GateOrder) -> bool:
    if old.state != new.state:
        return True
    return moved((old.due_ns, new.due_ns), (old.open_ns, new.open_ns), (old.off_ns, new.off_ns))


def moved(*moments: tuple[int | None, int | None]) -> bool:
    """Whether any of these moments, each as it was and as it is, came, went, or moved by enough to be worth telling."""
    return any((a is None) != (b is None) or abs((a or 0) - (b or 0)) >= REVISED_NS for a, b in moments)
