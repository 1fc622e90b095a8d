"""How triggers are placed by a filtered clock, and that what is in doubt is placed nowhere."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.domain.belt import Belt, BeltSettings
from bridge.domain.part import Trigger
from bridge.domain.reception import NO_STAMP, Admission, Conditions, Reception, ReceptionRules
from bridge.domain.recipe import Recipe
from bridge.domain.sequence import SequenceLedger
from bridge.domain.verdict import VerdictCode

MS = 1_000_000
NOW_NS = 9_000_000 * MS
CONDITIONS = Conditions(recipe=Recipe(name="r", number=1, revision=1, bundle="b-1.0.0", labels=("good",)))


class Line:
    """A reception with a filtered clock; the source's clock shows 0 at `NOW_NS`, parts come every 200 ms."""

    def __init__(self, belt: Belt | None = None, *, transport_ms: float = 0.0) -> None:
        rules = ReceptionRules(
            line="line1",
            station="station1",
            trigger_clock="filtered",
            transport_ms=transport_ms,
            part_length_mm=100.0,
        )
        self.belt = belt or Belt(BeltSettings())
        self.reception = Reception(rules=rules, ledger=SequenceLedger(), belt=self.belt)

    def part(self, sequence: int, *, held_ms: float = 0.0, **known: Any) -> Admission:
        moment_ns = sequence * 200 * MS
        now_ns = NOW_NS + moment_ns + round(held_ms * MS)
        brought: dict[str, Any] = {"source_utc_ns": moment_ns, "ts": str(moment_ns)} | known
        trigger = Trigger(sequence=sequence, part_id=str(sequence), arrived_ns=now_ns, **brought)
        return self.reception.admit(trigger, CONDITIONS, now_ns=now_ns, now_utc_ns=1_800_000_000_000 * MS)

    def learned(self) -> Line:
        for sequence in range(1, 5):
            self.part(sequence)
        assert self.reception.clock_doubt == ""
        return self


def placed_mm(admission: Admission) -> float | None:
    assert admission.part is not None
    return admission.part.x0_mm


@pytest.mark.parametrize("transport_ms", [0.0, 4.0])
def test_a_held_up_trigger_is_placed_where_its_part_was(transport_ms: float) -> None:
    admission = Line(transport_ms=transport_ms).learned().part(5, held_ms=150.0)
    assert admission.at_once is None
    true_mm = 1.2 * (NOW_NS / MS + 1000 - transport_ms)
    assert placed_mm(admission) == pytest.approx(true_mm, abs=0.5)


def test_one_that_the_broker_held_back_is_placed_too() -> None:
    admission = Line().learned().part(5, held_ms=250.0, held_back=True)
    assert admission.at_once is None
    assert placed_mm(admission) == pytest.approx(1.2 * (NOW_NS / MS + 1000), abs=0.5)


@pytest.mark.parametrize("known", [{}, {"encoder_counts": 77}, {"source_utc_ns": None, "ts": None}])
def test_what_is_in_doubt_gets_error_and_no_place(known: dict[str, Any]) -> None:
    line = Line()
    admission = line.part(1, **known)
    assert admission.at_once is not None and admission.at_once.code is VerdictCode.ERROR
    assert admission.at_once.reason == f"clock: {NO_STAMP if 'ts' in known else line.reception.clock_doubt}"
    assert placed_mm(admission) is None


def test_a_latched_count_needs_no_clock() -> None:
    belt = Belt(BeltSettings(speed_source="encoder"))
    for step in range(20):
        belt.encoder_sample(step * 120, NOW_NS + (step - 10) * 10 * MS)
    for known in ({"encoder_counts": 1000}, {"encoder_counts": 1000, "source_utc_ns": None, "ts": None}):
        admission = Line(belt).part(1, **known)
        assert admission.at_once is None
        assert placed_mm(admission) == pytest.approx(100.0)
    assert Line(belt).part(1, encoder_counts=2**31).at_once is not None, "of another counter: it places nothing"


def test_a_handshake_is_placed_by_its_arrival_or_age() -> None:
    arrival = Line().part(1, source="modbus", source_utc_ns=None)
    assert placed_mm(arrival) == pytest.approx(1.2 * (NOW_NS / MS + 200))
    aged = Line().part(1, source="opcua", source_utc_ns=None, age_ms=30.0)
    assert placed_mm(aged) == pytest.approx(1.2 * (NOW_NS / MS + 170))
    assert arrival.at_once is None and aged.at_once is None


def test_backlog_and_repetitions_teach_nothing() -> None:
    line = Line()
    for sequence in range(1, 4):
        line.part(sequence, held_ms=5000.0, backlog=True)
    assert line.reception.clock_doubt
    for _ in range(4):
        line.part(4)
    assert line.reception.clock_doubt


def test_a_restarted_counter_is_a_restarted_clock() -> None:
    line = Line().learned()
    line.part(2000)
    restarted = line.part(3, source_utc_ns=2001 * 200 * MS, ts="another", held_ms=1998 * 200)
    assert restarted.acceptance.kind == "restarted"
    assert restarted.at_once is not None and restarted.at_once.code is VerdictCode.ERROR
    assert line.reception.clock_steps == 1
