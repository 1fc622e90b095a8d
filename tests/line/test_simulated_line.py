"""No wrong part: many random lines in simulated time, with what happens to lines."""

from __future__ import annotations

import random

import pytest

from simulators.fault_kinds import (
    BeltStop,
    Burst,
    DuplicateTrigger,
    EncoderReset,
    Fault,
    MissingTrigger,
    SpeedRamp,
    Touching,
)
from simulators.faults import ScheduledFault
from simulators.line.geometry import Geometry
from tests.line.simulated_line import LabelBridge, PlanBridge, Run, SimulatedBridge, run_line


def wrong_parts(run: Run) -> list[str]:
    """Every part that did not get what the PLC had decided for it, or was touched without cause."""
    decided = {decision.sequence: decision for decision in run.decisions}
    found = []
    for truth in run.truths:
        decision = decided.get(truth.sequence)
        if decision is None:
            found.append(f"{truth.sequence}: never decided")
        elif decision.reject and not truth.open_for_middle:
            found.append(f"{truth.sequence}: to be rejected by {decision.by} ({decision.reason}), was {truth.outcome}")
        elif not decision.reject and truth.swept:
            found.append(f"{truth.sequence}: to pass, was swept")
        elif truth.ahead is not None and not decision.reject:
            found.append(f"{truth.part_id}: passed in the shadow of another")
        elif truth.copies == 0 and not decision.reject:
            found.append(f"{truth.sequence}: passed without a trigger")
        elif truth.label != "good" and not decision.reject:
            found.append(f"{truth.sequence}: a defective part passed")
    return found


def random_faults(chance: random.Random, parts: int) -> tuple[ScheduledFault, ...]:
    def one() -> Fault:
        return chance.choice(
            (
                BeltStop(duration_s=chance.uniform(0.05, 2.5), ramp_s=chance.uniform(0.05, 0.4)),
                SpeedRamp(to_mm_s=chance.uniform(300, 1300), duration_s=chance.uniform(0.3, 2.0)),
                DuplicateTrigger(),
                MissingTrigger(),
                Touching(),
            )
        )

    # Changes of speed follow each other at a distance, as a drive's do; a stop inside a ramp is the belt's own test.
    places = sorted(chance.sample(range(2, parts), k=chance.randint(1, 4)))
    return tuple(ScheduledFault(fault=one(), at_part=place) for place in places)


def test_an_undisturbed_line_rejects_what_the_label_says() -> None:
    run = run_line(seed=3)

    assert wrong_parts(run) == []
    assert [truth.outcome for truth in run.truths] == [
        "passed" if truth.label == "good" else "binned" for truth in run.truths
    ]


def test_the_firing_error_lies_within_half_a_scan_on_either_side() -> None:
    errors = [
        firing.error_ms
        for seed in range(30)
        for firing in run_line(seed=seed, parts=12, speed_mm_s=1100.0 + seed * 7).firings
        if firing.error_ms is not None
    ]

    assert len(errors) > 100
    assert -6.0 <= min(errors) < -3.0
    assert 3.0 < max(errors) <= 6.0


@pytest.mark.timeout(120)
@pytest.mark.parametrize("bridge_type", [LabelBridge, PlanBridge])
def test_no_part_is_wrong_on_many_random_lines(bridge_type: type[SimulatedBridge]) -> None:
    wrong: dict[int, list[str]] = {}
    for seed in range(150):
        chance = random.Random(seed)
        run = run_line(
            seed=seed,
            parts=16,
            speed_mm_s=chance.uniform(500, 1250),
            spacing_mm=chance.uniform(182, 400),
            jitter_mm=chance.choice((0.0, 1.0)),
            faults=random_faults(chance, 16),
            first_sequence=chance.choice((0, 1, 2**32 - 7, 2**16 - 5)),
            first_count=chance.choice((0, 2**32 - 9000, 2**31 - 5000)),
            bridge_type=bridge_type,
        )
        assert len(run.truths) == 16
        if found := wrong_parts(run):
            wrong[seed] = found

    assert wrong == {}


