"""The Structured Text is run: on the scenarios of the simulated PLC it must switch the gate at the very same scans."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest

from bridge.domain.verdict import VerdictCode
from bridge.outputs.plc.control_block import CONTROL_REGISTERS
from bridge.outputs.plc.register_map import encode, encode_slot
from bridge.outputs.plc.view import PlcView, Shown
from bridge.outputs.plc.words import WordOrder
from bridge.ports import Outcome
from simulators.fault_kinds import BeltStop, EncoderReset, MissingTrigger, SpeedRamp, Touching
from simulators.faults import ScheduledFault
from simulators.line.field_io import Edge, FieldState
from simulators.line.geometry import Geometry
from simulators.plc.core import ScanInputs
from simulators.plc.links import BridgeLink
from simulators.plc.tables import (
    COUNTS_VALID,
    GUARD_OR_COLLATERAL,
    LET_PASS,
    ORDER_VALID,
    REJECT,
    U32,
    BridgeResult,
    ControlBlock,
    encode_control,
)
from tests.line.simulated_line import LabelBridge, PlanBridge, SimulatedBridge, run_line
from tests.outputs.samples import READY, outcome
from tests.plc.st_interpreter import Library
from tests.plc.twin import Registers, StructuredPlc, TwinPlc, library, source

# blark needs some seconds to read the text, once.
pytestmark = pytest.mark.timeout(120)
MS = 1_000_000
ORDER = ORDER_VALID | COUNTS_VALID


def test_counts_are_added_and_compared_modulo_2_to_the_32_without_an_overflow() -> None:
    difference, add = library().function("LG_Difference"), library().function("LG_Add")
    chance, edges = random.Random(1), (0, 1, 2**31 - 1, 2**31, 2**31 + 1, U32 - 1)

    for _ in range(3000):
        later, earlier = (chance.choice((*edges, chance.randrange(U32))) for _ in range(2))
        assert difference(later, earlier) == (later - earlier + 2**31) % U32 - 2**31
        way = chance.choice((0, 1, -1, 2**31 - 1, -(2**31), chance.randrange(-(2**31), 2**31)))
        assert add(later, way) == (later + way) % U32


@pytest.mark.parametrize("bridge_type", [LabelBridge, PlanBridge])
def test_the_gate_is_that_of_the_simulated_plc_at_every_scan_of_many_lines(bridge_type: type[SimulatedBridge]) -> None:
    scans = switches = 0
    for seed in range(12):
        chance = random.Random(seed)
        speed_mm_s = chance.uniform(500, 1250)
        twin = TwinPlc(geometry=Geometry(counts_per_mm=chance.choice((10.0, 8.192, 100.0))))
        run_line(
            seed=seed, parts=12, speed_mm_s=speed_mm_s, spacing_mm=chance.uniform(120, 300), jitter_mm=1.0,
            geometry=twin.geometry, first_sequence=chance.choice((0, 2**32 - 5, 2**16 - 5)), bridge_type=bridge_type,
            first_count=chance.choice((0, 2**32 - 9000, 2**31 - 5000)), latency_ms=(5.0, chance.choice((60.0, 480.0))),
            plc=twin, faults=(ScheduledFault(fault=SpeedRamp(to_mm_s=500, duration_s=0.5), at_part=4),),
        )  # fmt: skip
        scans, switches = scans + twin.scans, switches + twin.switches

    assert scans > 2000
    assert switches > 80


@pytest.mark.parametrize(
    ("name", "arguments", "reached"),
    [
        ("stopped belt", {"faults": (ScheduledFault(fault=BeltStop(duration_s=1.0, ramp_s=0.1), at_part=4),)}, "order"),
        ("lost trigger", {"faults": (ScheduledFault(fault=MissingTrigger(), at_part=5),)}, "release"),
        (
            "encoder reset",
            {"faults": (ScheduledFault(fault=EncoderReset(), at_part=5),), "first_count": 900_000},
            "release",
        ),
        ("every result late", {"latency_ms": (480.0, 490.0)}, "release"),
        ("silent part", {"silent": frozenset({4}), "spacing_mm": 185.0}, "release"),
        ("silent parts near each other", {"silent": frozenset({4, 5, 6, 7}), "spacing_mm": 200.0}, "release"),
        ("bridge dies", {"bridge_dies_after_ms": 1500.0, "parts": 30}, "release"),
        ("merged windows", {"spacing_mm": 130.0, "parts": 16}, "order"),
        ("parts that touch", {"faults": (ScheduledFault(fault=Touching(), at_part=4),)}, "order"),
        (
            "parts that touch and nobody judges",
            {"faults": (ScheduledFault(fault=Touching(), at_part=4),), "silent": frozenset({4})},
            "release",
        ),
    ],
)
def test_the_gate_is_that_of_the_simulated_plc_when(name: str, arguments: dict[str, Any], reached: str) -> None:
    del name
    twin = TwinPlc(geometry=Geometry(guard_mm=20.0))
    run_line(**{"seed": 5, "parts": 10, "bridge_type": PlanBridge, "geometry": twin.geometry, "plc": twin, **arguments})

    assert twin.decided[reached] > 0
    assert twin.switches > 1


PULSE = Geometry(pulse_ms=60.0)


@pytest.mark.parametrize("bridge_type", [LabelBridge, PlanBridge])
def test_a_pusher_s_strokes_are_those_of_the_simulated_plc_at_every_scan(bridge_type: type[SimulatedBridge]) -> None:
    orders = releases = 0
    for seed in range(6):
        chance = random.Random(seed)
        twin = TwinPlc(geometry=replace(PULSE, pulse_ms=chance.choice((50.0, 80.0, 33.0)), counts_per_mm=8.192))
        run_line(
            seed=seed, parts=10, speed_mm_s=chance.uniform(600, 1250), spacing_mm=chance.uniform(185, 300),
            jitter_mm=1.0, geometry=twin.geometry, bridge_type=bridge_type, plc=twin, silent=frozenset({3, 7}),
            first_count=chance.choice((0, 2**32 - 9000)),
            faults=(ScheduledFault(fault=SpeedRamp(to_mm_s=500, duration_s=0.5), at_part=4),
                    ScheduledFault(fault=Touching(), at_part=8)),
        )  # fmt: skip
        orders, releases = orders + twin.decided["order"], releases + twin.decided["release"]

    assert releases > 10
    assert orders > 10 or bridge_type is LabelBridge


PLANTED = [
    ("the middle is the part's front", "Geometry.PartLengthMm / 2.0", "Geometry.PartLengthMm / 20.0"),
    ("a stroke of half its time", "Geometry.PulseMs / 2.0", "Geometry.PulseMs / 4.0"),
    ("a stroke for the speed of the order", "parts[i].OpenCount := LG_Add(Count := parts[i].MiddleCount, Way := -half);", ""),
    ("a stroke at the end of the order's window", "MiddleCount := middle;", "MiddleCount := kept[slot].CloseCount;"),
    ("the eye is not looked at", "IF EyeBlocked AND", "IF FALSE AND"),
    ("a LET_PASS for two parts", "kept[slot].Disposition = 1 AND parts[i].Longer = 0", "kept[slot].Disposition = 1"),
    ("an order of one part for two", "IF Geometry.Pulse AND parts[stay].Stage = 1 THEN", "IF FALSE THEN"),
    ("any order is believed", "known := stride >= 0", "known := stride >= stride"),
]  # fmt: skip


@pytest.mark.soak  # each text is parsed anew, which takes seconds
@pytest.mark.timeout(240)
@pytest.mark.parametrize(("name", "right", "planted"), PLANTED, ids=[name for name, _, _ in PLANTED])
def test_a_mistake_in_the_strokes_or_the_eye_is_seen(name: str, right: str, planted: str) -> None:
    del name
    text = source()
    assert text.count(right) >= 1
    mistaken = Library(text.replace(right, planted))

    assert differs(mistaken)


def test_the_text_without_a_mistake_is_not_accused() -> None:
    assert not differs(library())


def differs(blocks: Library) -> bool:
    """Whether the gate of these blocks differs from the simulated PLC's on strokes at a changing speed, and on pairs."""
    line = PolledTwin(PULSE)
    line.twin.structured = StructuredPlc(PULSE, blocks=blocks)
    orders = {1: (200, 5_900, 6_950), 2: (200, 7_200, 5_800), 4: (60, 5_850, 7_150)}
    try:
        line.run(20)
        for sequence, held_ms in ((1, 0), (2, 0), (3, 0), (4, 205), (5, 205)):
            met_ms, line.speed_mm_s = line.at_ms, 1000.0
            line.part(sequence)
            line.held_until_ms = met_ms + held_ms
            told_ms, opens, closes = orders.get(sequence, (250, 0, 0))
            line.run(met_ms + told_ms)
            if opens:
                line.registers.show(BridgeResult(
                    sequence=sequence, verdict=2, disposition=REJECT, flags=ORDER,
                    open_count=line.front + opens, close_count=line.front + closes,
                ))  # fmt: skip
            elif sequence == 5:
                line.result(sequence, LET_PASS)
            line.run(met_ms + 300)
            line.speed_mm_s = 700.0
            line.run(met_ms + 1200)
    except AssertionError:
        return True
    return False


