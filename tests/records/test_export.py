"""`records export`, read back by a foreign reader, also while a bridge writes."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge.domain.part import Part
from bridge.domain.verdict import Judgement, VerdictCode
from bridge.errors import ConfigError
from bridge.ports import Outcome
from bridge.records import export
from bridge.records.filters import Filter
from bridge.records.journal import Journal

Parts = Callable[..., Part]
Outcomes = Callable[..., Outcome]
COLUMNS = [
    "line", "station", "epoch", "sequence", "part_id", "verdict", "code", "disposition", "reason", "label", "score",
    "recipe", "model", "model_sha256", "triggered_utc", "decided_utc", "replayed", "picture", "json", "challenge",
    "challenge_reason",
]  # fmt: skip
NOW_UTC_NS = 1_796_000_000_000_000_000


@pytest.fixture
async def url(journal: Journal, record_url: str, make_part: Parts, make_outcome: Outcomes) -> str:
    """2,500 verdicts of two stations, thirty of one moment, still open for writing."""
    waiting = []
    for sequence in range(2500):
        same = {"triggered_utc_ns": 1_795_000_000_000_000_000} if 1000 <= sequence < 1030 else {}
        part = make_part(sequence, station=f"station{1 + sequence % 2}", **same)
        waiting.append(journal.record(make_outcome(part, VerdictCode(1 + sequence % 2))))
    for each in waiting:
        await each
    return record_url


def written(url: str, form: export.Format = "csv", **wanted: Any) -> str:
    out = io.StringIO(newline="")
    export.write(export.rows(url, Filter(**wanted), now_utc_ns=NOW_UTC_NS), out, form)
    return out.getvalue()


def test_every_verdict_is_one_row_below_the_columns_of_the_table_and_those_of_the_challenge_test(url: str) -> None:
    text = written(url)
    assert text.startswith(",".join(COLUMNS) + "\r\n")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert sorted(int(row["sequence"]) for row in rows) == list(range(2500))
    decided = [row["decided_utc"] for row in rows]
    assert decided == sorted(decided)
    assert text == written(url), "the order is always the same"
    assert text.count("\r\n") == 2501
    first = next(row for row in rows if row["sequence"] == "1")
    assert (first["verdict"], first["code"], first["score"], first["picture"]) == ("FAIL", "2", "0.93", "")
    assert json.loads(first["json"])["part_id"] == "A-1"


def test_lines_of_json_have_every_column(url: str) -> None:
    rows = [json.loads(line) for line in written(url, "jsonl", station="station2").splitlines()]
    assert sorted(row["sequence"] for row in rows) == list(range(1, 2500, 2))
    assert list(rows[0]) == COLUMNS
    assert (rows[0]["picture"], rows[0]["score"], rows[0]["replayed"]) == (None, 0.93, 0)


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({"verdict": "pass"}, 1250),
        ({"since": "2026-11-18T11:12:00Z", "until": "2026-11-18T11:12:15Z"}, 100),
        ({"part_id": "A-7"}, 1),
        ({"since": "2030-01-01"}, 0),
    ],
)
def test_filters_narrow_the_export(url: str, wanted: dict[str, str], count: int) -> None:
    assert len(written(url, **wanted).splitlines()) == 1 + count


def note(journal: Journal, sequence: int, *events: tuple[str, str | None], **where: Any) -> None:
    """Note gate events of one part, 0.1 s apart."""
    for at_utc_ns, (event, reason) in enumerate(events):
        at = {"line": "line1", "station": "station1", "epoch": 1, "at_utc_ns": NOW_UTC_NS + at_utc_ns * 100_000_000}
        journal.gate_event(**at | where, sequence=sequence, event=event, reason=reason)


async def test_a_challenge_part_is_found_with_what_became_of_its_test(
    journal: Journal, record_url: str, make_part: Parts, make_outcome: Outcomes
) -> None:
    known_bad = ("challenge", "a part known to be bad")
    note(journal, 1, known_bad, ("ordered", None), ("confirmed", None), ("challenge passed", None))
    note(journal, 2, ("ordered", None), ("confirmed", None))
    note(journal, 3, known_bad, ("challenge failed", "=A-3: its verdict is PASS: no defect"))
    note(journal, 4, known_bad, ("ordered", None))
    note(journal, 5, known_bad, ("challenge passed", None), epoch=2)
    note(journal, 6, known_bad, ("challenge passed", None), station="station2")
    for sequence in range(1, 7):
        code = VerdictCode.PASS if sequence == 3 else VerdictCode.FAIL
        await journal.append(make_outcome(make_part(sequence), code))
    await journal.append(make_outcome(make_part(5, epoch=2, part_id="again")))
    await journal.on_disk()

    table = list(csv.DictReader(io.StringIO(written(record_url), newline="")))
    assert [(row["part_id"], row["challenge"], row["challenge_reason"]) for row in table] == [
        ("A-1", "passed", ""), ("A-2", "", ""), ("A-3", "failed", "'=A-3: its verdict is PASS: no defect"),
        ("A-4", "no result", ""), ("A-5", "", ""), ("again", "passed", ""), ("A-6", "", ""),
    ]  # fmt: skip
    tests = [json.loads(line) for line in written(record_url, "jsonl", challenge=True).splitlines()]
    assert [(row["part_id"], row["verdict"], row["challenge"]) for row in tests] == [
        ("A-1", "FAIL", "passed"), ("A-3", "PASS", "failed"), ("A-4", "FAIL", "no result"), ("again", "FAIL", "passed"),
    ]  # fmt: skip
    assert [row["challenge_reason"] for row in tests] == [None, "=A-3: its verdict is PASS: no defect", None, None]
    failed = written(record_url, "jsonl", challenge=True, verdict="PASS")
    assert [json.loads(line)["part_id"] for line in failed.splitlines()] == ["A-3"]


async def test_the_tests_are_found_beyond_the_first_page(url: str, journal: Journal) -> None:
    for sequence in range(2, 2500, 4):
        note(journal, sequence, ("challenge", None), ("challenge passed", None))
    await journal.on_disk()

    tests = [json.loads(line) for line in written(url, "jsonl", challenge=True).splitlines()]
    assert [row["sequence"] for row in tests] == sorted(range(2, 2500, 4), key=lambda n: decided(n, tests))
    assert {row["challenge"] for row in tests} == {"passed"}
    assert sum(row["challenge"] == "passed" for row in map(json.loads, written(url, "jsonl").splitlines())) == 625


def decided(sequence: int, rows: list[dict[str, Any]]) -> str:
    return next(str(row["decided_utc"]) for row in rows if row["sequence"] == sequence)


def test_filter_that_makes_no_sense_is_named_before_a_line_is_written(url: str) -> None:
    for wanted, named in (({"verdict": "GOOD"}, "GOOD"), ({"until": "soon"}, "until: 'soon'")):
        with pytest.raises(ConfigError, match=named):
            export.rows(url, Filter(**wanted), now_utc_ns=NOW_UTC_NS)


async def test_nothing_from_outside_becomes_a_formula_or_breaks_a_row(
    journal: Journal, record_url: str, make_part: Parts, make_outcome: Outcomes
) -> None:
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "'quoted", '=HYPERLINK("http://x";"y")', "a,b", 'say "x"', "ä\nö"]
    for sequence, nasty in enumerate(texts):
        judgement = Judgement(code=VerdictCode.FAIL, reason=nasty, label=nasty, label_id=1, score=-0.0)
        await journal.append(make_outcome(make_part(sequence, part_id=nasty), judgement=judgement))
    rows = list(csv.DictReader(io.StringIO(written(record_url), newline="")))
    for name in ("part_id", "reason", "label"):
        assert not [row for row in rows if row[name].startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]
        assert [row[name].removeprefix("'") for row in rows] == texts, "and it can be undone"
    assert [json.loads(line)["part_id"] for line in written(record_url, "jsonl").splitlines()] == texts


def test_export_holds_a_page_and_not_the_record(url: str) -> None:
    found = export.rows(url, Filter(), now_utc_ns=NOW_UTC_NS)
    next(found)
    tracemalloc.start()
    assert sum(1 for _ in found) == 2499
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8_000_000, "1,000 rows at a time"


async def test_export_waits_for_a_slow_reader_without_holding_the_database(
    url: str, journal: Journal, make_part: Parts, make_outcome: Outcomes
) -> None:
    found = export.rows(url, Filter(), now_utc_ns=NOW_UTC_NS)
    next(found)
    for sequence in range(3000, 3010):
        await journal.append(make_outcome(make_part(sequence)))
    await journal.on_disk()
    assert sum(1 for _ in found) == 2509, "and what came meanwhile is there too"


def test_file_is_whole_or_not_there_and_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    assert export.write_file(path, lambda out: out.write("äö\r\n"), force=False) == 4
    assert path.read_bytes() == "äö\r\n".encode()
    with pytest.raises(ConfigError, match="--force"):
        export.write_file(path, lambda out: out.write("new"), force=False)
    with pytest.raises(ZeroDivisionError):
        export.write_file(path, lambda out: out.write("half") // 0, force=True)
    assert path.read_bytes() == "äö\r\n".encode()
    assert export.write_file(path, lambda out: out.write("new"), force=True) == 3
    assert [each.read_text() for each in tmp_path.iterdir()] == ["new"]
    with pytest.raises(ConfigError, match="no file"):
        export.write_file(tmp_path, lambda out: out.write("new"), force=True)
