"""Makes rows committed in SQLite survive a power cut, by one fsync of the write-ahead log for all who wait.

Why fdatasync on the log alone is enough. With synchronous=NORMAL a commit appends its frames to DATABASE-wal and
returns. Frames that are no longer in that file were moved by a checkpoint, and a checkpoint syncs the log before and the
database after it moves them; when the log starts over, its new header is synced before any frame follows. So what is
committed lies either in the synced database or in the present log. fdatasync acts on the file, not on the descriptor it
is called with: frames that SQLite wrote through its own are covered. A descriptor of our own is safe because SQLite
keeps its locks (which closing any descriptor of a file would drop) on the database and on DATABASE-shm, never on the
log. The log can't vanish under us while the journal's connection is open.

Why not a second connection with synchronous=FULL: it needs a row of its own to write, and holds the write lock for the
whole fsync, so a slow disk would stop the commits that outputs wait for. fdatasync holds no lock of the database.

After an error of fdatasync Linux takes the pages for clean, so a second fdatasync proves nothing. Then only a complete
checkpoint (which writes all frames to the database and syncs that) counts.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from bridge.errors import JournalError
from bridge.records.sqlite import checkpoint, log_of
from bridge.records.writer import Writer

CHECKPOINT_AFTER = 200  # transactions: 2 to 5 MB of log
LARGEST_LOG_BYTES = 32_000_000


class LogFile:
    """Syncs the log of one database, and moves it into the database every 200 transactions.

    `sync` is os.fdatasync, an argument so that a broken disk can be had without one. Raises OSError where the folder
    can't be synced.
    """

    grace_ns = 0
    """A disk that has failed once is not to be trusted from that moment on."""

    def __init__(self, path: Path, writer: Writer, *, sync: Callable[[int], None]) -> None:
        self._path = path
        self._writer = writer
        self._sync = sync
        self._moved_at = 0
        self._sync_folder()

    def secure(self, *, wanted: bool, troubled: bool) -> int:
        """Bring what is committed to the disk, and give the ticket up to which that holds; raises JournalError."""
        ticket, transactions = self._writer.certain, self._writer.transactions
        try:
            if troubled:
                self._move_all()
            elif wanted:
                self._sync_log()
            if transactions - self._moved_at >= CHECKPOINT_AFTER:
                self._move()
                self._moved_at = transactions
        except (OSError, sqlite3.Error) as exc:
            raise JournalError(str(exc)) from exc
        return ticket

    def close(self) -> None:
        """Nothing is held open."""

    def _move(self) -> None:
        checkpoint(self._path, "PASSIVE")
        # Under a flood of rows there is always one more page in the log, so it never starts over by itself. Nearly all
        # is moved by now: making the writer wait for the rest is short.
        if _size(log_of(self._path)) > LARGEST_LOG_BYTES:
            checkpoint(self._path, "TRUNCATE")

    def _move_all(self) -> None:
        if left := checkpoint(self._path, "TRUNCATE"):
            raise JournalError(f"{left} pages of the log are not in the database yet")

    def _sync_log(self) -> None:
        try:
            descriptor = os.open(log_of(self._path), os.O_RDONLY)
        except FileNotFoundError:
            if self._path.exists():
                return  # between two connections SQLite has moved all of it, synced, and removed the log
            raise
        try:
            self._sync(descriptor)
        finally:
            os.close(descriptor)

    def _sync_folder(self) -> None:
        # The names of new files; SQLite does the same for its log, at the first sync of its own.
        descriptor = os.open(self._path.absolute().parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
