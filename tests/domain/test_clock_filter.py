"""A source's clock may be hours off, drift and jump, its messages be held up: what is placed is placed where it was."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.domain.clock_filter import LEARNING, STALE, SUSPECTED, TOO_OLD, ClockFilter

MS = 1_000_000
T0 = 5_000_000 * MS
PITCH_MS = 150
SEEDS = st.integers(0, 2**32)


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One trigger: when it was, what its source's clock said, when it came."""

    true_ns: int
    stamp_ns: int
    arrived_ns: int


def line(
    rng: random.Random,
    parts: int,
    *,
    drift_ppm: float = 0.0,
    offset_ns: Callable[[int], int] = lambda _part: 0,
    held_ms: Callable[[int], float] = lambda _part: 0.0,
    pitch_ms: float = PITCH_MS,
) -> Iterator[Sent]:
    """Triggers in their order; `offset_ns` and `held_ms` are by the part's number, up to 1 ms of the way comes on top."""
    arrived = true_ns = T0
    for part in range(parts):
        true_ns += round(pitch_ms * rng.uniform(0.9, 1.4) * MS)
        arrived = max(arrived, true_ns + round((rng.uniform(0.2, 1.2) + held_ms(part)) * MS))
        run_apart_ns = round((true_ns - T0) * drift_ppm / 1e6)
        yield Sent(true_ns=true_ns, stamp_ns=true_ns + offset_ns(part) + run_apart_ns, arrived_ns=arrived)


def errors_ms(clock: ClockFilter, sent: Iterator[Sent]) -> list[float | None]:
    """How much later than it was each trigger is placed; None for one in doubt."""
    found: list[float | None] = []
    for each in sent:
        moment_ns = clock.place(each.stamp_ns, each.arrived_ns)
        assert moment_ns is None or moment_ns <= each.arrived_ns
        assert (moment_ns is None) == bool(clock.doubt)
        found.append(None if moment_ns is None else (moment_ns - each.true_ns) / MS)
    return found


def check(errors: list[float | None], *, within_ms: float = 8.0, doubtful: int = 2) -> None:
    assert all(-0.5 <= error <= within_ms for error in errors if error is not None), errors
    assert sum(error is None for error in errors) <= doubtful, errors


@settings(max_examples=300, deadline=None, derandomize=True)
@given(seed=SEEDS, drift_ppm=st.floats(-100, 100), offset_s=st.floats(-1e6, 1e6), share=st.floats(0, 0.3))
def test_held_up_triggers_are_placed_where_they_were(
    seed: int, drift_ppm: float, offset_s: float, share: float
) -> None:
    rng = random.Random(seed)
    held = [rng.uniform(0.0, 200.0) if part >= 3 and rng.random() < share else 0.0 for part in range(200)]
    sent = line(rng, 200, drift_ppm=drift_ppm, offset_ns=lambda _: round(offset_s * 1e9), held_ms=held.__getitem__)
    check(errors_ms(ClockFilter(), sent))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(seed=SEEDS, share=st.floats(0.3, 0.5))
def test_a_start_among_held_up_triggers_waits_until_some_agree(seed: int, share: float) -> None:
    rng = random.Random(seed)
    held = [rng.uniform(0.0, 200.0) if rng.random() < share else 0.0 for _ in range(60)]
    check(errors_ms(ClockFilter(), line(rng, 60, held_ms=held.__getitem__)), within_ms=25.0, doubtful=25)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(seed=SEEDS, step_s=st.one_of(st.floats(0.06, 1e5), st.floats(-1e5, -0.3)))
def test_a_clock_that_is_set_is_learned_anew(seed: int, step_s: float) -> None:
    rng, clock = random.Random(seed), ClockFilter()
    found = errors_ms(clock, line(rng, 120, offset_ns=lambda part: round(step_s * 1e9) if part >= 50 else 0))
    check(found, doubtful=4)
    assert found[50] is None, "the very first is in doubt"
    assert clock.doubt == ""
    assert clock.steps == (step_s < 0)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(seed=SEEDS, back_ms=st.floats(15, 130))
def test_a_clock_set_back_by_less_than_a_pitch_shows_after_two(seed: int, back_ms: float) -> None:
    rng, clock = random.Random(seed), ClockFilter()
    sent = line(rng, 120, offset_ns=lambda part: -round(back_ms * MS) if part >= 50 else 0)
    found = errors_ms(clock, sent)
    check(found[:50] + found[52:], doubtful=2 + 6)
    assert clock.doubt == "" and clock.steps == 1


