"""Samples are stamped when they arrive: late, in bursts, never early. What the gate does must not show it."""

from __future__ import annotations

import random
from typing import Literal

import pytest

from bridge.domain.belt import LOST_MM, Belt, BeltEvent, BeltSettings
from bridge.domain.gate import Release
from bridge.domain.gate_drive import GateCall, GateDrive
from bridge.domain.gate_plan import GatePlan
from bridge.domain.gate_settings import GateSettings
from bridge.domain.verdict import Disposition

MS = 1_000_000
T0 = 7_000_000 * MS


def arrivals(rng: random.Random, until_ms: int, stalls: float) -> list[tuple[int, int]]:
    """When samples taken every 10 ms arrive: (taken ms since T0, arrived ns); some are held up by 10 to 40 ms."""
    found: list[tuple[int, int]] = []
    arrived = T0
    for taken_ms in range(0, until_ms, 10):
        held_ms = rng.expovariate(1.0) + (rng.uniform(10.0, 40.0) if taken_ms > 500 and rng.random() < stalls else 0.0)
        arrived = max(arrived, T0 + round((taken_ms + held_ms) * MS))
        found.append((taken_ms, arrived))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_late_stamps_hardly_move_the_belt(seed: int) -> None:
    rng, belt = random.Random(seed), Belt(BeltSettings(speed_source="encoder"))
    speed = rng.uniform(100.0, 3000.0)
    for taken_ms, arrived in arrivals(rng, 3000, 0.03):
        assert belt.encoder_sample(round(taken_ms * speed / 100), arrived) is BeltEvent.TAKEN
        if taken_ms > 500:
            assert belt.position_mm(arrived) == pytest.approx((arrived - T0) / 1e9 * speed, abs=30.0)
            assert belt.steady_speed_mm_s == pytest.approx(speed, rel=0.1, abs=50.0)


def test_braking_is_not_taken_for_late_stamps() -> None:
    belt, place, speed = Belt(BeltSettings(speed_source="encoder")), 0.0, 1200.0
    for i in range(80):
        belt.encoder_sample(round(place * 10), T0 + i * 10 * MS)
        assert belt.position_mm(T0 + i * 10 * MS) == pytest.approx(place, abs=6.0)
        speed = max(0.0, speed - (30.0 if i > 30 else 0.0))  # 3 m/s2 to a stop
        place += speed * 0.01
    assert belt.speed_mm_s(T0 + 790 * MS) == 0.0


@pytest.mark.parametrize("mode", ["plc", "bridge"])
@pytest.mark.parametrize("seed", range(4))
def test_180_mm_of_pitch_are_free_of_collateral_by_the_defaults(mode: Literal["plc", "bridge"], seed: int) -> None:
    rng, belt, parts = random.Random(seed), Belt(BeltSettings(speed_source="encoder")), 80
    plan = GatePlan(GateSettings(mode=mode), belt)
    events = [(at_ns, -1, taken_ms) for taken_ms, at_ns in arrivals(rng, 600 + parts * 150, 0.02)]
    for i in range(parts):
        trigger_ns = T0 + round((600 + i * 150 + rng.uniform(1.0, 15.0)) * MS)
        events += [(trigger_ns, 0, i), (trigger_ns + round(rng.uniform(8.0, 60.0) * MS), 1, i)]
    ordered = 0
    for now_ns, what, number in sorted(events):
        if what < 0:
            assert belt.encoder_sample(number * 12, now_ns) is BeltEvent.TAKEN
            for revision in plan.revise(now_ns):
                assert not revision.collateral and not revision.missed, revision
            plan.prune(now_ns)
        elif what == 0:
            placed = belt.place(triggered_ns=now_ns, latched_count=(600 + number * 150) * 12, now_ns=now_ns)
            plan.expect((1, number), x0_mm=placed.x0_mm, count_at_trigger=placed.count_at_trigger)
        else:
            disposition = Disposition.REJECT if rng.random() < 0.3 else Disposition.LET_PASS
            outcome = plan.order_for((1, number), disposition, now_ns)
            assert not outcome.order.collateral and not outcome.collateral
            assert outcome.order.state != "missed"
            ordered += outcome.order.state == "ordered"
    assert ordered > 10


@pytest.mark.parametrize("stall_ms", [130, 300, 900, 3000])
@pytest.mark.parametrize("missing", [1, 3])
def test_a_sample_that_waited_while_the_bridge_stood_still_makes_no_speed_and_no_reset(
    stall_ms: int, missing: int
) -> None:
    belt = Belt(BeltSettings(speed_source="encoder"))
    for at_ms in range(0, 1001, 20):
        belt.encoder_sample(12 * at_ms, at_ms * MS)
    woken_ms = 1000 + stall_ms
    # The writer waits for its answer: one sample was under way, the next come when that one was taken.
    assert belt.encoder_sample(12 * 1020, woken_ms * MS) is not BeltEvent.RESET
    for at_ms in range(woken_ms + 20 * missing, woken_ms + 400, 20):
        assert belt.encoder_sample(12 * at_ms, at_ms * MS) is BeltEvent.TAKEN
        assert belt.speed_mm_s(at_ms * MS) == pytest.approx(1200, rel=0.1)
        assert belt.position_mm(at_ms * MS) == pytest.approx(1.2 * at_ms, abs=1.0)


def test_a_belt_that_stood_during_a_silence_has_stood() -> None:
    belt = Belt(BeltSettings(speed_source="encoder"))
    for at_ms in range(0, 1001, 20):
        belt.encoder_sample(12 * at_ms, at_ms * MS)
    for at_ms in range(1600, 2000, 20):
        belt.encoder_sample(12 * 1050 + 12 * (at_ms - 1600), at_ms * MS)
        assert (belt.position_mm(at_ms * MS) or 0) == pytest.approx(1.2 * 1050 + 1.2 * (at_ms - 1600), abs=1.0)
    assert belt.speed_mm_s(1990 * MS) == pytest.approx(1200, rel=0.05)


