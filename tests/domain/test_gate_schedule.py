"""Due, next due, merged, late, stuck: the schedule of whoever fires the gate."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.domain.gate_schedule import GateSchedule
from bridge.domain.gate_settings import GateSettings

MS = 1_000_000
A, B, C = (1, 1), (1, 2), (1, 3)


def schedule(**gate: float) -> GateSchedule:
    return GateSchedule(GateSettings(mode="bridge", **gate))  # type: ignore[arg-type]


def put(gate: GateSchedule, key: tuple[int, int], due: float | None, off: float | None, now: float = 0.0) -> bool:
    return gate.put(
        key,
        due_ns=None if due is None else round(due * MS),
        off_ns=None if off is None else round(off * MS),
        now_ns=round(now * MS),
    )


def drain(gate: GateSchedule, late_ms: float = 0.0, until_ms: float = 1e9) -> list[tuple[str, float, tuple[Any, ...]]]:
    told: list[tuple[str, float, tuple[Any, ...]]] = []
    while (due_ns := gate.next_due()) is not None and due_ns <= until_ms * MS:
        now_ns = due_ns + round(late_ms * MS)
        commands = gate.poll(now_ns)
        assert commands or gate.next_due() != due_ns, "must get on"
        told += [(one.kind, now_ns / MS, one.keys) for one in commands]
    return told


def test_on_at_due_and_off_at_the_windows_end() -> None:
    gate = schedule()
    assert gate.next_due() is None and gate.poll(0) == ()
    put(gate, A, 447.5, 595.8)
    assert gate.next_due() == 447.5 * MS
    assert gate.poll(round(447.4 * MS)) == ()
    assert drain(gate) == [("on", 447.5, (A,)), ("off", 595.8, (A,))]
    assert not gate.on and gate.pending == ()


@pytest.mark.parametrize(("gap_ms", "merged"), [(39.9, True), (40.1, False)])
def test_near_windows_keep_the_gate_on(gap_ms: float, merged: bool) -> None:
    gate = schedule()
    put(gate, A, 100, 200)
    put(gate, B, 200 + gap_ms, 400)
    kinds = [kind for kind, _, _ in drain(gate)]
    assert kinds == (["on", "off"] if merged else ["on", "off", "on", "off"])


def test_a_late_order_is_refused_and_a_late_wake_up_fires_within_the_jitter_only() -> None:
    gate = schedule()
    assert not put(gate, A, 100, 200, now=101.1)
    assert put(gate, A, 100, 200, now=101.0)
    assert [one.kind for one in gate.poll(109 * MS)] == ["on"]
    gate = schedule()
    put(gate, B, 100, 200)
    (missed,) = gate.poll(111 * MS)
    assert (missed.kind, missed.keys) == ("missed", (B,))
    assert not gate.on and gate.next_due() is None


def test_a_window_wholly_passed_is_missed_and_harms_no_other() -> None:
    gate = schedule()
    put(gate, A, 100, 200)
    put(gate, B, 900, 1000)
    assert [(one.kind, one.keys) for one in gate.poll(850 * MS)] == [("missed", (A,))]
    assert drain(gate) == [("on", 900.0, (B,)), ("off", 1000.0, (B,))]


def test_frozen_orders_wait_and_a_gate_that_is_on_stays_until_max_on() -> None:
    gate = schedule()
    put(gate, A, None, None)
    assert gate.next_due() is None
    put(gate, A, 100, 250)
    assert drain(gate, until_ms=150) == [("on", 100.0, (A,))]
    put(gate, A, 100, None, now=160)
    assert gate.next_due() == 2100 * MS
    assert drain(gate) == [("stuck", 2100.0, (A,))]
    assert not gate.on


def test_a_frozen_order_that_moves_again_goes_off_at_its_new_end() -> None:
    gate = schedule()
    put(gate, A, 100, 250)
    drain(gate, until_ms=150)
    put(gate, A, 100, None, now=160)
    put(gate, A, 100, 900, now=700)
    assert drain(gate) == [("off", 900.0, (A,))]


def test_many_bad_parts_in_a_row_are_no_stuck_gate() -> None:
    gate = schedule()
    for i in range(40):
        put(gate, (1, i), 100 + 150 * i, 248 + 150 * i)
    told = drain(gate)
    assert [kind for kind, _, _ in told] == ["on", "off"]
    assert told[-1][1] == 248 + 150 * 39


def test_minimum_times() -> None:
    gate = schedule(open_lead_ms=2.0, close_lead_ms=2.0, firing_jitter_ms=5.0)
    put(gate, A, 100, 110)
    assert drain(gate) == [("on", 100.0, (A,)), ("off", 130.0, (A,))]
    put(gate, B, 158, 300, now=131)
    assert drain(gate) == [("on", 160.0, (B,)), ("off", 300.0, (B,))]
    put(gate, C, 305, 400, now=301)
    assert [kind for kind, _, _ in drain(gate)] == ["missed"]


def test_a_withdrawn_order_lets_go_of_the_gate() -> None:
    gate = schedule()
    put(gate, A, 100, 5000)
    put(gate, B, 8000, 9000)
    drain(gate, until_ms=150)
    gate.withdraw(A)
    gate.withdraw(B)
    assert [kind for kind, _, _ in drain(gate)] == ["off"]


def test_a_revision_slightly_in_the_past_is_due_now_and_one_far_in_the_past_is_missed() -> None:
    gate = schedule()
    put(gate, A, 100, 200)
    put(gate, B, 100, 200)
    assert put(gate, A, 50, 190, now=58) and put(gate, B, 30, 180, now=58)
    told = {one.kind: one.keys for one in gate.poll(58 * MS)}
    assert told == {"missed": (B,), "on": (A,)}


orders = st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 400), st.integers(-20, 500)), min_size=1, max_size=12)


@given(orders=orders, late=st.floats(0.0, 5.0))
@settings(max_examples=300, deadline=None)
def test_every_order_is_carried_out_or_told(orders: list[tuple[int, int, int]], late: float) -> None:
    gate = schedule()
    told: list[tuple[str, float, tuple[Any, ...]]] = []
    taken = []
    for i, (due, length, ahead) in sorted(enumerate(orders), key=lambda one: one[1][0] - one[1][2]):
        now = due - ahead
        told += drain(gate, late, until_ms=now)
        if put(gate, (1, i), due, due + length, now=now):
            taken.append((1, i))
    told += drain(gate, late)
    ended = [key for kind, _, keys in told for key in keys if kind in ("off", "missed", "stuck")]
    assert sorted(ended) == sorted(taken)
    switched = [(kind, at) for kind, at, _ in told if kind != "missed"]
    assert [kind == "on" for kind, _ in switched] == [i % 2 == 0 for i in range(len(switched))]
    moments = [at for _, at in switched]
    assert all(after - before >= 30 - 1e-6 for before, after in pairwise(moments))
    for key in ended:
        due, length, _ = orders[key[1]]
        if not any(key in keys for kind, _, keys in told if kind in ("missed", "stuck")):
            spans = list(zip(moments[::2], moments[1::2], strict=True))
            assert any(on <= due + 15 and due + length <= off + 1e-6 for on, off in spans)
