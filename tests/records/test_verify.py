"""`records verify` against a sound record, and against one that somebody or something has been at."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.domain.part import Part
from bridge.domain.report import encode, verdict_document
from bridge.domain.verdict import Judgement, VerdictCode
from bridge.ports import Outcome
from bridge.records.journal import Journal
from bridge.records.sequence_gaps import gaps_of
from bridge.records.verify import verify
from bridge.records.verify_report import Report, as_document, as_text

Parts = Callable[..., Part]
Outcomes = Callable[..., Outcome]
T0_UTC_NS = 1_795_000_000_123_456_789
NOW_UTC_NS = T0_UTC_NS + 3600 * 10**9
LAST = 2**32 - 1


def documented(outcome: Outcome) -> Outcome:
    """Give an outcome the document that the station writes."""
    return replace(outcome, document=encode(verdict_document(outcome.result)))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return tmp_path / "pictures"


@pytest.fixture
async def sound(journal: Journal, pictures: Path, make_part: Parts, make_outcome: Outcomes) -> Journal:
    """A record of 40 parts of two stations, one of them over the counter's end, with pictures and every verdict."""
    for place in range(40):
        station = f"station{1 + place % 2}"
        sequence = (LAST - 9 + place // 2) % 2**32 if place % 2 else 100 + place // 2
        code = VerdictCode(1 + place % 5)
        judged = code in (VerdictCode.PASS, VerdictCode.FAIL, VerdictCode.UNCERTAIN)
        part = make_part(
            sequence, station=station, part_id=f"A-{place} ä\U0001f600", triggered_utc_ns=T0_UTC_NS + place * 10**9
        )
        name = f"line1/{station}/2026-11-18/{sequence}.jpg" if judged else None
        changes: dict[str, Any] = {"picture": name}
        if not judged:
            changes |= {
                "judgement": Judgement(code=code, reason="=nothing\nseen"),
                "model": None,
                "model_sha256": None,
                "replayed": code is VerdictCode.LATE,
            }
        journal.accept(part, at_utc_ns=part.triggered_utc_ns)
        await journal.append(documented(make_outcome(part, code, **changes)))
        journal.gate_event(
            line="line1", station=station, epoch=1, sequence=sequence, event="ordered", reason=None,
            at_utc_ns=part.triggered_utc_ns,
        )  # fmt: skip
        if name is not None:
            (pictures / name).parent.mkdir(parents=True, exist_ok=True)
            (pictures / name).write_bytes(b"picture")
            os.utime(pictures / name, ns=(part.triggered_utc_ns, part.triggered_utc_ns + 10**8))
    await journal.on_disk()
    return journal


def check(url: str, pictures: Path, *, now_utc_ns: int = NOW_UTC_NS, strict: bool = False) -> Report:
    return verify(url, line="line1", pictures=pictures, max_age_s=30 * 86_400.0, now_utc_ns=now_utc_ns, strict=strict)


def wrong(report: Report) -> dict[str, int]:
    return {finding.name: finding.count for finding in report.findings if not finding.ok}


async def test_sound_record_holds_while_it_is_written(sound: Journal, record_url: str, pictures: Path) -> None:
    report = check(record_url, pictures, strict=True)
    assert wrong(report) == {}, as_text(report)
    assert sound.healthy
    document = as_document(report)
    assert document["ok"] is True
    assert [(each["station"], each["triggers"], sum(each["verdicts"].values())) for each in document["stations"]] == [
        ("station1", 20, 20),
        ("station2", 20, 20),
    ]
    text = as_text(report)
    assert "the record holds" in text
    assert "line1/station1" in text
    assert "WRONG" not in text


TAMPERED = [
    ("DELETE FROM verdicts WHERE sequence = 105", {"one_verdict": 1, "pictures_named": 1}),
    ("UPDATE verdicts SET verdict = 'PASS', code = 1 WHERE sequence = 103", {"consistent": 3}),
    ("UPDATE verdicts SET code = 3 WHERE sequence = 104", {"consistent": 2}),
    ("UPDATE verdicts SET disposition = 'NONE' WHERE sequence = 104", {"consistent": 1}),
    ("UPDATE verdicts SET reason = 'fine' WHERE sequence = 104", {"consistent": 1}),
    ("UPDATE verdicts SET score = 0.1 WHERE sequence = 105", {"consistent": 1}),
    ("UPDATE verdicts SET json = 'none' WHERE sequence = 104", {"consistent": 1}),
    ("UPDATE verdicts SET decided_utc = 'long ago' WHERE sequence = 104", {"consistent": 2}),
    ("UPDATE verdicts SET model_sha256 = NULL WHERE sequence = 105", {"model_named": 1}),
    ("UPDATE verdicts SET picture = NULL WHERE sequence = 105", {"consistent": 1, "pictures_named": 1}),
    ("UPDATE verdicts SET epoch = 2 WHERE sequence = 104", {"one_verdict": 1, "no_orphans": 1, "consistent": 1}),
]


@pytest.mark.parametrize(("sql", "found"), TAMPERED, ids=[sql for sql, _ in TAMPERED])
async def test_what_somebody_has_been_at_is_found(
    sound: Journal, record_url: str, foreign: Any, pictures: Path, sql: str, found: dict[str, int]
) -> None:
    await sound.close()
    foreign.change(sql)
    report = check(record_url, pictures)
    assert wrong(report) == found, as_text(report)
    assert "THE RECORD DOES NOT HOLD" in as_text(report)
    assert json.loads(json.dumps(as_document(report)))["ok"] is False


async def test_whole_part_that_was_removed_is_a_gap_and_in_a_file_a_fault(
    sound: Journal, record_url: str, foreign: Any, pictures: Path, kind: str
) -> None:
    await sound.close()
    for table in ("verdicts", "triggers", "gate_events"):
        foreign.change(f"DELETE FROM {table} WHERE sequence = 104")
    report = check(record_url, pictures)
    assert wrong(report) == ({"none_removed": 2} if kind == "sqlite" else {})
    assert wrong(check(record_url, pictures, strict=True))["no_gaps"] == 1
    assert "line1/station1 epoch 1: 104" in as_text(report)


async def test_trigger_that_waits_is_in_flight_then_unfinished_then_lost(
    sound: Journal, record_url: str, pictures: Path, make_part: Parts, make_outcome: Outcomes
) -> None:
    waits = make_part(120, triggered_utc_ns=NOW_UTC_NS)
    sound.accept(waits, at_utc_ns=NOW_UTC_NS)
    await sound.on_disk()
    moments = {"is in flight": NOW_UTC_NS + 10**9, "unfinished": NOW_UTC_NS + 3600 * 10**9}
    for word, now_utc_ns in moments.items():
        report = check(record_url, pictures, now_utc_ns=now_utc_ns)
        assert wrong(report) == {}
        assert word in as_text(report)
    later = make_part(121, triggered_utc_ns=NOW_UTC_NS + 100 * 10**9)
    sound.accept(later, at_utc_ns=later.triggered_utc_ns)
    await sound.append(documented(make_outcome(later)))
    report = check(record_url, pictures, now_utc_ns=NOW_UTC_NS + 3600 * 10**9)
    assert wrong(report) == {"one_verdict": 1}, "a bridge that judged later parts has forgotten this one"


async def test_part_that_stands_twice_and_verdict_without_trigger_are_found(
    sound: Journal, record_url: str, pictures: Path, make_part: Parts, make_outcome: Outcomes
) -> None:
    again = make_part(105, part_id="another")
    sound.accept(again, at_utc_ns=NOW_UTC_NS)
    await sound.append(documented(make_outcome(again)))
    await sound.append(documented(make_outcome(make_part(119 + 2))))
    await sound.on_disk()
    report = check(record_url, pictures)
    assert wrong(report) == {"no_duplicates": 2, "no_orphans": 1}, as_text(report)


async def test_pictures_removed_by_age_are_counted_and_missing_and_strange_ones_named(
    sound: Journal, record_url: str, pictures: Path
) -> None:
    mine = sorted((pictures / "line1/station1/2026-11-18").iterdir(), key=lambda path: path.stat().st_mtime)
    for path in (mine[0], mine[1], mine[5]):
        path.unlink()
    (mine[3].parent / "999.jpg").write_bytes(b"whose?")
    report = check(record_url, pictures)
    assert wrong(report) == {"pictures": 1, "pictures_named": 1}
    text = as_text(report)
    assert f"line1/station1/2026-11-18/{mine[5].name}" in text
    assert "line1/station1/2026-11-18/999.jpg" in text
    assert "pictures removed by age or size: 2" in text
    assert wrong(check(record_url, pictures, now_utc_ns=NOW_UTC_NS + 90 * 86_400 * 10**9)) == {"pictures_named": 1}


async def test_pictures_of_another_line_are_looked_for_only_where_it_has_some(
    sound: Journal, record_url: str, pictures: Path, make_part: Parts, make_outcome: Outcomes
) -> None:
    other = make_part(1, line="line2")
    sound.accept(other, at_utc_ns=other.triggered_utc_ns)
    await sound.append(documented(make_outcome(other, picture="line2/station1/2026-11-18/1.jpg")))
    report = check(record_url, pictures)
    assert wrong(report) == {}
    assert "pictures of other lines, not looked for: 1" in as_text(report)
    (pictures / "line2/station1/2026-11-18").mkdir(parents=True)
    (pictures / "line2/station1/2026-11-18/2.jpg").write_bytes(b"picture")
    assert wrong(check(record_url, pictures))["pictures_named"] == 1


@pytest.mark.parametrize("kind", ["sqlite"])
async def test_damaged_file_is_a_fault_and_no_traceback(
    sound: Journal, record_url: str, database: Path, pictures: Path
) -> None:
    await sound.close()
    whole = bytearray(database.read_bytes())
    whole[4096 * 3 : 4096 * 8] = b"\xff" * (4096 * 5)
    database.write_bytes(whole)
    report = check(record_url, pictures)
    assert not report.ok
    assert "integrity" in wrong(report) or "readable" in wrong(report)


@pytest.mark.parametrize(
    ("sequences", "gaps"),
    [
        ([], []),
        ([7], []),
        ([7, 8, 9], []),
        ([7, 7, 9], [(8, 8, 1)]),
        ([7, 9, 20], [(8, 8, 1), (10, 19, 10)]),
        ([0, 1, LAST - 1, LAST], []),
        ([0, 2, LAST - 2, LAST], [(1, 1, 1), (LAST - 1, LAST - 1, 1)]),
        ([1, 2, LAST - 1], [(LAST, 0, 2)]),
    ],
)
def test_gaps_are_found_over_the_end_of_the_counter_too(sequences: list[int], gaps: list[tuple[int, int, int]]) -> None:
    assert list(gaps_of(sequences)) == gaps


def test_many_gaps_are_counted_to_the_last() -> None:
    found = list(gaps_of(range(0, 10_000, 2)))
    assert sum(missed for _, _, missed in found) == 4999
    assert len(found) < 1100
