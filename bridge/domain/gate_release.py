"""The moments at which the gate is held back to let one part pass, where it rests in the reject position.

With `rest = "reject"` the coil has to be on for a part to pass, so a part passes only by a release of its own: one whose
trigger was lost, or that nobody judged, meets a gate that rejects. Orders win over releases where both stand.
"""

from __future__ import annotations

from dataclasses import replace

from bridge.domain.belt import LOST_MM, NS_PER_MS, NS_PER_S, STANDING_MM_S, Belt
from bridge.domain.gate import Release
from bridge.domain.gate_settings import GateSettings
from bridge.domain.gate_timing import PLACE_UNKNOWN, SPEED_UNKNOWN, moved
from bridge.domain.gate_track import Track


class ReleaseTiming:
    """Joins the gate's settings with the belt for parts that are to pass; holds no state of its own."""

    def __init__(self, settings: GateSettings, belt: Belt) -> None:
        self._settings = settings
        self._belt = belt

    def release_of(self, track: Track, now_ns: int) -> Release:
        """Give a passing part's release as it is now, the one it has where nothing worth telling changed."""
        held = track.release
        if held is not None and held.over(now_ns):
            return self._looked_back(track, held, now_ns)
        body, here_mm = track.body(self._settings), self._belt.position_mm(now_ns)
        if track.lost is not None or body is None:
            return Release(refused=track.lost or PLACE_UNKNOWN)
        begun = held is not None and held.due_ns is not None and now_ns >= held.due_ns
        if self._belt.speed_mm_s(now_ns) is None or here_mm is None:
            return self._blind(held, begun=begun, passed=here_mm is not None and here_mm > body.start_mm)
        due_ns, off_ns = self._moments(body.start_mm, body.end_mm, now_ns)
        if held is not None and begun:
            fresh = replace(held, off_ns=off_ns)
        elif due_ns is None:
            fresh = Release(refused=_too_late(here_mm - body.start_mm) if here_mm > body.start_mm else None)
        else:
            fresh = self._still_clear(due_ns, off_ns, now_ns)
        return held if held is not None and not _differ(held, fresh) else fresh

    def _moments(self, front_mm: float, rear_mm: float, now_ns: int) -> tuple[int | None, int | None]:
        start_ns = self._belt.when(front_mm - self._settings.guard_mm, now_ns)
        off_ns = self._belt.when(rear_mm + self._settings.guard_mm, now_ns)
        if start_ns is None or off_ns is None:
            return None, None
        return start_ns - round(self._settings.close_lead_ms * NS_PER_MS), off_ns

    def _still_clear(self, due_ns: int, off_ns: int | None, now_ns: int) -> Release:
        """Judge a release by how late it is: within the guard the gate still clears in time, beyond it does not."""
        speed_mm_s = max(self._belt.speed_mm_s(now_ns) or 0.0, STANDING_MM_S)
        late_mm = (now_ns - due_ns) / NS_PER_S * speed_mm_s - self._settings.guard_mm
        if late_mm > 0:
            return Release(refused=_too_late(late_mm))
        return Release(due_ns=max(due_ns, now_ns) if late_mm > -self._settings.guard_mm else due_ns, off_ns=off_ns)

    def _looked_back(self, track: Track, held: Release, now_ns: int) -> Release:
        """Refuse a release after all that an encoder shows to have failed its part while its samples were silent."""
        body = track.body(self._settings)
        if held.due_ns is None or held.off_ns is None or body is None or track.seen_through:
            return held
        if self._belt.known_until_ns(now_ns) < held.off_ns:
            return held
        track.seen_through = True
        cleared = self._belt.bounds_mm(held.due_ns + round(self._settings.close_lead_ms * NS_PER_MS))
        back = self._belt.bounds_mm(held.off_ns)
        if cleared is None or back is None:
            return Release(refused="the encoder fell silent: nobody saw whether the gate was clear")
        if cleared[1] > body.start_mm + LOST_MM:
            return Release(refused="the belt was faster than known: the gate cleared into the part")
        if back[0] < body.end_mm - LOST_MM:
            return Release(refused="the belt was slower than known: the gate came back into the part")
        return held

    def _blind(self, held: Release | None, *, begun: bool, passed: bool) -> Release:
        """Without a speed: what has begun goes on as last timed, what has not waits until the part may be there."""
        if held is None or (passed and not begun):
            return Release(refused=SPEED_UNKNOWN)
        return held if begun else Release()


def _too_late(late_mm: float) -> str:
    return f"its verdict came too late to clear the gate: by {late_mm:.0f} mm"


def _differ(old: Release, new: Release) -> bool:
    return old.refused != new.refused or moved((old.due_ns, new.due_ns), (old.off_ns, new.off_ns))
