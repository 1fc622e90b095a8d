"""The record's tables and their rows: one for each accepted trigger, one for each verdict, one for each gate event.

A part's key is (line, station, epoch, sequence, part_id, triggered_utc). The first four name one part for people; the
last two are in the constraint because a source may jump about so far within one epoch that it meets an old sequence
again, and an accepted part must never lose its record to that.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from bridge.domain.part import Part
from bridge.domain.rfc3339 import format_utc, parse_utc
from bridge.ports import Outcome

VERSION = 1
KEY = ("line", "station", "epoch", "sequence", "part_id", "triggered_utc")
Row = dict[str, Any]

_LAST_NS = parse_utc("9999-12-31T23:59:59.999999Z")

# u32 counts need it in PostgreSQL; SQLite counts up a key of the type INTEGER only.
_BIG = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData()

triggers = Table(
    "triggers",
    metadata,
    Column("id", _BIG, primary_key=True),
    Column("line", Text, nullable=False),
    Column("station", Text, nullable=False),
    Column("epoch", _BIG, nullable=False),
    Column("sequence", _BIG, nullable=False),
    Column("part_id", Text, nullable=False),
    Column("ts", Text),
    Column("triggered_utc", Text, nullable=False),
    Column("accepted_utc", Text, nullable=False),
    Column("recipe", Text, nullable=False),
    Column("encoder", _BIG),
    Column("length_mm", Float),
    Column("source", Text, nullable=False),
    Column("backlog", Integer, nullable=False),
    Column("open", Integer, nullable=False),
    UniqueConstraint(*KEY),
)
# Written out and not bound: SQLite uses an index of some rows only where it sees that the others don't matter. `open`
# leads in it, so that it beats the index of all rows.
IS_OPEN = text("triggers.open = 1")
# Newest first by station, and the few that still wait for their verdict: both without a walk through the table.
Index("triggers_by_arrival", triggers.c.line, triggers.c.station, triggers.c.id)
Index(
    "triggers_open",
    *(triggers.c[name] for name in ("open", "line", "station", "id")),
    sqlite_where=IS_OPEN,
    postgresql_where=IS_OPEN,
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("line", Text, nullable=False),
    Column("station", Text, nullable=False),
    Column("epoch", _BIG, nullable=False),
    Column("sequence", _BIG, nullable=False),
    Column("part_id", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("code", Integer, nullable=False),
    Column("disposition", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("label", Text),
    Column("score", Float),
    Column("recipe", Text, nullable=False),
    Column("model", Text),
    Column("model_sha256", Text),
    Column("triggered_utc", Text, nullable=False),
    Column("decided_utc", Text, nullable=False),
    Column("replayed", Integer, nullable=False),
    Column("picture", Text),
    Column("json", Text, nullable=False),
    PrimaryKeyConstraint(*KEY),
)
Index("verdicts_by_time", verdicts.c.decided_utc)
Index("verdicts_by_part", verdicts.c.part_id)
Index("verdicts_by_sequence", verdicts.c.sequence)

gate_events = Table(
    "gate_events",
    metadata,
    Column("id", _BIG, primary_key=True),
    Column("line", Text, nullable=False),
    Column("station", Text, nullable=False),
    Column("epoch", _BIG, nullable=False),
    Column("sequence", _BIG, nullable=False),
    Column("event", Text, nullable=False),
    Column("reason", Text),
    Column("at_utc", Text, nullable=False),
)
Index("gate_events_by_part", *(gate_events.c[name] for name in ("line", "station", "epoch", "sequence")))
# A server may commit and its answer be lost: what is then written once more must not stand there twice.
Index(
    "gate_events_once",
    *(gate_events.c[name] for name in ("line", "station", "epoch", "sequence", "event", "at_utc")),
    unique=True,
).ddl_if(dialect="postgresql")


def utc_text(utc_ns: int) -> str:
    """Write a moment as RFC 3339 with six decimals and Z, so that text sorts as time; the rest of the ns is cut off.

    A moment before 1970 or after 9999 is written as the nearest that is not: a broken clock must not cost a record.
    """
    return format_utc(min(max(utc_ns, 0), _LAST_NS))


def clean(value: str) -> str:
    """Replace half of a surrogate pair, which UTF-8 can't hold, and NUL, which PostgreSQL can't: it would fail the row."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")


def _clean_or_none(value: str | None) -> str | None:
    return None if value is None else clean(value)


def _float_or_none(value: float | None) -> float | None:
    # numpy's own scalars would be stored as bytes.
    return None if value is None else float(value)


def part_key(part: Part) -> Row:
    """Give the columns that name one part, in trigger and verdict rows alike."""
    return {
        "line": part.line,
        "station": part.station,
        "epoch": int(part.epoch),
        "sequence": int(part.sequence),
        "part_id": clean(part.part_id),
        "triggered_utc": utc_text(part.triggered_utc_ns),
    }


def trigger_row(part: Part, *, at_utc_ns: int) -> Row:
    """Give the acceptance row: enough of the part to complete its record at the next start."""
    return part_key(part) | {
        "ts": _clean_or_none(part.trigger.ts),
        "accepted_utc": utc_text(at_utc_ns),
        "recipe": clean(part.recipe.reference),
        "encoder": part.count_at_trigger,
        "length_mm": _float_or_none(part.length_mm),
        "source": part.trigger.source,
        "backlog": int(part.trigger.backlog),
        "open": 1,
    }


def verdict_row(outcome: Outcome) -> Row:
    """Give the verdict's row of one outcome; `replayed` is 0 or 1."""
    result = outcome.result
    judgement = result.judgement
    return part_key(result.part) | {
        "verdict": judgement.code.name,
        "code": int(judgement.code),
        "disposition": result.disposition.name,
        "reason": clean(judgement.reason),
        "label": _clean_or_none(judgement.label),
        "score": _float_or_none(judgement.score),
        "recipe": clean(result.part.recipe.reference),
        "model": _clean_or_none(result.model),
        "model_sha256": _clean_or_none(result.model_sha256),
        "decided_utc": utc_text(result.decided_utc_ns),
        "replayed": int(result.replayed),
        "picture": _clean_or_none(result.picture),
        "json": clean(outcome.document),
    }
