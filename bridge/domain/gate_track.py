"""One part on its way to the gate, and the stretch of belt that a sweep of the gate covers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from bridge.domain.gate import NO_ORDER, GateOrder, Release
from bridge.domain.gate_settings import GateSettings, Window

PartKey = tuple[int, int]
"""Epoch and sequence: what a part is known by inside the bridge."""

TrackState = Literal["undecided", "passing", "ordered", "let_go"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A piece of the belt that is not to be shared, as belt positions in mm."""

    start_mm: float
    end_mm: float

    def touches(self, other: Stretch) -> bool:
        """Whether the two overlap; meeting at a point is no touch."""
        return self.start_mm < other.end_mm and other.start_mm < self.end_mm


@dataclass(slots=True, kw_only=True)
class Track:
    """A tracked part. Positions are the belt's: where it is when the part's edge, or its window, is at the gate.

    `on_mm` is where the gate was switched on for it, None before; `over` that its off-command is past. "let_go" parts
    are rejects that could not be ordered or met: nothing protects them, nothing opens for them. `seen_through`: the belt
    was measured since its release was over.
    """

    x0_mm: float | None
    length_mm: float
    count: int | None
    state: TrackState = "undecided"
    lost: str | None = None
    order: GateOrder = NO_ORDER
    release: Release | None = None
    seen_through: bool = False
    start_mm: float = 0.0
    end_mm: float = 0.0
    on_mm: float | None = None
    clear_mm: float | None = None
    ordered_ns: int = 0

    @property
    def over(self) -> bool:
        """Whether the off-command of its order lies behind."""
        return self.clear_mm is not None

    @property
    def sweeps(self) -> bool:
        """Whether the gate opens or has opened for it, even if that failed its part."""
        return self.state == "ordered" or self.on_mm is not None

    @property
    def may_pass(self) -> bool:
        """Whether the gate must spare it if it can: it is to pass, or may yet be."""
        return self.state in ("undecided", "passing")

    @property
    def front_mm(self) -> float:
        """Where its front edge met the beam; for placed parts only."""
        assert self.x0_mm is not None
        return self.x0_mm

    def body(self, settings: GateSettings) -> Stretch | None:
        """Give the stretch over which the part is at the gate; None when its place is unknown."""
        if self.x0_mm is None:
            return None
        front_mm = self.x0_mm + settings.distance_mm
        return Stretch(start_mm=front_mm, end_mm=front_mm + self.length_mm + settings.length_tolerance_mm)

    def set_window(self, window: Window) -> None:
        """Place the window of its order on the belt."""
        self.start_mm, self.end_mm = self.front_mm + window.start_mm, self.front_mm + window.end_mm

    def sweep(self, settings: GateSettings, speed_mm_s: float, here_mm: float | None, doubt: float = 0.0) -> Stretch:
        """Give the stretch from the on-command to the gate being clear, by how it went or else the present speed.

        What has not begun can't begin before `here_mm`, the belt's present position. With a `doubt`, the share by which
        the speed may be wrong, it is what will be swept for sure.
        """
        per_ms_mm = speed_mm_s * (1.0 - doubt) / 1e3
        planned_mm = self.start_mm - settings.open_lead_ms * per_ms_mm
        on_mm = planned_mm if here_mm is None else max(planned_mm, here_mm)
        if self.clear_mm is not None:
            return Stretch(start_mm=on_mm if self.on_mm is None else self.on_mm, end_mm=self.clear_mm)
        if self.on_mm is not None:
            on_mm = max(planned_mm, self.on_mm) if doubt else self.on_mm
        off_mm = max(self.end_mm, planned_mm + settings.min_on_ms * per_ms_mm)
        late_mm = (settings.close_lead_ms + settings.firing_jitter_ms) * per_ms_mm
        return Stretch(start_mm=on_mm, end_mm=off_mm + late_mm)


def merged_sweeps(
    tracks: Iterable[Track], settings: GateSettings, speed_mm_s: float, here_mm: float | None, doubt: float = 0.0
) -> list[Stretch]:
    """Give the stretches that the gate sweeps, or has swept, for `tracks`: merged where it stays open between."""
    ordered = sorted((one for one in tracks if one.sweeps), key=lambda one: one.start_mm)
    merged: list[Stretch] = []
    window_end_mm = 0.0
    for one in ordered:
        sweep = one.sweep(settings, speed_mm_s, here_mm, doubt)
        near = one.start_mm - window_end_mm < settings.merge_ms / 1e3 * speed_mm_s
        if merged and (near or sweep.start_mm < merged[-1].end_mm):
            last = merged.pop()
            sweep = Stretch(start_mm=min(last.start_mm, sweep.start_mm), end_mm=max(last.end_mm, sweep.end_mm))
            window_end_mm = max(window_end_mm, one.end_mm)
        else:
            window_end_mm = one.end_mm
        merged.append(sweep)
    return merged
