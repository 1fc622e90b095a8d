"""The journal's thread: takes all queued rows in one transaction, and keeps them while the database can't take them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from dataclasses import dataclass
from itertools import islice

import structlog
from sqlalchemy import Connection, Table, bindparam, update

from bridge.errors import BridgeError, JournalError
from bridge.records.causes import cause_of
from bridge.records.database import Database
from bridge.records.patience import MS, Patience
from bridge.records.schema import KEY, Row, gate_events, triggers, verdicts

MAX_WAITING_ROWS = 20_000  # three rows a part: eleven minutes of ten parts a second, about 60 MB
MAX_BATCH_ROWS = 512
MAX_TO_CLOSE = 64
RETRY_S = 0.1
TELL_AGAIN_S = 10.0
STUCK_NS = 1000 * MS

TABLES = (triggers, verdicts, gate_events)
_CLOSE_TRIGGER = update(triggers).where(*(triggers.c[name] == bindparam(f"key_{name}") for name in KEY)).values(open=0)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Entry:
    ticket: int
    table: Table
    row: Row


class Writer:
    """Commits rows in the order they came; a row has a ticket, and tickets only grow.

    `put` never blocks. Rows that can't be committed wait, at most 20,000 of them; beyond that new rows are refused and
    counted in `refused`, gate events from half of it on, since a verdict matters more than what the gate did. Where a
    crash of the database may take committed rows back, they are kept until `forget`, and committed again after `doubt`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._faults: tuple[type[Exception], ...] = (*database.faults, OSError, BridgeError)
        self._changed = threading.Condition()
        self._queue: deque[_Entry] = deque()
        self._waiters: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._patience = Patience(STUCK_NS)
        self._last_ticket = 0
        self._committed = 0
        self._retry_at = 0.0
        self._tell_again_at = 0.0
        self._told = False
        self._close_by: float | None = None
        self._kept: deque[_Entry] = deque(maxlen=MAX_WAITING_ROWS)
        self._doubted = False
        self._again = False
        self._connection: Connection | None = None
        self._identity: int | None = None
        self._to_close: list[Row] = []
        self._compiled: dict[Table, str] = {}
        self.trouble: str | None = None
        self.transactions = 0
        self.refused = 0
        self.failures = 0
        self._connect()
        self._thread = threading.Thread(target=self._run, name="linegate-journal", daemon=True)
        self._thread.start()

    @property
    def last_ticket(self) -> int:
        """The ticket of the newest row taken."""
        return self._last_ticket

    @property
    def waiting(self) -> int:
        """How many rows are not committed yet."""
        return len(self._queue)

    def put(self, table: Table, row: Row) -> int:
        """Queue one row and give its ticket; raises JournalError when closed or full, and then the row is lost."""
        with self._changed:
            room = MAX_WAITING_ROWS // 2 if table is gate_events else MAX_WAITING_ROWS
            if self._close_by is not None or len(self._queue) >= room:
                self.refused += 1
                if self.refused == 1:
                    log.error("journal_refuses_rows", waiting=len(self._queue), closed=self._close_by is not None)
                raise JournalError("the journal is closed" if self._close_by is not None else "the journal is full")
            self._last_ticket += 1
            self._queue.append(_Entry(self._last_ticket, table, row))
            self._look()
            self._changed.notify()
            return self._last_ticket

    def committed(self, ticket: int) -> asyncio.Future[None]:
        """Give a future of the running loop that is done once `ticket` and all before it are committed."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._changed:
            if ticket <= self._committed:
                future.set_result(None)
            else:
                self._waiters.append((ticket, loop, future))
        return future

    @property
    def certain(self) -> int:
        """The ticket up to which every row is committed, as far as anybody knows."""
        with self._changed:
            return self._kept[0].ticket - 1 if self._doubted and self._kept else self._committed

    @property
    def unsure(self) -> bool:
        """Whether rows are kept that a crash of the database might take back."""
        return bool(self._kept)

    def forget(self, ticket: int) -> None:
        """Drop the committed rows up to `ticket`: they are safe."""
        with self._changed:
            while self._kept and self._kept[0].ticket <= ticket:
                self._kept.popleft()

    def doubt(self) -> None:
        """Commit all kept rows once more, before any others."""
        with self._changed:
            self._doubted = bool(self._kept)
            self._changed.notify()

    def is_stuck(self) -> bool:
        """Say whether the oldest row has waited for a second, or the thread is gone."""
        with self._changed:
            return self._look() or not self._thread.is_alive()

    def close(self, *, within_s: float) -> int:
        """Commit what waits, for `within_s` at most, and end the thread; give the number of rows that were lost."""
        with self._changed:
            self._close_by = time.monotonic() + within_s
            self._changed.notify()
        self._thread.join(within_s + 0.5)
        return len(self._queue)

    def _look(self) -> bool:
        return self._patience.look(self._queue[0].ticket if self._queue else None, time.monotonic_ns())

    def _run(self) -> None:
        while batch := self._next_batch():
            done, trouble = self._commit(batch)
            self._settle(done, trouble)
        if self._to_close:
            self._commit([])
        self._disconnect()

    def _next_batch(self) -> list[_Entry]:
        with self._changed:
            while True:
                now = time.monotonic()
                closing = self._close_by is not None
                if self._doubted and self._kept:
                    self._take_back()
                if closing and (not self._queue or now >= (self._close_by or 0.0)):
                    return []
                if self._queue and now >= self._retry_at:
                    return list(islice(self._queue, MAX_BATCH_ROWS))
                self._changed.wait(max(self._retry_at - now, 0.001) if self._queue else None)

    def _take_back(self) -> None:
        self._queue.extendleft(reversed(self._kept))
        self._kept.clear()
        self._committed = self._queue[0].ticket - 1
        self._doubted, self._again = False, True

    def _settle(self, done: int, trouble: str | None) -> None:
        with self._changed:
            for _ in range(done):
                entry = self._queue.popleft()
                self._committed = entry.ticket
                if self._database.may_forget:
                    self._kept.append(entry)
            self._look()
            before, self.trouble = self.trouble, trouble
            self._retry_at = time.monotonic() + RETRY_S if trouble else 0.0
            self.failures += trouble is not None
            ready = [waiter for waiter in self._waiters if waiter[0] <= self._committed]
            self._waiters = [waiter for waiter in self._waiters if waiter[0] > self._committed]
        for _ticket, loop, future in ready:
            tell(loop, future)
        self._tell_change(before, trouble)

    def _tell_change(self, before: str | None, trouble: str | None) -> None:
        """Log one loss and one recovery; a disk on the brink of full comes and goes, and is told of every 10 s."""
        if trouble and not before and time.monotonic() >= self._tell_again_at:
            self._told = True
            self._tell_again_at = time.monotonic() + TELL_AGAIN_S
            log.error("journal_lost", database=self._database.shown, cause=trouble)
        elif before and not trouble and self._told:
            self._told = False
            log.info("journal_back", database=self._database.shown)

    def _commit(self, batch: list[_Entry]) -> tuple[int, str | None]:
        """Commit `batch`; give how many of its entries are settled and what is wrong with the database."""
        try:
            self._write(batch)
        except self._database.row_faults as exc:
            self._disconnect()
            return self._commit_singly(batch) if len(batch) > 1 else self._drop(batch[0], exc)
        except self._faults as exc:
            self._disconnect()
            self._again = self._database.may_forget  # it may have been committed all the same: only the answer was lost
            return 0, cause_of(exc)
        return len(batch), None

    def _commit_singly(self, batch: list[_Entry]) -> tuple[int, str | None]:
        for position, entry in enumerate(batch):
            done, trouble = self._commit([entry])
            if not done:
                return position, trouble
        return len(batch), None

    def _drop(self, entry: _Entry, exc: Exception) -> tuple[int, str | None]:
        self.refused += 1
        log.error("journal_row_unusable", table=entry.table.name, cause=cause_of(exc))
        return 1, None

    def _write(self, batch: list[_Entry]) -> None:
        """Commit rows. A verdict's output waits for this, so its trigger is closed later, with rows nobody waits for."""
        connection = self._connect()
        judged = [entry.row for entry in batch if entry.table is verdicts]
        closing = self._to_close if not judged or len(self._to_close) >= MAX_TO_CLOSE else []
        if judged and len(batch) == 1 and not closing:
            self._write_verdict(connection, judged[0])
        else:
            self._write_all(connection, batch, closing)
        self._to_close = ([] if closing else self._to_close) + [
            {f"key_{name}": row[name] for name in KEY} for row in judged
        ]
        self.transactions += 1
        if self._again and len(batch) < MAX_BATCH_ROWS:
            self._again = False  # all that was written twice lies behind

    def _write_verdict(self, connection: Connection, row: Row) -> None:
        """Commit the usual batch, one verdict, by the quickest way."""
        written = self._database.insert_alone(connection, self._insert(verdicts, connection), row)
        self._check(verdicts, 1, written)

    def _write_all(self, connection: Connection, batch: list[_Entry], closing: list[Row]) -> None:
        with connection.begin():
            for table in TABLES:
                rows = [entry.row for entry in batch if entry.table is table]
                if rows:
                    self._check(
                        table, len(rows), connection.exec_driver_sql(self._insert(table, connection), rows).rowcount
                    )
            if closing:
                connection.execute(_CLOSE_TRIGGER, closing)

    def _check(self, table: Table, rows: int, written: int) -> None:
        if written != rows and not self._again:
            log.error("journal_row_exists", table=table.name, rows=rows - written)

    def _insert(self, table: Table, connection: Connection) -> str:
        """Compile a statement once: the toolkit's own way through it costs more than the database does."""
        if table not in self._compiled:
            columns = [column.name for column in table.columns if column is not table.autoincrement_column]
            self._compiled[table] = str(
                self._database.insert(table).compile(dialect=connection.dialect, column_keys=columns)
            )
        return self._compiled[table]

    def _connect(self) -> Connection:
        """Give the connection; a new one after a failure, or when the file was taken away or replaced under it."""
        if self._connection is not None and self._identity == self._database.identity():
            return self._connection
        if self._connection is not None:
            log.error("journal_file_replaced", database=self._database.shown)
        self._disconnect()
        self._connection = self._database.open_for_writing().connect()
        self._identity = self._database.identity()
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            # A connection that is closed because it failed may fail once more; the next one begins afresh.
            with contextlib.suppress(*self._faults):
                self._connection.close()
            self._connection = None


def tell(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None], exc: Exception | None = None) -> None:
    """Settle `future` of `loop` from another thread; a waiter that gave up, or a loop that has ended, is left alone."""

    def settle() -> None:
        if future.done():
            return
        if exc is None:
            future.set_result(None)
        else:
            future.set_exception(exc)

    with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
        loop.call_soon_threadsafe(settle)
