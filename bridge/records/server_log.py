"""Makes rows committed in PostgreSQL survive a crash of the server: one flush of its log for all who wait.

With synchronous_commit = off a commit lies in the server's memory for up to three times wal_writer_delay. The log is one
sequence: a later commit that does wait for the disk brings all before it there. The cheapest one that waits is a message
in the log (`pg_logical_emit_message`): no table, no row to vacuum, any user may. A transaction that writes nothing would
not wait at all. It has a connection of its own, so that a slow disk never stops the commits that outputs wait for.

A crash in between forgets committed rows. So the writer keeps them until a flush has succeeded on a connection that is
older than their commits: every crash ends every connection, hence there was none. When this connection had to be made
anew, all that the writer keeps is in doubt and is written once more; rows that did survive are not doubled.
"""

from __future__ import annotations

import contextlib

from sqlalchemy import Connection, text

from bridge.errors import JournalError, StartError
from bridge.records.causes import cause_of
from bridge.records.patience import MS
from bridge.records.postgres import PostgresServer
from bridge.records.writer import Writer

FLUSH = text("SELECT pg_logical_emit_message(true, 'linegate', '')")


class ServerLog:
    """Flushes the log of one server for the rows of one writer; used by one thread at a time."""

    grace_ns = 1000 * MS
    """A restart of the server that is over within the second is nobody's business."""

    def __init__(self, server: PostgresServer, writer: Writer) -> None:
        """Connect; raises StartError."""
        self._server = server
        self._writer = writer
        self._engine = server.open_for_flushing()
        self._connection: Connection | None = None
        try:
            self._connection = self._engine.connect()
        except server.faults as exc:
            raise StartError(f"records.url: can't use {server.shown}: {cause_of(exc)}") from exc

    def secure(self, *, wanted: bool, troubled: bool) -> int:
        """Bring what is committed to the disk, and give the ticket up to which that holds; raises JournalError."""
        if not (wanted or troubled or self._writer.unsure):
            return 0
        try:
            if self._connection is None:
                self._connection = self._engine.connect()
                self._writer.doubt()
            ticket = self._writer.certain
            self._connection.execute(FLUSH)
        except self._server.faults as exc:
            self.close()
            raise JournalError(cause_of(exc)) from exc
        self._writer.forget(ticket)
        return ticket

    def close(self) -> None:
        """Let the connection go."""
        if self._connection is not None:
            with contextlib.suppress(*self._server.faults):
                self._connection.close()
            self._connection = None
