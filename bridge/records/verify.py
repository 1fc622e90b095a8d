"""What `linegate records verify` finds: whether the record is complete, whole and free of contradictions.

All is read in one state of the database, also while a bridge writes; rows are streamed. What an auditor must know of its
limits: rows removed at the end of the record leave no trace in it, and rows of a whole part removed from PostgreSQL leave
a gap of the sequence, which a lost trigger leaves too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Select, Table, and_, exists, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from bridge.records.causes import cause_of
from bridge.records.database import database_of
from bridge.records.picture_check import PictureCheck
from bridge.records.row_check import CODES, contradictions, moment_ns, unnamed_model
from bridge.records.schema import KEY, gate_events, metadata, triggers, utc_text, verdicts
from bridge.records.sequence_gaps import gaps_of
from bridge.records.verify_report import Report

PART = ("line", "station", "epoch", "sequence")
IN_FLIGHT_NS = 60_000_000_000
"""A running bridge gives every part its verdict long before, and a restarted one at once."""


def verify(url: str, *, line: str, pictures: Path, max_age_s: float, now_utc_ns: int, strict: bool = False) -> Report:
    """Check the record of `url` and its pictures; raises ConfigError, StartError where there is no record to be read.

    `line` and `pictures` are this bridge's own; lines that share the database are checked too, but for pictures that lie
    elsewhere. `strict`: a gap of the sequence is a fault too.
    """
    database = database_of(url)
    report = Report(database=database.shown, checked_utc=utc_text(now_utc_ns))
    kept = PictureCheck(pictures, line, max_age_s, now_utc_ns)
    with database.open_for_reading().connect() as connection:
        steps: tuple[Callable[[], None], ...] = (
            lambda: _integrity(connection, report),
            lambda: _triggers(connection, report, now_utc_ns),
            lambda: _orphans(connection, report),
            lambda: _doubles(connection, report),
            lambda: _holes(connection, report),
            lambda: _verdicts(connection, report, kept),
            lambda: _gaps(connection, report, note=not strict),
        )
        for step in steps:
            try:
                step()
            except SQLAlchemyError as exc:
                connection.rollback()
                readable = report.check("readable", holds="the tables can be read", found="tables that can't be read")
                readable.add(cause_of(exc))
    return report


def _integrity(connection: Connection, report: Report) -> None:
    whole = report.check("integrity", holds="the database is whole by its own check", found="the database is damaged")
    if connection.dialect.name == "sqlite":
        found = [row[0] for row in connection.execute(text("PRAGMA integrity_check(10)"))]
        for line in found if found != ["ok"] else []:
            whole.add(str(line))
        return
    damaged = connection.execute(
        text("SELECT coalesce(checksum_failures, 0) FROM pg_stat_database WHERE datname = current_database()")
    ).scalar_one()
    if damaged:
        whole.add(f"the server has met {damaged} pages with a wrong checksum", damaged)
    for (name,) in connection.execute(
        text(
            "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid AND indrelid::regclass::text = ANY(:t)"
        ),
        {"t": list(metadata.tables)},
    ):
        whole.add(f"index {name} is not valid: REINDEX it")


def _triggers(connection: Connection, report: Report, now_utc_ns: int) -> None:
    """Look for the accepted triggers without a verdict: judged ones that lost it, and those that wait for it."""
    for row in connection.execute(
        select(triggers.c.line, triggers.c.station, func.count(), func.count(triggers.c.epoch.distinct())).group_by(
            triggers.c.line, triggers.c.station
        )
    ):
        counts = report.station(row)
        counts.triggers, counts.epochs = row[2], row[3]
    lost = report.check(
        "one_verdict", holds="every accepted trigger has its verdict", found="accepted triggers without a verdict"
    )
    waiting = report.check(
        "waiting", holds="no trigger waits for its verdict", found="triggers that wait for their verdict", note=True
    )
    judged_until: dict[tuple[str, str], int] = {}
    for row in connection.execute(select(triggers).where(~exists().where(_same(triggers, verdicts)))):
        station, accepted_ns = (row.line, row.station), moment_ns(row.accepted_utc) or 0
        if station not in judged_until:
            judged_until[station] = _judged_until(connection, *station)
        if not row.open:
            lost.add(f"{_part(row)} was judged, and its verdict is gone")
        elif judged_until[station] - accepted_ns > IN_FLIGHT_NS:
            lost.add(f"{_part(row)} has none, though parts accepted later have theirs")
        elif now_utc_ns - accepted_ns < IN_FLIGHT_NS:
            report.station(row).in_flight += 1
            waiting.add(f"{_part(row)} is in flight")
        else:
            report.station(row).unfinished += 1
            waiting.add(f"{_part(row)} is unfinished: the bridge completes it at its next start")


def _judged_until(connection: Connection, line: str, station: str) -> int:
    found = connection.execute(
        select(triggers.c.accepted_utc)
        .where(triggers.c.line == line, triggers.c.station == station, exists().where(_same(triggers, verdicts)))
        .order_by(triggers.c.id.desc())
        .limit(1)
    ).scalar()
    return moment_ns(found) or 0


def _orphans(connection: Connection, report: Report) -> None:
    found = report.check(
        "no_orphans",
        holds="no verdict and no gate event is without its trigger",
        found="verdicts and gate events without a trigger",
    )
    for row in _stream(connection, select(verdicts).where(~exists().where(_same(triggers, verdicts)))):
        found.add(f"{_part(row)} has a verdict and no trigger")
    same = and_(*(triggers.c[name] == gate_events.c[name] for name in PART))
    for row in _stream(connection, select(gate_events).where(~exists().where(same))):
        found.add(f"{row.line}/{row.station} epoch {row.epoch} sequence {row.sequence}: {row.event}, and no trigger")


def _doubles(connection: Connection, report: Report) -> None:
    found = report.check(
        "no_duplicates", holds="no line, station, epoch and sequence stands twice", found="parts that stand twice"
    )
    for table in (triggers, verdicts):
        part = [table.c[name] for name in PART]
        for row in connection.execute(select(*part, func.count()).group_by(*part).having(func.count() > 1)):
            found.add(f"{row.line}/{row.station} epoch {row.epoch} sequence {row.sequence}: {row[4]} {table.name}")


def _holes(connection: Connection, report: Report) -> None:
    """SQLite numbers rows without a gap, so a hole is where one was removed; PostgreSQL leaves gaps by itself."""
    if connection.dialect.name != "sqlite":
        return
    found = report.check(
        "none_removed",
        holds="no row was removed from the middle of the record",
        found="rows that were removed from the record",
    )
    for table in (triggers, gate_events):
        first, last, count = connection.execute(select(func.min(table.c.id), func.max(table.c.id), func.count())).one()
        if count and last - first + 1 != count:
            before = table.alias()
            holes = select(table.c.id).where(table.c.id > first, ~exists().where(before.c.id == table.c.id - 1))
            after = connection.execute(holes.order_by(table.c.id).limit(1)).scalar()
            found.add(
                f"{last - first + 1 - count} of {table.name}, the first before number {after}", last - first + 1 - count
            )


def _verdicts(connection: Connection, report: Report, kept: PictureCheck) -> None:
    consistent = report.check(
        "consistent",
        holds="every verdict agrees with its code, its disposition and its document",
        found="contradictions within a verdict",
    )
    models = report.check(
        "model_named",
        holds="every judged part names its model and the model's SHA-256",
        found="judged parts without their model",
    )
    missing = report.check(
        "pictures",
        holds="every picture that a record names is there, or was removed by age or size",
        found="pictures that records name and that are missing",
    )
    for row in _stream(connection, select(verdicts)):
        report.station(row).verdicts[row.verdict if row.verdict in CODES else "?"] += 1
        values = dict(row._mapping)
        for fault in contradictions(values):
            consistent.add(f"{_part(row)}: {fault}")
        if unnamed := unnamed_model(values):
            models.add(f"{_part(row)}: {unnamed}")
        if row.picture is not None and kept.is_missing(row.picture, row.decided_utc):
            missing.add(f"{_part(row)}: {row.picture}")
    strays = report.check(
        "pictures_named",
        holds="every picture in the folder is named by a record",
        found="pictures that no record names",
    )
    for name in kept.unnamed:
        strays.add(name)
    told = report.check(
        "pictures_kept",
        holds="no picture was removed by age or size",
        found="pictures removed by age or size",
        note=True,
    )
    if kept.elsewhere:
        note = report.check("pictures_elsewhere", holds="", found="pictures of other lines, not looked for", note=True)
        note.add("their lines have no folder here", kept.elsewhere)
    if kept.removed:
        told.add(f"{kept.removed} removed by age or size, {kept.present} there", kept.removed)


def _gaps(connection: Connection, report: Report, *, note: bool) -> None:
    found = report.check(
        "no_gaps",
        holds="no sequence is missing within an epoch",
        found="sequences missing within an epoch: the bridge got no trigger",
        note=note,
    )
    epochs = select(triggers.c.line, triggers.c.station, triggers.c.epoch).distinct().order_by(*triggers.c[PART[:3]])
    for row in connection.execute(epochs).all():
        line, station, epoch = row
        mine = triggers.c.line == line, triggers.c.station == station, triggers.c.epoch == epoch
        sequences = _stream(connection, select(triggers.c.sequence).where(*mine).order_by(triggers.c.sequence))
        for first, last, missed in gaps_of(each.sequence for each in sequences):
            report.station(row).missed += missed
            between = f"{first}" if missed == 1 else f"{first} to {last} ({missed:,})"
            found.add(f"{line}/{station} epoch {epoch}: {between}", missed)


def _stream(connection: Connection, statement: Select[*tuple[Any, ...]]) -> Iterator[Any]:
    return iter(connection.execute(statement.execution_options(yield_per=1000)))


def _same(one: Table, other: Table) -> Any:
    return and_(*(one.c[name] == other.c[name] for name in KEY))


def _part(row: Any) -> str:
    part_id = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in str(row.part_id))
    return f"{row.line}/{row.station} epoch {row.epoch} sequence {row.sequence} (part {part_id})"
