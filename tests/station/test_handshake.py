"""The handshakes with a PLC: every state answers every event, and the sequences of the contract hold."""

from __future__ import annotations

import itertools

import pytest

from bridge.domain.handshake import (
    QUEUE_LIMIT,
    RESULT_TABLE,
    TRIGGER_TABLE,
    ResultEvent,
    ResultHandshake,
    ResultState,
    TriggerAction,
    TriggerEvent,
    TriggerHandshake,
    TriggerState,
)


def test_every_trigger_state_answers_every_event() -> None:
    assert set(TRIGGER_TABLE) == set(itertools.product(TriggerState, TriggerEvent))


def test_every_result_state_answers_every_event() -> None:
    assert set(RESULT_TABLE) == set(itertools.product(ResultState, ResultEvent))


def test_a_rising_edge_with_ready_takes_the_trigger_once() -> None:
    shake, action = TriggerHandshake().advance(TriggerEvent.HIGH_READY)
    assert (action, shake.ack) == (TriggerAction.TAKE, True)
    shake, action = shake.advance(TriggerEvent.HIGH_READY)
    assert (action, shake.ack) == (TriggerAction.NOTHING, True)
    shake, action = shake.advance(TriggerEvent.HIGH_NOT_READY)
    assert (action, shake.ack) == (TriggerAction.NOTHING, True)
    shake, action = shake.advance(TriggerEvent.FALL)
    assert (action, shake.ack) == (TriggerAction.NOTHING, False)
    shake, action = shake.advance(TriggerEvent.HIGH_READY)
    assert (action, shake.ack, shake.missed) == (TriggerAction.TAKE, True, False)


def test_an_edge_while_not_ready_is_refused_and_remembered_until_clear_error() -> None:
    shake, action = TriggerHandshake().advance(TriggerEvent.HIGH_NOT_READY)
    assert (action, shake.ack, shake.missed) == (TriggerAction.REFUSE, False, True)
    shake, action = shake.advance(TriggerEvent.HIGH_READY)
    assert (action, shake.ack) == (TriggerAction.NOTHING, False), "Ready rising under a standing Trigger is no edge"
    shake, _ = shake.advance(TriggerEvent.FALL)
    shake, action = shake.advance(TriggerEvent.HIGH_READY)
    assert (action, shake.missed) == (TriggerAction.TAKE, True)
    assert not shake.cleared().missed
    assert shake.cleared().ack


@pytest.mark.parametrize("event", [TriggerEvent.HIGH_READY, TriggerEvent.HIGH_NOT_READY])
def test_a_trigger_already_high_after_a_lost_link_is_no_edge(event: TriggerEvent) -> None:
    shake, _ = TriggerHandshake().advance(TriggerEvent.LINK_LOST)
    shake, action = shake.advance(event)
    assert (action, shake.ack, shake.missed) == (TriggerAction.NOTHING, False, False)
    shake, _ = shake.advance(TriggerEvent.FALL)
    _, action = shake.advance(TriggerEvent.HIGH_READY)
    assert action is TriggerAction.TAKE


def test_a_lost_link_in_the_middle_of_a_handshake_does_not_take_the_part_twice() -> None:
    shake, _ = TriggerHandshake().advance(TriggerEvent.HIGH_READY)
    shake, _ = shake.advance(TriggerEvent.LINK_LOST)
    shake, action = shake.advance(TriggerEvent.HIGH_READY)
    assert (action, shake.ack) == (TriggerAction.NOTHING, True)


def test_each_result_is_shown_until_acknowledged() -> None:
    shake: ResultHandshake[int] = ResultHandshake()
    assert not shake.valid
    shake = shake.offer(1).offer(2).offer(3)
    seen = []
    for _ in range(3):
        assert shake.valid
        seen.append(shake.shown)
        shake = shake.acknowledge(up=True)
        assert not shake.valid
        shake = shake.acknowledge(up=True).acknowledge(up=False)
    assert seen == [1, 2, 3]
    assert not shake.valid
    assert not shake.overrun


def test_an_acknowledgement_held_high_takes_no_later_result_with_it() -> None:
    shake: ResultHandshake[int] = ResultHandshake()
    shake = shake.offer(1).acknowledge(up=True).offer(2)
    assert not shake.valid
    shake = shake.acknowledge(up=False)
    assert (shake.valid, shake.shown) == (True, 2)


def test_the_queue_drops_its_oldest_and_says_so_until_clear_error() -> None:
    shake: ResultHandshake[int] = ResultHandshake()
    shake = shake.offer(0)
    for number in range(1, QUEUE_LIMIT + 1):
        shake = shake.offer(number)
    assert not shake.overrun
    shake = shake.offer(QUEUE_LIMIT + 1)
    assert shake.overrun
    assert shake.shown == 0
    assert shake.waiting == tuple(range(2, QUEUE_LIMIT + 2))
    assert not shake.cleared().overrun
