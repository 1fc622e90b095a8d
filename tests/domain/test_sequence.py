"""The ledger of triggers: duplicate, gap, straggler, restart, rollover."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.domain.sequence import SequenceLedger

TOP = 2**32


def feed(ledger: SequenceLedger, *sequences: int) -> list[tuple[str, int, int]]:
    found: list[tuple[str, int, int]] = []
    for sequence in sequences:
        one = ledger.accept(sequence, f"p{sequence}", None)
        found.append((one.kind, one.missed, one.epoch))
    return found


def test_the_first_trigger_opens_the_count() -> None:
    assert feed(SequenceLedger(), 500, 501, 503) == [("first", 0, 1), ("next", 0, 1), ("gap", 1, 1)]


def test_zero_is_a_sequence_and_rollover_is_no_gap() -> None:
    assert feed(SequenceLedger(), TOP - 2, TOP - 1, 0, 1) == [("first", 0, 1)] + [("next", 0, 1)] * 3
    assert feed(SequenceLedger(), TOP - 1, 2)[1] == ("gap", 2, 1)


def test_a_straggler_gives_its_missed_trigger_back_once() -> None:
    ledger = SequenceLedger()
    assert feed(ledger, 10, 14, 12) == [("first", 0, 1), ("gap", 3, 1), ("out_of_order", -1, 1)]
    assert ledger.accept(12, "p12", None).kind == "duplicate"
    assert feed(ledger, 15) == [("next", 0, 1)]
    assert ledger.newest == 15


def test_a_straggler_from_before_the_first_trigger_gives_nothing_back() -> None:
    assert feed(SequenceLedger(), 100, 99, 84) == [("first", 0, 1), ("out_of_order", 0, 1), ("out_of_order", 0, 1)]


@pytest.mark.parametrize("back_to", [83, 50, 0, 100 + TOP - 2**31])
def test_further_back_is_a_restart(back_to: int) -> None:
    ledger = SequenceLedger()
    assert feed(ledger, 100, back_to % TOP) == [("first", 0, 1), ("restarted", 0, 2)]
    assert feed(ledger, back_to + 1) == [("next", 0, 2)]


def test_a_seen_sequence_with_another_part_or_stamp_is_a_restart() -> None:
    ledger = SequenceLedger()
    feed(ledger, 1, 2, 3)
    assert ledger.accept(2, "p2", "2026-11-21T08:00:00Z").kind == "restarted"
    assert ledger.accept(3, "other", None).kind == "next"
    assert ledger.accept(3, "third", None).kind == "restarted"
    assert ledger.epoch == 3
    again = ledger.accept(3, "other", None)
    assert (again.kind, again.epoch, again.accepted) == ("duplicate", 2, False)


def test_absent_stamps_are_equal_and_a_stamp_is_not_absent() -> None:
    ledger = SequenceLedger()
    assert ledger.accept(1, "a", "t").kind == "first"
    assert ledger.accept(1, "a", "t").kind == "duplicate"
    assert ledger.accept(1, "a", None).kind == "restarted"


def test_the_memory_holds_1000_and_lasts_over_a_restart() -> None:
    ledger = SequenceLedger((1, i, f"p{i}", None) for i in range(1, 1201))
    assert ledger.accept(201, "p201", None).kind == "duplicate"
    assert ledger.accept(200, "p200", None).kind == "restarted"


def test_what_passed_while_nobody_listened_is_not_missed() -> None:
    ledger = SequenceLedger([(3, 40, "p40", None), (3, 41, "p41", None)])
    assert ledger.epoch == 3
    assert feed(ledger, 39, 90, 92) == [("out_of_order", 0, 3), ("first", 0, 3), ("gap", 1, 3)]


def test_a_counter_that_restarted_with_the_bridge_begins_an_epoch() -> None:
    ledger = SequenceLedger([(3, 4000, "p4000", None)])
    assert feed(ledger, 1, 2) == [("restarted", 0, 4), ("next", 0, 4)]


def test_a_remembered_rollover_keeps_its_newest() -> None:
    ledger = SequenceLedger([(1, TOP - 1, "x", None), (1, 0, "y", None)])
    assert ledger.newest == 0


def shuffled(start: int, order: list[int]) -> Iterator[int]:
    return ((start + i) % TOP for i in order)


@given(
    start=st.integers(0, TOP - 1),
    gaps=st.lists(st.integers(1, 8), min_size=1, max_size=60),
    repeats=st.sets(st.integers(0, 60)),
)
@settings(max_examples=300, deadline=None)
def test_missed_is_what_was_skipped_and_duplicates_change_nothing(
    start: int, gaps: list[int], repeats: set[int]
) -> None:
    ledger, sequence, missed, accepted = SequenceLedger(), start, 0, 0
    for i, gap in enumerate(gaps):
        for _ in range(2 if i in repeats else 1):
            one = ledger.accept(sequence, str(sequence), None)
            missed += one.missed
            accepted += one.accepted
            assert one.epoch == 1
        sequence = (sequence + gap) % TOP
    assert missed == sum(gaps[:-1]) - (len(gaps) - 1)
    assert accepted == len(gaps)


@given(start=st.integers(0, TOP - 1), data=st.data())
@settings(max_examples=300, deadline=None)
def test_reordering_within_16_loses_and_invents_nothing(start: int, data: st.DataObject) -> None:
    blocks = [data.draw(st.permutations(range(i, i + 8))) for i in range(0, 40, 8)]
    order = [0] + [1 + i for block in blocks for i in block]
    ledger = SequenceLedger()
    kinds = [ledger.accept(sequence, str(sequence), None) for sequence in shuffled(start, order)]
    assert sum(one.missed for one in kinds) == 0
    assert {one.kind for one in kinds} <= {"first", "next", "gap", "out_of_order"}


@given(events=st.lists(st.tuples(st.integers(0, 40), st.sampled_from("ab")), max_size=80))
@settings(max_examples=300, deadline=None)
def test_epoch_and_sequence_name_a_part_once(events: list[tuple[int, str]]) -> None:
    ledger, named, seen = SequenceLedger(), set(), set()
    for sequence, part in events:
        one = ledger.accept(sequence, part, None)
        assert (one.kind == "duplicate") == ((sequence, part) in seen)
        seen.add((sequence, part))
        if one.accepted:
            assert (one.epoch, sequence) not in named
            named.add((one.epoch, sequence))