def test_a_stroke_is_its_time_long_around_the_middle_at_any_speed() -> None:
    for speed_mm_s, order in ((1000.0, True), (500.0, True), (500.0, False), (1250.0, False)):
        line = PolledTwin(PULSE)
        line.speed_mm_s = speed_mm_s
        line.run(20)
        line.part(1)
        middle = line.front + 6500
        line.run(60)
        if order:
            # Planned at 1200 mm/s: 72 mm wide.
            line.registers.show(BridgeResult(
                sequence=1, verdict=2, disposition=REJECT, flags=ORDER, open_count=middle - 360, close_count=middle + 360
            ))  # fmt: skip
        line.run(2000)

        on = [ms for ms, gate in line.gate.items() if gate]
        middle_ms = 20 + 650 / speed_mm_s * 1000
        # 40 ms of lead and 60 ms open, to the scan: half before the middle, half behind it.
        assert abs(on[0] + 40 + 30 - middle_ms) <= 6
        assert abs(on[-1] + 10 - 30 - middle_ms) <= 6
        assert line.decided == {"let_pass": 0, "order": int(order), "release": int(not order)}


@pytest.mark.parametrize(("apart_ms", "on_off_ms"), [(60, [70]), (100, [30, 70, 30])])
def test_a_short_stroke_has_the_shortest_on_time_and_one_too_near_the_next_for_the_shortest_off_time_holds(
    apart_ms: int, on_off_ms: list[int]
) -> None:
    line = PolledTwin(Geometry(pulse_ms=8.0, open_lead_ms=5.0, close_lead_ms=5.0))
    line.run(20)
    line.part(1)
    line.run(20 + apart_ms)
    line.part(2)
    line.run(1200)

    switches = [ms for ms, gate in line.gate.items() if gate != line.gate.get(ms - 10, False)]
    assert [after - before for before, after in itertools.pairwise(switches)] == on_off_ms


