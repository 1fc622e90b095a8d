from bridge.domain.belt import NS_PER_MS
from bridge.inputs.freshness import MANY, Freshness


def opened() -> Freshness:
    freshness = Freshness()
    freshness.open()
    return freshness


def probe(freshness: Freshness, at_ms: int, unacknowledged: int = MANY) -> str | None:
    return freshness.probe(unacknowledged=unacknowledged, now_ns=at_ms * NS_PER_MS)


def back(freshness: Freshness, text: str | None, at_ms: int) -> bool:
    assert text is not None
    return freshness.returned(text.encode(), arrived_ns=at_ms * NS_PER_MS)


def test_a_line_that_keeps_up_sends_no_probe() -> None:
    assert probe(opened(), 100, unacknowledged=MANY - 1) is None


def test_one_probe_at_a_time_and_not_too_often() -> None:
    freshness = opened()
    text = probe(freshness, 1000)
    assert probe(freshness, 1001) is None
    assert back(freshness, text, 1002)
    assert probe(freshness, 1010) is None
    later = probe(freshness, 1021)
    assert later not in (None, text)
    assert not freshness.returned(b"{}", arrived_ns=0)
    assert not freshness.returned((text or "").encode(), arrived_ns=0), "an earlier probe"


def test_held_back_is_what_comes_behind_a_slow_probe_until_one_is_quick() -> None:
    freshness = opened()
    first = probe(freshness, 1000)
    assert not freshness.held_back(1100 * NS_PER_MS)
    assert freshness.held_back(1101 * NS_PER_MS)
    assert back(freshness, first, 1400)
    assert freshness.held_back(1401 * NS_PER_MS), "it was queued behind the probe, and not long after"
    second = probe(freshness, 1402, unacknowledged=0)
    assert back(freshness, second, 1405)
    assert not freshness.held_back(1406 * NS_PER_MS)


def test_a_lost_probe_is_sent_again_and_a_new_connection_begins_afresh() -> None:
    freshness = opened()
    first = probe(freshness, 1000)
    assert probe(freshness, 1999) is None
    assert probe(freshness, 2000) == first
    assert freshness.held_back(2001 * NS_PER_MS)
    freshness.open()
    assert not freshness.held_back(2002 * NS_PER_MS)
    assert not back(freshness, first, 2003)
