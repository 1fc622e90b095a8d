"""The record in a PostgreSQL server: opened to write or only to read, and what is wrong with it said in one line.

The verdict's commit doesn't wait for the server's disk (synchronous_commit = off): it survives a killed bridge.
`server_log.py` makes it survive a crash of the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
import structlog
from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, inspect, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DataError, IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool
from sqlalchemy.sql.dml import Insert

from bridge.errors import StartError
from bridge.records import schema
from bridge.records.causes import cause_of

# A server that has gone without a word is noticed within 3 s, by an idle connection within 9 s.
CONNECTION: Mapping[str, Any] = {
    "connect_timeout": 2, "tcp_user_timeout": 3000, "keepalives_idle": 3, "keepalives_interval": 2,
    "keepalives_count": 3, "application_name": "linegate",
}  # fmt: skip
ONE_AT_A_TIME = 0x6C696E6567617465
"""Key of the lock that lets one bridge of several make the tables."""
VERSION_TABLE = "linegate_tables"
VERSION_OF = text(f"SELECT version FROM {VERSION_TABLE}")

log = structlog.get_logger(__name__)


class PostgresServer:
    """One database of a server; the password comes with the URL, or by libpq's own ways (PGPASSWORD, ~/.pgpass)."""

    row_faults = (IntegrityError, DataError, psycopg.IntegrityError, psycopg.DataError, OverflowError, UnicodeError)
    faults = (SQLAlchemyError, psycopg.Error)
    may_forget = True

    def __init__(self, url: URL) -> None:
        self._url = url.set(drivername="postgresql+psycopg")
        bare = URL.create("postgresql", username=url.username, host=url.host, port=url.port, database=url.database)
        self.shown = bare.render_as_string()

    def open_for_writing(self) -> Engine:
        """Open the database and make the tables that are missing; raises StartError."""
        engine = self._engine("SET synchronous_commit TO off")
        try:
            with engine.begin() as connection:
                self._prepare(connection)
        except self.faults as exc:
            raise StartError(f"records.url: can't use {self.shown}: {cause_of(exc)}; {_advice(exc)}") from exc
        return engine

    def open_for_reading(self) -> Engine:
        """Open an existing record; one connection sees it in one state. Raises StartError."""
        engine = self._engine("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        try:
            with engine.connect() as connection:
                missing = set(schema.metadata.tables) - set(inspect(connection).get_table_names())
        except self.faults as exc:
            raise StartError(f"records.url: can't read {self.shown}: {cause_of(exc)}; {_advice(exc)}") from exc
        if missing:
            raise StartError(f"records.url: {self.shown} is no record of Linegate: it has no table {min(missing)}")
        return engine

    def open_for_flushing(self) -> Engine:
        """Open the database so that a commit waits for the server's disk; connects to nothing yet."""
        return self._engine("SET synchronous_commit TO on").execution_options(isolation_level="AUTOCOMMIT")

    def identity(self) -> int | None:
        """Tell nothing: a server that was replaced ends its connections."""
        return None

    def insert(self, table: Table) -> Insert:
        """Give the statement that inserts a row, unless it is there: a commit whose answer was lost is tried again."""
        return insert(table).on_conflict_do_nothing()

    def insert_alone(self, connection: Connection, statement: str, row: schema.Row) -> int:
        """Commit one row in one trip to the server, without BEGIN and COMMIT around it."""
        driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
        driver.autocommit = True
        try:
            return driver.execute(statement, row).rowcount
        finally:
            if not driver.closed:
                driver.autocommit = False

    def _engine(self, setting: str) -> Engine:
        ours = {key: value for key, value in CONNECTION.items() if key not in self._url.query}
        engine = create_engine(self._url, poolclass=NullPool, connect_args=ours, use_native_hstore=False)

        def prepare(driver: psycopg.Connection[Any], _record: object) -> None:
            try:
                driver.execute(setting)
                driver.commit()
            except psycopg.Error as exc:
                raise OperationalError(setting, None, exc) from exc

        event.listen(engine, "connect", prepare)
        return engine

    def _prepare(self, connection: Connection) -> None:
        if self._missing(connection):
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ONE_AT_A_TIME})
            missing = self._missing(connection)
            schema.metadata.create_all(connection)
            if VERSION_TABLE in missing:
                connection.execute(text(f"CREATE TABLE {VERSION_TABLE} (version integer NOT NULL)"))
                connection.execute(text(f"INSERT INTO {VERSION_TABLE} VALUES (:version)"), {"version": schema.VERSION})
        found = connection.execute(VERSION_OF).scalar_one()
        if found > schema.VERSION:
            raise StartError(f"records.url: {self.shown} was written by a later version of Linegate (tables {found})")
        if connection.execute(text("SHOW fsync")).scalar_one() != "on":
            log.warning(
                "journal_without_fsync", database=self.shown, text="the server's fsync is off: a crash loses rows"
            )

    @staticmethod
    def _missing(connection: Connection) -> set[str]:
        return {VERSION_TABLE, *schema.metadata.tables} - set(inspect(connection).get_table_names())


def _advice(exc: Exception) -> str:
    cause = cause_of(exc)
    for word, advice in (
        ("password", "see records.password_file, or PGPASSWORD"),
        ("does not exist", "make it on the server first (CREATE ROLE, CREATE DATABASE)"),
        ("permission denied", "the user must own the database or its schema, or be granted CREATE on it once"),
    ):
        if word in cause:
            return advice
    return "see that the server runs and that this machine may connect to it"
