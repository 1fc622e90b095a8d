"""A journal whose process is killed, and one whose disk is full: a child writes, the test counts by plain SQL."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.soak

WRITER = """
import asyncio, json, sys
from conftest import outcome, part
from bridge.records.journal import Journal

async def main():
    journal = Journal(sys.argv[1])
    first = int(sys.argv[2])
    for sequence in range(first, first + 100_000):
        journal.accept(part(sequence), at_utc_ns=0)
        await journal.append(outcome(part(sequence)))
        print(sequence, flush=True)

asyncio.run(main())
"""

FULL_DISK = """
import asyncio, resource, signal, sys
from conftest import outcome, part
from bridge.errors import JournalError
from bridge.records.journal import Journal

async def main():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    journal = Journal(sys.argv[1])
    await journal.append(outcome(part(0)))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    refused = 0
    for sequence in range(1, 500):
        journal.accept(part(sequence), at_utc_ns=0)
        try:
            await journal.append(outcome(part(sequence)))
        except JournalError:
            refused += 1
    while journal.healthy:
        await asyncio.sleep(0.05)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    while not journal.healthy:
        await asyncio.sleep(0.05)
    await journal.on_disk()
    await journal.close()
    print(refused > 100, journal.refused)

asyncio.run(main())
"""

HERE = Path(__file__).parent


@contextlib.contextmanager
def child(script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run `script` in a process of its own, which is gone afterwards."""
    command = [sys.executable, "-P", "-c", script, *arguments]
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parents[1]}:{HERE}"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("seed", range(4))
def test_killed_process_loses_no_verdict_that_was_appended(record_url: str, foreign: Any, kind: str, seed: int) -> None:
    moments = random.Random(seed)
    shown: list[int] = []
    for run in range(2):
        with child(WRITER, record_url, str(run * 1_000_000)) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            shown.append(int(process.stdout.readline()))
            time.sleep(moments.uniform(0.0, 0.3))
            process.kill()
            shown += [int(line) for line in process.stdout.read().split("\n")[:-1]]
            assert process.stderr.read() == ""
    recorded = [sequence for (sequence,) in foreign.rows("SELECT sequence FROM verdicts")]
    assert len(recorded) == len(set(recorded))
    assert set(shown) <= set(recorded)
    assert len(recorded) - len(shown) <= 2, "at most the one that was under way at each kill"
    unjudged = (
        "SELECT count(*) FROM triggers t WHERE NOT EXISTS (SELECT 1 FROM verdicts v WHERE v.sequence = t.sequence)"
    )
    waiting = foreign.one(unjudged)
    assert foreign.one("SELECT count(*) FROM triggers") == len(recorded) + waiting
    assert waiting == foreign.one(unjudged + " AND open = 1")
    assert waiting <= 2
    assert kind != "sqlite" or foreign.one("PRAGMA integrity_check") == "ok"


@pytest.mark.parametrize("kind", ["sqlite"])
def test_full_disk_loses_no_row_once_there_is_room(record_url: str, foreign: Any) -> None:
    with child(FULL_DISK, record_url) as process:
        out, err = process.communicate(timeout=25)
    assert out.split()[-2:] == ["True", "0"], (out, err)
    assert foreign.one("SELECT count(DISTINCT sequence) FROM verdicts") == 500
    assert foreign.one("SELECT count(*) FROM triggers WHERE open = 1") == 0
