"""What `linegate records list` and `show` print, also while a bridge writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.domain.part import Part
from bridge.domain.verdict import VerdictCode
from bridge.errors import ConfigError, StartError
from bridge.ports import Outcome
from bridge.records.filters import Filter, moment_text
from bridge.records.journal import Journal
from bridge.records.listing import (
    list_records,
    records_as_json,
    records_as_table,
    records_as_text,
    show_as_json,
    show_as_text,
    show_record,
)

Parts = Callable[..., Part]
Outcomes = Callable[..., Outcome]
CODES = (VerdictCode.PASS, VerdictCode.FAIL, VerdictCode.ERROR)


@pytest.fixture
async def url(journal: Journal, record_url: str, make_part: Parts, make_outcome: Outcomes) -> str:
    """A database with nine records of two stations, still open for writing."""
    for sequence in range(9):
        part = make_part(
            sequence, station=f"station{1 + sequence % 2}", part_id="same" if sequence > 6 else f"A-{sequence}"
        )
        journal.accept(part, at_utc_ns=0)
        await journal.append(make_outcome(part, CODES[sequence % 3]))
    journal.gate_event(
        line="line1", station="station1", epoch=1, sequence=4, event="missed", reason="too late", at_utc_ns=0
    )
    await journal.on_disk()
    return record_url


def test_newest_come_first_and_no_more_than_asked_for(url: str) -> None:
    assert [row["sequence"] for row in list_records(url, Filter(), limit=3)] == [8, 7, 6]


@pytest.mark.parametrize(
    ("wanted", "sequences"),
    [
        ({"verdict": "fail"}, [7, 4, 1]),
        ({"station": "station2"}, [7, 5, 3, 1]),
        ({"part_id": "same"}, [8, 7]),
        ({"line": "line2"}, []),
        ({"recipe": "bracket@3", "verdict": "ERROR"}, [8, 5, 2]),
        ({"recipe": "bracket"}, [8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ({"recipe": "brack"}, []),
        ({"since": "2026-11-18T11:06:41.1Z"}, [8, 7]),
        ({"since": "2026-11-18T12:06:41.1+01:00"}, [8, 7]),
        ({"since": "2026-11-19"}, []),
        ({"until": "2026-11-18T11:06:40.3Z"}, [1, 0]),
    ],
)
def test_filters_narrow_the_list(url: str, wanted: dict[str, str], sequences: list[int]) -> None:
    assert [row["sequence"] for row in list_records(url, Filter(**wanted))] == sequences  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "named"),
    [({"verdict": "BAD"}, "PASS"), ({"since": "yesterday"}, "since: 'yesterday'"), ({"until": "2026-13-01"}, "until")],
)
def test_filter_that_makes_no_sense_is_named(url: str, wanted: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        list_records(url, Filter(**wanted))  # type: ignore[arg-type]


def test_since_counts_back_from_now() -> None:
    now_utc_ns = 1_795_219_200_000_000_000
    assert moment_text("since", "90s", now_utc_ns=now_utc_ns) == "2026-11-20T23:58:30.000000Z"
    assert moment_text("since", "2h", now_utc_ns=now_utc_ns) == "2026-11-20T22:00:00.000000Z"


def test_table_and_text_name_every_record(url: str) -> None:
    rows = list_records(url, Filter())
    for printed in (records_as_table(rows, width=160), records_as_text(rows)):
        for row in rows:
            assert any(
                row["part_id"] in line and str(row["sequence"]) in line and row["verdict"] in line
                for line in printed.splitlines()
            )
    assert len(records_as_text(rows).splitlines()) == 1 + len(rows)


def test_text_keeps_one_line_for_each_record_whatever_is_in_it(
    url: str,
) -> None:
    rows = [dict(list_records(url, Filter(), limit=1)[0]) | {"part_id": "two\nlines\x1b[31m", "reason": "a\tb"}]
    assert len(records_as_text(rows).splitlines()) == 2
    assert "\x1b" not in records_as_text(rows) + records_as_table(rows)


def test_json_has_the_columns_of_the_contract(url: str) -> None:
    rows = json.loads(records_as_json(list_records(url, Filter(), limit=1)))
    assert rows[0]["sequence"] == 8
    assert rows[0]["verdict"] == "ERROR"
    assert rows[0]["replayed"] == 0
    assert json.loads(rows[0]["json"])["part_id"] == "same"


def test_one_record_is_shown_with_its_gate_events(url: str) -> None:
    found = show_record(url, sequence=4)
    assert [record.row["part_id"] for record in found] == ["A-4"]
    printed = show_as_text(found)
    assert '"verdict": "FAIL"' in printed
    assert "missed" in printed
    assert "too late" in printed
    shown = json.loads(show_as_json(found))
    assert shown[0]["gate_events"] == [
        {"event": "missed", "reason": "too late", "at_utc": "1970-01-01T00:00:00.000000Z"}
    ]
    assert shown[0]["document"]["sequence"] == 4


def test_every_record_of_a_part_id_is_shown_newest_first(url: str) -> None:
    assert [record.row["sequence"] for record in show_record(url, part_id="same")] == [8, 7]
    assert [record.row["sequence"] for record in show_record(url, part_id="same", station="station1")] == [8]


def test_record_that_is_not_there_is_a_mistake_in_one_line(url: str) -> None:
    with pytest.raises(StartError, match="A-999"):
        show_record(url, part_id="A-999")
    with pytest.raises(ConfigError, match="sequence"):
        show_record(url)


def test_missing_database_is_named_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"none\.db"):
        list_records(f"sqlite:///{tmp_path}/none.db", Filter())
    assert not list(tmp_path.iterdir())


def test_file_that_is_no_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"not a database " * 1000)
    with pytest.raises(StartError, match=r"a\.db"):
        list_records(f"sqlite:///{tmp_path}/a.db", Filter())
    (tmp_path / "b.db").touch()
    with pytest.raises(StartError, match="no record of Linegate"):
        list_records(f"sqlite:///{tmp_path}/b.db", Filter())
