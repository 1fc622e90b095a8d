"""Where the belt is and how fast: unwrapping, integration, resets, silence."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.domain.belt import Belt, BeltEvent, BeltSettings, signed_step

MS = 1_000_000
T0 = 7_000_000 * MS


def encoder(bits: int = 32, **more: float) -> Belt:
    return Belt(BeltSettings(speed_source="encoder", encoder_bits=bits, **more))


@given(bits=st.integers(16, 32), old=st.integers(0), move=st.integers(-30_000, 30_000))
@settings(max_examples=300, deadline=None)
def test_signed_step_undoes_any_rollover(bits: int, old: int, move: int) -> None:
    modulus = 2**bits
    assert signed_step((old + move) % modulus, old % modulus, modulus) == move


def test_signed_step_is_the_plcs_int32_comparison() -> None:
    assert signed_step(5, 2**32 - 5, 2**32) == 10
    assert signed_step(2**31, 0, 2**32) == -(2**31)


@given(
    bits=st.sampled_from((16, 20, 24, 32)),
    start=st.integers(0, 2**32 - 1),
    steps=st.lists(st.tuples(st.integers(1, 60), st.floats(-300.0, 3000.0)), min_size=2, max_size=40),
    cpm=st.sampled_from((1.0, 7.3, 10.0)),
)
@settings(max_examples=300, deadline=None)
def test_the_position_is_the_travel_whatever_the_rollovers(
    bits: int, start: int, steps: list[tuple[int, float]], cpm: float
) -> None:
    belt = encoder(bits, counts_per_mm=cpm)
    at_ns, travel = T0, 0
    belt.encoder_sample(start, at_ns)
    for gap_ms, speed in steps:
        at_ns += gap_ms * MS
        travel += round(speed * gap_ms / 1e3 * cpm)
        assert belt.encoder_sample(start + travel, at_ns) is not BeltEvent.RESET
        assert belt.position_of_count((start + travel) % 2**bits) == pytest.approx(travel / cpm, abs=1e-6)


@given(
    samples=st.lists(st.tuples(st.integers(1, 900), st.floats(0.0, 3000.0)), min_size=1, max_size=30),
    share=st.floats(0.0, 1.0),
)
@settings(max_examples=300, deadline=None)
def test_the_position_is_the_integral_of_the_speed(samples: list[tuple[int, float]], share: float) -> None:
    belt = Belt(BeltSettings(speed_source="mqtt"))
    belt.speed_sample(0.0, T0)
    at_ns, speed, place = T0, 0.0, 0.0
    marks: list[tuple[int, float]] = []
    for gap_ms, new in samples:
        between_ns = at_ns + round(share * gap_ms * MS)
        marks.append((between_ns, place + speed * (between_ns - at_ns) / 1e9))
        at_ns, place = at_ns + gap_ms * MS, place + speed * gap_ms / 1e3
        assert belt.speed_sample(new, at_ns) is BeltEvent.TAKEN
        speed = new
    for mark_ns, mark_mm in marks:
        assert belt.position_mm(mark_ns) == pytest.approx(mark_mm, abs=1e-6)


@given(speed=st.floats(10.0, 3000.0), place=st.floats(-500.0, 5000.0), cadence=st.integers(5, 50))
@settings(max_examples=300, deadline=None)
def test_when_and_position_are_each_others_inverse(speed: float, place: float, cadence: int) -> None:
    belt = Belt(BeltSettings(speed_source="plc"))
    for i in range(5):
        belt.speed_sample(speed, T0 + i * cadence * MS)
    now_ns = T0 + 4 * cadence * MS
    there_ns = belt.when(place, now_ns)
    assert there_ns is not None
    if there_ns >= now_ns:
        assert belt.position_mm(there_ns) == pytest.approx(place, abs=1e-4)


@pytest.mark.parametrize(
    ("counts", "after_ms", "event"),
    [
        (120, 10, BeltEvent.TAKEN),
        (450 + 2200, 10, BeltEvent.TAKEN),  # 1.5 x 3000 mm/s over 10 ms, and 50 ms for a late stamp
        (2800, 10, BeltEvent.RESET),
        (-900, 10, BeltEvent.TAKEN),
        (-1100, 10, BeltEvent.RESET),
        (-123_000, 10, BeltEvent.RESET),
        (10_000_000, 10, BeltEvent.RESET),
    ],
)
def test_what_is_a_reset(counts: int, after_ms: int, event: BeltEvent) -> None:
    belt = encoder()
    belt.encoder_sample(100_000, T0)
    assert belt.encoder_sample((100_000 + counts) % 2**32, T0 + after_ms * MS) is event


def test_after_a_reset_the_place_runs_on_and_the_speed_is_found_again() -> None:
    belt = encoder()
    for i in range(20):
        belt.encoder_sample(500_000 + 120 * i, T0 + 10 * i * MS)
    assert belt.encoder_sample(0, T0 + 200 * MS) is BeltEvent.RESET
    assert belt.position_mm(T0 + 200 * MS) == pytest.approx(240.0)
    assert belt.speed_mm_s(T0 + 200 * MS) is None
    assert belt.when(300.0, T0 + 200 * MS) is None
    belt.encoder_sample(120, T0 + 210 * MS)
    assert belt.speed_mm_s(T0 + 210 * MS) == pytest.approx(1200.0)


def test_samples_bunched_by_a_stall_are_no_reset() -> None:
    belt = encoder()
    for i in range(40):
        arrived = T0 + (max(i * 10, 200) if i * 10 < 200 else i * 10) * MS
        assert belt.encoder_sample(i * 300, arrived) is not BeltEvent.RESET


def test_a_stop_is_seen_within_40_ms_and_grain_is_none() -> None:
    belt = encoder(counts_per_mm=1.0)
    for i in range(30):
        belt.encoder_sample(i * 3, T0 + 10 * i * MS)
        if i > 12:
            assert belt.speed_mm_s(T0 + 10 * i * MS) == pytest.approx(300.0, rel=0.05)
    for i in range(30, 35):
        belt.encoder_sample(87, T0 + 10 * i * MS)
    assert belt.speed_mm_s(T0 + 340 * MS) == 0.0
    assert belt.when(1000.0, T0 + 340 * MS) is None


def test_a_slow_coarse_encoder_is_not_taken_for_standing() -> None:
    belt = encoder(counts_per_mm=1.0)
    for i in range(60):
        belt.encoder_sample(int(i * 0.5), T0 + 10 * i * MS)  # 50 mm/s, a count every second sample
        if i > 20:
            assert belt.speed_mm_s(T0 + 10 * i * MS) == pytest.approx(50.0, abs=11.0)


def test_a_fixed_speed_never_ages_and_takes_no_samples() -> None:
    belt = Belt(BeltSettings(speed_mm_s=800.0))
    assert belt.speed_sample(100.0, T0) is BeltEvent.IGNORED
    assert belt.encoder_sample(5, T0) is BeltEvent.IGNORED
    assert belt.speed_mm_s(T0 + 10**15) == 800.0
    assert belt.when((belt.position_mm(T0) or 0) + 400.0, T0) == T0 + 500 * MS
    assert belt.place(triggered_ns=T0, latched_count=77, now_ns=T0).count_at_trigger == 77


@pytest.mark.parametrize("mm_s", [math.nan, math.inf, -math.inf, 1e9])
def test_an_impossible_speed_is_ignored(mm_s: float) -> None:
    belt = Belt(BeltSettings(speed_source="mqtt"))
    assert belt.speed_sample(mm_s, T0) is BeltEvent.IGNORED
    assert belt.speed_mm_s(T0) is None and belt.position_mm(T0) is None
    assert belt.place(triggered_ns=T0, latched_count=None, now_ns=T0).x0_mm is None


def test_old_samples_are_ignored_and_a_silence_is_noticed() -> None:
    belt = Belt(BeltSettings(speed_source="mqtt"))
    assert belt.speed_sample(1000.0, T0) is BeltEvent.TAKEN
    assert belt.speed_sample(10.0, T0 - MS) is BeltEvent.IGNORED
    assert belt.speed_mm_s(T0 + 1000 * MS) == 1000.0
    assert belt.speed_mm_s(T0 + 1001 * MS) is None
    assert belt.held_speed_mm_s == 1000.0
    assert belt.speed_sample(1002.0, T0 + 1500 * MS) is BeltEvent.TAKEN
    assert belt.speed_sample(500.0, T0 + 3000 * MS) is BeltEvent.LOST


def test_an_encoder_that_comes_back_elsewhere_says_so_and_bounds_the_doubt() -> None:
    belt = encoder()
    for i in range(20):
        belt.encoder_sample(120 * i, T0 + 10 * i * MS)
    assert belt.encoder_sample(120 * 19 + 100, T0 + 690 * MS) is BeltEvent.LOST
    assert belt.bounds_mm(T0 + 400 * MS) == pytest.approx((228.0, 238.0))
    assert belt.bounds_mm(T0 + 100 * MS) == pytest.approx((120.0, 120.0))


@pytest.mark.parametrize(("ahead", "ignored"), [(-3000, False), (200, False), (-400_000, True), (40_000, True)])
def test_a_latched_count_of_another_counter_is_not_believed(ahead: int, ignored: bool) -> None:
    belt = encoder()
    for i in range(20):
        belt.encoder_sample(1_000_000 + 120 * i, T0 + 10 * i * MS)
    now_ns = T0 + 190 * MS
    last = 1_000_000 + 120 * 19
    placed = belt.place(triggered_ns=now_ns, latched_count=last + ahead, now_ns=now_ns)
    assert placed.latch_ignored is ignored
    assert placed.count_at_trigger == (last if ignored else last + ahead)
    assert placed.x0_mm == pytest.approx(228.0 if ignored else 228.0 + ahead / 10)


def test_the_history_is_bounded_and_stays_right() -> None:
    belt = Belt(BeltSettings(speed_source="mqtt"))
    for i in range(20_000):
        belt.speed_sample(1000.0, T0 + i * MS)
    assert belt.position_mm(T0 + 19_500 * MS) == pytest.approx(19_500.0)
    assert belt.position_mm(T0) is None
