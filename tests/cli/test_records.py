"""`linegate records export` and `verify` as a person types them, and the log behind a full disk."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path
from typing import TextIO, cast

import pytest
import structlog

from bridge.domain.report import encode, verdict_document
from bridge.log_lines import LogLines
from bridge.records.journal import Journal
from tests.cli.processes import linegate, one_line
from tests.records.conftest import outcome, part


async def fill(folder: Path) -> None:
    journal = Journal(f"sqlite:///{folder}/data/linegate.db")
    for sequence in range(1, 6):
        accepted = part(sequence, part_id=f"=A-{sequence}")
        journal.accept(accepted, at_utc_ns=accepted.triggered_utc_ns)
        judged = outcome(accepted)
        await journal.append(replace(judged, document=encode(verdict_document(judged.result))))
    await journal.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with five records."""
    (tmp_path / "linegate.toml").write_text("")
    asyncio.run(fill(tmp_path))
    return tmp_path


@pytest.mark.timeout(60)
def test_export_goes_to_a_file_or_to_standard_output_and_overwrites_nothing(folder: Path) -> None:
    shown = linegate(folder, "records", "export")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert [line.split(",")[4] for line in shown.stdout.splitlines()] == ["part_id", *(f"'=A-{n}" for n in range(1, 6))]
    written = linegate(folder, "records", "export", "--out", "out.csv", "--station", "station1")
    assert (written.returncode, written.stdout) == (0, "")
    assert "5 verdicts" in written.stderr
    data = (folder / "out.csv").read_bytes()
    assert data.decode().replace("\r\n", "\n") == shown.stdout
    assert data.count(b"\r\n") == 6
    assert "--force" in one_line(linegate(folder, "records", "export", "--out", "out.csv"), code=2)
    lines = linegate(
        folder, "records", "export", "--out", "out.csv", "--force", "--format", "jsonl", "--since", "2020-01-01"
    )
    assert lines.returncode == 0, lines.stderr
    assert [json.loads(line)["part_id"] for line in (folder / "out.csv").read_text().splitlines()] == [
        f"=A-{n}" for n in range(1, 6)
    ]


@pytest.mark.timeout(60)
def test_verify_says_what_is_wrong_by_its_exit_code_too(folder: Path) -> None:
    sound = linegate(folder, "records", "verify")
    assert (sound.returncode, sound.stderr) == (0, ""), sound.stdout
    assert sound.stdout.endswith("the record holds\n")
    with sqlite3.connect(folder / "data" / "linegate.db") as connection:
        connection.execute("DELETE FROM verdicts WHERE sequence = 3")
    connection.close()
    broken = linegate(folder, "records", "verify")
    assert broken.returncode == 1
    assert "line1/station1 epoch 1 sequence 3 (part =A-3) was judged, and its verdict is gone" in broken.stdout
    report = json.loads(linegate(folder, "records", "verify", "--json").stdout)
    assert report["ok"] is False
    assert [check["name"] for check in report["checks"] if not check["ok"]] == ["one_verdict"]
    (folder / "data" / "linegate.db").unlink()
    assert "no database" in one_line(linegate(folder, "records", "verify"), code=1)


def test_log_on_a_full_disk_loses_its_lines_and_nothing_else() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    done = threading.Event()

    def work() -> None:
        logger = structlog.WriteLogger(cast(TextIO, LogLines(full)))
        for _ in range(3):
            logger.info("a line that can't be written")
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    os.close(full)
    assert done.is_set()


def test_log_line_is_one_write(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        structlog.WriteLogger(cast(TextIO, LogLines(file.fileno()))).info("ä \ud800")
    assert path.read_bytes() == "ä \\ud800\n".encode()
