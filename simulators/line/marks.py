"""The places that a part passes on its way from the photo-eye to the reject bin."""

from __future__ import annotations

from enum import IntEnum

from simulators.line.geometry import Geometry

BIN_WAY_MM = 60.0


class Mark(IntEnum):
    """The places that a part's front edge passes, in order."""

    BEAM = 0
    BEAM_CLEAR = 1
    GATE = 2
    MIDDLE = 3
    MIDDLE_CLEAR = 4
    GATE_CLEAR = 5
    BIN = 6


def places(geometry: Geometry) -> dict[Mark, float]:
    """Give how far behind the beam a part's front edge is at each mark."""
    length, distance = geometry.part_length_mm, geometry.gate_distance_mm
    return {
        Mark.BEAM: 0.0,
        Mark.BEAM_CLEAR: length,
        Mark.GATE: distance,
        Mark.MIDDLE: distance + length / 3,
        Mark.MIDDLE_CLEAR: distance + length * 2 / 3,
        Mark.GATE_CLEAR: distance + length,
        Mark.BIN: distance + length + BIN_WAY_MM,
    }
