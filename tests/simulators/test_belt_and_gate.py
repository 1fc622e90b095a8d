"""The belt's integral and the gate's arm, against sums done by hand."""

from __future__ import annotations

import random

import pytest

from simulators.line.belt import U32, Belt
from simulators.line.gate import RejectGate

MS = 1_000_000
S = 1_000_000_000


def test_a_belt_at_constant_speed_is_where_it_should_be() -> None:
    belt = Belt(speed_mm_s=1200.0, now_ns=5 * S)

    assert belt.position_at(5 * S + 500 * MS) == pytest.approx(600.0)
    assert belt.when_at(600.0) == 5 * S + 500 * MS


def test_a_stop_costs_exactly_its_time_and_its_ramps() -> None:
    belt = Belt(speed_mm_s=1000.0, now_ns=0)
    belt.stop(S, duration_s=2.0, ramp_s=0.1)

    assert belt.position_at(S) == pytest.approx(1000.0)
    assert belt.speed_at(S + 50 * MS) == pytest.approx(500.0)
    assert belt.position_at(2 * S) == pytest.approx(1050.0)
    assert belt.position_at(3 * S) == pytest.approx(1050.0)
    assert belt.position_at(S + 2200 * MS) == pytest.approx(1100.0)
    assert belt.speed_at(4 * S) == 1000.0


def test_a_belt_that_stands_for_ever_never_arrives() -> None:
    belt = Belt(speed_mm_s=1000.0, now_ns=0)
    belt.ramp(S, to_mm_s=0.0, duration_s=1.0)

    assert belt.when_at(1400.0) is not None
    assert belt.when_at(1501.0) is None


def test_when_at_is_the_inverse_of_position_at_on_random_plans() -> None:
    for seed in range(200):
        chance = random.Random(seed)
        belt, now_ns = Belt(speed_mm_s=chance.uniform(100, 2000), now_ns=0), 0
        for _ in range(4):
            now_ns += round(chance.uniform(0.05, 2) * S)
            if chance.random() < 0.5:
                belt.stop(now_ns, duration_s=chance.uniform(0, 1), ramp_s=chance.uniform(0, 0.3))
            else:
                belt.ramp(now_ns, to_mm_s=chance.uniform(100, 2000), duration_s=chance.uniform(0, 1))
        last_mm = 0.0
        for step in range(60):
            position_mm = belt.position_at(step * 200 * MS)
            assert position_mm >= last_mm - 1e-9
            last_mm = position_mm
            when_ns = belt.when_at(position_mm)
            assert when_ns is not None
            assert belt.position_at(when_ns) == pytest.approx(position_mm, abs=1e-4)


def test_the_encoder_rolls_over() -> None:
    belt = Belt(speed_mm_s=1000.0, now_ns=0, first_count=U32 - 5000)

    assert belt.count_at(0) == U32 - 5000
    assert belt.count_at(499 * MS) == U32 - 10
    assert belt.count_at(501 * MS) == 10


def test_the_arm_opens_and_closes_in_its_leads() -> None:
    gate = RejectGate(open_lead_ms=40, close_lead_ms=20)
    gate.command(100 * MS, True)

    assert gate.fraction_at(120 * MS) == pytest.approx(0.5)
    assert not gate.is_fully_open(139 * MS)
    assert gate.is_fully_open(140 * MS)
    gate.command(200 * MS, False)
    assert gate.fraction_at(210 * MS) == pytest.approx(0.5)
    assert gate.open_throughout(140 * MS, 200 * MS)
    assert not gate.open_throughout(139 * MS, 200 * MS)
    assert gate.sweeps_until(500 * MS) == [(100 * MS, 220 * MS)]
    assert not gate.touched(50 * MS, 100 * MS)
    assert gate.touched(219 * MS, 230 * MS)
    assert not gate.touched(220 * MS, 300 * MS)


def test_an_arm_that_turns_on_the_way_counts_as_one_sweep() -> None:
    gate = RejectGate(open_lead_ms=40, close_lead_ms=40)
    gate.command(0, True)
    gate.command(20 * MS, False)
    gate.command(30 * MS, True)
    gate.command(130 * MS, False)

    assert gate.fully_open == [(60 * MS, 130 * MS)]
    assert gate.sweeps_until(1000 * MS) == [(0, 170 * MS)]


def test_a_command_that_changes_nothing_says_so() -> None:
    gate = RejectGate()

    assert gate.command(0, True)
    assert not gate.command(10, True)
