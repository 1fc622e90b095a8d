from bridge.inputs.ack_order import AckOrder
from bridge.inputs.backlog import MAX_ROUNDS, Backlog
from bridge.inputs.mqtt_outbox import Outbox, Outgoing


def message(number: int, *, retain: bool = False) -> Outgoing:
    return Outgoing(topic="status" if retain else "verdict", payload=str(number), retain=retain)


def test_the_oldest_goes_first_and_of_a_retained_topic_the_newest_stays() -> None:
    box = Outbox(limit=3, window=10)
    for number in range(5):
        box.put(message(number))
        box.put(message(number, retain=True))
    taken = [box.take() for _ in range(5)]
    assert [item.payload if item else None for item in taken] == ["2", "3", "4", "4", None]
    assert (box.dropped, box.empty) == (2, True)


def test_only_a_window_is_in_flight() -> None:
    box = Outbox(limit=10, window=2)
    for number in range(4):
        box.put(message(number))
    payloads = []
    while (item := box.take()) is not None:
        box.sent()
        payloads.append(item.payload)
    assert payloads == ["0", "1"]
    assert not box.empty
    for _ in range(2):
        box.confirmed()
        item = box.take()
        assert item is not None
        box.sent()
        payloads.append(item.payload)
    assert payloads == ["0", "1", "2", "3"]
    for _ in range(5):
        box.confirmed()
    assert box.empty


def test_backlog_is_what_a_kept_session_brings_before_its_marker() -> None:
    backlog = Backlog()
    backlog.open(1, resumed=False, nonce="a")
    assert (backlog.take(dup=False), backlog.take(dup=True), backlog.settled) == (False, True, False)
    assert not backlog.returned(backlog.marker.encode())
    assert backlog.settled
    first = backlog.marker
    backlog.open(2, resumed=True, nonce="b")
    assert backlog.holds(dup=False)
    for foreign in (first, "", "{}"):
        assert not backlog.returned(foreign.encode())
    assert not backlog.returned(backlog.marker.encode())
    assert (backlog.holds(dup=False), backlog.holds(dup=True), backlog.settled) == (False, True, True)


def test_a_marker_that_overtook_triggers_does_not_count() -> None:
    backlog = Backlog()
    backlog.open(1, resumed=True, nonce="a")
    first = backlog.marker
    assert backlog.take(dup=False)
    assert backlog.returned(first.encode())
    assert backlog.take(dup=False)
    assert not backlog.returned(first.encode())
    assert backlog.returned(backlog.marker.encode())
    assert not backlog.returned(backlog.marker.encode())
    assert backlog.settled


def test_a_stream_without_a_pause_is_live_in_the_end() -> None:
    backlog = Backlog()
    backlog.open(1, resumed=True, nonce="a")
    rounds = 0
    while not backlog.settled:
        rounds += 1
        backlog.take(dup=False)
        backlog.returned(backlog.marker.encode())
    assert rounds == MAX_ROUNDS + 1


def test_acknowledgements_keep_the_order_of_arrival() -> None:
    acks = AckOrder()
    for mid in (5, 6, 7, 8):
        acks.arrived(1, mid)
    assert [acks.done(1, mid) for mid in (6, 8, 5, 5, 9, 7)] == [[], [], [5, 6], [], [], [7, 8]]
    acks.arrived(1, 5)
    acks.arrived(2, 5)
    assert acks.done(1, 5) == []
    assert acks.done(2, 5) == [5]
