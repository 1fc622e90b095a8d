"""Stamps are read and written to the microsecond, from the first year to the last."""

from __future__ import annotations

import pytest

from bridge.domain.rfc3339 import format_utc, parse_utc


@pytest.mark.parametrize(
    "text",
    [
        "1970-01-01T00:00:00.000000Z", "0001-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z",
        "2026-11-21T08:00:00.123456Z", "1969-12-31T23:59:59.000001Z", "0987-06-05T04:03:02.000000Z",
    ],
)  # fmt: skip
def test_what_is_written_is_read_again(text: str) -> None:
    assert format_utc(parse_utc(text)) == text


def test_what_no_calendar_has_is_written_as_its_end() -> None:
    assert format_utc(-(10**24)) == format_utc(parse_utc("0001-01-01T00:00:00+23:59")) == "0001-01-01T00:00:00.000000Z"
    assert format_utc(10**24) == "9999-12-31T23:59:59.999999Z"


def test_nanoseconds_are_cut_not_rounded() -> None:
    assert format_utc(parse_utc("2026-11-21T08:00:00.999999999Z")) == "2026-11-21T08:00:00.999999Z"


def test_a_leap_second_is_the_second_before_it() -> None:
    assert parse_utc("2016-12-31T23:59:60.5Z") == parse_utc("2016-12-31T23:59:59.5Z")


@pytest.mark.parametrize(
    ("text", "utc"), [("+05:30", "02:30"), ("-07:45", "15:45"), ("-00:00", "08:00"), ("z", "08:00")]
)
def test_offsets_are_taken_off(text: str, utc: str) -> None:
    assert format_utc(parse_utc(f"2026-11-21T08:00:00{text}")) == f"2026-11-21T{utc}:00.000000Z"