def test_a_reset_right_after_a_silence_is_one() -> None:
    for count in (0, 12 * 1020 + 200_000):
        belt = Belt(BeltSettings(speed_source="encoder"))
        for at_ms in range(0, 1001, 20):
            belt.encoder_sample(12 * at_ms, at_ms * MS)
        belt.encoder_sample(12 * 1020, 1500 * MS)
        assert belt.encoder_sample(count, 1520 * MS) is BeltEvent.RESET


def stalled(rng: random.Random, until_ms: int, longest_ms: float) -> list[tuple[int, int]]:
    """As `arrivals`, of a writer that waits for its answer, with standstills of the reader close after one another."""
    found: list[tuple[int, int]] = []
    standstills: list[tuple[float, float]] = []
    end_ms = 500.0
    while end_ms < until_ms:
        end_ms += 1000.0 if rng.random() < 0.2 else rng.uniform(1.0, 40.0)
        standstills.append((end_ms, end_ms + rng.uniform(0.0, longest_ms)))
        end_ms = standstills[-1][1]
    taken_ms = 0.0
    while taken_ms < until_ms:
        arrived_ms = taken_ms + rng.uniform(0.3, 1.0)
        for from_ms, to_ms in standstills:
            if from_ms <= arrived_ms < to_ms:
                arrived_ms = to_ms
        found.append((round(taken_ms), T0 + round(arrived_ms * MS)))
        taken_ms = max(taken_ms + 20.0, arrived_ms + rng.uniform(2.0, 12.0))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_standstills_in_a_row_do_not_make_a_fast_belt(seed: int) -> None:
    belt = Belt(BeltSettings(speed_source="encoder"))
    for taken_ms, arrived in stalled(random.Random(seed), 6000, 65.0):
        assert belt.encoder_sample(12 * taken_ms, arrived) is BeltEvent.TAKEN
        if taken_ms > 500:
            assert belt.held_speed_mm_s < 2 * 1200.0
            assert (belt.position_mm(arrived) or 0.0) < (arrived - T0) / 1e9 * 1200.0 + 25.0


def held_back(levels: list[tuple[int, bool]], number: int) -> bool:
    """Whether the coil was on from early enough until a part of 100 mm had left the gate."""
    front_ms = 600 + number * 150 + 500
    slack_ns = round((LOST_MM + 5.0) / 1.2 * MS)  # what is looked for once the belt was measured
    from_ns, to_ns = T0 + round((front_ms - 40) * MS) + slack_ns, T0 + round((front_ms + 100 / 1.2) * MS) - slack_ns
    before = [on for at_ns, on in levels if at_ns <= from_ns][-1]
    return before and all(on for at_ns, on in levels if from_ns < at_ns < to_ns)


@pytest.mark.parametrize("seed", [*range(10), 23, 25, 37, 54, 59, 81, 106])
def test_a_release_holds_over_its_part_through_standstills(seed: int) -> None:
    """The coil is on while a part let pass is at the gate, or the bridge has told that it was swept."""
    rng, belt, parts = random.Random(seed), Belt(BeltSettings(speed_source="encoder")), 40
    settings = GateSettings(mode="bridge", rest="reject")
    plan, drive = GatePlan(settings, belt), GateDrive(settings)
    samples = stalled(rng, 600 + parts * 150 + 700, 75.0)
    events = [(at_ns, -1, taken_ms) for taken_ms, at_ns in samples]
    for i in range(parts):
        trigger_ns = T0 + round((600 + i * 150 + rng.uniform(1.0, 15.0)) * MS)
        events += [(trigger_ns, 0, i), (trigger_ns + round(rng.uniform(20.0, 60.0) * MS), 1, i)]
    told: set[int] = set()
    levels: list[tuple[int, bool]] = [(T0, False)]

    def release(number: int, moments: Release, now_ns: int) -> None:
        if moments.refused:
            told.add(number)
        kind: Literal["release", "withdraw"] = "withdraw" if moments.refused else "release"
        call = GateCall(kind=kind, key=(1, number), due_ns=moments.due_ns, off_ns=moments.off_ns)
        if not drive.take(call, now_ns):
            told.add(number)

    def revise(now_ns: int) -> None:
        for revision in plan.revise(now_ns):
            if revision.release is not None:
                release(revision.key[1], revision.release, now_ns)
            elif revision.collateral:
                told.add(revision.key[1])

    for now_ns, what, number in sorted(events):
        while (due_ns := drive.next_due()) is not None and due_ns <= now_ns:
            told |= {
                key[1] for step in drive.poll(due_ns) if step.command.kind == "missed" for key in step.command.keys
            }
            levels.append((due_ns, drive.level))
        if what < 0:
            belt.encoder_sample(number * 12, now_ns)
            revise(now_ns)
            plan.prune(now_ns)
        elif what == 0:
            placed = belt.place(triggered_ns=now_ns, latched_count=(600 + number * 150) * 12, now_ns=now_ns)
            plan.expect((1, number), x0_mm=placed.x0_mm, count_at_trigger=placed.count_at_trigger)
        else:
            outcome = plan.order_for((1, number), Disposition.LET_PASS, now_ns)
            assert outcome.release is not None
            release(number, outcome.release, now_ns)
    for number in set(range(parts)) - told:
        assert held_back(levels, number), f"part {number}: the gate came back into it and nobody was told"
    assert len(told) < parts / 2
