"""The bridge's records as anybody can read them: the view `verdicts` of its SQLite file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RecordsError(Exception):
    """Records that can't be read; the text names the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One recorded verdict. `gate_state` is none, ordered or missed; `collateral` is what the bridge said of itself."""

    sequence: int
    part_id: str
    verdict: str
    disposition: str
    decided_utc_ns: int
    replayed: bool
    gate_state: str = "none"
    collateral: bool = False
    reason: str = ""

    @property
    def rejects(self) -> bool:
        """Whether the part was not to pass."""
        return self.disposition != "LET_PASS"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateEvent:
    """What the bridge noted of one part's gate order: ordered, fired, missed, confirmed, collateral."""

    sequence: int
    event: str
    reason: str = ""


def read_verdicts(database: Path, *, since_utc_ns: int = 0) -> list[Verdict]:
    """Read what was recorded since a moment, in the order of the parts; raises RecordsError."""
    query = (
        "SELECT sequence, part_id, verdict, disposition, decided_utc, replayed, json, reason FROM verdicts "
        "ORDER BY decided_utc"
    )
    with _reading(database) as connection:
        rows = [_verdict(*row) for row in connection.execute(query)]
    return [row for row in rows if row.decided_utc_ns >= since_utc_ns]


def read_gate_events(database: Path, *, since_utc_ns: int = 0) -> list[GateEvent]:
    """Read what was noted of gate orders since a moment, in the order of time; raises RecordsError."""
    query = "SELECT sequence, event, reason, at_utc FROM gate_events ORDER BY at_utc"
    with _reading(database) as connection:
        rows = connection.execute(query).fetchall()
    return [
        GateEvent(sequence=sequence, event=event, reason=reason or "")
        for sequence, event, reason, at_utc in rows
        if utc_ns(at_utc) >= since_utc_ns
    ]


def last_sequence(database: Path) -> int | None:
    """Give the newest sequence that an earlier run left in a database, None where there is none."""
    if not database.is_file():
        return None
    with _reading(database) as connection:
        row = connection.execute("SELECT sequence FROM verdicts ORDER BY decided_utc DESC LIMIT 1").fetchone()
    return None if row is None else int(row[0])


def utc_ns(text: str) -> int:
    """Read an RFC 3339 stamp as ns since 1970."""
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1) * 1000


@contextmanager
def _reading(database: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            yield connection
    except (sqlite3.Error, ValueError, KeyError, TypeError) as exc:
        raise RecordsError(f"records {database} can't be read: {exc}") from exc


def _verdict(
    sequence: int, part_id: str, verdict: str, disposition: str, decided: str, replayed: int, text: str, reason: str
) -> Verdict:
    gate: dict[str, Any] = json.loads(text).get("gate") or {}
    return Verdict(
        sequence=sequence,
        part_id=part_id,
        verdict=verdict,
        disposition=disposition,
        decided_utc_ns=utc_ns(decided),
        replayed=bool(replayed),
        gate_state=gate.get("state", "none"),
        collateral=bool(gate.get("collateral", False)),
        reason=reason or "",
    )
