"""Which reject a count in the bin belongs to where only time says so, and which one never arrived."""

from __future__ import annotations

from bridge.domain.confirmation import CONFIRM_MS, Confirmations, Seen
from bridge.domain.gate_track import PartKey

NS_PER_MS = 1_000_000
LATER_NS = round((CONFIRM_MS + 1) * NS_PER_MS)


def waiting(*sequences: int) -> Confirmations:
    confirmations = Confirmations()
    for sequence in sequences:
        confirmations.ordered((1, sequence))
    return confirmations


def keys(seen: list[Seen]) -> list[PartKey | None]:
    return [each.key for each in seen]


def test_confirmations_go_to_the_oldest_reject_and_surplus_ones_to_nobody() -> None:
    confirmations = waiting(3, 5, 9)
    assert keys(confirmations.confirmed(2, 0)) == [(1, 3), (1, 5)]
    assert keys(confirmations.confirmed(4, 0)) == [(1, 9), None, None, None]


def test_a_part_that_never_comes_is_told_once_and_only_after_it_is_past_the_gate() -> None:
    confirmations = waiting(3, 5)
    assert keys(confirmations.confirmed(1, 0)) == [(1, 3)]
    assert confirmations.overdue(10 * LATER_NS) == []
    confirmations.passed((1, 5), 0)
    assert confirmations.overdue(LATER_NS - 2 * NS_PER_MS) == []
    assert confirmations.overdue(LATER_NS) == [(1, 5)]
    assert confirmations.overdue(2 * LATER_NS) == []
    assert confirmations.in_use


def test_a_line_without_a_bin_sensor_confirms_nothing_and_is_not_in_use() -> None:
    confirmations = waiting(3)
    confirmations.passed((1, 3), 0)
    assert confirmations.overdue(LATER_NS) == [(1, 3)]
    assert not confirmations.in_use
    assert confirmations.confirmed(0, 0) == []
    assert not confirmations.in_use


def test_a_missed_order_is_waited_for_no_more() -> None:
    confirmations = waiting(3)
    confirmations.given_up((1, 3))
    confirmations.passed((1, 3), 0)
    assert confirmations.overdue(LATER_NS) == []
