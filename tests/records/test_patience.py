"""How long a thing has been stuck: pure, time is an argument."""

from __future__ import annotations

from bridge.records.patience import MS, Patience


def test_same_thing_for_the_whole_limit_is_stuck() -> None:
    patience = Patience(1000 * MS)
    assert [patience.look(7, at * 250 * MS) for at in range(6)] == [False, False, False, False, True, True]


def test_another_thing_or_none_starts_afresh() -> None:
    patience = Patience(1000 * MS)
    assert not patience.look(7, 0)
    assert not patience.look(7, 500 * MS)
    assert not patience.look(8, 1000 * MS)
    assert not patience.look(None, 1500 * MS)
    assert not patience.look(8, 2000 * MS)
    assert not patience.look(8, 2500 * MS)
    assert patience.look(8, 3000 * MS)


def test_process_that_was_stopped_blames_nobody() -> None:
    patience = Patience(1000 * MS)
    assert not patience.look(7, 0)
    assert not patience.look(7, 60_000 * MS)
    assert not patience.look(None, 60_001 * MS)
