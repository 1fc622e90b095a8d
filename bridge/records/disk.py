"""Brings committed rows to the disk: once for all who wait, at most every 20 ms; `log_file.py` and `server_log.py` do it."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from typing import Protocol

import structlog

from bridge.errors import JournalError
from bridge.records.patience import MS, Patience
from bridge.records.writer import tell

SPACING_S = 0.02
IDLE_S = 5.0
RETRY_S = 0.2
# Ordinary flash stalls for a second now and then while it tidies up; commits go on meanwhile: no dead journal.
STUCK_NS = 5000 * MS

log = structlog.get_logger(__name__)


class WriteAheadLog(Protocol):
    """What makes committed rows safe from a crash."""

    grace_ns: int

    def secure(self, *, wanted: bool, troubled: bool) -> int:
        """Bring what is committed to the disk and give the ticket up to which that holds.

        `wanted`: somebody waits for it; `troubled`: the last time failed. Raises JournalError.
        """

    def close(self) -> None:
        """Let go of what is held open."""


@dataclass(frozen=True, slots=True)
class _Waiter:
    ticket: int
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[None]


class Disk:
    """A thread that secures what is committed when somebody waits, and looks every five seconds when nobody does."""

    def __init__(self, ahead: WriteAheadLog, *, shown: str) -> None:
        self._ahead = ahead
        self._shown = shown
        self._changed = threading.Condition()
        self._waiters: list[_Waiter] = []
        self._patience = Patience(STUCK_NS)
        self._grace = Patience(ahead.grace_ns)
        self._round = 0
        self._busy = False
        self._closing = False
        self.trouble: str | None = None
        self._thread = threading.Thread(target=self._run, name="linegate-disk", daemon=True)
        self._thread.start()

    def synced(self, ticket: int) -> asyncio.Future[None]:
        """Give a future of the running loop that is done once `ticket`, which is committed, is on the disk."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._changed:
            if self._closing:
                future.set_exception(JournalError("the journal is closed"))
            else:
                self._waiters.append(_Waiter(ticket, loop, future))
                self._changed.notify()
        return future

    def is_stuck(self) -> bool:
        """Say whether the disk has failed for longer than is allowed, one sync lasted five seconds, or the thread is gone."""
        with self._changed:
            now_ns = time.monotonic_ns()
            stuck = self._patience.look(self._round if self._busy else None, now_ns)
            failed = self._grace.look(0 if self.trouble is not None else None, now_ns) and self.trouble is not None
            return stuck or failed or not self._thread.is_alive()

    def close(self, *, within_s: float) -> None:
        """Secure what those who wait wait for and end the thread, for `within_s` at most."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(within_s)

    def _run(self) -> None:
        started = 0.0
        while True:
            with self._changed:
                if not self._closing and (self.trouble or not self._waiters):
                    self._changed.wait(RETRY_S if self.trouble else IDLE_S)
                closing = self._closing
            if not closing:
                time.sleep(max(started + SPACING_S - time.monotonic(), 0.0))
            started = time.monotonic()
            with self._changed:
                waiters, self._waiters = self._waiters, []
                self._round += 1
                self._busy = True
            ticket, error = self._one_round(bool(waiters) or closing)
            with self._changed:
                self._busy = False
                if error is None and not closing:  # a crash took rows back that were committed: they come again
                    self._waiters += [each for each in waiters if each.ticket > ticket]
            late = JournalError("the journal is closed") if closing else None
            for each in waiters:
                if error is not None or late is not None or each.ticket <= ticket:
                    tell(each.loop, each.future, error or (None if each.ticket <= ticket else late))
            if closing:
                self._ahead.close()
                return

    def _one_round(self, wanted: bool) -> tuple[int, JournalError | None]:
        before, ticket = self.trouble, 0
        try:
            ticket = self._ahead.secure(wanted=wanted, troubled=before is not None)
            self.trouble = None
        except JournalError as exc:
            self.trouble = str(exc)
        if self.trouble is not None and before is None:
            log.error("journal_disk_lost", database=self._shown, cause=self.trouble)
        if self.trouble is None and before is not None:
            log.info("journal_disk_back", database=self._shown)
        return ticket, None if self.trouble is None else JournalError(f"the journal is not on the disk: {self.trouble}")
