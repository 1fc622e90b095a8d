"""The reject gate's numbers, and the geometry that follows from them.

A part's way is measured from the moment its front edge met the photo-eye's beam: x = 0 there, x = `distance_mm` when
that edge reaches the gate. The gate is a point on the belt: a part is at the gate from x = distance to
x = distance + its length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

GateMode = Literal["plc", "bridge"]
GateKind = Literal["divert", "pulse"]
GateRest = Literal["reject", "pass"]

BRIDGE_LATE_MS = 1.0
OUTPUT_MS = {"plc": 20.0, "bridge": 5.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """All that the timing of the gate depends on, apart from the belt.

    `output_ms` None stands for 20 ms in `plc` mode and 5 ms in `bridge` mode. `firing_jitter_ms` is how late whoever
    fires may be, never early: the PLC's scan, or the wake-up of the gate process. `rest` is what the gate does with its
    coil off; it matters in `bridge` mode alone.
    """

    mode: GateMode = "plc"
    kind: GateKind = "divert"
    rest: GateRest = "reject"
    distance_mm: float = 600.0
    open_lead_ms: float = 40.0
    close_lead_ms: float = 40.0
    part_length_mm: float = 100.0
    length_tolerance_mm: float = 0.0
    guard_mm: float = 15.0
    output_ms: float | None = None
    margin_ms: float = 20.0
    camera_offset_mm: float = 0.0
    pulse_ms: float = 50.0
    max_on_ms: float = 2000.0
    min_on_ms: float = 30.0
    min_off_ms: float = 30.0
    firing_jitter_ms: float = 10.0

    @property
    def publish_ms(self) -> float:
        """Worst time from an order in the map to a switched output."""
        return OUTPUT_MS[self.mode] if self.output_ms is None else self.output_ms

    @property
    def releases(self) -> bool:
        """Whether a part passes only by a release of its own: the bridge drives a gate that rests in reject."""
        return self.mode == "bridge" and self.rest == "reject" and self.kind == "divert"

    @property
    def merge_ms(self) -> float:
        """Windows closer together than this merge: the gate could not close and open again between them."""
        return self.open_lead_ms + self.rest_ms

    @property
    def rest_ms(self) -> float:
        """An off-command and the next on-command lie at least so far apart, the former being late included."""
        return max(self.close_lead_ms, self.min_off_ms + self.firing_jitter_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Where the gate is fully open, as x in mm."""

    start_mm: float
    end_mm: float


def window_for(
    settings: GateSettings,
    length_mm: float,
    speed_mm_s: float,
    *,
    front_guard: bool = True,
    rear_guard: bool = True,
) -> Window:
    """Give the window of one part; the speed matters for `kind = "pulse"` alone, which has no guards."""
    front_mm = settings.distance_mm
    if settings.kind == "pulse":
        middle_mm = front_mm + length_mm / 2
        half_mm = settings.pulse_ms / 2e3 * speed_mm_s
        return Window(start_mm=middle_mm - half_mm, end_mm=middle_mm + half_mm)
    rear_mm = front_mm + length_mm + settings.length_tolerance_mm
    return Window(
        start_mm=front_mm - (settings.guard_mm if front_guard else 0.0),
        end_mm=rear_mm + (settings.guard_mm if rear_guard else 0.0),
    )


def smallest_pitch_mm(settings: GateSettings, speed_mm_s: float) -> float:
    """Give the smallest pitch, front edge to front edge, at which a reject never touches a part that is to pass.

    For `divert`: length + tolerance + guard + (larger lead + firing jitter) x speed, 175 mm by the defaults. For
    `pulse` the stroke's half takes the place of the guard and of half the part; parts can't overlap in any case.
    """
    travel_mm = (max(settings.open_lead_ms, settings.close_lead_ms) + settings.firing_jitter_ms) / 1e3 * speed_mm_s
    body_mm = settings.part_length_mm + settings.length_tolerance_mm
    if settings.kind == "pulse":
        half_mm = settings.pulse_ms / 2e3 * speed_mm_s
        return max(body_mm, settings.part_length_mm / 2 + settings.length_tolerance_mm + half_mm + travel_mm)
    return body_mm + settings.guard_mm + travel_mm


def parts_between(settings: GateSettings, speed_mm_s: float) -> int:
    """Give how many parts at the smallest pitch lie between the beam and the end of the first one's window.

    More than 16 and a PLC that looks parts up in the ring of the last 16 results loses some of them.
    """
    window = window_for(settings, settings.part_length_mm, speed_mm_s)
    return math.floor(window.end_mm / smallest_pitch_mm(settings, speed_mm_s)) + 1
