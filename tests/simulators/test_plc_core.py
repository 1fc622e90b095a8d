"""The PLC's program alone, scan by scan: when a part may pass, and what it makes of doubtful orders."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulators.line.field_io import Edge, FieldState
from simulators.line.geometry import Geometry
from simulators.plc.core import Decision, Plc, ScanInputs
from simulators.plc.tables import COUNTS_VALID, LET_PASS, ORDER_MISSED, ORDER_VALID, REJECT, BridgeResult

MS = 1_000_000
SPEED_MM_S = 1000.0


class Line:
    """Scan a PLC over a part that met the beam at count 1000 and time 0, at 10 counts for each ms."""

    def __init__(self, *, edges: tuple[Edge, ...] = (Edge(sequence=5, count=1000),)) -> None:
        self.plc, self.edges = Plc(geometry=Geometry()), edges
        self.decisions: list[Decision] = []
        self.gate: dict[int, bool] = {}
        self.results: dict[int, BridgeResult] = {}
        self.reset_ms: int | None = None
        self.held_until_ms = 0

    def run(self, from_ms: int, to_ms: int, *, beats: bool = True) -> Line:
        for now_ms in range(from_ms, to_ms, 10):
            count = 1000 + 10 * now_ms if self.reset_ms is None else 10 * (now_ms - self.reset_ms)
            state = FieldState(
                encoder_count=count,
                speed_mm_s=SPEED_MM_S,
                edge_number=len(self.edges),
                edges=self.edges,
                photo_eye=now_ms < self.held_until_ms,
            )
            result = self.results.pop(now_ms, None)
            outputs = self.plc.scan(
                now_ms * MS,
                ScanInputs(
                    sampled_ns=now_ms * MS,
                    field=state,
                    results=() if result is None else (result,),
                    heartbeat=now_ms // 500 if beats else 0,
                ),
            )
            self.decisions += outputs.decisions
            self.gate[now_ms] = outputs.gate
        return self


def result(disposition: int, *, sequence: int = 5, flags: int = 0, open_count: int = 6850) -> BridgeResult:
    return BridgeResult(
        sequence=sequence, verdict=1 if disposition == LET_PASS else 2, disposition=disposition,
        open_count=open_count, close_count=open_count + 1300, flags=flags,
    )  # fmt: skip


def test_a_part_passes_on_its_own_let_pass() -> None:
    line = Line()
    line.results[200] = result(LET_PASS)

    assert [(d.reject, d.by) for d in line.run(0, 1000).decisions] == [(False, "let_pass")]
    assert not any(line.gate.values())


def test_a_let_pass_of_another_part_does_not_count() -> None:
    line = Line()
    line.results[200] = result(LET_PASS, sequence=6)

    assert [(d.reject, d.by) for d in line.run(0, 1000).decisions] == [(True, "release")]


def test_a_let_pass_is_worth_nothing_once_the_heartbeat_has_stood_still_for_two_seconds() -> None:
    line = Line(edges=())
    line.run(0, 10, beats=False)
    line.run(10, 1800, beats=False)
    # A part at the beam at 1.8 s is due 0.54 s later, when the only beat is 2.34 s old; its result came all the same.
    line.edges = (Edge(sequence=5, count=19000),)
    line.results[2000] = result(LET_PASS)
    line.run(1800, 2700, beats=False)

    assert [(d.reject, d.reason) for d in line.decisions] == [(True, "the bridge's heartbeat stands still")]


def test_an_order_is_fired_by_its_counts_less_the_lead() -> None:
    line = Line()
    line.results[200] = result(REJECT, flags=ORDER_VALID | COUNTS_VALID, open_count=6900)
    line.run(0, 1000)

    # Open at count 6900 = 590 ms, less 40 ms of lead; closed at 8200 = 720 ms.
    assert [now_ms for now_ms in range(0, 1000, 10) if line.gate[now_ms]] == list(range(550, 720, 10))
    assert [(d.reject, d.by) for d in line.decisions] == [(True, "order")]


def test_an_order_that_lies_nowhere_near_its_part_is_not_believed() -> None:
    line = Line()
    line.results[200] = result(REJECT, flags=ORDER_VALID | COUNTS_VALID, open_count=90_000)

    assert [(d.reject, d.by) for d in line.run(0, 1000).decisions] == [(True, "release")]
    assert line.gate[600]


@pytest.mark.parametrize("let_pass_ms", [50, 300])
def test_what_holds_the_beam_for_longer_than_a_part_is_two_that_no_let_pass_covers(let_pass_ms: int) -> None:
    line = Line()
    line.held_until_ms = 205
    line.results[let_pass_ms] = result(LET_PASS)
    line.run(0, 1200)

    assert [(d.by, d.reason) for d in line.decisions] == [("release", "it held the beam for longer than a part")]
    # Last seen in the beam at 200 ms: 200 mm long, at the gate until 800 ms, and the guard.
    assert [now_ms for now_ms in range(0, 1200, 10) if line.gate[now_ms]] == list(range(540, 810, 10))


def test_a_part_within_the_tolerance_is_one_part() -> None:
    line = Line()
    line.held_until_ms = 125
    line.results[200] = result(LET_PASS)

    assert [(d.reject, d.by) for d in line.run(0, 1000).decisions] == [(False, "let_pass")]


@pytest.mark.parametrize(
    ("seen_ms", "length_mm", "by", "off_ms"),
    [(205, 100, "release", 810), (205, 220, "order", 830), (0, 220, "order", 830), (0, 100, "order", 710)],
)
def test_an_order_for_a_longer_part_is_believed_and_one_that_leaves_out_half_of_what_the_eye_saw_is_not(
    seen_ms: int, length_mm: int, by: str, off_ms: int
) -> None:
    line = Line()
    line.held_until_ms = seen_ms
    order = result(REJECT, flags=ORDER_VALID | COUNTS_VALID)
    line.results[250] = replace(order, close_count=1000 + 10 * (600 + length_mm + 15))
    line.run(0, 1200)

    assert [d.by for d in line.decisions] == [by]
    on = [now_ms for now_ms in range(0, 1200, 10) if line.gate[now_ms]]
    assert (on[0], on[-1] + 10) == (540, off_ms)


def test_a_missed_order_leaves_the_part_to_positive_release() -> None:
    line = Line()
    line.results[500] = result(REJECT, flags=ORDER_MISSED)

    decisions = line.run(0, 1000).decisions
    assert [(d.by, d.reason) for d in decisions] == [("release", "the bridge's order was missed")]


def test_a_let_pass_that_comes_after_the_part_was_due_changes_nothing() -> None:
    line = Line()
    line.results[600] = result(LET_PASS)
    line.run(0, 1000)

    assert [(d.reject, d.by) for d in line.decisions] == [(True, "release")]
    assert line.gate[690]


def test_a_plc_that_starts_late_rejects_what_is_still_under_way_and_what_is_at_the_gate_at_once() -> None:
    passed = Edge(sequence=3, count=1000 - 700)
    line = Line(edges=(passed, Edge(sequence=4, count=1000), Edge(sequence=5, count=5000)))
    line.run(700, 1500)

    assert [(d.sequence, d.by, d.at_ns // MS) for d in line.decisions] == [(4, "release", 700), (5, "release", 940)]
    assert line.gate[700]


def test_parts_under_way_at_a_reset_of_the_encoder_are_rejected_where_the_belt_must_have_carried_them() -> None:
    line = Line()
    line.results[200] = result(LET_PASS)
    line.run(0, 300)
    line.reset_ms = 300
    line.run(300, 1000)

    assert [(d.reject, d.by, d.reason) for d in line.decisions] == [(True, "release", "the encoder was reset")]
    assert [line.gate[ms] for ms in (530, 550, 700, 730)] == [False, True, True, False]


def test_a_part_latched_just_before_a_reset_is_placed_and_one_after_it_passes() -> None:
    line = Line(edges=())
    line.run(0, 300)
    line.reset_ms = 300
    line.edges = (Edge(sequence=6, count=1000 + 2950),)
    line.run(300, 600)
    line.edges = (*line.edges, Edge(sequence=7, count=2950))
    line.results[700] = result(LET_PASS, sequence=7)
    line.run(600, 1500)

    assert [(d.sequence, d.reject, d.at_ns // MS) for d in line.decisions] == [(6, True, 840), (7, False, 1140)]
