"""The journal, seen by a foreign reader of its database: a file of SQLite or a server of PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from bridge.domain.part import Part
from bridge.domain.verdict import Disposition, VerdictCode
from bridge.errors import JournalError
from bridge.ports import Outcome
from bridge.records.journal import Journal

COLUMNS = (
    "line, station, epoch, sequence, part_id, verdict, code, disposition, reason, label, score, recipe, model,"
    " model_sha256, triggered_utc, decided_utc, replayed, picture, json"
)
Parts = Callable[..., Part]
Outcomes = Callable[..., Outcome]


async def eventually(true: Callable[[], bool]) -> None:
    """Wait until it is so; the test's time limit ends a wait for what never comes."""
    while not true():
        await asyncio.sleep(0.01)


async def test_table_verdicts_has_the_columns_of_the_contract_and_no_other_table_a_verdict(
    journal: Journal, foreign: Any
) -> None:
    columns = foreign.columns()
    assert sorted(columns["verdicts"]) == sorted(COLUMNS.split(", "))
    assert [table for table, names in columns.items() if "verdict" in names] == ["verdicts"]


async def test_appended_verdict_is_seen_by_a_foreign_reader_at_once(
    journal: Journal, foreign: Any, make_part: Parts, make_outcome: Outcomes
) -> None:
    part = make_part(123, part_id="A-000123", epoch=2)
    outcome = make_outcome(part, picture="line1/station1/2026-11-21/123.jpg")
    journal.accept(part, at_utc_ns=part.triggered_utc_ns)
    await journal.append(outcome)
    assert foreign.rows(f"SELECT {COLUMNS} FROM verdicts") == [
        (
            "line1", "station1", 2, 123, "A-000123", "FAIL", 2, "REJECT", "crack 0.93 >= 0.50", "crack", 0.93,
            "bracket@3", "surface@1.2.0", "ab" * 32, "2026-11-18T11:06:58.573456Z", "2026-11-18T11:06:58.583456Z", 0,
            "line1/station1/2026-11-21/123.jpg", outcome.document,
        )
    ]  # fmt: skip


async def test_accepted_trigger_is_committed_without_anybody_waiting(
    journal: Journal, foreign: Any, make_part: Parts
) -> None:
    journal.accept(make_part(5, ts="2026-11-21T08:00:00Z"), at_utc_ns=1_795_000_000_000_000_000)
    await eventually(lambda: foreign.one("SELECT count(*) FROM triggers") == 1)
    row = foreign.rows("SELECT line, station, epoch, sequence, part_id, ts, accepted_utc, encoder FROM triggers")
    assert row == [
        ("line1", "station1", 1, 5, "A-5", "2026-11-21T08:00:00Z", "2026-11-18T11:06:40.000000Z", 4_000_000_000)
    ]


async def test_each_accepted_trigger_has_one_verdict_row_also_out_of_order_and_in_two_epochs(
    journal: Journal, foreign: Any, make_part: Parts, make_outcome: Outcomes
) -> None:
    parts = [make_part(n, epoch=e) for n, e in ((10, 1), (12, 1), (11, 1), (2**32 - 1, 1), (0, 1), (10, 2), (12, 2))]
    for part in parts:
        journal.accept(part, at_utc_ns=part.triggered_utc_ns)
        await journal.append(make_outcome(part))
    keys = foreign.rows("SELECT epoch, sequence FROM verdicts")
    assert sorted(keys) == sorted((part.epoch, part.sequence) for part in parts)
    assert journal.unfinished("line1", "station1") == []


async def test_second_verdict_for_the_same_part_changes_nothing(
    journal: Journal, foreign: Any, make_part: Parts, make_outcome: Outcomes
) -> None:
    part = make_part(7)
    journal.accept(part, at_utc_ns=part.triggered_utc_ns)
    await journal.append(make_outcome(part))
    await journal.append(make_outcome(part, VerdictCode.PASS))
    assert foreign.rows("SELECT sequence, verdict FROM verdicts") == [(7, "FAIL")]


