"""The plan of the reject gate: every part between photo-eye and gate, and what is ordered for it.

Nothing here depends on when a verdict came out: a window lies on the belt from the trigger on. A verdict only decides
whether the gate opens there, and whether that can still be met.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bridge.domain.belt import Belt
from bridge.domain.gate import NO_ORDER, GateOrder, Release
from bridge.domain.gate_release import ReleaseTiming
from bridge.domain.gate_settings import GateSettings
from bridge.domain.gate_timing import PLACE_UNKNOWN, SPEED_UNKNOWN, GateTiming, missed
from bridge.domain.gate_track import PartKey, Stretch, Track, merged_sweeps
from bridge.domain.verdict import Disposition

PAST_MM = 100.0  # a part this far behind its last place of interest is forgotten


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOutcome:
    """The order for one part, and the parts already let pass that its sweep will touch (each named only once).

    `release` is set for a part that is to pass a gate which rests in the reject position.
    """

    order: GateOrder
    collateral: tuple[PartKey, ...] = ()
    release: Release | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A part's order as it has become: moved, frozen, missed, or (state "none") a part let pass but swept after all.

    With `release` it tells of that alone.
    """

    key: PartKey
    order: GateOrder
    release: Release | None = None

    @property
    def missed(self) -> bool:
        """Whether the part, ordered before, can't be rejected any more."""
        return self.order.state == "missed"

    @property
    def collateral(self) -> bool:
        """Whether this tells of a part that was to pass and will be swept: count it once."""
        return self.order.state == "none" and self.release is None


