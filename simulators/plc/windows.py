"""Where the gate must be open for each part: by the bridge's order, or by the PLC's own measure. Counts are u32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from simulators.line.geometry import Geometry
from simulators.plc.tables import U32, BridgeResult, int32

Stage = Literal["waiting", "ordered", "firing", "done"]
PLAUSIBLE_MM = 60.0


@dataclass(slots=True, kw_only=True)
class Tracked:
    """One part between beam and gate: the counts between which the gate must be open for it, u32.

    `exact` counts are the bridge's. A `tight` order has no guard left towards a neighbour: it is never fired early.
    A `lost` part's place is reckoned, because the encoder was reset: whatever the bridge says, it is rejected. One that
    was `overdue` when it was first seen says nothing of how exactly this PLC fires. One that held the beam for longer
    than a part is as many counts `longer`: two parts that touch, and nothing lets them pass. A stroke is laid around the
    `middle_count` at the present speed until it is fired.
    """

    sequence: int
    front_count: int
    open_count: int
    close_count: int
    stage: Stage = "waiting"
    let_pass: bool = False
    missed: bool = False
    exact: bool = False
    tight: bool = False
    lost: bool = False
    overdue: bool = False
    longer: int = 0
    middle_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Where the belt is as the outputs switch: count (not wrapped to whole counts), counts for each ms, ms of slack."""

    now_ns: int
    count: int
    per_ms: float
    slack_ms: float

    def to_go(self, count: int) -> float:
        """Give the counts still to go until `count`."""
        return float(int32(count - self.count))

    def reached(self, count: int, lead_ms: float = 0.0, *, never_early: bool = False) -> bool:
        """Whether this scan is the nearest one to `count`, less a lead at the present speed, or the first after it."""
        return self.to_go(count) <= (lead_ms + (0.0 if never_early else self.slack_ms)) * self.per_ms


def later(count: int, other: int) -> int:
    """Give the later of two counts that lie near each other."""
    return count if int32(count - other) > 0 else other


