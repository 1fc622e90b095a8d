"""Heartbeats, the PLC's and the station's own; the station's state table."""

from __future__ import annotations

from itertools import product

import pytest

from bridge.domain.heartbeat import Heartbeat, HeartbeatWatch
from bridge.domain.station_state import ALLOWED, next_state, state_of
from bridge.domain.status import StationState

MS = 1_000_000


def test_a_plc_that_never_beat_is_lost_but_was_never_seen() -> None:
    watch = HeartbeatWatch()
    watch.seen(0, now_ns=5)
    assert watch.lost(10**12) and not watch.ever_seen and watch.next_change_ns() is None


def test_a_beat_must_change_within_two_seconds() -> None:
    watch = HeartbeatWatch()
    watch.seen(1, now_ns=0)
    watch.seen(1, now_ns=1500 * MS)
    assert not watch.lost(1999 * MS)
    assert watch.lost(2000 * MS) and watch.next_change_ns() == 2000 * MS
    watch.seen(0, now_ns=2100 * MS)
    assert not watch.lost(2200 * MS) and watch.ever_seen


def test_rollover_and_running_back_are_life_too() -> None:
    watch = HeartbeatWatch()
    for i, value in enumerate((65535, 0, 1, 0)):
        watch.seen(value, now_ns=i * 1000 * MS)
        assert not watch.lost(i * 1000 * MS)


def test_own_heartbeat_advances_once_a_period_and_only_when_able() -> None:
    beat = Heartbeat(value=65534)
    assert [beat.passed(at * MS) for at in (0, 100, 499, 500, 990, 1000)] == [True, False, False, True, False, True]
    assert beat.value == 1
    assert not beat.passed(1600 * MS, able=False)
    assert beat.value == 1
    assert beat.passed(9000 * MS) and not beat.passed(9100 * MS)
    assert beat.value == 2


@pytest.mark.parametrize(
    ("so", "state"),
    [
        ({}, "READY"),
        ({"busy": True}, "BUSY"),
        ({"busy": True, "disabled": True}, "DISABLED"),
        ({"inhibited": True}, "DISABLED"),
        ({"starting": True, "disabled": True}, "STARTING"),
        ({"fault": True, "starting": True}, "FAULT"),
        ({"fault": True, "stopping": True}, "STOPPING"),
    ],
)
def test_state_of(so: dict[str, bool], state: str) -> None:
    assert state_of(**so) == state


def test_the_table_covers_every_change() -> None:
    assert set(ALLOWED) == set(StationState)
    for before, wanted in product(StationState, StationState):
        after = next_state(before, wanted)
        assert after == (wanted if wanted in ALLOWED[before] else before)
    assert next_state(StationState.STOPPING, StationState.READY) is StationState.STOPPING
    assert next_state(StationState.READY, StationState.STARTING) is StationState.READY
    assert all(StationState.STOPPING in after for after in ALLOWED.values())
