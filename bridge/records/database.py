"""Opens the record's SQLite file, to write or only to read, and says in one line what is wrong with it.

Another database would be chosen here by the URL's scheme: everything else in this folder speaks SQLAlchemy Core, but
for the write-ahead log's own file, which `disk.py` alone knows.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError
from sqlalchemy.pool import NullPool

from bridge.errors import ConfigError, StartError
from bridge.records import schema

BUSY_TIMEOUT_S = 0.25
READ_TIMEOUT_S = 5.0
ADVICE = (
    ("locked", "another program is writing to it: end that first"),
    ("full", "make room on the disk"),
    ("malformed", "it is damaged: move it away, a new one will be made"),
    ("not a database", "it is damaged or another kind of file: move it away, a new one will be made"),
)


def file_of(url: str) -> Path:
    """Give the file that `sqlite:///path` names; raises ConfigError for any other URL and for one in memory."""
    allowed = "allowed is sqlite:///PATH, such as sqlite:///data/linegate.db"
    try:
        parsed = make_url(url)
    except ArgumentError as exc:
        raise ConfigError(f"records.url: {url!r} is not a database URL; {allowed}") from exc
    if parsed.get_backend_name() != "sqlite":
        raise ConfigError(f"records.url: the database {parsed.get_backend_name()!r} is not supported; {allowed}")
    if not parsed.database or parsed.database == ":memory:":
        raise ConfigError(f"records.url: {url!r} names no file; {allowed}")
    return Path(parsed.database)


def open_for_writing(path: Path) -> Engine:
    """Open or make the record with its tables; raises StartError when it can't be made, is damaged or too new.

    WAL with synchronous=NORMAL: a commit writes the log and doesn't wait for the disk, so it survives a killed process;
    `disk.py` makes it survive a power cut. Checkpoints are left to that module too: they wait for the disk.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise StartError(f"records.url: can't make the folder {path.parent}: {exc.strerror}") from exc
    pragmas = ("journal_mode=WAL", "synchronous=NORMAL", "wal_autocheckpoint=0")
    engine = _engine(str(path.absolute()), pragmas, timeout_s=BUSY_TIMEOUT_S)
    event.listen(engine, "begin", _begin_immediate)
    try:
        with engine.connect() as connection:
            _prepare(connection, path)
    except (DatabaseError, sqlite3.Error) as exc:
        raise StartError(f"records.url: can't use {path}: {_cause(exc)}; {_advice(exc)}") from exc
    return engine


def open_for_reading(url: str) -> Engine:
    """Open an existing record without writing to it, also while a bridge writes; raises ConfigError, StartError."""
    path = file_of(url)
    if not path.is_file():
        raise StartError(f"records.url: there is no database {path}; has the bridge run with this configuration?")
    location = f"file:{quote(str(path.absolute()))}?mode=ro"
    if not os.access(path.parent, os.W_OK) and not log_of(path).exists():
        # SQLite would want to make the log's index beside it; without a log nobody is writing, so none is needed.
        location += "&immutable=1"
    engine = _engine(location, ("query_only=ON",), timeout_s=READ_TIMEOUT_S)
    try:
        with engine.connect() as connection:
            missing = set(schema.metadata.tables) - set(inspect(connection).get_table_names())
    except (DatabaseError, sqlite3.Error) as exc:
        raise StartError(f"records.url: can't read {path}: {_cause(exc)}") from exc
    if missing:
        raise StartError(f"records.url: {path} is no record of Linegate: it has no table {min(missing)}")
    return engine


def log_of(path: Path) -> Path:
    """Give the name of the write-ahead log of the database `path`."""
    return path.with_name(path.name + "-wal")


def _engine(location: str, pragmas: tuple[str, ...], *, timeout_s: float) -> Engine:
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

    return create_engine("sqlite://", creator=connect, poolclass=NullPool, paramstyle="named")


def _begin_immediate(connection: Connection) -> None:
    # A write transaction that begins as a reader can fail at its first row; this one waits for its turn instead.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


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


def checkpoint(path: Path, mode: Literal["PASSIVE", "TRUNCATE"]) -> int:
    """Move the log into the database, both synced, and give how many of its pages could not be moved yet.

    PASSIVE never makes a writer wait, TRUNCATE does and empties the log. Raises sqlite3.Error, also without a database.
    """
    location = f"file:{quote(str(path.absolute()))}?mode=rw"
    with closing(sqlite3.connect(location, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=FULL")
        busy, in_log, moved = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    return max(int(in_log) - int(moved), int(busy))


def _advice(exc: DatabaseError | sqlite3.Error) -> str:
    for word, advice in ADVICE:
        if word in _cause(exc):
            return advice
    return "see that the folder is writable, and the path no folder itself"


def _cause(exc: DatabaseError | sqlite3.Error) -> str:
    return str(exc.orig if isinstance(exc, DatabaseError) else exc)
