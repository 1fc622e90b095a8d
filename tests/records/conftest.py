"""Parts and outcomes as the station makes them, and a foreign reader of the database."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from bridge.domain.gate import NO_ORDER
from bridge.domain.part import Part, Result, Trigger
from bridge.domain.recipe import Recipe
from bridge.domain.verdict import Disposition, Judgement, VerdictCode
from bridge.ports import Outcome
from bridge.records.journal import Journal
from tests.records.servers import PASSWORD, PostgresServer, postgres_server

T0_UTC_NS = 1_795_000_000_123_456_789
RECIPE = Recipe(name="bracket", number=7, revision=3, bundle="surface-1.2.0", labels=("crack",))


def part(sequence: int, **changes: Any) -> Part:
    """Make an accepted part; `changes` go to the trigger (part_id, ts) or else to the part."""
    of_trigger = {name: changes.pop(name) for name in ("part_id", "ts", "backlog", "source") if name in changes}
    trigger = Trigger(**{"sequence": sequence, "part_id": f"A-{sequence}", "arrived_ns": 0} | of_trigger)
    settings = {
        "line": "line1",
        "station": "station1",
        "epoch": 1,
        "triggered_ns": 0,
        "triggered_utc_ns": T0_UTC_NS + sequence * 150_000_000,
        "length_mm": 100.0,
        "recipe": RECIPE,
        "count_at_trigger": 4_000_000_000,
    }
    return Part(trigger=trigger, **settings | changes)


def outcome(of: Part, code: VerdictCode = VerdictCode.FAIL, **changes: Any) -> Outcome:
    """Make the outcome of a part, with a document that names it."""
    settings = {
        "judgement": Judgement(code=code, reason="crack 0.93 >= 0.50", label="crack", label_id=1, score=0.93),
        "disposition": Disposition.LET_PASS if code is VerdictCode.PASS else Disposition.REJECT,
        "order": NO_ORDER,
        "captured_utc_ns": None,
        "decided_ns": 10_000_000,
        "decided_utc_ns": of.triggered_utc_ns + 10_000_000,
        "timing_ms": {},
        "model": "surface@1.2.0",
        "model_sha256": "ab" * 32,
    }
    result = Result(part=of, **settings | changes)
    document = json.dumps({"sequence": of.sequence, "part_id": of.part_id, "verdict": code.name, "code": int(code)})
    return Outcome(result=result, document=document)


class Foreign:
    """Reads the database as anybody would: with the standard library and plain SQL."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
        try:
            return connection.execute(sql, values).fetchall()
        finally:
            connection.close()

    def one(self, sql: str, *values: object) -> Any:
        return self.rows(sql, *values)[0][0]

    def columns(self) -> dict[str, list[str]]:
        """Give the columns of every table and view."""
        names = [name for (name,) in self.rows("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")]
        return {name: [row[1] for row in self.rows(f"PRAGMA table_info({name})")] for name in names}

    def change(self, sql: str) -> None:
        """Tamper with the record."""
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute(sql)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep everybody else from committing."""
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")


class ForeignServer(Foreign):
    """The same by psycopg and plain SQL."""

    def __init__(self, server: PostgresServer, name: str) -> None:
        self.server, self.name = server, name

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self.server.connect(self.name) as connection:
            return connection.execute(sql, values or None).fetchall()  # type: ignore[call-overload, no-any-return]

    def columns(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for table, column in self.rows(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
        ):
            found.setdefault(table, []).append(column)
        return found

    def change(self, sql: str) -> None:
        with self.server.connect(self.name) as connection:
            connection.execute(sql)  # type: ignore[call-overload]

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        with self.server.connect(self.name) as connection, connection.transaction():
            connection.execute("LOCK TABLE triggers, verdicts, gate_events IN EXCLUSIVE MODE")
            yield


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "data" / "linegate.db"


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server for all tests; each makes a database of its own in it."""
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which database a test runs against: each of them."""
    return str(request.param)


@pytest.fixture
def foreign(kind: str, database: Path, request: pytest.FixtureRequest) -> Iterator[Foreign]:
    if kind == "sqlite":
        yield Foreign(database)
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = f"line-{uuid.uuid4().hex[:12]}"
    server.make_database(name)
    yield ForeignServer(server, name)
    server.drop_database(name)


@pytest.fixture
def record_url(foreign: Foreign) -> str:
    """The URL of the record, as `records.url` has it."""
    if not isinstance(foreign, ForeignServer):
        return f"sqlite:///{foreign.path}"
    return foreign.server.url(foreign.name).replace("@", f":{quote(PASSWORD, safe='')}@", 1)


@pytest.fixture
async def journal(record_url: str) -> AsyncIterator[Journal]:
    opened = Journal(record_url)
    yield opened
    await opened.close()


@pytest.fixture
def make_part() -> Callable[..., Part]:
    return part


@pytest.fixture
def make_outcome() -> Callable[..., Outcome]:
    return outcome
