"""Which verdicts a person asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, and_, exists, or_

from bridge.domain.challenge import MET
from bridge.domain.verdict import VerdictCode
from bridge.errors import ConfigError
from bridge.records.schema import gate_events, utc_text, verdicts

VERDICT_NAMES = tuple(code.name for code in VerdictCode if code is not VerdictCode.NONE)
SPAN_S: Mapping[str, int] = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What a verdict has to be; None is anything.

    `verdict` is a name in any case; `since` (included) and `until` (not included) are moments as `moment_text` takes them,
    compared with the moment of the decision; `recipe` is `name@revision` or the name alone; `challenge` asks for the
    parts of challenge tests alone.
    """

    verdict: str | None = None
    since: str | None = None
    until: str | None = None
    part_id: str | None = None
    recipe: str | None = None
    line: str | None = None
    station: str | None = None
    challenge: bool = False

    def clauses(self, *, now_utc_ns: int | None = None) -> list[ColumnElement[bool]]:
        """Give the conditions on table `verdicts`; raises ConfigError for a filter that makes no sense."""
        wanted: list[ColumnElement[bool]] = [
            verdicts.c[name] == value
            for name, value in (("part_id", self.part_id), ("line", self.line), ("station", self.station))
            if value is not None
        ]
        if self.verdict is not None:
            if self.verdict.upper() not in VERDICT_NAMES:
                raise ConfigError(f"verdict: {self.verdict!r} is not allowed; one of {', '.join(VERDICT_NAMES)}")
            wanted.append(verdicts.c.verdict == self.verdict.upper())
        if self.since is not None:
            wanted.append(verdicts.c.decided_utc >= moment_text("since", self.since, now_utc_ns=now_utc_ns))
        if self.until is not None:
            wanted.append(verdicts.c.decided_utc < moment_text("until", self.until, now_utc_ns=now_utc_ns))
        if self.recipe is not None:
            name = verdicts.c.recipe
            wanted.append(or_(name == self.recipe, name.startswith(f"{self.recipe}@", autoescape=True)))
        if self.challenge:
            wanted.append(exists().where(of_same_part(), gate_events.c.event == MET))
        return wanted


def of_same_part() -> ColumnElement[bool]:
    """Give the condition that a gate event is of the verdict's part."""
    return and_(*(gate_events.c[name] == verdicts.c[name] for name in ("line", "station", "epoch", "sequence")))


def moment_text(key: str, value: str, *, now_utc_ns: int | None = None) -> str:
    """Turn a moment, a date, or a span back from now (`90s`, `15m`, `2h`, `3d`) into the form that records have.

    Raises ConfigError, which names `key`; a span is allowed with `now_utc_ns` only.
    """
    span = re.fullmatch(r"(\d{1,9})([smhd])", value)
    if span and now_utc_ns is not None:
        return utc_text(now_utc_ns - int(span[1]) * SPAN_S[span[2]] * 1_000_000_000)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as exc:
        allowed = "a moment such as 2026-11-21T08:00:00Z, a date, or a span such as 15m, 2h, 3d"
        raise ConfigError(f"{key}: {value!r} is not allowed; {allowed}") from exc
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