class GatePlan:
    """Tracks the parts on the belt and orders the gate for those to be rejected."""

    def __init__(self, settings: GateSettings, belt: Belt) -> None:
        self._settings = settings
        self._belt = belt
        self._timing = GateTiming(settings, belt)
        self._releasing = ReleaseTiming(settings, belt)
        self._tracks: dict[PartKey, Track] = {}
        self._last_mm: float | None = None

    def __len__(self) -> int:
        return len(self._tracks)

    def expect(
        self,
        key: PartKey,
        *,
        x0_mm: float | None,
        count_at_trigger: int | None = None,
        length_mm: float | None = None,
    ) -> None:
        """Take a newly triggered part, placed by `Belt.place`, so that its neighbours' orders spare it."""
        length_mm = self._settings.part_length_mm if length_mm is None else length_mm
        self._tracks[key] = Track(x0_mm=x0_mm, length_mm=length_mm, count=count_at_trigger)

    @property
    def camera_at_beam(self) -> bool:
        """Whether a part is at the camera at the moment of its trigger."""
        return self._settings.camera_offset_mm == 0

    def capture_ns(self, key: PartKey, now_ns: int) -> int | None:
        """Give the moment the front edge is at the camera; None while the belt stands or its speed is unknown."""
        track = self._tracks.get(key)
        if track is None or track.x0_mm is None:
            return None
        return self._belt.when(track.x0_mm + self._settings.camera_offset_mm, now_ns)

    def deadline_ns(self, key: PartKey, now_ns: int) -> int | None:
        """Give the verdict's deadline, due - output_ms - margin; None while the belt stands or its speed is unknown."""
        track = self._tracks.get(key)
        return None if track is None else self._timing.deadline_ns(track, now_ns)

    def publish_limit_ns(self, order: GateOrder) -> int | None:
        """Give the last moment at which an order may be published; None while it has no moment."""
        return None if order.due_ns is None else self._timing.publish_limit_ns(order.due_ns)

    def order_for(self, key: PartKey, disposition: Disposition, now_ns: int) -> GateOutcome:
        """Decide on one part. Asked again for the same part it gives the same order: nothing is ordered twice.

        The order is "missed" with its reason when the belt's speed or the part's place is unknown, or when it would
        come too late; "none" for a part let pass, with `collateral` set if an ordered sweep touches it.
        """
        track = self._tracks.get(key)
        if track is None:
            unplaced = disposition is Disposition.REJECT
            return GateOutcome(order=missed(NO_ORDER, PLACE_UNKNOWN) if unplaced else NO_ORDER)
        if track.state != "undecided":
            return GateOutcome(order=track.order, release=track.release)
        self._note_firings(now_ns)
        if disposition is Disposition.REJECT:
            return self._reject(track, now_ns)
        track.state = "passing"
        if self._settings.releases:
            track.release = self._releasing.release_of(track, now_ns)
        if self._touched(track, self._sweeps(now_ns)) or (track.release is not None and track.release.refused):
            track.order = replace(track.order, collateral=True)
        return GateOutcome(order=track.order, release=track.release)

    def revise(self, now_ns: int) -> list[Revision]:
        """Recompute the moments after a sample or after a while without one; give only what changed.

        Call it on each speed or encoder sample, and at least every 100 ms. An order ends with its off-command.
        """
        position_mm = self._belt.position_mm(now_ns)
        revisions: list[Revision] = []
        if position_mm is None:
            return revisions
        last_mm = position_mm if self._last_mm is None else self._last_mm
        for key, track in self._tracks.items():
            if track.state == "ordered" and not track.over:
                order = self._timing.revised(track, now_ns, position_mm, last_mm)
                if order is not track.order:
                    track.order = order
                    track.state = "let_go" if order.state == "missed" else track.state
                    revisions.append(Revision(key=key, order=order))
        self._last_mm = position_mm
        revisions += [Revision(key=key, order=self._tracks[key].order) for key in self._newly_swept(now_ns)]
        for key, track in self._tracks.items():
            if track.release is not None:
                release = self._releasing.release_of(track, now_ns)
                if release is not track.release:
                    revisions += _release_revised(key, track, release)
        return revisions

    def lose(self, now_ns: int, reason: str, *, counted: bool = True) -> list[Revision]:
        """Give up the places of all parts on the belt: pending orders are MISSED, later rejects of them will be.

        For an encoder reset; with `counted` False (the speed was unknown for a while), orders that a PLC fires by
        their counts stand, and so do parts that have a count.
        """
        self._note_firings(now_ns)
        revisions: list[Revision] = []
        for key, track in self._tracks.items():
            if not counted and (self._timing.by_count(track.order) or track.count is not None):
                continue
            if track.state == "undecided":
                track.lost = reason
            elif track.state == "ordered" and not track.over:
                revisions.append(_order_missed(key, track, reason))
            elif track.release is not None and not (track.release.refused or track.seen_through):
                revisions += _release_revised(key, track, Release(refused=reason))
        return revisions

    def give_up(self, keys: Sequence[PartKey], reason: str) -> list[Revision]:
        """Take from whoever fires that he could not carry out these orders and releases."""
        revisions: list[Revision] = []
        for key in keys:
            track = self._tracks.get(key)
            if track is not None and track.state == "ordered" and not track.over:
                revisions.append(_order_missed(key, track, reason))
            elif track is not None and track.release is not None and not track.release.refused:
                revisions += _release_revised(key, track, Release(refused=reason))
        return revisions

    def reset(self, now_ns: int) -> list[Revision]:
        """Answer an encoder reset: every pending order is MISSED, and so is every reject of a part now on the belt."""
        return self.lose(now_ns, "encoder reset")

    def forget(self, key: PartKey) -> None:
        """Drop one part whatever becomes of it."""
        self._tracks.pop(key, None)

    def prune(self, now_ns: int) -> list[PartKey]:
        """Drop the decided parts that are past the gate and all that can touch them; give their keys."""
        position_mm = self._belt.position_mm(now_ns)
        undecided = [track.body(self._settings) for track in self._tracks.values() if track.state == "undecided"]
        waiting = [body for body in undecided if body is not None]
        past = [key for key, track in self._tracks.items() if self._past(track, position_mm, waiting)]
        for key in past:
            del self._tracks[key]
        return past

    def _note_firings(self, now_ns: int) -> None:
        """Bring what is on and what is not up to date, so that sweeps lie where they were."""
        position_mm = self._belt.position_mm(now_ns)
        if position_mm is None:
            return
        last_mm = position_mm if self._last_mm is None else self._last_mm
        for track in self._tracks.values():
            if track.state == "ordered" and not track.over:
                self._timing.note_firing(track, now_ns, position_mm, last_mm)

    def _reject(self, track: Track, now_ns: int) -> GateOutcome:
        position_mm = self._belt.position_mm(now_ns)
        if track.x0_mm is None and track.count is not None:
            track.x0_mm = self._belt.position_of_count(track.count)
        if track.lost is not None:
            return _let_go(track, track.lost)
        if self._belt.speed_mm_s(now_ns) is None or position_mm is None:
            return _let_go(track, SPEED_UNKNOWN)
        if track.x0_mm is None:
            return _let_go(track, PLACE_UNKNOWN)
        spared = self._spare_neighbours(track)
        late = self._timing.too_late(track, now_ns, position_mm)
        if late is not None:
            return _let_go(track, late)
        order = self._timing.new_order(track, now_ns)
        merged = self._merges(track)
        track.state = "ordered"
        track.order = replace(order, state="ordered", merged=merged, guard_given_up=spared)
        track.ordered_ns = now_ns
        swept = tuple(self._newly_swept(now_ns))
        if swept or self._sweeps_a_passing_part(track, position_mm):
            track.order = replace(track.order, collateral=True)
        return GateOutcome(order=track.order, collateral=swept)

    def _spare_neighbours(self, track: Track) -> bool:
        """Set the window, without the guard on each side where the sweep could touch a part that may pass."""
        track.set_window(self._timing.window(track))
        reach = self._timing.reach(track)
        front = rear = True
        for other in self._tracks.values():
            body = other.body(self._settings)
            if other is track or not other.may_pass or body is None or not body.touches(reach):
                continue
            if other.front_mm < track.front_mm:
                front = False
            else:
                rear = False
        track.set_window(self._timing.window(track, front_guard=front, rear_guard=rear))
        return self._settings.kind == "divert" and not (front and rear)

    def _sweeps(self, now_ns: int) -> list[Stretch]:
        """Give what the gate has swept, and of what lies ahead the stretch that no wrong guess of the speed explains.

        So a neighbour at the limit is told of when the order is over and the belt was measured, or not at all.
        """
        speed_mm_s, here_mm = self._timing.planning_speed_mm_s(), self._belt.position_mm(now_ns)
        return merged_sweeps(self._tracks.values(), self._settings, speed_mm_s, here_mm, self._belt.speed_doubt)

    def _newly_swept(self, now_ns: int) -> list[PartKey]:
        """Mark the parts let pass that a sweep touches and nobody was told of; give their keys."""
        untold = {
            key: track
            for key, track in self._tracks.items()
            if track.state == "passing" and not track.order.collateral and track.x0_mm is not None
        }
        if not untold or not any(track.sweeps for track in self._tracks.values()):
            return []
        sweeps = self._sweeps(now_ns)
        swept = [key for key, track in untold.items() if self._touched(track, sweeps)]
        for key in swept:
            untold[key].order = replace(untold[key].order, collateral=True)
        return swept

    def _touched(self, track: Track, sweeps: list[Stretch]) -> bool:
        body = track.body(self._settings)
        return body is not None and any(body.touches(sweep) for sweep in sweeps)

    def _sweeps_a_passing_part(self, track: Track, here_mm: float) -> bool:
        sweep = track.sweep(self._settings, self._timing.planning_speed_mm_s(), here_mm, self._belt.speed_doubt)
        return any(self._touched(other, [sweep]) for other in self._tracks.values() if other.state == "passing")

    def _merges(self, track: Track) -> bool:
        near_mm = self._settings.merge_ms / 1e3 * self._timing.planning_speed_mm_s()
        return any(
            other.start_mm - track.end_mm < near_mm and track.start_mm - other.end_mm < near_mm
            for other in self._tracks.values()
            if other is not track and other.state == "ordered"
        )

    def _past(self, track: Track, position_mm: float | None, waiting: list[Stretch]) -> bool:
        """Whether nothing can ask for this part any more; a verdict that is still out may find that it was swept."""
        if track.state == "undecided" or (track.state == "ordered" and not track.over):
            return False
        body = track.body(self._settings)
        if body is None or position_mm is None:
            return True
        if position_mm <= max(body.end_mm, track.clear_mm or body.end_mm) + PAST_MM:
            return False
        if not track.sweeps:
            return not self._in_doubt(track, body)
        sweep = track.sweep(self._settings, self._timing.planning_speed_mm_s(), position_mm)
        return not any(other.touches(sweep) for other in waiting)

    def _in_doubt(self, track: Track, body: Stretch) -> bool:
        """Whether a part let pass may yet prove to have been swept by an order that is not over."""
        if track.state != "passing" or track.order.collateral:
            return False
        if track.release is not None and not track.seen_through:
            return True
        pending = [one for one in self._tracks.values() if one.state == "ordered" and not one.over]
        return any(body.touches(self._timing.reach(one)) for one in pending)


def _order_missed(key: PartKey, track: Track, reason: str) -> Revision:
    """Give up an order that stood."""
    track.order = missed(track.order, reason)
    track.state = "let_go"
    return Revision(key=key, order=track.order)


def _release_revised(key: PartKey, track: Track, release: Release) -> list[Revision]:
    """Note a changed release; one that is refused leaves its part to a gate that rejects: collateral, told once."""
    track.release = release
    told = [Revision(key=key, order=track.order, release=release)]
    if release.refused and not track.order.collateral:
        track.order = replace(track.order, collateral=True)
        told.append(Revision(key=key, order=track.order))
    return told


def _let_go(track: Track, reason: str) -> GateOutcome:
    track.state = "let_go"
    track.order = missed(NO_ORDER, reason)
    return GateOutcome(order=track.order)
