"""What befalls belt, encoder, camera and clock, in simulated time; and what the trigger then lacks."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from simulators.fault_kinds import (
    BrokerKill,
    Burst,
    CameraLost,
    ClockWrong,
    DuplicateTrigger,
    EncoderReset,
    Fault,
    MissingTrigger,
    Touching,
)
from simulators.faults import FaultSchedule, ScheduledFault
from simulators.line.belt import Belt
from simulators.line.camera import Picture, ReplayCamera
from simulators.line.conveyor import Conveyor, Laying, LineEvent
from simulators.line.geometry import Geometry
from simulators.line.triggers import encode_trigger

MS = 1_000_000
S = 1_000_000_000
PICTURE = Picture(path=Path("one.jpg"), name="good/one.jpg", label="good")


def line(*faults: ScheduledFault, parts: int = 20, first_count: int = 50_000) -> tuple[Conveyor, list[LineEvent]]:
    """Run a line of parts at a pitch of 180 mm and 1200 mm/s to its end, 150 ms a part, the first at the beam at 250 ms."""
    conveyor = Conveyor(
        now_ns=0,
        camera=ReplayCamera((PICTURE,)),
        geometry=Geometry(),
        laying=Laying(parts=parts),
        first_count=first_count,
        faults=FaultSchedule(faults),
    )
    conveyor.start(0)
    events: list[LineEvent] = []
    next_ns: int | None = 0
    while next_ns is not None:
        new, next_ns = conveyor.update(next_ns, gate_on=False)
        events += new
    return conveyor, events


def at_part(number: int, fault: Fault) -> ScheduledFault:
    return ScheduledFault(fault=fault, at_part=number)


def test_an_encoder_that_is_reset_shows_zero_and_counts_on() -> None:
    belt = Belt(speed_mm_s=1000.0, now_ns=0, first_count=2**32 - 2000)
    assert belt.count_at(S) == 8000
    belt.reset_count(S)

    assert (belt.count_at(S), belt.count_at(S + 100 * MS)) == (0, 1000)
    assert belt.position_at(S + 100 * MS) == 1100.0


def test_parts_after_a_reset_are_latched_by_the_new_count_and_those_before_keep_theirs() -> None:
    conveyor, events = line(at_part(4, EncoderReset()), parts=6)
    counts = [edge.count for edge in conveyor.state_at(10 * S).edges]

    assert counts == [53_000, 54_800, 56_600, 0, 1800, 3600]
    assert [truth.count for truth in conveyor.truths] == counts
    assert [event.fault for event in events if event.kind == "fault"] == [EncoderReset()]


def test_a_burst_lays_so_many_parts_closer_and_then_the_pitch_is_as_before() -> None:
    conveyor, _ = line(at_part(3, Burst(parts=4, spacing_mm=130.0)), parts=10)
    gaps_mm = [
        round((after.triggered_ns - before.triggered_ns) * 1200 / S)
        for before, after in itertools.pairwise(conveyor.truths)
    ]

    assert gaps_mm == [180, 180, 130, 130, 130, 130, 180, 180, 180]


def test_a_lost_camera_and_a_wrong_clock_befall_the_parts_of_their_time() -> None:
    # The first part meets the beam at 250 ms, the n-th 150 ms later each.
    _, events = line(
        ScheduledFault(fault=CameraLost(duration_s=0.4), at_s=0.5),
        ScheduledFault(fault=ClockWrong(duration_s=0.4, offset_s=-2.0), at_s=1.0),
        parts=10,
    )
    parts = [event.part for event in events if event.kind == "at_eye" and event.part is not None]

    assert [part.number for part in parts if not part.pictured] == [2, 3, 4]
    assert [part.number for part in parts if part.clock_off_ns == -2 * S] == [5, 6, 7]
    assert [part.number for part in parts if part.clock_off_ns is None] == [0, 1, 2, 3, 4, 8, 9]


def seen(events: list[LineEvent]) -> list[tuple[str, int, float | None, int]]:
    """Give each trigger: part id, moment in ms, for how long the beam was held if that is told, and copies."""
    return [
        (e.part.part_id, e.at_ns // MS, None if e.part.eye_on_ns is None else e.part.eye_on_ns / MS, e.copies)
        for e in events
        if e.kind == "at_eye" and e.part is not None
    ]


def test_parts_that_touch_are_one_edge_and_one_trigger_which_leaves_as_the_beam_clears() -> None:
    conveyor, events = line(at_part(3, Touching()), parts=6)

    # Two parts of 100 mm hold the beam for 200 mm at 1200 mm/s; the pitch to the next counts from the second.
    told = [("P-000001", 250), ("P-000002", 400), ("P-000003", 716), ("P-000004", 783), ("P-000005", 933)]
    assert [(part, ms) for part, ms, _, _ in seen(events)] == told
    held = [(part, round(ms, 3)) for part, _, ms, _ in seen(events) if ms is not None]
    assert held == [("P-000003", 166.667)]
    assert [edge.sequence for edge in conveyor.state_at(10 * S).edges] == [1, 2, 3, 4, 5]
    assert [(t.part_id, t.sequence, t.copies, t.ahead) for t in conveyor.truths][2:5] == [
        ("P-000003", 3, 1, None), ("P-000003+", 3, 0, "P-000003"), ("P-000004", 4, 1, None),
    ]  # fmt: skip
    assert len(conveyor.truths) == conveyor.laid == 6
    fronts_ms = [truth.triggered_ns / MS for truth in conveyor.truths[2:5]]
    assert [round(ms - fronts_ms[0], 1) for ms in fronts_ms] == [0.0, 83.3, 233.3]


def test_the_beam_stays_blocked_between_parts_that_touch() -> None:
    conveyor = Conveyor(
        now_ns=0,
        camera=ReplayCamera((PICTURE,)),
        geometry=Geometry(),
        laying=Laying(parts=3),
        faults=FaultSchedule((at_part(1, Touching()),)),
    )
    conveyor.start(0)
    blocked = []
    for at_ms in range(0, 600, 4):
        conveyor.update(at_ms * MS, gate_on=False)
        blocked += [at_ms] if conveyor.state_at(at_ms * MS).photo_eye else []

    assert blocked[:43] == [*range(252, 420, 4), 484]


def test_three_parts_that_touch_are_one_trigger_and_a_fault_of_its_own_befalls_it() -> None:
    conveyor, events = line(
        at_part(2, Touching()), at_part(3, Touching()), at_part(4, DuplicateTrigger()),
        at_part(5, Touching()), at_part(6, MissingTrigger()), parts=8,
    )  # fmt: skip

    told = [(part, None if ms is None else round(ms), copies) for part, _, ms, copies in seen(events)]
    assert told == [
        ("P-000001", None, 1), ("P-000002", 250, 2), ("P-000003", 167, 0), ("P-000004", None, 1), ("P-000005", None, 1),
    ]  # fmt: skip
    assert [t.part_id for t in conveyor.truths][1:4] == ["P-000002", "P-000002+", "P-000002++"]


def test_nothing_lies_against_the_last_part_and_what_is_taken_off_touches_nothing() -> None:
    _, events = line(at_part(4, Touching()), parts=4)
    assert seen(events)[-1] == ("P-000004", 700, None, 1)

    conveyor = Conveyor(
        now_ns=0, camera=ReplayCamera((PICTURE,)), geometry=Geometry(), laying=Laying(),
        faults=FaultSchedule((at_part(1, Touching()),)),
    )  # fmt: skip
    conveyor.start(0)
    conveyor.update(300 * MS, gate_on=False)
    conveyor.stop_laying()
    events, _ = conveyor.update(400 * MS, gate_on=False)
    assert [(part, round(ms or 0)) for part, _, ms, _ in seen(events)] == [("P-000001", 83)]


def test_what_befalls_a_process_is_told_at_its_time_and_changes_nothing_on_the_line() -> None:
    fault = BrokerKill(down_s=1.0)
    conveyor, events = line(ScheduledFault(fault=fault, at_s=0.7), parts=8)
    undisturbed, _ = line(parts=8)

    assert [(event.at_ns, event.fault) for event in events if event.kind == "fault"] == [(700 * MS, fault)]
    assert conveyor.truths == undisturbed.truths


def test_a_trigger_lacks_what_its_source_has_not_got() -> None:
    message = encode_trigger(
        sequence=7, part_id="P-7", utc_ns=0, count=None, length_mm=100.0, picture=None, form="inline"
    )

    assert json.loads(message.payload) == {
        "part_id": "P-7", "sequence": 7, "ts": "1970-01-01T00:00:00.000000Z", "length_mm": 100.0,
    }  # fmt: skip
    assert message.content_type is None


def test_a_trigger_of_parts_that_touch_tells_how_long_the_beam_was_held_and_no_length() -> None:
    message = encode_trigger(
        sequence=7, part_id="P-7", utc_ns=0, count=5, length_mm=100.0, picture=None, form="inline", eye_on_ms=166.66667
    )

    assert json.loads(message.payload) == {
        "part_id": "P-7", "sequence": 7, "ts": "1970-01-01T00:00:00.000000Z", "encoder": 5, "eye_on_ms": 166.667,
    }  # fmt: skip
