"""What `linegate records list` and `show` print; reads only, also while a bridge writes."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy import ColumnElement, Engine, select
from sqlalchemy.exc import SQLAlchemyError

from bridge.errors import ConfigError, StartError
from bridge.records.database import open_for_reading
from bridge.records.filters import Filter
from bridge.records.schema import gate_events, verdicts

Record = Mapping[str, Any]

SHOWN = ("decided_utc", "line", "station", "epoch", "sequence", "part_id", "verdict", "disposition", "reason", "recipe")
COLOURS = {"PASS": "green", "FAIL": "red", "UNCERTAIN": "yellow", "ERROR": "magenta", "LATE": "magenta"}
MOST_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One verdict's row with what became of its gate order, oldest event first."""

    row: Record
    gate_events: tuple[Record, ...]


def list_records(url: str, wanted: Filter, *, limit: int = 20, now_utc_ns: int | None = None) -> list[Record]:
    """Give the newest `limit` verdicts that fit the filter, newest first, each with all columns of `verdicts`.

    Raises ConfigError for a filter that makes no sense, StartError without a database.
    """
    if limit < 1:
        raise ConfigError(f"limit: {limit} is not allowed; at least 1")
    return _rows(url, wanted.clauses(now_utc_ns=now_utc_ns), limit)


def show_record(
    url: str,
    *,
    sequence: int | None = None,
    part_id: str | None = None,
    line: str | None = None,
    station: str | None = None,
) -> list[Shown]:
    """Give the verdicts of one sequence or part id with their gate events, newest first, 20 at most.

    A sequence may come back in a later epoch or at another station: all are given. Raises StartError when there is none.
    """
    if sequence is None and part_id is None:
        raise ConfigError("records show: neither a part id nor a sequence was given")
    named = {"sequence": sequence, "part_id": part_id, "line": line, "station": station}
    wanted = [verdicts.c[name] == value for name, value in named.items() if value is not None]
    engine = open_for_reading(url)
    rows = _rows(url, wanted, MOST_SHOWN)
    if not rows:
        asked = ", ".join(f"{name} {value}" for name, value in named.items() if value is not None)
        raise StartError(f"records show: there is no record with {asked}")
    return [Shown(row=row, gate_events=_events(engine, row)) for row in rows]


def records_as_table(rows: Sequence[Record], *, width: int | None = None, colour: bool = False) -> str:
    """Draw the rows for a terminal of `width` columns."""
    table = Table(*(name.removesuffix("_utc") for name in SHOWN), box=None, pad_edge=False)
    for row in rows:
        cells = [Text(_one_line(row[name])) for name in SHOWN]
        cells[SHOWN.index("verdict")].stylize(COLOURS.get(str(row["verdict"]), ""))
        table.add_row(*cells)
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=colour, no_color=not colour, highlight=False).print(table)
    return out.getvalue()


def records_as_text(rows: Iterable[Record]) -> str:
    """Write a heading and one line for each row, columns parted by tabs: for grep, cut and awk."""
    lines = ["\t".join(SHOWN), *("\t".join(_one_line(row[name]) for name in SHOWN) for row in rows)]
    return "\n".join(lines) + "\n"


def records_as_json(rows: Iterable[Record]) -> str:
    """Write the rows as a JSON list with every column of the table."""
    return json.dumps([dict(row) for row in rows], indent=2, ensure_ascii=False) + "\n"


def show_as_text(found: Iterable[Shown]) -> str:
    """Write each document indented, and below it one line for each gate event."""
    blocks = []
    for shown in found:
        title = (
            f"{shown.row['line']}/{shown.row['station']} epoch {shown.row['epoch']} sequence {shown.row['sequence']}"
        )
        events = [f"  {_event_line(event)}" for event in shown.gate_events] or ["  none recorded"]
        document = json.dumps(_document(shown.row), indent=2, ensure_ascii=False).split("\n")
        blocks.append("\n".join([title, *map(_one_line, document), "gate events:", *events]))
    return "\n\n".join(blocks) + "\n"


def show_as_json(found: Iterable[Shown]) -> str:
    """Write a JSON list of objects with `document`, `epoch`, `replayed`, `model_sha256` and `gate_events`."""
    shown = [
        {
            "document": _document(one.row),
            "epoch": one.row["epoch"],
            "replayed": bool(one.row["replayed"]),
            "model_sha256": one.row["model_sha256"],
            "gate_events": [dict(event) for event in one.gate_events],
        }
        for one in found
    ]
    return json.dumps(shown, indent=2, ensure_ascii=False) + "\n"


def _rows(url: str, wanted: Sequence[ColumnElement[bool]], limit: int) -> list[Record]:
    newest_first = (verdicts.c.decided_utc.desc(), verdicts.c.epoch.desc(), verdicts.c.sequence.desc())
    statement = select(verdicts).where(*wanted).order_by(*newest_first).limit(limit)
    try:
        with open_for_reading(url).connect() as connection:
            return [dict(row) for row in connection.execute(statement).mappings()]
    except SQLAlchemyError as exc:
        raise StartError(f"records.url: can't read the records: {getattr(exc, 'orig', None) or exc}") from exc


def _events(engine: Engine, row: Record) -> tuple[Record, ...]:
    same = [gate_events.c[name] == row[name] for name in ("line", "station", "epoch", "sequence")]
    columns = (gate_events.c.event, gate_events.c.reason, gate_events.c.at_utc)
    with engine.connect() as connection:
        found = connection.execute(select(*columns).where(*same).order_by(gate_events.c.id))
        return tuple(dict(event) for event in found.mappings())


def _document(row: Record) -> Any:
    try:
        return json.loads(row["json"])
    except ValueError:
        return row["json"]


def _event_line(event: Record) -> str:
    reason = f" ({_one_line(event['reason'])})" if event["reason"] else ""
    return f"{event['at_utc']}  {event['event']}{reason}"


def _one_line(value: Any) -> str:
    """Write a value so that neither a line break nor an escape sequence in it reaches the terminal."""
    return "" if value is None else "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in str(value))
