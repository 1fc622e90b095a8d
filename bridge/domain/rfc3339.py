"""Time stamps as text: RFC 3339 in UTC, to and from integer nanoseconds since 1970."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_UTC = _EPOCH.replace(tzinfo=None)
_FIRST_US = (datetime.min - _EPOCH_UTC) // timedelta(microseconds=1)
_LAST_US = (datetime.max - _EPOCH_UTC) // timedelta(microseconds=1)
_STAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,18}))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)


def format_utc(utc_ns: int) -> str:
    """Write `utc_ns` with Z and microseconds, cut rather than rounded, so that order is kept: no float is involved.

    What lies outside of the years 1 to 9999 is written as their first or last moment.
    """
    moment = _EPOCH_UTC + timedelta(microseconds=min(max(utc_ns // 1000, _FIRST_US), _LAST_US))
    return moment.isoformat(timespec="microseconds") + "Z"


def parse_utc(text: str) -> int:
    """Read an RFC 3339 stamp (Z or an offset) as nanoseconds since 1970.

    A leap second counts as the second before it; digits beyond the ninth are cut. Raises ValueError for anything else.
    """
    match = _STAMP.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is no RFC 3339 time such as 2026-11-21T08:00:00.123456Z")
    year, month, day, hour, minute, second = (int(match[group]) for group in range(1, 7))
    moment = datetime(year, month, day, hour, minute, min(second, 59) if second == 60 else second, tzinfo=UTC)
    fraction_ns = int((match[7] or "").ljust(9, "0")[:9])
    whole = moment - _EPOCH
    utc_ns = (whole.days * 86_400 + whole.seconds) * 1_000_000_000 + fraction_ns
    if match[8] is None:
        return utc_ns
    offset_hours, offset_minutes = int(match[9]), int(match[10])
    if offset_hours > 23 or offset_minutes > 59:
        raise ValueError(f"{text[:40]!r} has an offset of more than a day")
    offset_ns = (offset_hours * 60 + offset_minutes) * 60_000_000_000
    return utc_ns - offset_ns if match[8] == "+" else utc_ns + offset_ns
