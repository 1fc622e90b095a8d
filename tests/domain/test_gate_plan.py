"""The contract's numbers, and one rule of the gate at a time."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.domain.belt import Belt, BeltEvent, BeltSettings
from bridge.domain.gate_plan import GatePlan
from bridge.domain.gate_settings import GateSettings, parts_between, smallest_pitch_mm, window_for
from bridge.domain.verdict import Disposition

MS = 1_000_000
T0 = 1_000_000 * MS
PASS, REJECT = Disposition.LET_PASS, Disposition.REJECT


class Bench:
    """A belt of 1200 mm/s with parts at given places; a part at 0 mm meets the beam at T0."""

    def __init__(self, *, source: str = "fixed", bits: int = 32, **gate: Any) -> None:
        self.belt = Belt(BeltSettings(speed_source=source, encoder_bits=bits))  # type: ignore[arg-type]
        self.plan = GatePlan(GateSettings(**gate), self.belt)
        self.source = source

    def speed(self, mm_s: float, at_ms: float) -> list[Any]:
        self.belt.speed_sample(mm_s, T0 + round(at_ms * MS))
        return self.plan.revise(T0 + round(at_ms * MS))

    def run_encoder(self, until_ms: int, *, from_ms: int = -100, start: int = 456789, speed: float = 1.2) -> None:
        for at_ms in range(from_ms, until_ms + 1, 10):
            self.belt.encoder_sample(start + round(at_ms * speed * 10), T0 + at_ms * MS)
            self.plan.revise(T0 + at_ms * MS)

    def part(self, number: int, at_mm: float = 0.0, **more: Any) -> tuple[int, int]:
        key = (1, number)
        at_ns = T0 + round(at_mm / 1.2 * MS)
        placed = self.belt.place(triggered_ns=at_ns, latched_count=more.pop("count", None), now_ns=at_ns)
        self.plan.expect(key, x0_mm=placed.x0_mm, count_at_trigger=placed.count_at_trigger, **more)
        return key

    def decide(self, key: tuple[int, int], what: Disposition, at_ms: float) -> Any:
        return self.plan.order_for(key, what, T0 + round(at_ms * MS))


def ms(at_ns: int | None) -> float:
    assert at_ns is not None
    return (at_ns - T0) / MS


def test_default_numbers_of_the_contract() -> None:
    bench = Bench()
    key = bench.part(1)
    assert ms(bench.plan.deadline_ns(key, T0)) == pytest.approx(407.5, abs=1e-3)
    order = bench.decide(key, REJECT, 6.0).order
    assert order.state == "ordered" and not order.merged and not order.guard_given_up and not order.collateral
    assert ms(order.due_ns) == pytest.approx(447.5, abs=1e-3)
    assert ms(order.open_ns) == pytest.approx(487.5, abs=1e-3)
    assert order.window_ms == pytest.approx(108.333, abs=1e-3)
    assert ms(order.off_ns) == pytest.approx(487.5 + 108.333, abs=1e-3)
    assert (order.open_ns - (T0 + 6 * MS)) / MS == pytest.approx(481.5, abs=1e-3)  # delay_ms of the example
    window = window_for(GateSettings(), 100.0, 1200.0)
    assert window.end_mm - window.start_mm == 130.0
    assert ms(bench.belt.when((bench.belt.position_mm(T0) or 0) + 600.0, T0)) == pytest.approx(500.0, abs=1e-3)


def test_smallest_pitch_and_the_ring() -> None:
    assert smallest_pitch_mm(GateSettings(), 1200.0) == pytest.approx(175.0)
    assert smallest_pitch_mm(GateSettings(length_tolerance_mm=3.0, close_lead_ms=60.0), 1200.0) == pytest.approx(202.0)
    assert smallest_pitch_mm(GateSettings(kind="pulse"), 1200.0) == pytest.approx(50 + 30 + 60)
    assert parts_between(GateSettings(), 1200.0) == 5
    assert parts_between(GateSettings(distance_mm=3000.0), 1200.0) > 16


@pytest.mark.parametrize(("count", "opens", "closes"), [(456789, 462639, 463939), (2**32 - 100, 5750, 7050)])
def test_counts_do_not_depend_on_speed_and_roll_over(count: int, opens: int, closes: int) -> None:
    bench = Bench(source="encoder")
    bench.run_encoder(0, start=count)
    key = bench.part(1, count=count)
    bench.run_encoder(20, from_ms=10, start=count)
    order = bench.decide(key, REJECT, 20.0).order
    assert (order.open_count, order.close_count) == (opens, closes)
    assert ms(order.open_ns) == pytest.approx(487.5, abs=1.0)


def test_counts_wrap_at_the_encoders_own_width() -> None:
    bench = Bench(source="encoder", bits=16)
    bench.run_encoder(0, start=64000)
    order = bench.decide(bench.part(1, count=64000), REJECT, 5.0).order
    assert (order.open_count, order.close_count) == ((64000 + 5850) % 65536, (64000 + 7150) % 65536)


def test_a_count_without_a_latch_is_extrapolated_from_a_fresh_sample_only() -> None:
    bench = Bench(source="encoder")
    bench.run_encoder(-50)
    assert bench.belt.place(triggered_ns=T0, latched_count=None, now_ns=T0).count_at_trigger == 456789
    late = bench.belt.place(triggered_ns=T0 + 60 * MS, latched_count=None, now_ns=T0 + 60 * MS)
    assert late.count_at_trigger is None and late.x0_mm is not None
    stale = bench.belt.place(triggered_ns=T0 + 1000 * MS, latched_count=None, now_ns=T0 + 1000 * MS)
    assert stale.x0_mm is None


@pytest.mark.parametrize(
    ("mode", "at_ms", "state"),
    [
        ("plc", 427.4, "ordered"),
        ("plc", 427.6, "missed"),
        ("plc", 700.0, "missed"),
        ("bridge", 448.4, "ordered"),
        ("bridge", 448.6, "missed"),
    ],
)
def test_missed_by_mode(mode: str, at_ms: float, state: str) -> None:
    bench = Bench(mode=mode)
    order = bench.decide(bench.part(1), REJECT, at_ms).order
    assert order.state == state
    assert (order.reason is None) == (state == "ordered")
    if state == "missed":
        assert order.due_ns is None and order.open_count is None


def test_bridge_mode_takes_the_io_modules_write_time() -> None:
    bench = Bench(mode="bridge")
    assert ms(bench.plan.deadline_ns(bench.part(1), T0)) == pytest.approx(422.5, abs=1e-3)


def test_the_window_is_of_the_part_not_of_the_verdict() -> None:
    early, late = Bench(), Bench()
    assert early.decide(early.part(1), REJECT, 1).order == late.decide(late.part(1), REJECT, 400).order


@pytest.mark.parametrize(
    ("pitch_mm", "spared", "collateral"), [(180.0, False, False), (170.0, True, False), (130.0, True, True)]
)
def test_guard_is_given_up_towards_a_part_let_pass_then_the_reject_wins(
    pitch_mm: float, spared: bool, collateral: bool
) -> None:
    bench = Bench()
    front, rear = bench.part(1), bench.part(2, pitch_mm)
    assert bench.decide(front, PASS, 200).order.collateral is False
    outcome = bench.decide(rear, REJECT, 250)
    assert outcome.order.guard_given_up is spared
    assert outcome.order.collateral is collateral
    assert outcome.collateral == ((front,) if collateral else ())
    start_mm = ms(outcome.order.open_ns) * 1.2 - pitch_mm
    assert start_mm == pytest.approx(600.0 if spared else 585.0, abs=1e-3)


@pytest.mark.parametrize(
    ("pitch_mm", "spared", "collateral"), [(180.0, False, False), (170.0, True, False), (130.0, True, True)]
)
def test_a_rear_neighbour_without_a_verdict_may_yet_pass(pitch_mm: float, spared: bool, collateral: bool) -> None:
    bench = Bench()
    front, rear = bench.part(1), bench.part(2, pitch_mm)
    order = bench.decide(front, REJECT, 300).order
    assert (order.guard_given_up, order.collateral) == (spared, False)
    assert ms(order.off_ns) * 1.2 == pytest.approx(700.0 if spared else 715.0, abs=1e-3)
    told = bench.decide(rear, PASS, 310).order
    assert (told.state, told.collateral) == ("none", collateral)


def test_a_rear_neighbour_that_came_after_the_order_is_collateral_at_its_own_verdict() -> None:
    bench = Bench()
    order = bench.decide(bench.part(1), REJECT, 20).order
    rear = bench.part(2, 150.0)
    assert not order.guard_given_up
    assert bench.decide(rear, PASS, 200).order.collateral


def test_rejects_close_together_merge_and_distant_ones_do_not() -> None:
    bench = Bench()
    keys = [bench.part(i, at) for i, at in enumerate((0.0, 180.0, 480.0))]
    assert [bench.decide(key, REJECT, 410).order.merged for key in keys] == [False, True, False]


def test_only_the_rejects_guard_falls_never_its_length() -> None:
    bench = Bench()
    keys = [bench.part(i, at) for i, at in enumerate((0.0, 101.0, 202.0))]
    bench.decide(keys[0], PASS, 300)
    order = bench.decide(keys[1], REJECT, 300).order
    assert order.window_ms == pytest.approx(100.0 / 1.2, abs=1e-3)


def test_a_second_question_orders_nothing_twice() -> None:
    bench = Bench()
    front, rear = bench.part(1), bench.part(2, 120.0)
    bench.decide(front, PASS, 300)
    first = bench.decide(rear, REJECT, 300)
    again = bench.decide(rear, PASS, 320)
    assert first.collateral == (front,) and again.collateral == () and again.order == first.order


def test_an_unknown_part_is_never_ordered() -> None:
    bench = Bench()
    assert bench.decide((9, 9), REJECT, 0).order.state == "missed"
    assert bench.decide((9, 9), PASS, 0).order.state == "none"
    assert bench.plan.deadline_ns((9, 9), T0) is None


def test_same_sequence_in_another_epoch_is_another_part() -> None:
    bench = Bench()
    bench.part(5)
    bench.plan.expect((2, 5), x0_mm=(bench.belt.position_mm(T0) or 0) + 600)
    assert bench.decide((1, 5), REJECT, 10).order != bench.decide((2, 5), REJECT, 10).order


def test_moments_follow_the_speed_freeze_with_the_belt_and_end_with_the_off_command() -> None:
    bench = Bench(source="mqtt", mode="bridge")
    bench.speed(1200, -10)
    key = bench.part(1)
    assert ms(bench.decide(key, REJECT, 10).order.open_ns) == pytest.approx(487.5, abs=0.01)
    (slower,) = bench.speed(600, 200)  # x = 240, 345 mm to go
    assert ms(slower.order.open_ns) == pytest.approx(775.0, abs=0.01)
    assert slower.order.window_ms == pytest.approx(108.333, abs=1e-3)
    (frozen,) = bench.speed(0, 300)  # x = 300
    assert (frozen.order.due_ns, frozen.order.open_ns, frozen.order.off_ns) == (None, None, None)
    assert bench.plan.deadline_ns(key, T0 + 310 * MS) is None
    assert bench.speed(0, 900) == []
    (moving,) = bench.speed(1200, 1500)
    assert ms(moving.order.open_ns) == pytest.approx(1737.5, abs=0.01)
    assert ms(moving.order.due_ns) == pytest.approx(1697.5, abs=0.01)
    assert bench.speed(1200, 1700) == []
    (longer,) = bench.speed(600, 1800)  # on since 1697.5: only its end moves; x = 660, 55 mm to go
    assert longer.order.due_ns == moving.order.due_ns
    assert ms(longer.order.off_ns) == pytest.approx(1891.67, abs=0.01)
    assert bench.speed(1200, 1900) == []
    assert bench.plan.prune(T0 + 2100 * MS) == [key]


def test_an_order_that_a_faster_belt_makes_too_late_is_missed() -> None:
    bench = Bench(source="mqtt", mode="bridge")
    bench.speed(300, -10)
    key = bench.part(1)
    assert bench.decide(key, REJECT, 10).order.state == "ordered"
    (revision,) = bench.speed(3000, 1890)  # x = 567: 18 mm before the window, and 120 mm of lead are needed
    assert revision.missed and revision.order.due_ns is None
    assert bench.speed(3000, 1895) == []


def test_slightly_late_by_a_faster_belt_is_fired_at_once_within_the_guard() -> None:
    bench = Bench(source="mqtt", mode="bridge")
    bench.speed(1000, -10)
    bench.decide(bench.part(1), REJECT, 10)
    (revision,) = bench.speed(1200, 542)  # due was 545, is now 538.67
    assert revision.order.state == "ordered" and ms(revision.order.due_ns) == 542


@pytest.mark.parametrize("source", ["mqtt", "plc", "encoder"])
def test_an_old_speed_gives_no_order(source: str) -> None:
    bench = Bench(source=source)
    if source == "encoder":
        bench.run_encoder(-10, start=10_000)
    else:
        bench.speed(1200, -10)
    key = bench.part(1, count=10_000 if source == "encoder" else None)
    order = bench.decide(key, REJECT, 1000).order
    assert (order.state, order.reason) == ("missed", "speed unknown")
    assert bench.belt.speed_mm_s(T0 + 1000 * MS) is None


def test_a_pending_order_is_missed_when_the_belt_may_have_carried_its_part_past_unseen() -> None:
    bench = Bench(source="mqtt")
    bench.speed(500, -10)
    bench.decide(bench.part(1), REJECT, 10)
    (frozen,) = bench.plan.revise(T0 + 1000 * MS)
    assert frozen.order.due_ns is None and not frozen.missed
    (missed,) = bench.plan.revise(T0 + 1300 * MS)
    assert missed.missed and missed.order.reason == "speed unknown"


def test_an_encoder_reset_misses_what_is_pending_and_what_is_undecided() -> None:
    bench = Bench(source="encoder")
    bench.run_encoder(200)
    ordered, undecided, let_pass = bench.part(1), bench.part(2, 120), bench.part(3, 180)
    before = bench.decide(ordered, REJECT, 200).order
    bench.decide(let_pass, PASS, 200)
    assert bench.belt.encoder_sample(0, T0 + 210 * MS) is BeltEvent.RESET
    (revision,) = bench.plan.reset(T0 + 210 * MS)
    assert revision.key == ordered and revision.order.reason == "encoder reset"
    assert revision.order.open_count == before.open_count
    bench.run_encoder(300, from_ms=220, start=-2520)
    assert bench.decide(undecided, REJECT, 300).order.reason == "encoder reset"
    assert bench.plan.reset(T0 + 300 * MS) == []
    fresh = bench.part(4, 360, count=1080)
    assert bench.decide(fresh, REJECT, 305).order.open_count == 1080 + 5850


def test_a_place_is_found_later_by_its_count() -> None:
    bench = Bench(source="encoder")
    key = bench.part(1, count=456789)
    assert bench.plan.deadline_ns(key, T0) is None
    bench.run_encoder(100, from_ms=50)
    assert bench.decide(key, REJECT, 100).order.open_count == 462639


def test_a_stopped_belt_takes_orders_and_refuses_one_whose_window_has_begun() -> None:
    bench = Bench(source="mqtt")
    bench.speed(1200, -10)
    early, late = bench.part(1, 0), bench.part(2, -300)
    bench.speed(0, 300)
    order = bench.decide(early, REJECT, 310).order
    assert (order.state, order.due_ns, order.window_ms) == ("ordered", None, None)
    assert bench.decide(late, REJECT, 310).order.state == "missed"


def test_a_pulse_is_centred_on_the_middle() -> None:
    bench = Bench(kind="pulse")
    order = bench.decide(bench.part(1, length_mm=60.0), REJECT, 10).order
    assert order.window_ms == pytest.approx(50.0, abs=1e-3)
    assert ms(order.open_ns) + 25.0 == pytest.approx(630.0 / 1.2, abs=1e-3)
    assert ms(order.due_ns) == pytest.approx(ms(order.open_ns) - 40.0)


def test_a_speed_that_rises_after_the_verdict_tells_of_new_collateral_once() -> None:
    bench = Bench(source="mqtt")
    bench.speed(600, -10)
    front, rear = bench.part(1), bench.part(2, 150.0 / 600 * 1200)
    assert not bench.decide(front, PASS, 300).order.collateral
    assert not bench.decide(rear, REJECT, 310).order.collateral
    revisions = bench.speed(2400, 320)
    assert [r.key for r in revisions if r.collateral] == [front]
    assert not any(r.collateral for r in bench.speed(2500, 330))


def test_capture_waits_for_the_camera() -> None:
    bench = Bench(camera_offset_mm=120.0)
    assert ms(bench.plan.capture_ns(bench.part(1), T0)) == pytest.approx(100.0, abs=1e-3)


def test_prune_keeps_what_may_still_be_asked_for() -> None:
    bench = Bench()
    keys = [bench.part(i, at) for i, at in enumerate((0.0, 180.0, 400.0))]
    bench.decide(keys[0], PASS, 100)
    bench.decide(keys[1], REJECT, 200)
    for at_ms in range(500, 1400, 50):
        bench.plan.revise(T0 + at_ms * MS)
    assert bench.plan.prune(T0 + 1400 * MS) == keys[:2]
    assert len(bench.plan) == 1
    bench.plan.forget(keys[2])
    assert len(bench.plan) == 0
