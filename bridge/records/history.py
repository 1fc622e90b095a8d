"""What a new start needs of the last run: the newest triggers and verdicts, and the triggers that have no verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Engine, Row, Select, and_, exists, select

from bridge.domain.rfc3339 import parse_utc
from bridge.domain.verdict import Disposition, VerdictCode
from bridge.records import schema
from bridge.records.schema import KEY, gate_events, triggers, verdicts

REMEMBERED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """An accepted trigger without a verdict: the bridge ended before it. Moments are wall clock, whole microseconds."""

    line: str
    station: str
    epoch: int
    sequence: int
    part_id: str
    ts: str | None
    triggered_utc_ns: int
    accepted_utc_ns: int
    recipe: str
    encoder: int | None
    length_mm: float | None
    source: str
    backlog: bool


class History:
    """Answers about one station from the database; each answer looks at a few thousand rows at most, found by index."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def unfinished(self, line: str, station: str) -> list[Unfinished]:
        """Give the accepted triggers without a verdict, oldest first.

        A killed run may leave some open that it had judged: closing them is left to a transaction that nobody waits for.
        """
        rows = self._rows(
            select(triggers)
            .where(
                schema.IS_OPEN, triggers.c.line == line, triggers.c.station == station, ~exists().where(_same_part())
            )
            .order_by(triggers.c.id)
        )
        return [
            Unfinished(
                line=row.line,
                station=row.station,
                epoch=row.epoch,
                sequence=row.sequence,
                part_id=row.part_id,
                ts=row.ts,
                triggered_utc_ns=parse_utc(row.triggered_utc),
                accepted_utc_ns=parse_utc(row.accepted_utc),
                recipe=row.recipe,
                encoder=row.encoder,
                length_mm=row.length_mm,
                source=row.source,
                backlog=bool(row.backlog),
            )
            for row in rows
        ]

    def recent_triggers(self, line: str, station: str, limit: int) -> list[tuple[int, int, str, str | None]]:
        """Give (epoch, sequence, part id, ts) of the newest accepted triggers, oldest first."""
        columns = (triggers.c.epoch, triggers.c.sequence, triggers.c.part_id, triggers.c.ts)
        rows = self._rows(select(*columns).where(*_of(line, station)).order_by(triggers.c.id.desc()).limit(limit))
        return [(row.epoch, row.sequence, row.part_id, row.ts) for row in reversed(rows)]

    def recent_documents(self, line: str, station: str, limit: int) -> list[tuple[int, str]]:
        """Give (sequence, JSON document) of the newest verdicts in the order of their triggers, oldest first."""
        rows = self._rows(
            select(verdicts.c.sequence, verdicts.c.json)
            .join_from(triggers, verdicts, _same_part())
            .where(*_of(line, station))
            .order_by(triggers.c.id.desc())
            .limit(limit)
        )
        return [(row.sequence, row.json) for row in reversed(rows)]

    def last_epoch(self, line: str, station: str) -> int:
        """Give the highest epoch of the station, 0 when it has no record."""
        rows = self._rows(
            select(triggers.c.epoch).where(*_of(line, station)).order_by(triggers.c.epoch.desc()).limit(1)
        )
        return int(rows[0].epoch) if rows else 0

    def last_event_utc_ns(self, line: str, station: str, event: str) -> int | None:
        """Give when a gate event of this name was noted last, None when it never was."""
        wanted = gate_events.c.line == line, gate_events.c.station == station, gate_events.c.event == event
        rows = self._rows(select(gate_events.c.at_utc).where(*wanted).order_by(gate_events.c.id.desc()).limit(1))
        return parse_utc(rows[0].at_utc) if rows else None

    def picture_of(self, line: str, station: str, sequence: int) -> str | None:
        """Give the relative name of the newest picture with that sequence among the last 1,000 parts, else None."""
        newest = (
            select(triggers.c.id).where(*_of(line, station)).order_by(triggers.c.id.desc()).limit(REMEMBERED).subquery()
        )
        rows = self._rows(
            select(verdicts.c.picture)
            .join_from(triggers, verdicts, _same_part())
            .where(triggers.c.id.in_(select(newest.c.id)), triggers.c.sequence == sequence)
            .order_by(triggers.c.id.desc())
            .limit(1)
        )
        return rows[0].picture if rows else None

    def _rows(self, statement: Select[*tuple[object, ...]]) -> Sequence[Row[*tuple[object, ...]]]:
        with self._engine.connect() as connection:
            return connection.execute(statement).all()


def completed_row(
    lost: Unfinished,
    *,
    code: VerdictCode,
    disposition: Disposition,
    reason: str,
    decided_utc_ns: int,
    document: str,
) -> schema.Row:
    """Give the verdict's row of a trigger whose part is long gone: replayed, without model, score or picture."""
    return {name: getattr(lost, name) for name in KEY if name != "triggered_utc"} | {
        "triggered_utc": schema.utc_text(lost.triggered_utc_ns),
        "verdict": code.name,
        "code": int(code),
        "disposition": disposition.name,
        "reason": schema.clean(reason),
        "label": None,
        "score": None,
        "recipe": lost.recipe,
        "model": None,
        "model_sha256": None,
        "decided_utc": schema.utc_text(decided_utc_ns),
        "replayed": 1,
        "picture": None,
        "json": schema.clean(document),
    }


def _of(line: str, station: str) -> tuple[ColumnElement[bool], ...]:
    return triggers.c.line == line, triggers.c.station == station


def _same_part() -> ColumnElement[bool]:
    return and_(*(triggers.c[name] == verdicts.c[name] for name in KEY))