def centre(open_count: int, close_count: int) -> int:
    """Give the count halfway between two."""
    return (open_count + int32(close_count - open_count) // 2) % U32


class Windows:
    """Lay the window of each part by the line's geometry; `scan_ms` is the PLC's cycle."""

    def __init__(self, geometry: Geometry, *, scan_ms: float) -> None:
        self._geometry, self._scan_ms = geometry, scan_ms
        self._rear_mm = geometry.gate_distance_mm + geometry.part_length_mm + geometry.part_length_tolerance_mm

    def at(self, front_count: int, way_mm: float) -> int:
        """Give the count at which a front edge has moved so far from the beam."""
        return (front_count + round(way_mm * self._geometry.counts_per_mm)) % U32

    def of(self, sequence: int, front_count: int, moment: Moment, *, lost: bool) -> Tracked:
        """Begin to follow a part with the window of this PLC's own measure."""
        from_counts, to_counts = self._span(moment)
        part = Tracked(
            sequence=sequence,
            front_count=front_count,
            open_count=(front_count + from_counts) % U32,
            close_count=(front_count + to_counts) % U32,
            lost=lost,
        )
        self.lay(part, moment)
        part.overdue = moment.reached(part.open_count, self._geometry.open_lead_ms)
        return part

    def under_way(self, front_count: int, moment: Moment) -> bool:
        """Whether a part that met the beam at a count is between beam and the end of its window."""
        per_mm = self._geometry.counts_per_mm
        end_mm = self._span(moment)[1] / per_mm if self._geometry.pulse_ms else self._geometry.window_to_mm
        return -PLAUSIBLE_MM <= -moment.to_go(front_count) / per_mm < end_mm

    def plausible(self, part: Tracked, result: BridgeResult) -> bool:
        """Whether an order lies where this part's own can be: one that doesn't is garbage, and positive release acts.

        The bridge may know that a part is longer than this PLC knows, up to the way from the beam to the gate.
        """
        per_mm = self._geometry.counts_per_mm
        longest = self._geometry.gate_distance_mm * per_mm
        if self._geometry.pulse_ms:
            off = int32(centre(result.open_count, result.close_count) - part.middle_count)
            stroke = int32(result.close_count - result.open_count)
            return 0 <= stroke <= longest and -PLAUSIBLE_MM * per_mm <= off <= longest / 2
        beyond = int32(result.close_count - part.close_count)
        return (
            abs(int32(result.open_count - part.open_count)) <= PLAUSIBLE_MM * per_mm
            and -PLAUSIBLE_MM * per_mm <= beyond <= longest
        )

    def held(self, part: Tracked, count: int, moment: Moment) -> None:
        """Take that a part still holds the beam at a count: where no single part would, it is two and longer."""
        geometry = self._geometry
        longer = int32(count - self.at(part.front_count, geometry.part_length_mm + geometry.part_length_tolerance_mm))
        if longer <= geometry.touching_mm * geometry.counts_per_mm or longer <= part.longer:
            return
        part.longer, part.let_pass = longer, False
        part.close_count = later(part.close_count, (part.front_count + self._span(moment)[1] + longer) % U32)
        if geometry.pulse_ms and part.stage == "ordered":
            # The order is for the middle of one part alone.
            part.stage, part.exact = "waiting", False

    def lay(self, part: Tracked, moment: Moment) -> None:
        """Lay a stroke around the middle of a part, at the present speed; a window that is not a stroke stays."""
        geometry = self._geometry
        if not geometry.pulse_ms or part.stage not in ("waiting", "ordered"):
            return
        from_counts, to_counts = self._span(moment)
        half = (to_counts - from_counts) // 2
        if not part.exact:
            part.middle_count = (part.front_count + from_counts + half + part.longer // 2) % U32
        part.open_count, part.close_count = (part.middle_count - half) % U32, (part.middle_count + half) % U32

    def _span(self, moment: Moment) -> tuple[int, int]:
        """Give the counts from a front edge at the beam to the begin and the end of its window, or of its stroke."""
        geometry, per_mm = self._geometry, self._geometry.counts_per_mm
        if not geometry.pulse_ms:
            return round(geometry.window_from_mm * per_mm), round(geometry.window_to_mm * per_mm)
        middle = round((geometry.gate_distance_mm + geometry.part_length_mm / 2) * per_mm)
        half = round(geometry.pulse_ms / 2 * moment.per_ms)
        return middle - half, middle + half

    def opening(self, part: Tracked, parts: Sequence[Tracked], moment: Moment) -> int:
        """Give where the gate must be open: without the front guard where opening would sweep a part that passed."""
        if part.exact or self._geometry.pulse_ms:
            return part.open_count
        sweep_counts = (self._geometry.open_lead_ms + self._scan_ms) * moment.per_ms
        latest = self.at(part.front_count, self._geometry.gate_distance_mm)
        for other in parts:
            if other.let_pass and int32(part.front_count - other.front_count) > 0:
                clear = (self.at(other.front_count, self._rear_mm) + round(sweep_counts)) % U32
                if int32(clear - part.open_count) > 0:
                    return clear if int32(latest - clear) > 0 else latest
        return part.open_count

    def closing(self, part: Tracked, parts: Sequence[Tracked], moment: Moment) -> int:
        """Give where the gate may close: without the rear guard where closing would sweep a part that is to pass."""
        if part.exact or self._geometry.pulse_ms:
            return part.close_count
        earliest = (self.at(part.front_count, self._rear_mm) + part.longer) % U32
        sweep_counts = (self._geometry.close_lead_ms + self._scan_ms) * moment.per_ms
        for other in parts:
            if other.let_pass and int32(other.front_count - part.front_count) > 0:
                clear = (self.at(other.front_count, self._geometry.gate_distance_mm) - round(sweep_counts)) % U32
                if int32(part.close_count - clear) > 0:
                    return clear if int32(clear - earliest) > 0 else earliest
        return part.close_count