def test_a_lost_trigger_s_part_is_rejected_by_positive_release() -> None:
    faults = (ScheduledFault(fault=MissingTrigger(), at_part=5),)
    run = run_line(seed=1, parts=8, faults=faults)

    decision = next(d for d in run.decisions if d.sequence == 5)
    assert (decision.reject, decision.by) == (True, "release")
    assert next(t for t in run.truths if t.sequence == 5).outcome == "binned"


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("bridge_type", [LabelBridge, PlanBridge])
def test_parts_that_touch_are_rejected_both_whoever_noticed(bridge_type: type[SimulatedBridge], told: bool) -> None:
    # Parts 4 and 5 are good ones. LabelBridge judges the first alone and lets it pass: the PLC's own eye knows better.
    faults = (ScheduledFault(fault=Touching(), at_part=4),)
    silent = frozenset() if told else frozenset({4})
    run = run_line(seed=1, parts=9, faults=faults, bridge_type=bridge_type, silent=silent)

    pair = [truth for truth in run.truths if truth.sequence == 4]
    assert [(truth.part_id, truth.ahead, truth.outcome) for truth in pair] == [
        ("P-000004", None, "binned"), ("P-000004+", "P-000004", "binned"),
    ]  # fmt: skip
    decision = next(d for d in run.decisions if d.sequence == 4)
    assert decision.by == ("order" if told and bridge_type is PlanBridge else "release")
    assert [truth.sequence for truth in run.truths] == [1, 2, 3, 4, 4, 5, 6, 7, 8]
    assert wrong_parts(run) == []
    assert not run.collateral


@pytest.mark.parametrize("bridge_type", [LabelBridge, PlanBridge])
def test_a_pusher_meets_every_reject_and_no_part_that_is_to_pass(bridge_type: type[SimulatedBridge]) -> None:
    wrong: dict[int, list[str]] = {}
    strokes: list[float] = []
    for seed in range(40):
        chance = random.Random(seed)
        speed_mm_s = chance.uniform(800, 1250)
        geometry = Geometry(pulse_ms=70.0, open_lead_ms=20.0, close_lead_ms=20.0)
        faults = (
            ScheduledFault(fault=chance.choice((MissingTrigger(), DuplicateTrigger())), at_part=4),
            ScheduledFault(fault=BeltStop(duration_s=chance.uniform(0.1, 1.0), ramp_s=0.1), at_part=9),
        )
        run = run_line(
            seed=seed, parts=14, speed_mm_s=speed_mm_s, spacing_mm=chance.uniform(182, 400), geometry=geometry,
            faults=faults[: seed % 3], bridge_type=bridge_type, latency_ms=(5.0, 60.0),
        )  # fmt: skip
        if found := wrong_parts(run):
            wrong[seed] = found
        strokes += [(end_ns - start_ns) / 1e6 for start_ns, end_ns in run.fully_open if seed % 3 < 2]

    assert wrong == {}
    # Two rejects whose strokes lie too near each other for the gate to come back are one stroke.
    assert len(strokes) > 100
    assert sum(50 <= each <= 90 for each in strokes) > 0.9 * len(strokes)


def test_a_duplicate_trigger_fires_the_gate_no_second_time() -> None:
    faults = (ScheduledFault(fault=DuplicateTrigger(), at_part=3),)
    plain, doubled = run_line(seed=1, parts=8), run_line(seed=1, parts=8, faults=faults)

    assert doubled.truths[2].copies == 2
    assert [f.sequence for f in doubled.firings] == [f.sequence for f in plain.firings]


def test_parts_whose_order_is_missed_are_rejected_all_the_same() -> None:
    run = run_line(seed=1, parts=10, latency_ms=(480.0, 490.0))

    assert run.missed
    assert {t.outcome for t in run.truths if t.sequence in run.missed} == {"binned"}
    assert wrong_parts(run) == []


