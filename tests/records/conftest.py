"""Parts and outcomes as the station makes them, and a foreign reader of the database."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from bridge.domain.gate import NO_ORDER
from bridge.domain.part import Part, Result, Trigger
from bridge.domain.recipe import Recipe
from bridge.domain.verdict import Disposition, Judgement, VerdictCode
from bridge.ports import Outcome
from bridge.records.journal import Journal

T0_UTC_NS = 1_795_000_000_123_456_789
RECIPE = Recipe(name="bracket", number=7, revision=3, bundle="surface-1.2.0", labels=("crack",))


def part(sequence: int, **changes: Any) -> Part:
    """Make an accepted part; `changes` go to the trigger (part_id, ts) or else to the part."""
    of_trigger = {name: changes.pop(name) for name in ("part_id", "ts", "backlog", "source") if name in changes}
    trigger = Trigger(**{"sequence": sequence, "part_id": f"A-{sequence}", "arrived_ns": 0} | of_trigger)
    settings = {
        "line": "line1",
        "station": "station1",
        "epoch": 1,
        "triggered_ns": 0,
        "triggered_utc_ns": T0_UTC_NS + sequence * 150_000_000,
        "length_mm": 100.0,
        "recipe": RECIPE,
        "count_at_trigger": 4_000_000_000,
    }
    return Part(trigger=trigger, **settings | changes)


def outcome(of: Part, code: VerdictCode = VerdictCode.FAIL, **changes: Any) -> Outcome:
    """Make the outcome of a part, with a document that names it."""
    settings = {
        "judgement": Judgement(code=code, reason="crack 0.93 >= 0.50", label="crack", label_id=1, score=0.93),
        "disposition": Disposition.LET_PASS if code is VerdictCode.PASS else Disposition.REJECT,
        "order": NO_ORDER,
        "captured_utc_ns": None,
        "decided_ns": 10_000_000,
        "decided_utc_ns": of.triggered_utc_ns + 10_000_000,
        "timing_ms": {},
        "model": "surface@1.2.0",
        "model_sha256": "ab" * 32,
    }
    result = Result(part=of, **settings | changes)
    document = json.dumps({"sequence": of.sequence, "part_id": of.part_id, "verdict": code.name, "code": int(code)})
    return Outcome(result=result, document=document)


class Foreign:
    """Reads the database as anybody would: with the standard library and plain SQL."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
        try:
            return connection.execute(sql, values).fetchall()
        finally:
            connection.close()

    def one(self, sql: str, *values: object) -> Any:
        return self.rows(sql, *values)[0][0]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "data" / "linegate.db"


@pytest.fixture
def foreign(database: Path) -> Foreign:
    return Foreign(database)


@pytest.fixture
async def journal(database: Path) -> AsyncIterator[Journal]:
    opened = Journal(f"sqlite:///{database}")
    yield opened
    await opened.close()


@pytest.fixture
def make_part() -> Callable[..., Part]:
    return part


@pytest.fixture
def make_outcome() -> Callable[..., Outcome]:
    return outcome
