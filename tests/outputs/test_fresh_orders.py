"""An order is judged at the moment of sending: what would come late goes out as missed, whoever brought it before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from bridge.domain.gate import GateOrder
from bridge.domain.verdict import VerdictCode
from bridge.outputs.plc.fresh_orders import FreshOrders
from bridge.outputs.plc.panel import PlcPanel
from bridge.outputs.plc.register_map import encode
from bridge.ports import Outcome
from tests.outputs.samples import MS, ORDERED, READY, outcome, result

VALID, MISSED, COUNTS, TIME = 1, 2, 4, 8
DUE_MS = 5_441
LIMIT_MS = DUE_MS - 20


def panel_with(*sequences: int, order: GateOrder = ORDERED) -> PlcPanel:
    panel = PlcPanel(station="station1", post=lambda message: None)
    panel.show(READY, now_ns=0)
    for sequence in sequences:
        panel.publish(Outcome(result=result(sequence, order=order), document="{}"))
    return panel


def orders(*places: str) -> FreshOrders:
    return FreshOrders(output_ms=20.0, places=places or ("ring", "shown"))  # type: ignore[arg-type]


def flags(known: FreshOrders, panel: PlcPanel, now_ms: float) -> tuple[int, int]:
    """Give the flags of the shown result in register 9, and of its slot, as they would be sent now."""
    view = known.view(panel.view, round(now_ms * MS))
    shown, slot = view.shown, view.slots[0]
    assert shown is not None
    assert slot is not None
    word = encode(view, now_ns=round(now_ms * MS), word_order="high_first")[9]
    return word, VALID * (slot.order.state == "ordered") + MISSED * (slot.order.state == "missed")


def answered(known: FreshOrders, panel: PlcPanel, now_ms: float) -> bool:
    """Take that the PLC has everything."""
    at_ns = round(now_ms * MS)
    view = panel.view
    told = [known.answered("ring", each, at_ns) for each in view.slots]
    return all([*told, known.answered("shown", view.shown, at_ns)])


@pytest.mark.parametrize(
    ("now_ms", "valid"), [(5_010, True), (LIMIT_MS, True), (LIMIT_MS + 0.1, False), (9_000, False)]
)
def test_an_order_is_valid_until_its_publish_limit_and_then_it_is_missed(now_ms: float, valid: bool) -> None:
    expected = (VALID | COUNTS | TIME, VALID) if valid else (MISSED | COUNTS, MISSED)
    assert flags(orders(), panel_with(16), now_ms) == expected


def test_what_was_put_off_by_a_slow_plc_is_encoded_when_it_is_sent_not_when_it_was_decided() -> None:
    known, panel = orders(), panel_with(16)
    assert flags(known, panel, 5_010)[0] & VALID
    assert flags(known, panel, LIMIT_MS + 1) == (MISSED | COUNTS, MISSED), "the first try never left"


def test_an_order_that_was_taken_in_time_stands_on_this_connection_and_is_dead_on_the_next() -> None:
    known, panel = orders(), panel_with(16)
    flags(known, panel, 5_010)
    assert answered(known, panel, 5_015)
    assert flags(known, panel, 9_000)[0] & VALID
    known.lost()
    assert flags(known, panel, 9_000) == (MISSED | COUNTS, MISSED)


def test_an_order_taken_on_a_lost_connection_is_given_again_while_it_can_be_met() -> None:
    known, panel = orders(), panel_with(16)
    flags(known, panel, 5_010)
    answered(known, panel, 5_015)
    known.lost()
    assert flags(known, panel, 5_200) == (VALID | COUNTS | TIME, VALID)


def test_an_answer_after_the_moment_proves_nothing() -> None:
    known, panel = orders(), panel_with(16)
    flags(known, panel, 5_400)
    assert not answered(known, panel, DUE_MS + 1)
    assert flags(known, panel, DUE_MS + 2) == (MISSED | COUNTS, MISSED)


def test_without_a_moment_the_counts_stand_however_long_the_belt_does() -> None:
    standing = replace(ORDERED, due_ns=None, open_ns=None)
    panel, known = panel_with(16, order=standing), orders()
    assert flags(known, panel, 99_000)[0] == VALID | COUNTS
    answered(known, panel, 99_001)
    assert known.undelivered(panel.view, 99_002 * MS) == ((), None)


def test_a_result_that_waited_for_its_acknowledgement_is_judged_where_it_is_shown() -> None:
    panel = PlcPanel(station="station1", post=lambda message: None, result_ack=True)
    panel.show(READY, now_ns=0)
    panel.publish(outcome(32, code=VerdictCode.PASS))
    panel.publish(Outcome(result=result(16), document="{}"))
    known = orders()
    known.view(panel.view, 5_010 * MS)
    answered(known, panel, 5_011)
    panel.control("modbus", {"result_ack": True}, now_ns=5_012 * MS)
    panel.control("modbus", {"result_ack": False}, now_ns=5_013 * MS)
    assert flags(known, panel, 9_000) == (MISSED | COUNTS, VALID), "its slot had come in time"


def test_slot_and_registers_of_one_write_say_the_same() -> None:
    known, panel = orders(), panel_with(16)
    begun_ns = (LIMIT_MS - 1) * MS
    known.view(panel.view, begun_ns, begun_ns=begun_ns)
    assert known.answered("ring", panel.view.slots[0], (LIMIT_MS + 3) * MS)
    shown = known.view(panel.view, (LIMIT_MS + 3) * MS, begun_ns=begun_ns).shown
    assert shown is not None
    assert shown.order.state == "ordered", "the round trip is part of output_ms"
    assert told(known, panel, LIMIT_MS + 4) == []


def test_a_write_that_takes_longer_than_foreseen_announces_no_order_and_tells_of_it() -> None:
    known, panel = orders(), panel_with(16)
    begun_ns = (LIMIT_MS - 30) * MS
    known.view(panel.view, begun_ns, begun_ns=begun_ns)
    assert known.answered("ring", panel.view.slots[0], (LIMIT_MS + 3) * MS)
    shown = known.view(panel.view, (LIMIT_MS + 3) * MS, begun_ns=begun_ns).shown
    assert shown is not None
    assert shown.order.state == "missed"
    assert told(known, panel, LIMIT_MS + 4) == [16]


def test_what_is_known_of_parts_long_past_is_forgotten() -> None:
    known, panel = orders(), panel_with(16)
    for sequence in range(100, 400):
        panel.publish(Outcome(result=result(sequence), document="{}"))
        known.view(panel.view, 5_010 * MS)
        answered(known, panel, 5_011)
        known.undelivered(panel.view, 5_012 * MS)
    assert len(known) <= 3 * 18


def told(known: FreshOrders, panel: PlcPanel, now_ms: float) -> Sequence[int]:
    late, _ = known.undelivered(panel.view, round(now_ms * MS))
    return sorted(sequence for _epoch, sequence in late)


def test_orders_that_no_connection_brought_are_told_once_and_at_their_limit() -> None:
    known, panel = orders(), panel_with(16, 17)
    assert known.undelivered(panel.view, 5_010 * MS) == ((), LIMIT_MS * MS)
    assert told(known, panel, LIMIT_MS) == []
    assert told(known, panel, LIMIT_MS + 1) == [16, 17]
    assert told(known, panel, LIMIT_MS + 2) == []


def test_what_the_plc_has_is_not_told_and_what_is_on_its_way_not_yet() -> None:
    known, panel = orders(), panel_with(16)
    flags(known, panel, 5_010)
    assert told(known, panel, 6_000) == [], "its answer is still out"
    known.lost()
    assert told(known, panel, 6_000) == [16]
    known, panel = orders(), panel_with(16)
    flags(known, panel, 5_010)
    answered(known, panel, 5_012)
    known.lost()
    assert told(known, panel, 6_000) == []


def test_a_place_that_the_plc_does_not_see_brings_nothing() -> None:
    known, panel = orders("newest"), panel_with(16, 32)
    known.view(panel.view, 5_010 * MS)
    assert known.answered("ring", panel.view.slots[0], 5_011 * MS)
    assert told(known, panel, 6_000) == [], "the newest one is on its way"
    known.answered("newest", panel.view.newest, 5_012 * MS)
    assert told(known, panel, 6_000) == []
    panel.publish(Outcome(result=result(33), document="{}"))
    panel.publish(outcome(34, code=VerdictCode.PASS))
    assert told(known, panel, 6_000) == [33], "it was overtaken"