async def test_another_part_with_the_same_epoch_and_sequence_keeps_its_record(
    journal: Journal, foreign: Any, make_part: Parts, make_outcome: Outcomes
) -> None:
    for part in (make_part(7), make_part(7, part_id="other"), make_part(7, triggered_utc_ns=1_800_000_000_000_000_000)):
        journal.accept(part, at_utc_ns=part.triggered_utc_ns)
        await journal.append(make_outcome(part))
    assert foreign.one("SELECT count(*) FROM verdicts") == 3


async def test_caller_that_gives_up_loses_no_row(
    journal: Journal, foreign: Any, make_part: Parts, make_outcome: Outcomes
) -> None:
    with foreign.held(), pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await journal.append(make_outcome(make_part(1)))
    await journal.on_disk()
    assert foreign.rows("SELECT sequence FROM verdicts") == [(1,)]


async def test_locked_database_is_unhealthy_within_seconds_and_gets_every_row_when_it_is_free(
    journal: Journal, foreign: Any, make_part: Parts, make_outcome: Outcomes
) -> None:
    assert journal.healthy
    assert journal.trouble is None
    with foreign.held():
        journal.accept(make_part(1), at_utc_ns=0)
        assert journal.healthy, "not within the first second"
        await eventually(lambda: not journal.healthy)
        assert "locked" in str(journal.trouble) or "no row was committed for 1 s" in str(journal.trouble)
        for sequence in range(1, 40):
            journal.accept(make_part(sequence), at_utc_ns=0)
            with pytest.raises(JournalError, match=r"locked|no row"):
                await journal.append(make_outcome(make_part(sequence)))
        with pytest.raises(JournalError):
            await journal.on_disk()
        assert journal.waiting == 79
    await eventually(lambda: journal.healthy)
    await journal.on_disk()
    assert foreign.rows("SELECT sequence FROM verdicts ORDER BY 1") == [(n,) for n in range(1, 40)]
    assert journal.unfinished("line1", "station1") == []
    await journal.close()
    assert foreign.one("SELECT count(*) FROM triggers WHERE open = 1") == 0


async def test_row_that_no_database_can_take_does_not_stop_the_others(
    journal: Journal, foreign: Any, make_part: Parts, make_outcome: Outcomes
) -> None:
    journal.accept(make_part(2**70, triggered_utc_ns=10**40), at_utc_ns=0)
    journal.accept(make_part(3, part_id="half a pair \ud800"), at_utc_ns=0)
    await journal.append(make_outcome(make_part(4)))
    await journal.on_disk()
    assert foreign.rows("SELECT sequence FROM triggers") == [(3,)]
    assert journal.refused == 1
    assert journal.healthy


async def test_queue_is_bounded_and_gate_events_give_way_first(
    journal: Journal, foreign: Any, make_part: Parts, make_outcome: Outcomes
) -> None:
    with foreign.held():
        for sequence in range(11_000):
            journal.accept(make_part(sequence), at_utc_ns=0)
            journal.gate_event(
                line="line1", station="station1", epoch=1, sequence=sequence, event="ordered", reason=None, at_utc_ns=0
            )
        assert (journal.waiting, journal.refused) == (16_000, 6_000)
        for sequence in range(11_000, 16_000):
            journal.accept(make_part(sequence), at_utc_ns=0)
        assert (journal.waiting, journal.refused) == (20_000, 7_000)
        with pytest.raises(JournalError, match="full"):
            await journal.append(make_outcome(make_part(0)))
    await eventually(lambda: journal.waiting == 0)
    assert foreign.one("SELECT count(*) FROM triggers") == 15_000


async def test_two_journals_share_one_database(
    record_url: str, foreign: Any, make_part: Parts, make_outcome: Outcomes
) -> None:
    journals = [Journal(record_url) for _ in range(2)]

    async def run(line: str, journal: Journal) -> None:
        for sequence in range(100):
            part = make_part(sequence, line=line)
            journal.accept(part, at_utc_ns=0)
            await journal.append(make_outcome(part))
        await journal.on_disk()
        await journal.close()

    await asyncio.gather(*(run(f"line{n}", journal) for n, journal in enumerate(journals)))
    assert foreign.rows("SELECT line, count(*) FROM verdicts GROUP BY 1 ORDER BY 1") == [("line0", 100), ("line1", 100)]


