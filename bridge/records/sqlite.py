"""The record in a file of SQLite: opened to write or only to read, and what is wrong with it said in one line."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from sqlalchemy import Connection, Engine, Table, create_engine, event, inspect
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    NotSupportedError,
    ProgrammingError,
    SQLAlchemyError,
)
from sqlalchemy.pool import NullPool
from sqlalchemy.sql.dml import Insert

from bridge.errors import StartError
from bridge.records import schema
from bridge.records.causes import cause_of

BUSY_TIMEOUT_S = 0.25
READ_TIMEOUT_S = 5.0
ADVICE = (
    ("locked", "another program is writing to it: end that first"),
    ("full", "make room on the disk"),
    ("malformed", "it is damaged: move it away, a new one will be made"),
    ("not a database", "it is damaged or another kind of file: move it away, a new one will be made"),
)


class SqliteFile:
    """A write-ahead log beside a file.

    synchronous=NORMAL: a commit writes the log and doesn't wait for the disk, so it survives a killed process;
    `log_file.py` makes it survive a power cut. Checkpoints are left to that module too: they wait for the disk.
    """

    row_faults = (
        IntegrityError, DataError, InterfaceError, ProgrammingError, NotSupportedError, OverflowError, UnicodeError,
        sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError,
        sqlite3.NotSupportedError,
    )  # fmt: skip
    faults = (SQLAlchemyError, sqlite3.Error)
    may_forget = False

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.shown = path

    def open_for_writing(self) -> Engine:
        """Open or make the record with its tables; raises StartError when it can't be made, is damaged or too new."""
        path = self.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise StartError(f"records.url: can't make the folder {path.parent}: {exc.strerror}") from exc
        pragmas = ("journal_mode=WAL", "synchronous=NORMAL", "wal_autocheckpoint=0")
        # A write transaction that begins as a reader can fail at its first row; this one waits for its turn instead.
        engine = _engine(str(path.absolute()), pragmas, timeout_s=BUSY_TIMEOUT_S, begin="BEGIN IMMEDIATE")
        try:
            with engine.connect() as connection:
                _prepare(connection, path)
        except (DatabaseError, sqlite3.Error) as exc:
            raise StartError(f"records.url: can't use {path}: {cause_of(exc)}; {_advice(exc)}") from exc
        return engine

    def open_for_reading(self) -> Engine:
        """Open an existing record without writing to it, also while a bridge writes; raises StartError."""
        path = self.path
        if not path.is_file():
            raise StartError(f"records.url: there is no database {path}; has the bridge run with this configuration?")
        location = f"file:{quote(str(path.absolute()))}?mode=ro"
        if not os.access(path.parent, os.W_OK) and not log_of(path).exists():
            # SQLite would want to make the log's index beside it; without a log nobody is writing, so none is needed.
            location += "&immutable=1"
        engine = _engine(location, ("query_only=ON",), timeout_s=READ_TIMEOUT_S, begin="BEGIN")
        try:
            with engine.connect() as connection:
                missing = set(schema.metadata.tables) - set(inspect(connection).get_table_names())
        except (DatabaseError, sqlite3.Error) as exc:
            raise StartError(f"records.url: can't read {path}: {cause_of(exc)}") from exc
        if missing:
            raise StartError(f"records.url: {path} is no record of Linegate: it has no table {min(missing)}")
        return engine

    def identity(self) -> int | None:
        """Give the file's inode, None without a file."""
        try:
            return self.path.stat().st_ino
        except OSError:  # what is wrong with the path is told when it is opened
            return None

    def insert(self, table: Table) -> Insert:
        """Give the statement that inserts a row, unless its key is there."""
        statement = insert(table)
        return statement if table is schema.gate_events else statement.on_conflict_do_nothing(index_elements=schema.KEY)

    def insert_alone(self, connection: Connection, statement: str, row: schema.Row) -> int:
        """Commit one row: a single statement is a transaction of its own."""
        driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
        return driver.execute(statement, row).rowcount


def log_of(path: Path) -> Path:
    """Give the name of the write-ahead log of the database `path`."""
    return path.with_name(path.name + "-wal")


def checkpoint(path: Path, mode: Literal["PASSIVE", "TRUNCATE"]) -> int:
    """Move the log into the database, both synced, and give how many of its pages could not be moved yet.

    PASSIVE never makes a writer wait, TRUNCATE does and empties the log. Raises sqlite3.Error, also without a database.
    """
    location = f"file:{quote(str(path.absolute()))}?mode=rw"
    with closing(sqlite3.connect(location, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=FULL")
        busy, in_log, moved = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    return max(int(in_log) - int(moved), int(busy))


def _engine(location: str, pragmas: tuple[str, ...], *, timeout_s: float, begin: str) -> Engine:
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            location,
            uri=location.startswith("file:"),
            timeout=timeout_s,
            isolation_level=None,  # no BEGIN behind our back
            check_same_thread=False,  # opened at start, then used by one thread only
        )
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def begin_as_told(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool, paramstyle="named")
    event.listen(engine, "begin", begin_as_told)
    return engine


def _prepare(connection: Connection, path: Path) -> None:
    if connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() != "wal":
        raise StartError(f"records.url: {path} can't keep a write-ahead log (a network drive?); put it on a local disk")
    found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if found > schema.VERSION:
        raise StartError(f"records.url: {path} was written by a later version of Linegate (tables {found})")
    if found == schema.VERSION:
        return
    schema.metadata.create_all(connection)
    connection.exec_driver_sql(f"PRAGMA user_version={schema.VERSION}")
    connection.commit()


def _advice(exc: DatabaseError | sqlite3.Error) -> str:
    for word, advice in ADVICE:
        if word in cause_of(exc):
            return advice
    return "see that the folder is writable, and the path no folder itself"