def test_the_comparison_can_fail() -> None:
    twin = TwinPlc(geometry=Geometry())
    twin.structured = StructuredPlc(Geometry(open_lead_ms=50.0))

    with pytest.raises(AssertionError, match="ms"):
        run_line(seed=3, parts=6, plc=twin)


def answer(call: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(call)


class Words:
    """The bridge's registers as a Modbus connection gives them."""

    def __init__(self, registers: Registers) -> None:
        self.registers = registers

    async def read_inputs(self, address: int, count: int) -> list[int]:
        return self.registers.words[address : address + count]


class PolledTwin:
    """Both PLCs with the bridge's words before them, polled by the simulated PLC's own link: one part each 200 ms."""

    def __init__(self, geometry: Geometry | None = None) -> None:
        self.twin, self.registers = TwinPlc(geometry=geometry or Geometry()), Registers()
        self.link = BridgeLink(Words(self.registers))  # type: ignore[arg-type]
        self.twin.registers = self.registers
        self.edges: tuple[Edge, ...] = ()
        self.number = 0
        self.gate: dict[int, bool] = {}
        self.at_ms = self.jump = self.held_until_ms = self.moved = self.front = 0
        self.speed_mm_s = 1000.0

    @property
    def count(self) -> int:
        """The encoder's count now; `jump` is what a reset has added to it."""
        return (self.moved + self.jump) % U32

    def part(self, sequence: int) -> None:
        """A part meets the beam now."""
        self.number += 1
        self.front = self.count
        self.edges = (*self.edges, Edge(sequence=sequence, count=self.count))[-8:]

    def result(self, sequence: int, disposition: int, *, flags: int = 0, met_ms: int = 0) -> None:
        self.registers.show(BridgeResult(
            sequence=sequence, verdict=1 if disposition == LET_PASS else 2, disposition=disposition, flags=flags,
            open_count=(10 * met_ms + 5850) % U32, close_count=(10 * met_ms + 7150) % U32,
        ))  # fmt: skip

    def run(self, until_ms: int, *, beats: bool = True) -> None:
        """Scan both every 10 ms, comparing each time."""
        while self.at_ms < until_ms:
            if beats:
                self.registers.beat(self.at_ms // 500)
            live, fresh = answer(self.link.poll())
            state = FieldState(
                encoder_count=self.count, speed_mm_s=self.speed_mm_s, edge_number=self.number, edges=self.edges,
                photo_eye=self.at_ms < self.held_until_ms,
            )  # fmt: skip
            now_ns = self.at_ms * MS
            inputs = ScanInputs(sampled_ns=now_ns, field=state, results=tuple(fresh), heartbeat=live.heartbeat)
            # Shown already: the words are the bridge's own here.
            expected = super(TwinPlc, self.twin).scan(now_ns, inputs)
            gate = self.twin.structured.scan(now_ns, sampled_ns=now_ns, state=state, words=self.registers.words)
            self.twin.compare(now_ns, expected, gate)
            self.gate[self.at_ms] = gate
            self.at_ms += 10
            self.moved += round(self.speed_mm_s / 10)

    @property
    def decided(self) -> dict[str, int]:
        return self.twin.decided


def test_a_result_that_comes_after_its_part_was_due_changes_nothing() -> None:
    line = PolledTwin()
    line.part(5)
    line.run(600)
    line.result(5, LET_PASS)
    line.run(1000)

    assert line.decided == {"let_pass": 0, "order": 0, "release": 1}
    assert line.gate[690]


def test_what_stands_in_the_ring_at_the_first_answer_is_worth_nothing() -> None:
    line = PolledTwin()
    line.result(5, LET_PASS)
    line.run(20)
    line.part(5)
    line.run(1000)

    assert line.decided == {"let_pass": 0, "order": 0, "release": 1}


def test_a_slot_whose_verdict_is_zero_is_empty_whatever_its_sequence() -> None:
    line = PolledTwin()
    line.run(20)
    line.part(16)
    line.result(16, LET_PASS)
    line.registers.words[102] = line.registers.words[4] = 0
    line.registers.words[38:40] = [0, 0]
    line.run(1000)

    assert line.decided["release"] == 1


def test_a_bridge_that_restarts_is_seen_and_its_new_results_count() -> None:
    line = PolledTwin()
    line.run(20)
    for sequence in range(1, 4):
        line.result(sequence, LET_PASS)
    line.run(100)
    line.part(4)
    line.registers.words[100:] = [0] * 224
    line.registers.words[38:40] = [0, 0]
    line.registers.written = 0
    line.run(300)
    line.result(4, LET_PASS)
    line.run(1000)

    assert line.twin.structured.reader["Restarts"] == 1
    assert line.decided == {"let_pass": 1, "order": 0, "release": 0}


def test_results_that_left_the_ring_unread_are_counted_and_their_parts_rejected() -> None:
    line = PolledTwin()
    line.run(20)
    line.part(1)
    for sequence in range(1, 21):
        line.result(sequence, LET_PASS)
    line.run(1000)

    assert line.twin.structured.reader["ResultsMissed"] == line.link.overrun == 4
    assert line.decided == {"let_pass": 0, "order": 0, "release": 1}


def test_parts_are_rejected_once_the_heartbeat_has_stood_still_for_two_seconds_and_pass_when_it_beats_again() -> None:
    line = PolledTwin()
    line.run(10)
    line.run(1800, beats=False)
    line.part(1)
    line.result(1, LET_PASS)
    line.run(2600, beats=False)
    assert line.decided == {"let_pass": 0, "order": 0, "release": 1}
    assert line.twin.structured.reader["StopRequest"]

    line.part(2)
    line.result(2, LET_PASS)
    line.run(4000)
    assert line.decided == {"let_pass": 1, "order": 0, "release": 1}
    assert not line.twin.structured.reader["StopRequest"]


def test_a_result_that_stood_long_before_its_part_met_the_beam_is_of_an_earlier_run_of_the_counter() -> None:
    line = PolledTwin()
    line.run(20)
    line.result(1, LET_PASS)
    line.result(2, LET_PASS)
    line.run(900)
    line.part(1)
    line.run(1100)
    line.part(2)
    line.run(2500)

    # Part 1 met the beam 880 ms after its result was read, part 2 1,080 ms after.
    assert line.decided == {"let_pass": 1, "order": 0, "release": 1}


@pytest.mark.parametrize("jump", [-2_000, 8_000, 900_000, -900_000])
@pytest.mark.parametrize("told_ms", [20, 400])
def test_after_any_reset_of_the_encoder_parts_under_way_are_rejected_where_they_are(jump: int, told_ms: int) -> None:
    line = PolledTwin()
    line.run(20)
    line.part(1)
    if told_ms < 300:
        line.result(1, LET_PASS)
    line.run(300)
    late = Edge(sequence=2, count=line.count)
    line.jump = jump
    line.run(310)
    line.number, line.edges = 2, (*line.edges, late)
    line.run(400)
    if told_ms >= 300:
        line.result(1, LET_PASS)
    line.run(600)
    line.part(3)
    line.result(3, LET_PASS)
    line.run(1600)

    assert line.decided == {"let_pass": 1, "order": 0, "release": 2}
    assert [ms for ms in (550, 560, 720, 730, 830, 840, 1000, 1010) if line.gate[ms]] == [560, 720, 840, 1000]


@pytest.mark.parametrize(("opens", "closes"), [(90_000, 7_150), (5_850, 90_000)])
def test_an_order_that_lies_nowhere_near_its_part_is_not_believed(opens: int, closes: int) -> None:
    line = PolledTwin()
    line.run(20)
    line.part(1)
    line.registers.show(BridgeResult(
        sequence=1, verdict=2, disposition=REJECT, flags=ORDER, open_count=200 + opens, close_count=200 + closes
    ))  # fmt: skip
    line.run(1000)

    assert line.decided == {"let_pass": 0, "order": 0, "release": 1}


def test_a_part_that_has_left_or_is_told_twice_is_followed_once_at_most() -> None:
    line = PolledTwin()
    line.number, line.edges = 2, (Edge(sequence=1, count=U32 - 8000), Edge(sequence=2, count=U32 - 100))
    line.run(20)
    line.number, line.edges = 3, (*line.edges, Edge(sequence=2, count=U32 - 100))
    line.run(1000)

    assert line.decided == {"let_pass": 0, "order": 0, "release": 1}


def test_a_part_takes_nothing_from_the_one_that_was_followed_in_its_place_before() -> None:
    line = PolledTwin()
    line.run(20)
    line.part(1)
    line.result(1, REJECT, flags=ORDER, met_ms=line.at_ms)
    line.run(1200)
    line.part(2)
    line.run(1350)
    line.part(3)
    line.result(3, LET_PASS)
    line.run(2500)

    # Part 2 has no order of the bridge: its rear guard is given up for part 3, 150 mm behind it.
    assert line.decided == {"let_pass": 1, "order": 1, "release": 1}
    assert [ms for ms in (1890, 1900, 1910, 1920) if line.gate[ms]] == [1890]


def test_the_valve_stays_off_for_its_shortest_time_when_a_part_loses_its_let_pass_at_the_last_moment() -> None:
    line = PolledTwin()
    line.run(1010)
    line.run(2270, beats=False)
    line.part(1)
    line.run(2460, beats=False)
    line.part(2)
    line.result(2, LET_PASS)
    line.run(3600, beats=False)

    # Off behind part 1 at 2980; part 2 is due at 3000, the very scan at which the heartbeat is 2 s old.
    switches = [ms for ms, gate in line.gate.items() if gate != line.gate.get(ms - 10, False)]
    assert switches == [2810, 2980, 3010, 3170]


def test_the_valve_stays_on_for_its_shortest_time_where_the_plc_starts_with_a_part_at_the_gate() -> None:
    line = PolledTwin()
    line.number, line.edges = 1, (Edge(sequence=1, count=U32 - 7000),)
    line.run(200)

    assert [ms for ms, gate in line.gate.items() if gate] == [0, 10, 20]


@pytest.mark.parametrize("flags", [ORDER, ORDER | GUARD_OR_COLLATERAL])
def test_an_order_of_the_bridge_is_fired_by_its_counts(flags: int) -> None:
    line = PolledTwin()
    line.run(20)
    line.part(7)
    line.result(7, REJECT, flags=flags, met_ms=line.at_ms)
    line.run(1000)

    # Met at 20 ms, fully open from 605 ms, so on at 565 ms; off at 735 ms. The scan nearest to each, never early if tight.
    on = [ms for ms, gate in line.gate.items() if gate]
    assert (on[0], on[-1]) == (570 if flags & GUARD_OR_COLLATERAL else 560, 720)
    assert line.decided == {"let_pass": 0, "order": 1, "release": 0}


@pytest.mark.parametrize(
    ("told_ms", "disposition", "closes", "by", "off_ms"),
    [
        (60, LET_PASS, 7150, "release", 830),
        (300, LET_PASS, 7150, "release", 830),
        (1200, LET_PASS, 7150, "release", 830),
        (60, REJECT, 7150, "order", 830),
        (300, REJECT, 7150, "release", 830),
        (300, REJECT, 8600, "order", 880),
        (300, REJECT, 14_300, "release", 830),
    ],
)
def test_what_holds_the_beam_for_longer_than_a_part_is_rejected_as_far_as_it_was_seen(
    told_ms: int, disposition: int, closes: int, by: str, off_ms: int
) -> None:
    line = PolledTwin()
    line.run(20)
    line.part(65_535)
    line.held_until_ms = 225
    line.run(told_ms)
    line.registers.show(BridgeResult(
        sequence=65_535, verdict=1 if disposition == LET_PASS else 2, disposition=disposition,
        flags=0 if disposition == LET_PASS else ORDER, open_count=200 + 5850, close_count=200 + closes,
    ))  # fmt: skip
    line.run(1500)

    # Met at 20 ms, still seen at 220 ms: 200 mm, so open to 800 + 15 mm behind the beam, or as far as a longer order says.
    on = [ms for ms, gate in line.gate.items() if gate]
    assert (on[0], on[-1] + 10) == (560, off_ms)
    assert line.decided == {"let_pass": 0, "order": 0, "release": 0, by: 1}


def test_without_a_measure_for_parts_that_touch_the_eye_says_nothing() -> None:
    plc, registers = StructuredPlc(Geometry(touching_mm=0.0)), Registers()
    for at_ms in range(0, 1000, 10):
        registers.beat(at_ms // 500)
        if at_ms == 300:
            registers.show(BridgeResult(sequence=1, verdict=1, disposition=LET_PASS))
        state = FieldState(
            encoder_count=10 * at_ms, speed_mm_s=1000.0, photo_eye=at_ms < 300, edge_number=1,
            edges=(Edge(sequence=1, count=0),),
        )  # fmt: skip
        assert not plc.scan(at_ms * MS, sampled_ns=at_ms * MS, state=state, words=registers.words)
    assert plc.gate["LetPassed"] == 1


def test_before_the_first_answer_every_part_is_rejected() -> None:
    plc, words, gate = StructuredPlc(Geometry()), [0] * 324, []
    for at_ms in range(0, 800, 10):
        state = FieldState(
            encoder_count=10 * at_ms, speed_mm_s=1000.0, edge_number=1, edges=(Edge(sequence=0, count=0),)
        )
        gate.append(plc.scan(at_ms * MS, sampled_ns=at_ms * MS, state=state, words=words, answered=False))

    assert any(gate)
    assert plc.gate["Released"] == 1


def test_a_gate_on_for_too_long_is_switched_off_until_clear_error() -> None:
    plc, words = StructuredPlc(Geometry(), max_on_us=200_000), [0] * 324
    edges, gate = (Edge(sequence=1, count=0),), {}
    for at_ms in range(0, 1500, 10):
        # The belt stops with the part at the gate.
        state = FieldState(
            encoder_count=10 * min(at_ms, 600), speed_mm_s=1000.0 if at_ms < 600 else 0.0, edge_number=1, edges=edges
        )
        gate[at_ms] = plc.scan(at_ms * MS, sampled_ns=at_ms * MS, state=state, words=words, clear=at_ms == 1400)
        assert plc.gate["StuckOn"] == (740 <= at_ms < 1400), at_ms

    assert [ms for ms in gate if gate[ms]] == [*range(540, 740, 10), *range(1400, 1500, 10)]


def test_more_parts_than_it_can_follow_hold_the_gate_open() -> None:
    plc, words = StructuredPlc(Geometry()), [0] * 324
    for number in range(1, 40):
        edges = tuple(Edge(sequence=n, count=n) for n in range(max(1, number - 7), number + 1))
        state = FieldState(encoder_count=number, speed_mm_s=100.0, edge_number=number, edges=edges)
        gate = plc.scan(number * 10 * MS, sampled_ns=number * 10 * MS, state=state, words=words)
        assert gate == plc.gate["Overflow"] == (number > 32)
    after = FieldState(encoder_count=8000, speed_mm_s=100.0, edge_number=39, edges=())
    assert not plc.scan(80_000 * MS, sampled_ns=80_000 * MS, state=after, words=words)
    assert not plc.gate["Overflow"]


def test_the_eye_s_block_tells_of_each_rising_edge_once() -> None:
    eye = library().new("FB_LinegatePhotoEye")
    for sequence, blocked in ((1, True), (1, True), (2, False), (2, True), (3, False)):
        eye.call(PartAtEye=blocked, Sequence=sequence, LatchedCount=100 * sequence)

    edges = eye["Edges"]
    assert (edges["number"], edges["sequences"][:3], edges["counts"][:3]) == (2, [1, 2, 0], [100, 200, 0])
    edges["number"] = 65535
    eye.call(PartAtEye=True)
    assert edges["number"] == 0


def test_the_control_block_is_the_one_that_the_simulated_plc_writes() -> None:
    control = library().new("FB_LinegateControl")
    control.call(
        Trigger=True, TriggerSequence=U32 - 2, TriggerCount=70_000, EncoderCount=2**31 + 5, SpeedMmS=1200.0,
        RejectConfirm=65_540, GateFired=131_073, ElapsedUs=10_000,
    )  # fmt: skip
    expected = ControlBlock(
        heartbeat=0, encoder_count=2**31 + 5, speed_mm_s=1200.0, confirmed=65_540, fired=131_073, trigger=True,
        sequence=U32 - 2, latched_count=70_000,
    )  # fmt: skip
    assert control["Registers"] == encode_control(expected)

    control.call(LowFirst=True, SpeedMmS=-1.0)
    words = control["Registers"]
    assert (words[2:4], words[4:6], words[6]) == ([65534, 65535], [5, 32768], 65535)
    assert {each.address for each in CONTROL_REGISTERS} <= set(range(16))


def test_the_heartbeat_for_the_bridge_changes_four_times_a_second_and_rolls_over() -> None:
    control, seen = library().new("FB_LinegateControl"), []
    for _ in range(300):
        control.call(ElapsedUs=10_000)
        seen.append(control["Registers"][1])

    assert seen[-1] == 12
    control.frame["beat"] = 65535
    control.call(ElapsedUs=4_000_000_000)
    assert control["Registers"][1] == 0


@pytest.mark.parametrize("word_order", ["high_first", "low_first"])
def test_the_results_are_read_from_the_words_that_the_bridge_encodes(word_order: WordOrder) -> None:
    def words_of(*outcomes: Outcome, written: int) -> list[int]:
        ring = [0] * 224
        for each in outcomes:
            shown = Shown(result=each.result, order=each.result.order, document="{}")
            at = 14 * (each.result.part.trigger.sequence % 16)
            ring[at : at + 14] = encode_slot(shown, word_order)
        view = PlcView(status=READY, written=written, ring=tuple(ring))
        return encode(view, now_ns=0, word_order=word_order)

    reader = library().new("FB_LinegateResults")
    first, good = outcome(123_456), outcome(U32 - 1, code=VerdictCode.PASS)
    for words in (words_of(written=70_000), words_of(first, good, written=70_002)):
        reader.call(
            Answered=True, Status=words[:55], Ring=words[100:], LowFirst=word_order == "low_first", ElapsedUs=10_000
        )

    fresh = {each["sequence"]: each for each in reader["Results"] if each["fresh"]}
    assert set(fresh) == {123_456, U32 - 1}
    order = fresh[123_456]
    assert (order["verdict"], order["disposition"], order["flags"] & ORDER) == (2, 2, ORDER)
    assert (order["opencount"], order["closecount"]) == (462_639, 463_939)
    assert (fresh[U32 - 1]["verdict"], fresh[U32 - 1]["disposition"]) == (1, 1)
    assert (reader["Alive"], reader["Ready"], reader["StopRequest"], reader["Restarts"]) == (True, True, False, 0)
