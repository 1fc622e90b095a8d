"""Writes verdicts out as CSV or as lines of JSON, a page at a time, also while a bridge writes.

A page is a short question of its own (all that comes after the last row of the page before), so however slow the reader
of the export is, nothing holds the bridge's log up. Rows come in the order of their decision, and a row never changes but
for the result of a challenge test, which is known once its part should be in the bin.
"""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TextIO

from sqlalchemy import Engine, Row, Select, select, tuple_
from sqlalchemy.exc import SQLAlchemyError

from bridge.domain.challenge import FAILED, MET, PASSED
from bridge.errors import ConfigError, StartError
from bridge.records.database import open_for_reading
from bridge.records.filters import Filter, of_same_part
from bridge.records.schema import gate_events, verdicts

Format = Literal["csv", "jsonl"]

PAGE_ROWS = 1000
CHALLENGES: Mapping[str, str] = MappingProxyType({MET: "no result", PASSED: "passed", FAILED: "failed"})
COLUMNS = (*(column.name for column in verdicts.columns), "challenge", "challenge_reason")
# The moment of the decision first: by index, and a later export begins as an earlier one did. The rest is the key.
ORDER = tuple(
    verdicts.c[name] for name in ("decided_utc", "line", "station", "epoch", "sequence", "part_id", "triggered_utc")
)
NOTED = ("event", "reason")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "'", "＝", "＋", "－", "＠")


def rows(url: str, wanted: Filter, *, now_utc_ns: int) -> Iterator[tuple[Any, ...]]:
    """Give the verdicts that fit, oldest decision first, each with all columns and how its challenge test ended.

    Raises ConfigError and StartError at once, StartError also later when the database goes.
    """
    clauses = wanted.clauses(now_utc_ns=now_utc_ns)
    noted = of_same_part(), gate_events.c.event.in_(CHALLENGES)
    newest = (select(gate_events.c[name]).where(*noted).order_by(gate_events.c.id.desc()).limit(1) for name in NOTED)
    page = select(verdicts, *(column.scalar_subquery() for column in newest))
    return _pages(open_for_reading(url), page.where(*clauses).order_by(*ORDER).limit(PAGE_ROWS))


def _pages(engine: Engine, page: Select[*tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    places = [COLUMNS.index(column.name) for column in ORDER]
    question = page
    try:
        with engine.connect() as connection:
            while True:
                found = connection.execute(question).all()
                connection.rollback()
                yield from map(_with_challenge, found)
                if len(found) < PAGE_ROWS:
                    return
                question = page.where(tuple_(*ORDER) > tuple(found[-1][place] for place in places))
    except SQLAlchemyError as exc:
        raise StartError(f"records.url: can't read the records: {getattr(exc, 'orig', None) or exc}") from exc


def _with_challenge(row: Row[*tuple[Any, ...]]) -> tuple[Any, ...]:
    """Say in a word how the part's challenge test ended, and why it failed; null and null for a part of none."""
    *cells, event, reason = row
    return (*cells, None if event is None else CHALLENGES[event], reason if event == FAILED else None)


def write(found: Iterator[tuple[Any, ...]], out: TextIO, form: Format) -> int:
    """Write rows as RFC 4180 (a header, CRLF, UTF-8) or as one JSON object a line; gives how many. Raises OSError."""
    count = 0
    if form == "csv":
        table = csv.writer(out, lineterminator="\r\n")
        table.writerow(COLUMNS)
    for row in found:
        count += 1
        if form == "csv":
            table.writerow([harmless(cell) for cell in row])
        else:
            out.write(json.dumps(dict(zip(COLUMNS, row, strict=True)), ensure_ascii=False) + "\n")
    return count


def harmless(cell: Any) -> Any:
    """Put an apostrophe before a text that a spreadsheet would run as a formula.

    Part ids, reasons and labels come from outside. A text that begins with an apostrophe gets one too, so whoever takes
    one away from each cell that has it gets the texts back as they were. Numbers stay numbers; null is an empty cell.
    """
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def write_file(path: Path, fill: Callable[[TextIO], int], *, force: bool) -> int:
    """Write a file whole or not at all; raises ConfigError where one is and `force` is not, StartError when it can't."""
    if path.exists() and not (force and path.is_file()):
        advice = "give --force to overwrite it" if path.is_file() else "it is no file"
        raise ConfigError(f"--out: {path} exists already; {advice}")
    unfinished = path.with_name(f".{path.name}.part")
    try:
        with unfinished.open("w", encoding="utf-8", newline="") as out:
            count = fill(out)
        if force:
            unfinished.replace(path)
        else:
            with path.open("x"):  # taken by somebody meanwhile: theirs stays
                unfinished.replace(path)
    except FileExistsError as exc:
        raise ConfigError(f"--out: {path} exists already; give --force to overwrite it") from exc
    except OSError as exc:
        raise StartError(f"--out: can't write {path}: {exc.strerror}") from exc
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()
    return count
