"""The panel: ring, history, revisions, staleness, and two protocols beside each other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.domain.messages import Arrival, Command, Inbound, PlcEnable
from bridge.domain.status import StationState, StatusBit
from bridge.domain.verdict import VerdictCode
from bridge.outputs.plc.panel import HISTORY, PlcPanel
from bridge.outputs.plc.register_map import RING_BASE, slot_address
from bridge.outputs.plc.view import PlcView
from bridge.outputs.plc_servers import StationOutput
from tests.outputs.samples import MS, ORDERED, READY, outcome, status


def make(posted: list[Inbound] | None = None, *, result_ack: bool = False) -> PlcPanel:
    panel = PlcPanel(station="station1", post=[].append if posted is None else posted.append, result_ack=result_ack)
    panel.show(READY, now_ns=0)
    return panel


def has(view: PlcView, bit: StatusBit) -> bool:
    return bool(view.bits >> bit & 1)


def verdict_in_ring(panel: PlcPanel, sequence: int) -> tuple[int, int]:
    at = slot_address(sequence) - RING_BASE
    return panel.view.ring[at] << 16 | panel.view.ring[at + 1], panel.view.ring[at + 2]


def test_the_ring_keeps_the_last_16_over_the_rollover() -> None:
    panel = make()
    sequences = [(2**32 - 10 + n) % 2**32 for n in range(20)]
    for sequence in sequences:
        panel.publish(outcome(sequence, code=VerdictCode.PASS))
    for sequence in sequences[-16:]:
        assert verdict_in_ring(panel, sequence) == (sequence, 1)
    assert panel.view.written == 20


def test_sequence_0_is_told_from_an_empty_slot_by_its_verdict() -> None:
    panel = make()
    assert verdict_in_ring(panel, 0) == (0, 0)
    panel.publish(outcome(0, code=VerdictCode.LATE))
    assert verdict_in_ring(panel, 0) == (0, 5)


def test_a_replayed_result_changes_nothing_that_is_live() -> None:
    panel = make()
    panel.publish(outcome(1))
    before = panel.view
    panel.publish(outcome(17, replayed=True))
    assert panel.view == before
    assert panel.result_document(17) == '{"sequence": 17}'


def test_history_ends_at_1000_and_the_newest_of_a_sequence_counts() -> None:
    panel = make()
    panel.remember(0, "old")
    for sequence in range(1, HISTORY):
        panel.remember(sequence, str(sequence))
    panel.remember(0, "new")
    panel.remember(HISTORY, "one more")
    assert (panel.result_document(0), panel.result_document(1), panel.result_document(HISTORY)) == (
        "new",
        None,
        "one more",
    )


def test_a_revision_reaches_ring_and_result_but_not_another_part_in_the_same_slot() -> None:
    panel = make()
    panel.publish(outcome(1))
    panel.revise(1, replace(ORDERED, open_ns=6_000 * MS))
    at = slot_address(1) - RING_BASE
    assert panel.view.ring[at + 10 : at + 12] == (0, 6_000)
    assert panel.view.shown is not None
    assert panel.view.shown.order.open_ns == 6_000 * MS
    panel.publish(outcome(17))
    before = panel.view
    panel.revise(1, replace(ORDERED, open_ns=7_000 * MS))
    assert panel.view == before


def test_a_revision_reaches_a_result_that_waits_for_its_acknowledgement() -> None:
    panel = make(result_ack=True)
    panel.publish(outcome(1))
    panel.publish(outcome(2))
    panel.revise(2, replace(ORDERED, open_ns=6_000 * MS))
    panel.control("modbus", {"result_ack": True}, now_ns=0)
    panel.control("modbus", {"result_ack": False}, now_ns=0)
    assert panel.view.shown is not None
    assert (panel.view.shown.result.part.sequence, panel.view.shown.order.open_ns) == (2, 6_000 * MS)


def test_ready_and_result_fall_with_a_still_heartbeat_and_only_a_new_result_is_valid_again() -> None:
    panel = make()
    panel.publish(outcome(1))
    assert has(panel.view, StatusBit.READY)
    assert has(panel.view, StatusBit.RESULT_VALID)
    panel.show(READY, now_ns=1_900 * MS)
    panel.check_heartbeat(2_001 * MS)
    assert not has(panel.view, StatusBit.READY)
    assert not has(panel.view, StatusBit.RESULT_VALID)
    panel.show(status(heartbeat=1), now_ns=3_000 * MS)
    assert has(panel.view, StatusBit.READY)
    assert not has(panel.view, StatusBit.RESULT_VALID)
    panel.publish(outcome(2))
    assert has(panel.view, StatusBit.RESULT_VALID)


def test_no_result_is_valid_while_stopping() -> None:
    panel = make()
    panel.publish(outcome(1))
    panel.show(status(state=StationState.STOPPING, heartbeat=1), now_ns=0)
    assert not panel.view.valid
    panel.publish(outcome(2))
    assert not panel.view.valid
    assert verdict_in_ring(panel, 2) == (2, 2)


def test_the_latest_change_of_enable_counts_whichever_protocol_made_it() -> None:
    posted: list[Inbound] = []
    panel = make(posted)
    panel.control("opcua", {"enable": False}, now_ns=0)
    panel.control("modbus", {"enable": True}, now_ns=0)
    assert posted == [PlcEnable(enabled=False)], "Modbus rewrote what it had written before: no change"
    panel.control("modbus", {"enable": False}, now_ns=0)
    panel.control("modbus", {"enable": True}, now_ns=0)
    assert posted[1:] == [PlcEnable(enabled=False), PlcEnable(enabled=True)]


def test_clear_error_of_one_protocol_clears_what_the_other_missed() -> None:
    posted: list[Inbound] = []
    panel = make(posted)
    panel.show(status(ready=False), now_ns=0)
    panel.control("modbus", {"trigger_sequence": 8, "trigger": True}, now_ns=0)
    assert panel.view.missed_trigger
    panel.control("opcua", {"clear_error": True}, now_ns=0)
    assert not panel.view.missed_trigger
    assert [type(each) for each in posted] == [Arrival, Command]


def test_the_accepted_sequence_is_the_triggers_while_it_is_acknowledged() -> None:
    panel = make()
    panel.control("modbus", {"trigger_sequence": 8, "trigger": True}, now_ns=0)
    panel.show(status(heartbeat=1), now_ns=0)
    assert (panel.view.accepted_sequence, panel.view.trigger_ack) == (8, True)
    panel.control("modbus", {"trigger": False}, now_ns=0)
    assert (panel.view.accepted_sequence, panel.view.trigger_ack) == (READY.last_sequence, False)


def test_a_status_that_says_nothing_new_wakes_nobody() -> None:
    handed: list[tuple[object, ...]] = []
    output = StationOutput(make(), lambda call, *arguments: handed.append(arguments))
    for heartbeat in (1, 1, 2, 2, 1):
        output.show(status(heartbeat=heartbeat))
    assert handed == [(status(heartbeat=heartbeat),) for heartbeat in (1, 2, 1)]


def test_a_picture_wakes_nobody_where_nobody_watches() -> None:
    handed: list[tuple[object, ...]] = []
    panel = make()
    output = StationOutput(panel, lambda call, *arguments: handed.append(arguments))
    output.captured(1, 5 * MS)
    panel.watch_captures(lambda sequence, at_utc_ns: None)
    output.captured(2, 6 * MS)
    assert handed == [(2, 6 * MS)]


def test_watchers_hear_of_changes_only() -> None:
    panel = make()
    heard: list[PlcView] = []
    panel.watch(heard.append)
    panel.control("modbus", {"encoder_count": 5}, now_ns=0)
    panel.show(READY, now_ns=0)
    assert heard == []
    panel.publish(outcome(1))
    assert len(heard) == 1


def test_a_trigger_that_stands_after_a_lost_connection_is_told_of_once_until_one_is_taken(
    capsys: pytest.CaptureFixture[str],
) -> None:
    posted: list[Inbound] = []
    panel = make(posted)
    panel.control("modbus", {"heartbeat": 1, "trigger": False}, now_ns=0)
    for sequence in (7, 8):
        panel.link_lost("modbus")
        panel.control("modbus", {"trigger_sequence": sequence, "trigger": True}, now_ns=sequence * MS)
        panel.control("modbus", {"trigger": False}, now_ns=sequence * MS)
    told = [line for line in capsys.readouterr().out.splitlines() if "plc_trigger_no_edge" in line]
    assert len(told) == 1
    assert "sequence=7" in told[0]
    assert "over one connection" in told[0]
    assert [each for each in posted if isinstance(each, Arrival)] == []
    panel.control("modbus", {"trigger_sequence": 9, "trigger": True}, now_ns=9 * MS)
    panel.control("modbus", {"trigger": False}, now_ns=9 * MS)
    panel.link_lost("modbus")
    panel.control("modbus", {"trigger_sequence": 10, "trigger": True}, now_ns=10 * MS)
    assert [each.trigger.sequence for each in posted if isinstance(each, Arrival)] == [9]
    assert "sequence=10" in capsys.readouterr().out