def test_every_part_is_rejected_once_the_bridge_s_heartbeat_stands_still() -> None:
    run = run_line(seed=1, parts=40, bridge_dies_after_ms=2000)

    last = [t for t in run.truths if t.gate_from_ns > 4_100_000_000]
    assert len(last) > 10
    assert {t.outcome for t in last} == {"binned"}


def test_near_rejects_merge_into_one_stroke() -> None:
    apart = run_line(seed=1, parts=14, spacing_mm=260)
    near = run_line(seed=1, parts=14, spacing_mm=180)

    rejects = [t.sequence for t in near.truths if t.label != "good"]
    assert len(apart.firings) == len(rejects)
    assert len(near.firings) < len(rejects)
    assert wrong_parts(near) == []


def test_a_silent_part_between_good_ones_gives_up_its_guard_before_it_hurts_them() -> None:
    geometry = Geometry(guard_mm=30.0)
    run = run_line(seed=1, parts=9, spacing_mm=185, geometry=geometry, silent=frozenset({8}))

    assert next(t for t in run.truths if t.sequence == 8).outcome == "binned"
    assert wrong_parts(run) == []


def test_a_pitch_too_small_to_separate_hurts_only_parts_that_the_bridge_names() -> None:
    swept_unnamed: dict[int, set[int]] = {}
    swept, rejects_missed = 0, []
    for seed in range(60):
        chance = random.Random(seed)
        run = run_line(
            seed=seed,
            parts=16,
            speed_mm_s=chance.uniform(900, 1250),
            spacing_mm=chance.uniform(112, 170),
            latency_ms=(5.0, 60.0),
            bridge_type=PlanBridge,
        )
        passing = {d.sequence for d in run.decisions if not d.reject}
        hurt = {t.sequence for t in run.truths if t.swept and t.sequence in passing}
        swept += len(hurt)
        if hurt - run.collateral:
            swept_unnamed[seed] = hurt - run.collateral
        rejects_missed += [(seed, t.sequence) for t in run.truths if t.label != "good" and not t.open_for_middle]

    assert swept > 50
    assert swept_unnamed == {}
    assert rejects_missed == []


@pytest.mark.parametrize("bridge_type", [LabelBridge, PlanBridge])
def test_after_a_reset_of_the_encoder_no_part_is_wrong(bridge_type: type[SimulatedBridge]) -> None:
    missed = 0
    for seed in range(60):
        chance = random.Random(seed)
        place = chance.randint(3, 12)
        run = run_line(
            seed=seed,
            parts=18,
            speed_mm_s=chance.uniform(500, 1250),
            spacing_mm=chance.uniform(182, 400),
            faults=(ScheduledFault(fault=EncoderReset(), at_part=place),),
            first_count=chance.randint(50_000, 2**32 - 1),
            bridge_type=bridge_type,
        )
        assert wrong_parts(run) == [], seed
        lost = {d.sequence for d in run.decisions if d.reason == "the encoder was reset"}
        assert lost, seed
        assert {t.outcome for t in run.truths if t.sequence in lost} == {"binned"}
        after = [d for d in run.decisions if d.sequence > place + 3]
        assert {d.by for d in after} <= {"order", "let_pass"}
        missed += len(run.missed)

    assert bridge_type is LabelBridge or missed > 60


def test_a_burst_hurts_only_parts_that_the_bridge_names() -> None:
    hurt: set[tuple[int, int]] = set()
    for seed in range(20):
        run = run_line(
            seed=seed,
            parts=20,
            latency_ms=(5.0, 60.0),
            faults=(ScheduledFault(fault=Burst(parts=8, spacing_mm=130.0), at_part=5),),
            bridge_type=PlanBridge,
        )
        passing = {d.sequence for d in run.decisions if not d.reject}
        swept = {t.sequence for t in run.truths if t.swept and t.sequence in passing}
        assert swept == run.collateral
        assert swept <= set(range(5, 14))
        assert all(t.open_for_middle for t in run.truths if t.label != "good")
        hurt |= {(seed, sequence) for sequence in swept}

    assert len(hurt) > 20
