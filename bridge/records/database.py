"""Chooses the record's database by its URL: a file of SQLite or a server of PostgreSQL.

What differs between the two lies in `sqlite.py` and `log_file.py`, `postgres.py` and `server_log.py`; everything else in
this folder speaks SQLAlchemy Core.
"""

from __future__ import annotations

from typing import Protocol

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.sql.dml import Insert

from bridge.errors import ConfigError
from bridge.records.schema import Row
from bridge.records.sqlite import SqliteFile

ALLOWED = "allowed is sqlite:///PATH, such as sqlite:///data/linegate.db, or postgresql://USER@HOST/DATABASE"


class Database(Protocol):
    """Where the record is kept."""

    @property
    def shown(self) -> str:
        """How messages name it; never with a password."""

    @property
    def row_faults(self) -> tuple[type[Exception], ...]:
        """What a row's own fault raises: trying again can't help, and the rows behind it must not wait for it."""

    @property
    def faults(self) -> tuple[type[Exception], ...]:
        """What else a statement or a connection may raise: the row is tried again."""

    @property
    def may_forget(self) -> bool:
        """Whether a crash of the database alone loses what was committed and is not on the disk yet."""

    def open_for_writing(self) -> Engine:
        """Open it, with its tables made where they are missing; raises StartError."""

    def open_for_reading(self) -> Engine:
        """Open an existing record, which one connection sees in one state; raises StartError."""

    def identity(self) -> int | None:
        """Give what changes when somebody puts another database in its place; None where that can't be seen."""

    def insert(self, table: Table) -> Insert:
        """Give the statement that inserts a row, unless the row is there."""

    def insert_alone(self, connection: Connection, statement: str, row: Row) -> int:
        """Commit one row by the quickest way there is; gives how many rows were new, 0 or 1."""


def database_of(url: str) -> Database:
    """Give the database of `url`; raises ConfigError, which never shows a password."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as exc:
        raise ConfigError(f"records.url is not a database URL; {ALLOWED}") from exc
    if parsed.get_backend_name() == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise ConfigError(f"records.url: {url!r} names no file; {ALLOWED}")
        return SqliteFile(parsed.database)
    if parsed.drivername not in ("postgresql", "postgresql+psycopg"):
        raise ConfigError(f"records.url: the database {parsed.drivername!r} is not supported; {ALLOWED}")
    if not parsed.database:
        raise ConfigError(f"records.url names no database of the server; {ALLOWED}")
    try:
        from bridge.records.postgres import PostgresServer  # noqa: PLC0415 - its driver is an extra
    except ImportError as exc:
        raise ConfigError("records.url: PostgreSQL needs its driver: pip install 'linegate[postgres]'") from exc
    return PostgresServer(parsed)


def open_for_reading(url: str) -> Engine:
    """Open an existing record without writing to it, also while a bridge writes; raises ConfigError, StartError."""
    return database_of(url).open_for_reading()
