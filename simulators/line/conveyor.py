"""The conveyor as one device: parts on a belt, past a photo-eye and a camera, to a reject gate and its bin.

`update(now_ns, gate_on=...)` is a function of time and inputs: it lives through all that happened since the last call,
each thing at its exact moment, and tells what that was and when to be called again. It never sleeps and opens nothing.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from simulators.fault_kinds import (
    BeltStop,
    Burst,
    CameraLost,
    ClockWrong,
    DuplicateTrigger,
    EncoderReset,
    Fault,
    MissingTrigger,
    SpeedRamp,
    Touching,
)
from simulators.faults import FaultSchedule
from simulators.line.belt import NS, U32, Belt
from simulators.line.camera import Picture, ReplayCamera
from simulators.line.field_io import EDGE_SLOTS, Edge, FieldState
from simulators.line.gate import RejectGate
from simulators.line.geometry import Geometry
from simulators.line.marks import Mark, places
from simulators.truth import Outcome, PartTruth

EventKind = Literal["at_eye", "at_gate", "binned", "passed", "swept", "in_bin", "belt", "fault"]
BIN_PULSE_NS = 50_000_000
LEAD_IN_MM = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Laying:
    """How parts are laid on the belt: `parts` None goes on for ever; the pitch is front edge to front edge."""

    parts: int | None = None
    spacing_mm: float = 180.0
    jitter_mm: float = 0.0
    seed: int = 1
    first_sequence: int = 1
    part_prefix: str = "P-"


@dataclass(frozen=True, slots=True, kw_only=True)
class LineEvent:
    """Something that happened at an exact moment. `copies` says how often the trigger is told, 0 = lost.

    A `fault` is told as it begins; one that befalls a process is for the process's owner to carry out.
    """

    kind: EventKind
    at_ns: int
    part: Riding | None = None
    copies: int = 1
    text: str = ""
    fault: Fault | None = None


@dataclass(slots=True, kw_only=True)
class Riding:
    """A part on the belt. `front_mm` is the belt's position as its front edge meets the beam; `at` the moments since.

    `count` is latched at the beam. `clock_off_ns` is how far the stamp of its trigger is off, None while the clock is
    right; `pictured` whether the camera gave its picture. A part that lies against another, `ahead` of it, has no edge
    at the eye and no sequence of its own; the trigger of the first is `held` until the beam is free, and then tells for
    how long that was, `eye_on_ns`.
    """

    number: int
    sequence: int
    part_id: str
    picture: Picture
    front_mm: float
    count: int
    copies: int = 1
    pictured: bool = True
    clock_off_ns: int | None = None
    ahead: Riding | None = None
    held: bool = False
    eye_on_ns: int | None = None
    at: dict[Mark, int] = field(default_factory=dict)


class Conveyor:
    """The whole line in simulated time; see the module."""

    def __init__(
        self,
        *,
        now_ns: int,
        camera: ReplayCamera,
        geometry: Geometry,
        laying: Laying,
        speed_mm_s: float = 1200.0,
        first_count: int = 0,
        faults: FaultSchedule | None = None,
    ) -> None:
        self.belt = Belt(
            speed_mm_s=speed_mm_s, now_ns=now_ns, counts_per_mm=geometry.counts_per_mm, first_count=first_count
        )
        self.gate = RejectGate(open_lead_ms=geometry.open_lead_ms, close_lead_ms=geometry.close_lead_ms)
        self.truths: list[PartTruth] = []
        self.riding: dict[int, Riding] = {}
        self._camera, self._geometry, self._laying = camera, geometry, laying
        self._faults = faults or FaultSchedule()
        self._random = random.Random(laying.seed)
        self._start_ns: int | None = None
        self._last_mm = 0.0
        self._close: tuple[int, float] = (0, 0.0)
        self._camera_lost_until_ns = self._clock_wrong_until_ns = now_ns
        self._clock_off_ns = 0
        self._laid = self._touched = 0
        self._last_laying = laying.parts
        self._marks: list[tuple[float, int, Mark]] = []
        self._edges: deque[Edge] = deque(maxlen=EDGE_SLOTS)
        self._met = self._edge_number = 0
        self._blocking: set[int] = set()
        self._binned = 0
        self._bin_pulse_ns = now_ns - BIN_PULSE_NS
        self._binned_on_way: set[int] = set()

    @property
    def laid(self) -> int:
        """Parts laid on the belt so far."""
        return self._laid

    @property
    def finished(self) -> bool:
        """Whether every part that will ever be laid has passed the gate and the bin."""
        return self._start_ns is not None and self._laid == self._last_laying and not self._marks

    def start(self, now_ns: int) -> None:
        """Begin to lay parts: the first meets the beam after a lead-in of belt."""
        self._start_ns = now_ns
        self._last_mm = self.belt.position_at(now_ns) + LEAD_IN_MM - self._laying.spacing_mm
        self._lay()

    def stop_laying(self) -> None:
        """Lay no more parts; those on the belt go on to the gate, those that have not met the beam are taken off."""
        self._marks = [entry for entry in self._marks if Mark.BEAM in self.riding[entry[1]].at]
        heapq.heapify(self._marks)
        self.riding = {number: part for number, part in self.riding.items() if Mark.BEAM in part.at}
        self._last_laying = self._laid = self._met

    def forget(self, *, keep: int) -> None:
        """Keep only the newest truths and movements of the gate: for a line that runs for weeks and has no file to fill."""
        for history in (self.truths, self.gate.fully_open, self.gate.sweeps):
            del history[:-keep]

    def update(self, now_ns: int, *, gate_on: bool) -> tuple[list[LineEvent], int | None]:
        """Live through everything up to `now_ns`, then take the gate's command.

        Gives the events in order and the moment of the next one, None when nothing more will happen by itself.
        """
        events: list[LineEvent] = []
        while (next_ns := self._next_ns()) is not None and next_ns <= now_ns:
            self._step(next_ns, events)
        self.gate.command(now_ns, gate_on)
        return events, self._next_ns()

    def state_at(self, now_ns: int) -> FieldState:
        """Give the field's inputs; call `update` for the same moment first."""
        return FieldState(
            encoder_count=self.belt.count_at(now_ns),
            speed_mm_s=self.belt.speed_at(now_ns),
            photo_eye=bool(self._blocking),
            bin_sensor=now_ns - self._bin_pulse_ns < BIN_PULSE_NS,
            gate_fully_open=self.gate.is_fully_open(now_ns),
            binned=self._binned,
            edge_number=self._edge_number,
            edges=tuple(self._edges),
        )

    def _next_ns(self) -> int | None:
        mark_ns = self.belt.when_at(self._marks[0][0]) if self._marks else None
        fault_s = self._faults.next_s
        if fault_s is None or self._start_ns is None:
            return mark_ns
        fault_ns = self._start_ns + round(fault_s * NS)
        return fault_ns if mark_ns is None else min(mark_ns, fault_ns)

    def _elapsed_s(self, now_ns: int) -> float:
        return (now_ns - self._start_ns) / NS if self._start_ns is not None else 0.0

    def _step(self, now_ns: int, events: list[LineEvent]) -> None:
        for fault in self._faults.due_by(self._elapsed_s(now_ns)):
            self._befall(fault, now_ns, events)
        while self._marks and (mark_ns := self.belt.when_at(self._marks[0][0])) is not None and mark_ns <= now_ns:
            _, number, mark = heapq.heappop(self._marks)
            part = self.riding[number]
            part.at[mark] = now_ns
            self._pass_mark(part, mark, now_ns, events)

    def _befall(self, fault: Fault, now_ns: int, events: list[LineEvent]) -> None:
        if fault.victim != "part":
            events.append(LineEvent(kind="fault", at_ns=now_ns, fault=fault))
        if isinstance(fault, BeltStop):
            self.belt.stop(now_ns, duration_s=fault.duration_s, ramp_s=fault.ramp_s)
            events.append(LineEvent(kind="belt", at_ns=now_ns, text=f"stops for {fault.duration_s:g} s"))
        elif isinstance(fault, SpeedRamp):
            if fault.from_mm_s is not None:
                self.belt.ramp(now_ns, to_mm_s=fault.from_mm_s, duration_s=0.0)
            self.belt.ramp(now_ns, to_mm_s=fault.to_mm_s, duration_s=fault.duration_s)
            text = f"goes to {fault.to_mm_s:g} mm/s in {fault.duration_s:g} s"
            events.append(LineEvent(kind="belt", at_ns=now_ns, text=text))
        elif isinstance(fault, EncoderReset):
            self.belt.reset_count(now_ns)
        elif isinstance(fault, Burst):
            self._close = (fault.parts, fault.spacing_mm)
        elif isinstance(fault, CameraLost):
            self._camera_lost_until_ns = now_ns + round(fault.duration_s * NS)
        elif isinstance(fault, ClockWrong):
            self._clock_wrong_until_ns = now_ns + round(fault.duration_s * NS)
            self._clock_off_ns = round(fault.offset_s * NS)

    def _pass_mark(self, part: Riding, mark: Mark, now_ns: int, events: list[LineEvent]) -> None:
        if mark is Mark.BEAM:
            self._meet_beam(part, now_ns, events)
        elif mark is Mark.BEAM_CLEAR:
            self._leave_beam(part, now_ns, events)
        elif mark is Mark.GATE:
            events.append(LineEvent(kind="at_gate", at_ns=now_ns, part=part))
        elif mark is Mark.GATE_CLEAR:
            outcome = self._leave_gate(part)
            events.append(LineEvent(kind=outcome, at_ns=now_ns, part=part))
        elif mark is Mark.BIN:
            if part.number in self._binned_on_way:
                self._binned_on_way.discard(part.number)
                self._binned = (self._binned + 1) % U32
                self._bin_pulse_ns = now_ns
                events.append(LineEvent(kind="in_bin", at_ns=now_ns, part=part))
            del self.riding[part.number]

    def _meet_beam(self, part: Riding, now_ns: int, events: list[LineEvent]) -> None:
        self._blocking.add(part.number)
        self._met += 1
        told, leant_on = _first(part), False
        for fault in self._faults.due_at(part.number + 1, self._elapsed_s(now_ns)):
            if isinstance(fault, MissingTrigger):
                told.copies = 0
            elif isinstance(fault, DuplicateTrigger):
                told.copies = 2
            elif isinstance(fault, Touching):
                leant_on = True
            self._befall(fault, now_ns, events)
        if part is told:
            self._edge_number += 1
            part.count = self.belt.count_for(part.front_mm)
            part.pictured = now_ns >= self._camera_lost_until_ns
            part.clock_off_ns = self._clock_off_ns if now_ns < self._clock_wrong_until_ns else None
            self._edges.append(Edge(sequence=part.sequence, count=part.count))
        if self._last_laying is None or self._laid < self._last_laying:
            told.held = told.held or leant_on
            self._lay(ahead=part if leant_on else None)
        if not told.held:
            events.append(LineEvent(kind="at_eye", at_ns=now_ns, part=part, copies=part.copies))

    def _leave_beam(self, part: Riding, now_ns: int, events: list[LineEvent]) -> None:
        """Free the beam, unless a part lies against this one; the trigger of parts that touch is told then."""
        self._blocking.discard(part.number)
        told = _first(part)
        if told.held and all(other.ahead is not part for other in self.riding.values()):
            told.held, told.eye_on_ns = False, now_ns - told.at[Mark.BEAM]
            events.append(LineEvent(kind="at_eye", at_ns=now_ns, part=told, copies=told.copies))

    def _lay(self, *, ahead: Riding | None = None) -> None:
        """Lay the next part: a pitch behind the last, give or take the jitter, or against the one `ahead`."""
        number, laying = self._laid, self._laying
        if self._last_laying is not None and number >= self._last_laying:
            return
        self._laid += 1
        if ahead is not None:
            self._touched += 1
            front_mm = self._last_mm = ahead.front_mm + self._geometry.part_length_mm
        else:
            jitter = self._random.uniform(-laying.jitter_mm, laying.jitter_mm) / 2 if laying.jitter_mm else 0.0
            close_parts, close_mm = self._close
            self._close = (max(0, close_parts - 1), close_mm)
            self._last_mm += close_mm if close_parts else laying.spacing_mm
            front_mm = self._last_mm + jitter
        sequence = (laying.first_sequence + number - self._touched) % U32
        self.riding[number] = Riding(
            number=number,
            sequence=sequence,
            part_id=f"{laying.part_prefix}{sequence:06d}" if ahead is None else f"{ahead.part_id}+",
            picture=self._camera.picture_for(number),
            front_mm=front_mm,
            count=self.belt.count_for(front_mm),
            copies=1 if ahead is None else 0,
            ahead=ahead,
        )
        for mark, offset_mm in places(self._geometry).items():
            heapq.heappush(self._marks, (front_mm + offset_mm, number, mark))

    def _leave_gate(self, part: Riding) -> Outcome:
        """Settle what became of a part as its rear leaves the gate."""
        open_there = self.gate.open_throughout(part.at[Mark.MIDDLE], part.at[Mark.MIDDLE_CLEAR])
        swept = self.gate.touched(part.at[Mark.GATE], part.at[Mark.GATE_CLEAR])
        outcome: Outcome = "binned" if open_there else "swept" if swept else "passed"
        if outcome == "binned":
            self._binned_on_way.add(part.number)
        self.truths.append(
            PartTruth(
                part_id=part.part_id,
                sequence=part.sequence,
                label=part.picture.label,
                good=self._camera.is_good(part.picture),
                picture=part.picture.name,
                copies=part.copies,
                count=part.count,
                triggered_ns=part.at[Mark.BEAM],
                gate_from_ns=part.at[Mark.GATE],
                middle_from_ns=part.at[Mark.MIDDLE],
                middle_to_ns=part.at[Mark.MIDDLE_CLEAR],
                gate_to_ns=part.at[Mark.GATE_CLEAR],
                open_for_middle=open_there,
                swept=swept,
                outcome=outcome,
                ahead=None if part.ahead is None else part.ahead.part_id,
            )
        )
        return outcome


def _first(part: Riding) -> Riding:
    """Give the foremost of parts that touch: the one whose trigger is for all of them."""
    return part if part.ahead is None else _first(part.ahead)
