"""Makes committed rows survive a power cut: one fsync of the write-ahead log for all who wait, at most every 20 ms.

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

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from bridge.errors import JournalError
from bridge.records.database import checkpoint, log_of
from bridge.records.patience import MS, Patience
from bridge.records.writer import tell

SPACING_S = 0.02
CHECKPOINT_AFTER = 200  # transactions: 2 to 5 MB of log
LARGEST_LOG_BYTES = 32_000_000
IDLE_S = 5.0
RETRY_S = 0.2
# Ordinary flash stalls for a second now and then while it tidies up; commits go on meanwhile: no dead journal.
STUCK_NS = 5000 * MS

log = structlog.get_logger(__name__)


class Disk:
    """A thread that syncs when somebody waits, and moves the log into the database every 200 transactions.

    `transactions` gives the number of commits so far. `sync` is os.fdatasync, an argument so that a broken disk can be
    had without one.
    """

    def __init__(self, path: Path, *, transactions: Callable[[], int], sync: Callable[[int], None]) -> None:
        self._path = path
        self._transactions = transactions
        self._sync = sync
        self._changed = threading.Condition()
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._patience = Patience(STUCK_NS)
        self._round = 0
        self._busy = False
        self._closing = False
        self._moved_at = 0
        self.trouble: str | None = None
        self._sync_folder()
        self._thread = threading.Thread(target=self._run, name="linegate-disk", daemon=True)
        self._thread.start()

    def synced(self) -> asyncio.Future[None]:
        """Give a future of the running loop that is done once all that is committed by now is on the disk."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._changed:
            if self._closing:
                future.set_exception(JournalError("the journal is closed"))
            else:
                self._waiters.append((loop, future))
                self._changed.notify()
        return future

    def is_stuck(self) -> bool:
        """Say whether the disk has failed, or one sync has lasted for five seconds, or the thread is gone."""
        with self._changed:
            stuck = self._patience.look(self._round if self._busy else None, time.monotonic_ns())
            return stuck or self.trouble is not None or not self._thread.is_alive()

    def close(self, *, within_s: float) -> None:
        """Sync for those who wait and end the thread, for `within_s` at most."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(within_s)

    def _run(self) -> None:
        started = 0.0
        while True:
            with self._changed:
                if not self._waiters and not self._closing:
                    self._changed.wait(RETRY_S if self.trouble else IDLE_S)
                closing = self._closing
            if not closing:
                time.sleep(max(started + SPACING_S - time.monotonic(), 0.0))
            started = time.monotonic()
            with self._changed:
                waiters, self._waiters = self._waiters, []
                self._round += 1
                self._busy = True
            error = self._one_round(bool(waiters) or closing)
            with self._changed:
                self._busy = False
            for loop, future in waiters:
                tell(loop, future, error)
            if closing:
                return

    def _one_round(self, wanted: bool) -> JournalError | None:
        trouble = self.trouble
        transactions = self._transactions()
        try:
            if trouble is not None:
                self._move_all()
            elif wanted:
                self._sync_log()
            if transactions - self._moved_at >= CHECKPOINT_AFTER:
                self._move()
                self._moved_at = transactions
            self.trouble = None
        except (OSError, sqlite3.Error, JournalError) as exc:
            self.trouble = str(exc)
        if self.trouble is not None and trouble is None:
            log.error("journal_disk_lost", file=str(self._path), cause=self.trouble)
        if self.trouble is None and trouble is not None:
            log.info("journal_disk_back", file=str(self._path))
        return None if self.trouble is None else JournalError(f"the journal is not on the disk: {self.trouble}")

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
