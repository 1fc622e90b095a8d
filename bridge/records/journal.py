"""The record of every accepted trigger and its verdict: what the journey calls, on its own loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import structlog
from sqlalchemy import Table
from sqlalchemy.exc import SQLAlchemyError

from bridge.domain.part import Part
from bridge.domain.verdict import Disposition, VerdictCode
from bridge.errors import JournalError, StartError
from bridge.ports import Outcome
from bridge.records import schema
from bridge.records.database import Database, database_of
from bridge.records.disk import Disk, WriteAheadLog
from bridge.records.history import History, Unfinished, completed_row
from bridge.records.log_file import LogFile
from bridge.records.sqlite import SqliteFile
from bridge.records.writer import Writer

LOOK_AGAIN_S = 0.25

log = structlog.get_logger(__name__)


class Journal:
    """Queues rows without ever blocking the loop; a thread commits them and another brings them to the disk.

    The order for one part is `accept`, then `append`, then (in the background) `on_disk`. Giving up an `await` takes
    nothing back: the row stays queued and is committed when it can be.
    """

    def __init__(self, url: str, *, sync: Callable[[int], None] = os.fdatasync) -> None:
        """Open or make the database of `url`; raises ConfigError, StartError. Blocks for some ms, at worst seconds.

        `sync` is how a file is brought to the disk; a server sees to that itself.
        """
        database = database_of(url)
        self._writer = Writer(database)
        self._closed = False
        try:
            self._history = History(database.open_for_reading())
            self._disk = Disk(_log_of(database, self._writer, sync), shown=database.shown)
        except StartError:
            self._writer.close(within_s=0.0)
            raise

    @property
    def healthy(self) -> bool:
        """Whether commits succeed: false once one has been tried for 1 s, when the disk failed, and when closed."""
        return not (self._closed or self._writer.is_stuck() or self._disk.is_stuck())

    @property
    def trouble(self) -> str | None:
        """What is wrong at the moment, in the database's own words if it has any; None when nothing is."""
        if self._closed:
            return "the journal is closed"
        if self._writer.trouble or self._disk.trouble:
            return self._writer.trouble or self._disk.trouble
        if self._writer.is_stuck():
            return "no row was committed for 1 s"
        return "the disk has not answered for 5 s" if self._disk.is_stuck() else None

    @property
    def waiting(self) -> int:
        """How many rows are queued and not committed; at most 20,000."""
        return self._writer.waiting

    @property
    def refused(self) -> int:
        """How many rows were lost: the queue was full, or the database would never take them."""
        return self._writer.refused

    @property
    def failures(self) -> int:
        """How many times the database could not take the rows that waited; they are tried again every 0.1 s."""
        return self._writer.failures

    def accept(self, part: Part, *, at_utc_ns: int) -> None:
        """Queue the acceptance row of `part`; returns at once and raises nothing, a loss is counted in `refused`."""
        self._put_or_count(schema.triggers, schema.trigger_row(part, at_utc_ns=at_utc_ns))

    def gate_event(
        self,
        *,
        line: str,
        station: str,
        epoch: int,
        sequence: int,
        event: str,
        reason: str | None,
        at_utc_ns: int,
    ) -> None:
        """Queue what became of a gate order (ordered, fired, missed, confirmed, collateral); returns at once."""
        row = {
            "line": line,
            "station": station,
            "epoch": epoch,
            "sequence": sequence,
            "event": event,
            "reason": None if reason is None else schema.clean(reason),
            "at_utc": schema.utc_text(at_utc_ns),
        }
        self._put_or_count(schema.gate_events, row)

    def record(self, outcome: Outcome) -> asyncio.Future[None]:
        """Queue the verdict's row and give a future that is done once it is committed, however long that takes.

        A plain future and no coroutine: each turn of a busy loop between commit and output costs belt. Raises
        JournalError when the row is refused, or queued while the database is known to take nothing.
        """
        return self._put(schema.verdict_row(outcome))

    async def append(self, outcome: Outcome) -> None:
        """Commit the verdict's row; raises JournalError when the database can't take it now, which leaves it queued."""
        await self._until(self.record(outcome))

    async def complete(
        self,
        lost: Unfinished,
        *,
        code: VerdictCode,
        disposition: Disposition,
        reason: str,
        decided_utc_ns: int,
        document: str,
    ) -> None:
        """Commit the verdict, replayed, of a trigger of an earlier run; raises JournalError as `append` does."""
        row = completed_row(
            lost,
            code=code,
            disposition=disposition,
            reason=reason,
            decided_utc_ns=decided_utc_ns,
            document=document,
        )
        await self._until(self._put(row))

    async def on_disk(self) -> None:
        """Return once all that was queued so far is on the disk; raises JournalError once the journal is unhealthy."""
        ticket = self._writer.last_ticket
        await self._until(self._writer.committed(ticket))
        await self._until(self._disk.synced(ticket))

    def unfinished(self, line: str, station: str) -> list[Unfinished]:
        """Give the triggers that an earlier run accepted and did not judge, oldest first; ask before the first `accept`."""
        return self._history.unfinished(line, station)

    def recent_triggers(self, line: str, station: str, limit: int) -> list[tuple[int, int, str, str | None]]:
        """Give (epoch, sequence, part id, ts) of the newest accepted triggers, oldest first."""
        return self._history.recent_triggers(line, station, limit)

    def recent_documents(self, line: str, station: str, limit: int) -> list[tuple[int, str]]:
        """Give (sequence, JSON document) of the newest verdicts, oldest first."""
        return self._history.recent_documents(line, station, limit)

    def last_epoch(self, line: str, station: str) -> int:
        """Give the highest epoch of the station, 0 when it has no record."""
        return self._history.last_epoch(line, station)

    def last_event_utc_ns(self, line: str, station: str, event: str) -> int | None:
        """Give when an event was noted last for any part of the station, None when it never was."""
        return self._history.last_event_utc_ns(line, station, event)

    def picture_of(self, line: str, station: str, sequence: int) -> str | None:
        """Give the relative name of a picture among the last 1,000 parts, else None; any thread may ask."""
        try:
            return self._history.picture_of(line, station, sequence)
        except SQLAlchemyError as exc:
            log.warning("picture_lookup_failed", cause=str(exc))
            return None

    async def close(self, *, within_s: float = 2.0) -> None:
        """Commit and sync what is queued, for about `within_s`; what can't be is counted in one line of the log."""
        self._closed = True
        lost = await asyncio.to_thread(self._writer.close, within_s=within_s)
        await asyncio.to_thread(self._disk.close, within_s=within_s)
        if lost:
            log.error("journal_closed_with_loss", rows=lost, cause=self.trouble)

    def _put_or_count(self, table: Table, row: schema.Row) -> None:
        try:
            self._writer.put(table, row)
        except JournalError as exc:
            log.debug("journal_row_refused", table=table.name, cause=str(exc))

    def _put(self, row: schema.Row) -> asyncio.Future[None]:
        ticket = self._writer.put(schema.verdicts, row)
        if self._writer.trouble is not None or self._writer.is_stuck():
            # Known to be failing: waiting would only hold the outputs of this part as well.
            raise JournalError(f"the journal can't commit: {self.trouble}")
        return self._writer.committed(ticket)

    async def _until(self, future: asyncio.Future[None]) -> None:
        """Wait for `future`, but no longer than the journal is healthy."""
        try:
            while not (await asyncio.wait({future}, timeout=LOOK_AGAIN_S))[0]:
                if not self.healthy:
                    raise JournalError(f"the journal does not work: {self.trouble}")
            future.result()
        finally:
            future.cancel()  # nobody will look at it any more


def _log_of(database: Database, writer: Writer, sync: Callable[[int], None]) -> WriteAheadLog:
    """Choose what makes committed rows safe; raises StartError."""
    if isinstance(database, SqliteFile):
        try:
            return LogFile(database.path, writer, sync=sync)
        except OSError as exc:
            raise StartError(f"records.url: can't sync the folder of {database.path}: {exc.strerror}") from exc
    from bridge.records.postgres import PostgresServer  # noqa: PLC0415 - its driver is an extra
    from bridge.records.server_log import ServerLog  # noqa: PLC0415

    assert isinstance(database, PostgresServer)
    return ServerLog(database, writer)
