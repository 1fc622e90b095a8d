"""Stamps, counts, lengths and sequences from clocks and encoders that are wrong: one verdict each, and never a crash."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest

from bridge.domain.rfc3339 import format_utc
from tests.wire.bad_messages import BRIGHT, DARK, raw
from tests.wire.judging_bench import Bench, judging_bridge

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module", params=["arrival", "source"])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with judging_bridge(tmp_path_factory.mktemp(request.param), mqtt__trigger_clock=request.param) as bench:
        bench.clock = request.param
        yield bench


def local(offset_minutes: int) -> str:
    """Give now as another time zone writes it."""
    zone = timezone(timedelta(minutes=offset_minutes))
    return datetime.now(zone).isoformat(timespec="milliseconds")


PAST, FUTURE = "LATE", "ERROR"
STAMPS = {
    "the epoch": ("1970-01-01T00:00:00Z", PAST),
    "the first year": ("0001-01-01T00:00:00Z", PAST),
    "before the first year": ("0001-01-01T00:00:00+23:59", PAST),
    "a leap second": ("2016-12-31T23:59:60Z", PAST),
    "a leap second of any minute": ("2020-05-05T12:34:60.999Z", PAST),
    "18 digits": ("2020-05-05T12:34:56.123456789123456789Z", PAST),
    "the last year": ("9999-12-31T23:59:59Z", FUTURE),
    "after the last year": ("9999-12-31T23:59:59.999999999-23:59", FUTURE),
}


@pytest.mark.parametrize("case", STAMPS)
def test_a_stamp_far_away_counts_under_source_alone(bench: Bench, case: str) -> None:
    ts, under_source = STAMPS[case]
    sequence = next(bench.sequences)
    bench.send(raw(DARK, ("ts", ts))(sequence))
    verdict = bench.publisher.verdict_of(sequence)
    if bench.clock == "source":
        assert (verdict["verdict"], verdict["disposition"]) == (under_source, "REJECT")
        assert under_source == PAST or verdict["reason"].startswith("clock: ")
    else:
        assert verdict["verdict"] == "PASS"
        bench.good.add(sequence)
    assert datetime.fromisoformat(verdict["triggered_utc"]) <= datetime.now(UTC)
    bench.judges_on()


@pytest.mark.parametrize(
    "stamp",
    [
        lambda: format_utc(time.time_ns()),
        lambda: format_utc(time.time_ns()).replace("Z", "123Z"),
        lambda: format_utc(time.time_ns()).lower(),
        lambda: format_utc(time.time_ns()).replace("T", " "),
        lambda: format_utc(time.time_ns()).replace("Z", "-00:00"),
        lambda: local(330),
        lambda: local(-720),
        lambda: local(1439),
        lambda: format_utc(time.time_ns() + 30_000_000),
    ],
)
def test_every_way_to_write_now_is_judged_under_both_clocks(bench: Bench, stamp: object) -> None:
    sequence = next(bench.sequences)
    bench.good.add(sequence)
    bench.send(raw(DARK, ("ts", stamp()))(sequence))  # type: ignore[operator]
    verdict = bench.publisher.verdict_of(sequence)
    assert (verdict["verdict"], verdict["sequence"]) == ("PASS", sequence)
    bench.judges_on()


def test_a_clock_that_is_a_minute_ahead_or_behind(bench: Bench) -> None:
    for ahead_s, expected in ((60, "ERROR"), (-60, "LATE")):
        sequence = next(bench.sequences)
        bench.send(raw(BRIGHT, ("ts", format_utc(time.time_ns() + ahead_s * 1_000_000_000)))(sequence))
        verdict = bench.publisher.verdict_of(sequence)["verdict"]
        assert verdict == (expected if bench.clock == "source" else "FAIL")
        bench.good |= {sequence} if verdict == "FAIL" else set()
    bench.judges_on()


@pytest.mark.parametrize(
    ("member", "words"),
    [
        ('"ts": "2026-11-21T08:00:00"', "no RFC 3339 time"),
        ('"ts": "2026-11-21"', "no RFC 3339 time"),
        ('"ts": "20261121T080000Z"', "no RFC 3339 time"),
        ('"ts": "2026-11-21T08:00:61Z"', "second"),
        ('"ts": "2026-11-21T24:00:00Z"', "hour"),
        ('"ts": "2026-11-21T08:00:00.1234567890123456789Z"', "no RFC 3339 time"),
        ('"ts": "2026-11-21T08:00:00+24:00"', "more than a day"),
        ('"ts": "0000-01-01T00:00:00Z"', "year"),
        ('"ts": "٢٠٢٦-11-21T08:00:00Z"', "no RFC 3339 time"),
        ('"ts": 1795248000', "RFC 3339"),
        ('"length_mm": 0', "length_mm is 0"),
        ('"length_mm": -5', "length_mm is -5"),
        ('"length_mm": 1e308', "length_mm is 1e"),
        ('"length_mm": 1e400', "length_mm is inf"),
        ('"length_mm": NaN', "NaN is no JSON number"),
        ('"length_mm": "100"', "length_mm is '100'"),
        ('"length_mm": true', "length_mm is True"),
        ('"encoder": 1.5', "encoder is 1.5"),
        ('"encoder": 1e300', "encoder is 1e"),
        ('"encoder": -2147483649', "encoder is -2147483649"),
    ],
)
def test_what_is_no_time_length_or_count_is_an_error_of_that_part(bench: Bench, member: str, words: str) -> None:
    sequence = next(bench.sequences)
    bench.publisher.send(f'{{"sequence": {sequence}, {member}}}'.encode())
    verdict = bench.publisher.verdict_of(sequence)
    assert (verdict["verdict"], verdict["disposition"]) == ("ERROR", "REJECT")
    assert words in verdict["reason"]
    bench.judges_on()


@pytest.mark.parametrize("length", ["1e-300", "0.001", "100000", "99999.999"])
def test_a_length_of_any_size_is_judged(bench: Bench, length: str) -> None:
    sequence = next(bench.sequences)
    bench.good.add(sequence)
    image = f'"image": {{"path": "good.jpg"}}, "length_mm": {length}'
    bench.publisher.send(f'{{"sequence": {sequence}, {image}}}'.encode())
    assert bench.publisher.verdict_of(sequence)["verdict"] == "PASS"
    bench.judges_on()


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with judging_bridge(tmp_path_factory.mktemp("counting"), belt__speed_source="encoder") as bench:
        yield bench


@pytest.mark.soak
@pytest.mark.parametrize("far", [1, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1, -(2**31), 5_000_000])
def test_a_latched_count_far_from_the_encoder_is_never_an_order_for_another_part(counting: Bench, far: int) -> None:
    """The belt stands at about 1000: a count from another counter tells nothing, and the bad part is reported."""
    for count in range(900, 1020, 20):
        counting.publisher.send(json.dumps({"counts": count}).encode(), topic="encoder")
        time.sleep(0.02)
    sequence = next(counting.sequences)
    counting.send(raw(BRIGHT, ("encoder", str(far)))(sequence))
    verdict = counting.publisher.verdict_of(sequence)
    assert (verdict["verdict"], verdict["disposition"], verdict["gate"]["state"]) == ("FAIL", "REJECT", "ordered")
    distance = (6000 - 15) * 10  # counts from the beam to the window's start, at 10 a mm
    if far in {1, 2**32 - 1}:  # 0.1 m behind: it can be this part's
        assert verdict["gate"]["open_count"] == (far + distance) % 2**32
    else:
        assert 900 <= verdict["gate"]["open_count"] - distance <= 1200


@pytest.fixture(scope="module")
def crawling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with judging_bridge(tmp_path_factory.mktemp("crawling"), belt__speed_source="mqtt") as bench:
        yield bench


@pytest.mark.soak
@pytest.mark.parametrize("mm_s", ["1e-300", "1e-9", "0.001", "0", "100000"])
def test_a_belt_of_any_speed_gets_its_verdicts(crawling: Bench, mm_s: str) -> None:
    crawling.publisher.send(f'{{"mm_s": {mm_s}}}'.encode(), topic="speed")
    time.sleep(0.05)
    for picture in (DARK, BRIGHT):
        sequence = next(crawling.sequences)
        crawling.send(raw(picture)(sequence))
        verdict = crawling.publisher.verdict_of(sequence)
        assert verdict["verdict"] in {"PASS" if picture is DARK else "FAIL", "LATE"}
        assert json.loads(json.dumps(verdict, allow_nan=False)) == verdict
    assert crawling.bridge.process.poll() is None
