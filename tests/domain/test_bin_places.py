"""Whose a count in the bin is by the place of the parts on the belt, with stops, ramps and what the PLC does by itself."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from bridge.domain.belt import Belt, BeltEvent, BeltSettings
from bridge.domain.confirmation import SLACK_NS, Confirmations, Seen
from bridge.domain.gate_track import PartKey
from bridge.domain.guards import GuardSettings

MS = 1_000_000
BIN_MM, PITCH_MM, WINDOW_MS = 760.0, 180.0, 100.0
GUARDS = GuardSettings(confirm_distance_mm=BIN_MM, confirm_window_ms=WINDOW_MS)
PART_MM = 100.0


@dataclass(kw_only=True)
class Line:
    """A belt told by speed samples, parts that meet the beam every pitch, and what became of each in the bin."""

    speed_mm_s: float = 1200.0
    now_ns: int = 0
    belt: Belt = field(default_factory=lambda: Belt(BeltSettings(speed_source="mqtt")))
    seen: dict[PartKey, str] = field(default_factory=dict)
    overdue_ns: dict[PartKey, int] = field(default_factory=dict)
    unknown: int = 0

    def __post_init__(self) -> None:
        self.bin = Confirmations(self.belt, GUARDS, pitch_mm=175.0)
        self.belt.speed_sample(self.speed_mm_s, 0)

    @property
    def here_mm(self) -> float:
        position_mm = self.belt.position_mm(self.now_ns)
        assert position_mm is not None
        return position_mm

    def speed(self, mm_s: float) -> None:
        self.speed_mm_s = mm_s
        assert self.belt.speed_sample(mm_s, self.now_ns) is BeltEvent.TAKEN

    def meet(self, sequence: int, *, gap: bool = False) -> None:
        self.bin.met((1, sequence), self.here_mm, gap=gap)

    def count(self, parts: int = 1) -> list[Seen]:
        found = self.bin.confirmed(parts, self.now_ns)
        for each in found:
            if each.key is None:
                self.unknown += 1
            else:
                self.seen[each.key] = each.kind
        return found

    def wait(self, ms: float) -> None:
        """Let time pass, looked at every 10 ms as the station does or better."""
        until_ns = self.now_ns + round(ms * MS)
        while self.now_ns < until_ns:
            self.now_ns = min(until_ns, self.now_ns + 10 * MS)
            self.belt.speed_sample(self.speed_mm_s, self.now_ns)
            for key in self.bin.overdue(self.now_ns):
                self.overdue_ns[key] = self.now_ns


def test_a_reject_is_confirmed_where_its_edge_reaches_the_sensor() -> None:
    line = Line()
    line.meet(1)
    line.bin.ordered((1, 1))
    line.wait(BIN_MM / 1.2 + 20)
    assert line.count() == [Seen(kind="confirmed", key=(1, 1))]
    line.wait(1000)
    assert line.overdue_ns == {}


def test_a_reject_that_never_comes_is_told_within_a_parts_travel_after_its_window() -> None:
    line = Line()
    line.meet(1)
    line.bin.ordered((1, 1))
    line.wait(3000)
    due_ms = BIN_MM / 1.2 + WINDOW_MS
    assert due_ms <= line.overdue_ns[1, 1] / MS <= due_ms + PART_MM / 1.2
    assert line.count() == [Seen(kind="unknown")], "nobody waits for it any more"


def test_the_next_look_is_due_when_the_window_ends() -> None:
    line = Line()
    line.meet(1)
    assert line.bin.next_ns(0) is None
    line.bin.ordered((1, 1))
    assert line.bin.next_ns(0) == pytest.approx((BIN_MM / 1.2 + WINDOW_MS) * MS + SLACK_NS, abs=1000)
    line.speed(0.0)
    assert line.bin.next_ns(0) is None


def test_a_count_before_any_window_is_nobodys() -> None:
    line = Line()
    line.meet(1)
    line.bin.ordered((1, 1))
    line.wait(BIN_MM / 1.2 - WINDOW_MS - 20)
    assert line.count() == [Seen(kind="unknown")]
    line.wait(40)
    assert line.count() == [Seen(kind="confirmed", key=(1, 1))]


def test_a_standing_belt_makes_nothing_overdue_and_moves_the_window() -> None:
    line = Line()
    line.meet(1)
    line.bin.ordered((1, 1))
    line.wait(600)
    line.speed(0.0)
    line.wait(20_000)
    assert line.overdue_ns == {}
    line.speed(400.0)
    line.wait(40 / 0.4 + 50)
    assert line.count() == [Seen(kind="confirmed", key=(1, 1))]


def test_a_part_let_pass_that_lies_in_the_bin_is_told() -> None:
    line = Line()
    line.meet(1)
    line.bin.let_pass((1, 1))
    line.wait(BIN_MM / 1.2 + 30)
    assert line.count() == [Seen(kind="in bin", key=(1, 1))]
    assert line.count() == [Seen(kind="unknown")], "once"


@pytest.mark.parametrize(("late_ms", "whose"), [(-25, 2), (0, 2), (90, 2), (125, 3), (150, 3)])
def test_between_two_passing_parts_most_of_the_way_belongs_to_the_first(late_ms: float, whose: int) -> None:
    line = Line()
    for sequence in (1, 2, 3):
        line.meet(sequence)
        line.bin.let_pass((1, sequence))
        line.wait(PITCH_MM / 1.2)
    line.wait((BIN_MM - 2 * PITCH_MM) / 1.2 + late_ms)
    assert [each.key for each in line.count()] == [(1, whose)]


def test_the_gate_that_is_one_part_late_is_told_twice() -> None:
    line = Line()
    for sequence, rejected in ((1, True), (2, False)):
        line.meet(sequence)
        (line.bin.ordered if rejected else line.bin.let_pass)((1, sequence))
        line.wait(PITCH_MM / 1.2)
    line.wait((BIN_MM - PITCH_MM) / 1.2 + 10)
    assert line.count() == [Seen(kind="in bin", key=(1, 2))]
    assert set(line.overdue_ns) == {(1, 1)}


def test_a_part_without_a_trigger_beside_it_accuses_no_passing_part() -> None:
    line = Line()
    line.meet(1)
    line.bin.let_pass((1, 1))
    line.wait(2 * PITCH_MM / 1.2)
    line.meet(3, gap=True)
    line.bin.let_pass((1, 3))
    line.wait((BIN_MM - PITCH_MM) / 1.2)
    for _each in range(10):
        line.wait(5)
        assert line.count() == [Seen(kind="unknown")]
    line.wait(1000)
    assert line.overdue_ns == {}


@pytest.mark.parametrize("state", ["given up", "open"])
def test_what_the_plc_rejects_by_itself_is_its_own(state: str) -> None:
    line = Line()
    line.meet(1)
    if state == "given up":
        line.bin.ordered((1, 1))
        line.bin.given_up((1, 1))
    line.wait(BIN_MM / 1.2 + 30)
    assert line.count() == [Seen(kind="own", key=(1, 1))]
    line.wait(1000)
    assert line.overdue_ns == {}


def test_an_excused_part_is_no_alarm_and_the_next_ones_are_none_the_less() -> None:
    line = Line()
    line.meet(1)
    line.bin.let_pass((1, 1), excuse="its LET_PASS came late")
    line.wait(PITCH_MM / 1.2)
    line.meet(2)
    line.bin.let_pass((1, 2))
    line.wait((BIN_MM - PITCH_MM) / 1.2 + 20)
    assert line.count() == [Seen(kind="excused", key=(1, 1), text="its LET_PASS came late")]
    line.wait(PITCH_MM / 1.2)
    assert line.count() == [Seen(kind="in bin", key=(1, 2))]


def test_after_a_silence_counts_that_come_late_are_taken_and_nobody_is_accused() -> None:
    line = Line()
    line.meet(1)
    line.bin.ordered((1, 1))
    line.wait(PITCH_MM / 1.2)
    line.meet(2)
    line.bin.let_pass((1, 2))
    line.wait(400)
    line.now_ns += 2000 * MS  # the bridge stood still: nobody looked
    assert line.bin.overdue(line.now_ns) == []
    assert line.count(2) == [Seen(kind="confirmed", key=(1, 1)), Seen(kind="unknown")]


def test_a_silence_does_not_hide_a_lost_reject_for_ever() -> None:
    line = Line()
    line.meet(1)
    line.bin.ordered((1, 1))
    line.wait(400)
    for _each in range(10):
        line.now_ns += 600 * MS
        for key in line.bin.overdue(line.now_ns):
            line.overdue_ns[key] = line.now_ns
    assert line.overdue_ns[1, 1] <= (BIN_MM / 1.2 + 3000 + 600) * MS


def test_an_encoder_that_fell_silent_waits_for_its_first_sample() -> None:
    belt = Belt(BeltSettings(speed_source="encoder"))
    for now_ms in range(0, 640, 10):
        belt.encoder_sample(12 * now_ms, now_ms * MS)
    watch = Confirmations(belt, GUARDS, pitch_mm=175.0)
    watch.met((1, 1), 0.0, gap=False)
    watch.ordered((1, 1))
    for now_ms in range(640, 2600, 50):
        assert watch.overdue(now_ms * MS) == [], now_ms
    belt.encoder_sample(12 * 2600, 2600 * MS)
    assert watch.confirmed(1, 2600 * MS) == [Seen(kind="confirmed", key=(1, 1))]


@pytest.mark.parametrize("seed", range(60))
def test_on_belts_that_ramp_and_stop_every_count_finds_its_part(seed: int) -> None:
    """Lose some rejects, drop some passing parts into the bin: these are told by name, and no other."""
    chance, line = random.Random(seed), Line()
    lost: set[PartKey] = set()
    thrown: set[PartKey] = set()
    rejected: set[PartKey] = set()
    due: list[tuple[float, PartKey]] = []
    counts: list[int] = []
    last_mm, sequence = -PITCH_MM, 0
    while sequence < 25 or due:
        if sequence < 25 and line.here_mm >= last_mm + PITCH_MM:
            sequence, last_mm, key = sequence + 1, line.here_mm, (1, sequence + 1)
            line.meet(sequence)
            fate = chance.choice(("pass", "pass", "reject", "reject", "lost", "thrown"))
            (line.bin.let_pass if fate in ("pass", "thrown") else line.bin.ordered)(key)
            {"lost": lost, "thrown": thrown, "reject": rejected}.get(fate, set()).add(key)
            due.append((line.here_mm + BIN_MM, key))
        if chance.random() < 0.02:
            line.speed(chance.choice((0.0, 300.0, 600.0, 900.0, 1200.0)))
        line.wait(10)
        while due and line.here_mm >= due[0][0]:
            _place_mm, key = due.pop(0)
            if key in rejected or key in thrown:
                counts.append(line.now_ns + chance.randrange(0, 31) * MS)
        while counts and counts[0] <= line.now_ns:
            counts.pop(0)
            line.count()
        if line.speed_mm_s == 0.0 and chance.random() < 0.05:
            line.speed(900.0)
    line.speed(1200.0)
    for _each in counts:
        line.wait(10)
        line.count()
    line.wait(1000)
    assert {key for key, kind in line.seen.items() if kind == "confirmed"} == rejected
    assert {key for key, kind in line.seen.items() if kind == "in bin"} == thrown
    assert set(line.overdue_ns) == lost
    assert line.unknown == 0
