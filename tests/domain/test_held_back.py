"""A trigger that waited at the broker: its arrival places nothing, its own count or stamp still does."""

from typing import Any, Literal

import pytest

from bridge.domain.belt import Belt, BeltSettings
from bridge.domain.gate_plan import GatePlan
from bridge.domain.gate_settings import GateSettings
from bridge.domain.part import Trigger
from bridge.domain.reception import Admission, Conditions, Reception, ReceptionRules
from bridge.domain.recipe import Recipe
from bridge.domain.sequence import SequenceLedger
from bridge.domain.verdict import Disposition, VerdictCode

NOW_NS = 9_000_000_000
UTC_NS = 1_800_000_000_000_000_000


def admitted(belt: Belt, clock: Literal["arrival", "source"], **known: Any) -> Admission:
    rules = ReceptionRules(
        line="line1", station="station1", trigger_clock=clock, transport_ms=0.0, part_length_mm=100.0
    )
    trigger = Trigger(sequence=1, part_id="A", arrived_ns=NOW_NS, held_back=True, **known)
    reception = Reception(rules=rules, ledger=SequenceLedger(), belt=belt)
    return reception.admit(
        trigger,
        Conditions(recipe=Recipe(name="r", number=1, revision=1, bundle="b-1.0.0", labels=("good",))),
        now_ns=NOW_NS,
        now_utc_ns=UTC_NS,
    )


def test_by_its_arrival_alone_it_is_late_and_its_order_missed() -> None:
    belt = Belt(BeltSettings())
    admission = admitted(belt, "arrival", source_utc_ns=UTC_NS)
    assert admission.at_once is not None and admission.part is not None
    assert (admission.at_once.code, admission.part.x0_mm) == (VerdictCode.LATE, None)
    plan = GatePlan(GateSettings(), belt)
    plan.expect((1, 1), x0_mm=admission.part.x0_mm, count_at_trigger=admission.part.count_at_trigger)
    assert plan.order_for((1, 1), Disposition.REJECT, NOW_NS).order.state == "missed"


@pytest.mark.parametrize(
    ("source", "clock", "known"),
    [
        ("fixed", "source", {"source_utc_ns": UTC_NS - 200_000_000}),
        ("encoder", "arrival", {"encoder_counts": 1000}),
    ],
)
def test_what_places_it_itself_is_judged(source: Any, clock: Any, known: dict[str, int]) -> None:
    belt = Belt(BeltSettings(speed_source=source))
    for step in range(20):
        belt.encoder_sample(step * 120, NOW_NS - (20 - step) * 10_000_000)
    admission = admitted(belt, clock, **known)
    assert admission.at_once is None
    assert admission.part is not None and admission.part.x0_mm is not None
