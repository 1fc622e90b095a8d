"""The journal in a file of SQLite: its write-ahead log, its disk, and files that are no record."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from bridge.domain.part import Part
from bridge.errors import ConfigError, JournalError, StartError
from bridge.ports import Outcome
from bridge.records.journal import Journal

Parts = Callable[..., Part]
Outcomes = Callable[..., Outcome]


@pytest.fixture
def kind() -> str:
    return "sqlite"


async def eventually(true: Callable[[], bool]) -> None:
    """Wait until it is so; the test's time limit ends a wait for what never comes."""
    while not true():
        await asyncio.sleep(0.01)


async def test_many_parts_at_once_share_few_syncs_of_the_disk(
    database: Path, foreign: Any, make_part: Parts, make_outcome: Outcomes
) -> None:
    syncs: list[int] = []

    def sync(descriptor: int) -> None:
        syncs.append(foreign.one("SELECT count(*) FROM verdicts"))
        os.fdatasync(descriptor)

    journal = Journal(f"sqlite:///{database}", sync=sync)

    async def one(sequence: int) -> None:
        journal.accept(make_part(sequence), at_utc_ns=0)
        await journal.append(make_outcome(make_part(sequence)))
        await journal.on_disk()
        assert syncs

    await asyncio.gather(*(one(sequence) for sequence in range(200)))
    assert foreign.one("SELECT count(*) FROM verdicts") == 200
    assert len(syncs) < 50
    assert syncs[-1] == 200, "the last sync came after the last commit"
    await journal.close()


async def test_disk_that_stalls_holds_no_append(
    database: Path, foreign: Any, make_part: Parts, make_outcome: Outcomes
) -> None:
    released = threading.Event()
    journal = Journal(f"sqlite:///{database}", sync=lambda _descriptor: (released.wait(20), None)[1])
    await journal.append(make_outcome(make_part(0)))
    waiting = asyncio.ensure_future(journal.on_disk())
    for sequence in range(1, 30):
        journal.accept(make_part(sequence), at_utc_ns=0)
        await journal.append(make_outcome(make_part(sequence)))
    assert foreign.one("SELECT count(*) FROM verdicts") == 30
    assert not waiting.done()
    released.set()
    await waiting
    await journal.close()


async def test_disk_error_reaches_those_who_wait_and_ends_with_a_complete_checkpoint(
    database: Path, make_part: Parts, make_outcome: Outcomes
) -> None:
    failing = [True]

    def sync(descriptor: int) -> None:
        if failing[0]:
            raise OSError(5, "Input/output error")
        os.fdatasync(descriptor)

    journal = Journal(f"sqlite:///{database}", sync=sync)
    await journal.append(make_outcome(make_part(1)))
    with pytest.raises(JournalError, match="Input/output error"):
        await journal.on_disk()
    failing[0] = False
    await eventually(lambda: journal.healthy)
    log = database.with_name(database.name + "-wal")
    alone = database.with_name("copy.db")
    alone.write_bytes(database.read_bytes())  # without its log: what the checkpoint brought over
    assert log.exists()
    assert sqlite3.connect(alone).execute("SELECT sequence FROM verdicts").fetchall() == [(1,)]
    await journal.on_disk()
    await journal.close()


async def test_database_taken_away_is_made_anew(
    journal: Journal, database: Path, foreign: Any, make_part: Parts, make_outcome: Outcomes
) -> None:
    await journal.append(make_outcome(make_part(1)))
    for name in (database, database.with_name(database.name + "-wal"), database.with_name(database.name + "-shm")):
        name.unlink()
    await journal.append(make_outcome(make_part(2)))
    await journal.on_disk()
    assert foreign.rows("SELECT sequence FROM verdicts") == [(2,)]


async def test_log_stays_small_while_parts_run(
    journal: Journal, database: Path, foreign: Any, make_part: Parts, make_outcome: Outcomes
) -> None:
    for sequence in range(2000):
        journal.accept(make_part(sequence), at_utc_ns=0)
        await journal.append(make_outcome(make_part(sequence)))
        if sequence % 10 == 0:
            waiting = asyncio.ensure_future(journal.on_disk())
    await waiting
    assert foreign.one("SELECT count(*) FROM verdicts") == 2000
    assert database.with_name(database.name + "-wal").stat().st_size < 50_000_000


def test_path_that_cannot_be_made_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StartError) as caught:
        Journal(f"sqlite:///{tmp_path}/file/linegate.db")
    assert str(tmp_path / "file") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough to be one" * 100, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_damaged_database_is_named_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "linegate.db"
    path.write_bytes(content)
    with pytest.raises(StartError) as caught:
        Journal(f"sqlite:///{path}")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_database_of_a_later_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "linegate.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StartError, match="later version"):
        Journal(f"sqlite:///{path}")


@pytest.mark.parametrize("url", ["", "linegate.db", "sqlite://", "sqlite:///:memory:", "oracle://host/linegate"])
def test_url_that_names_no_sqlite_file_is_a_mistake_in_the_configuration(url: str) -> None:
    with pytest.raises(ConfigError, match=r"records\.url"):
        Journal(url)


async def test_no_question_at_start_walks_through_a_table(journal: Journal, database: Path) -> None:
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, _context: Any, _many: bool) -> None:
        asked.append((statement, values))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        journal.unfinished("line1", "station1")
        journal.recent_triggers("line1", "station1", 1000)
        journal.recent_documents("line1", "station1", 1000)
        journal.last_epoch("line1", "station1")
        journal.picture_of("line1", "station1", 5)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    connection = sqlite3.connect(database)
    plans = [
        [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
        for sql, values in asked
        if sql.startswith("SELECT")
    ]
    connection.close()
    assert len(plans) == 5
    assert "USING INDEX triggers_open" in plans[0][0]
    steps = [step for plan in plans for step in plan]
    assert not [step for step in steps if step.startswith(("SCAN triggers", "SCAN verdicts"))], steps
