"""The measures of the line that conveyor and PLC both go by, as a machine's drawing gives them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Beam to gate, the part, the guard around it, and the gate's own times.

    What holds the beam for `touching_mm` more than a part is long is two parts that touch. A gate with a `pulse_ms` is a
    pusher or an air jet, on for so long around the middle of a part; 0 is one that diverts, open over the whole part.
    """

    gate_distance_mm: float = 600.0
    part_length_mm: float = 100.0
    part_length_tolerance_mm: float = 0.0
    guard_mm: float = 15.0
    open_lead_ms: float = 40.0
    close_lead_ms: float = 40.0
    counts_per_mm: float = 10.0
    touching_mm: float = 20.0
    pulse_ms: float = 0.0

    @property
    def window_from_mm(self) -> float:
        """Where the gate must be fully open, in mm that the part's front edge has moved since the beam."""
        return self.gate_distance_mm - self.guard_mm

    @property
    def window_to_mm(self) -> float:
        """Where the gate may begin to close, measured in the same way."""
        return self.gate_distance_mm + self.part_length_mm + self.part_length_tolerance_mm + self.guard_mm


def add_geometry_options(options: argparse.ArgumentParser) -> None:
    """Offer each measure as an option."""
    defaults = Geometry()
    for name, text in _OPTIONS.items():
        flag, value = "--" + name.replace("_", "-"), getattr(defaults, _FIELDS[name])
        options.add_argument(flag, type=float, default=value, help=f"{text} [{value:g}]")


def geometry_from(options: argparse.Namespace) -> Geometry:
    """Read the measures from parsed options."""
    return Geometry(**{_FIELDS[name]: getattr(options, name) for name in _OPTIONS})


_OPTIONS = {
    "gate_distance": "beam to gate in mm",
    "part_length": "part length in mm",
    "length_tolerance": "added behind a part, in mm",
    "guard": "guard in front of and behind a part, in mm",
    "open_lead": "gate command to fully open, in ms",
    "close_lead": "gate command to clear, in ms",
    "counts_per_mm": "encoder counts for each mm",
    "touching": "two parts touch if longer by so much than one, in mm",
    "pulse": "time that a pusher or an air jet is on, in ms; 0: a gate that diverts",
}
_FIELDS = {
    "gate_distance": "gate_distance_mm",
    "part_length": "part_length_mm",
    "length_tolerance": "part_length_tolerance_mm",
    "guard": "guard_mm",
    "open_lead": "open_lead_ms",
    "close_lead": "close_lead_ms",
    "counts_per_mm": "counts_per_mm",
    "touching": "touching_mm",
    "pulse": "pulse_ms",
}