@settings(max_examples=200, deadline=None, derandomize=True)
@given(seed=SEEDS, outage_ms=st.floats(100, 4000))
def test_a_burst_after_an_outage_is_placed_as_it_was(seed: int, outage_ms: float) -> None:
    rng = random.Random(seed)
    held = [max(0.0, outage_ms - (part - 40) * PITCH_MS) if part >= 40 else 0.0 for part in range(120)]
    check(errors_ms(ClockFilter(), line(rng, 120, held_ms=held.__getitem__)))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(seed=SEEDS, grows_ms=st.floats(0.05, 4.0))
def test_a_queue_that_grows_slowly_moves_no_part(seed: int, grows_ms: float) -> None:
    """What is placed is placed right; in a queue that empties no more, triggers are in doubt after a while."""
    rng = random.Random(seed)
    held = [max(0, part - 30) * grows_ms for part in range(400)]
    found = errors_ms(ClockFilter(), line(rng, 400, held_ms=held.__getitem__))
    check(found, doubtful=400)
    assert None not in found[2:60]
    assert grows_ms < 0.3 or found[-1] is None


def test_nothing_is_known_of_the_first() -> None:
    clock = ClockFilter()
    assert clock.place(0, T0) is None
    assert clock.doubt == LEARNING
    assert clock.place(150 * MS, T0 + 150 * MS) is None
    assert clock.place(300 * MS, T0 + 300 * MS) == T0 + 300 * MS
    assert clock.place(450 * MS, T0 + 550 * MS) == pytest.approx(T0 + 450 * MS, abs=0.1 * MS)


def learned(triggers: int = 10) -> tuple[ClockFilter, int]:
    clock = ClockFilter()
    for part in range(triggers):
        clock.place(part * PITCH_MS * MS, T0 + part * PITCH_MS * MS)
    return clock, triggers * PITCH_MS * MS


def test_after_a_pause_of_a_minute_too_few_agree() -> None:
    clock, now_ns = learned()
    assert clock.place(now_ns + 40_000 * MS, T0 + now_ns + 40_000 * MS) is not None
    late_ns = now_ns + 130_000 * MS
    assert clock.place(late_ns, T0 + late_ns) is None
    assert clock.place(late_ns + 150 * MS, T0 + late_ns + 150 * MS) is None
    assert clock.place(late_ns + 300 * MS, T0 + late_ns + 300 * MS) == T0 + late_ns + 300 * MS


def test_a_restarted_source_is_forgotten() -> None:
    clock, now_ns = learned()
    clock.forget()
    assert clock.steps == 1
    assert clock.place(now_ns, T0 + now_ns) is None


def test_a_trigger_out_of_order_is_no_clock_set_back() -> None:
    clock, now_ns = learned()
    late = now_ns - 2 * PITCH_MS * MS + 7 * MS
    assert clock.place(late, T0 + now_ns, in_order=False) == pytest.approx(T0 + late, abs=0.1 * MS)
    assert clock.steps == 0


def test_one_that_is_quicker_than_all_before_is_placed_by_its_arrival() -> None:
    clock, now_ns = learned()
    assert clock.place(now_ns + 30 * MS, T0 + now_ns) == T0 + now_ns
    assert clock.place(now_ns + 150 * MS, T0 + now_ns + 250 * MS) == pytest.approx(T0 + now_ns + 150 * MS, abs=0.1 * MS)


@pytest.mark.parametrize("ahead_s", [0.06, 3600.0, 2.5e11])
def test_a_single_stamp_ahead_is_in_doubt_and_moves_nothing(ahead_s: float) -> None:
    clock, now_ns = learned()
    assert clock.place(now_ns + round(ahead_s * 1e9), T0 + now_ns) is None
    assert clock.place(now_ns + 150 * MS, T0 + now_ns + 250 * MS) == pytest.approx(T0 + now_ns + 150 * MS, abs=0.1 * MS)


def test_a_stamp_of_another_age_is_in_doubt() -> None:
    clock, now_ns = learned()
    assert clock.place(now_ns - 10**18, T0 + now_ns, in_order=False) is None
    assert clock.doubt == TOO_OLD


def test_doubts_have_their_reasons() -> None:
    clock, now_ns = learned()
    reasons = []
    for part in range(40):
        stamp_ns = now_ns + part * PITCH_MS * MS
        clock.place(stamp_ns, T0 + stamp_ns + round((30 + 7 * part) * MS))
        reasons.append(clock.doubt)
    assert reasons[:32] == [""] * 32 and set(reasons[32:]) == {STALE}
    clock, now_ns = learned()
    for part in range(4):
        clock.place(now_ns + part * PITCH_MS * MS, T0 + now_ns + (part * PITCH_MS + 40) * MS)
    assert clock.doubt == SUSPECTED
