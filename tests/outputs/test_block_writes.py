"""The requests by which the map goes into a PLC's registers: order, size, whole slots."""

from __future__ import annotations

import pytest

from bridge.outputs.modbus.block_writes import BlockWrite, ring_writes, status_writes
from bridge.outputs.plc.register_map import INPUT_REGISTERS, STATUS_SIZE

SLOTS = [tuple(range(n * 100, n * 100 + 14)) for n in range(16)]


def spans(writes: list[BlockWrite]) -> list[tuple[int, int]]:
    return [(each.start, each.start + len(each.words)) for each in writes]


def test_what_a_plc_is_not_known_to_hold_goes_whole() -> None:
    writes = ring_writes(SLOTS, None)
    assert spans(writes) == [(100, 212), (212, 324)]
    assert [word for each in writes for word in each.words] == [word for slot in SLOTS for word in slot]


def test_only_the_slots_that_differ_go_and_neighbours_together() -> None:
    known = [slot if n not in {0, 5, 6, 15} else (0,) * 14 for n, slot in enumerate(SLOTS)]
    assert spans(ring_writes(SLOTS, known)) == [(100, 114), (170, 198), (310, 324)]
    assert ring_writes(SLOTS, SLOTS) == []


@pytest.mark.parametrize("at_most", [14, 30, 64, 123])
def test_no_slot_is_ever_torn_and_no_request_too_long(at_most: int) -> None:
    for start, stop in spans(ring_writes(SLOTS, None, max_registers=at_most)):
        assert (start - 100) % 14 == 0
        assert (stop - start) % 14 == 0
        assert stop - start <= at_most


def test_one_request_where_it_fits() -> None:
    assert spans(status_writes(list(range(100)))) == [(0, STATUS_SIZE)]


@pytest.mark.parametrize("at_most", range(14, STATUS_SIZE))
def test_in_several_the_sequence_read_last_goes_first_and_the_one_read_first_last(at_most: int) -> None:
    writes = status_writes(list(range(100)), max_registers=at_most)
    assert writes[0].start == 36
    assert writes[-1].start + len(writes[-1].words) == 4
    order = [register for each in writes for register in range(each.start, each.start + len(each.words))]
    assert sorted(order) == list(range(STATUS_SIZE)), "each register once"
    assert order[:2] == [36, 37]
    assert order[-2:] == [2, 3]
    assert [word for each in writes for word in each.words] == order
    assert all(len(each.words) <= at_most for each in writes)
    ends = {each.start + len(each.words) for each in writes}
    assert not any(each.width == 2 and each.address + 1 in ends for each in INPUT_REGISTERS), "no number is torn"