async def test_gate_events_are_kept_in_their_order(journal: Journal, foreign: Any) -> None:
    for name in ("ordered", "missed", "collateral"):
        journal.gate_event(line="line1", station="station1", epoch=1, sequence=9, event=name, reason=None, at_utc_ns=0)
    await journal.on_disk()
    assert foreign.rows("SELECT sequence, event, at_utc FROM gate_events ORDER BY id") == [
        (9, "ordered", "1970-01-01T00:00:00.000000Z"),
        (9, "missed", "1970-01-01T00:00:00.000000Z"),
        (9, "collateral", "1970-01-01T00:00:00.000000Z"),
    ]


async def test_next_start_knows_the_unfinished_and_completes_them(
    record_url: str, foreign: Any, make_part: Parts, make_outcome: Outcomes
) -> None:
    first = Journal(record_url)
    for sequence in (1, 2, 3):
        journal_part = make_part(sequence, ts=f"stamp {sequence}")
        first.accept(journal_part, at_utc_ns=journal_part.triggered_utc_ns)
    await first.append(make_outcome(make_part(2, ts="stamp 2")))
    await first.close()
    second = Journal(record_url)
    lost = second.unfinished("line1", "station1")
    assert [(one.epoch, one.sequence, one.part_id, one.ts) for one in lost] == [
        (1, 1, "A-1", "stamp 1"),
        (1, 3, "A-3", "stamp 3"),
    ]
    assert lost[0].triggered_utc_ns == make_part(1).triggered_utc_ns // 1000 * 1000
    assert (lost[0].recipe, lost[0].encoder, lost[0].length_mm) == ("bracket@3", 4_000_000_000, 100.0)
    assert second.unfinished("line1", "station2") == []
    for one in lost:
        await second.complete(
            one,
            code=VerdictCode.ERROR,
            disposition=Disposition.REJECT,
            reason="the bridge was restarted",
            decided_utc_ns=1_796_000_000_000_000_000,
            document=json.dumps({"sequence": one.sequence, "verdict": "ERROR"}),
        )
    assert second.unfinished("line1", "station1") == []
    assert foreign.rows("SELECT sequence, verdict, code, replayed FROM verdicts ORDER BY 1") == [
        (1, "ERROR", 4, 1),
        (2, "FAIL", 2, 0),
        (3, "ERROR", 4, 1),
    ]
    await second.close()


async def test_history_of_a_station_is_its_newest_oldest_first(
    journal: Journal, make_part: Parts, make_outcome: Outcomes
) -> None:
    for sequence in range(10):
        for station in ("station1", "station2"):
            part = make_part(sequence, station=station, epoch=1 + sequence // 8, ts=None if sequence % 2 else "t")
            journal.accept(part, at_utc_ns=0)
            await journal.append(make_outcome(part))
    assert journal.recent_triggers("line1", "station1", 3) == [
        (1, 7, "A-7", None),
        (2, 8, "A-8", "t"),
        (2, 9, "A-9", None),
    ]
    documents = journal.recent_documents("line1", "station2", 2)
    assert [(sequence, json.loads(document)["part_id"]) for sequence, document in documents] == [(8, "A-8"), (9, "A-9")]
    assert (journal.last_epoch("line1", "station1"), journal.last_epoch("line1", "nowhere")) == (2, 0)


async def test_closed_journal_is_unhealthy_and_takes_nothing(
    record_url: str, foreign: Any, make_part: Parts, make_outcome: Outcomes
) -> None:
    journal = Journal(record_url)
    for sequence in range(1000):
        journal.accept(make_part(sequence), at_utc_ns=0)
    await journal.close()
    assert foreign.one("SELECT count(*) FROM triggers") == 1000
    assert not journal.healthy
    assert journal.trouble == "the journal is closed"
    journal.accept(make_part(1000), at_utc_ns=0)
    with pytest.raises(JournalError, match="closed"):
        await journal.append(make_outcome(make_part(1000)))
    with pytest.raises(JournalError):
        await journal.on_disk()
