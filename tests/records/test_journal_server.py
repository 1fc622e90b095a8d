"""The journal in PostgreSQL when its server crashes, stalls, ends a connection, is away, or is somebody else's."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.config_file import load_config
from bridge.domain.part import Part
from bridge.errors import ConfigError, JournalError, StartError
from bridge.ports import Outcome
from bridge.records.journal import Journal
from tests.ports import free_ports
from tests.records.servers import PASSWORD, PostgresServer, postgres_server

pytestmark = pytest.mark.soak

Parts = Callable[..., Part]
Outcomes = Callable[..., Outcome]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def kind() -> str:
    return "postgresql"


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """A server of this module's own: it crashes."""
    with postgres_server() as server:
        yield server


async def eventually(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.01)


async def on_disk(journal: Journal) -> None:
    """Wait for the disk as the station does: again after each failure."""
    while True:
        try:
            return await journal.on_disk()
        except JournalError:
            await asyncio.sleep(0.1)


async def test_what_was_on_the_disk_outlives_a_crash_and_what_was_not_is_written_again(
    journal: Journal, foreign: Any, postgres: PostgresServer, make_part: Parts, make_outcome: Outcomes
) -> None:
    for sequence in range(50):
        journal.accept(make_part(sequence), at_utc_ns=0)
        await journal.append(make_outcome(make_part(sequence)))
    await journal.on_disk()
    for sequence in range(50, 80):
        journal.accept(make_part(sequence), at_utc_ns=0)
        await journal.append(make_outcome(make_part(sequence)))
    assert foreign.one("SELECT count(*) FROM verdicts") == 80
    await asyncio.to_thread(postgres.crash)
    await asyncio.to_thread(postgres.start)
    assert 50 <= foreign.one("SELECT count(*) FROM verdicts") < 80, "the crash took committed rows back"
    await on_disk(journal)
    assert foreign.rows("SELECT sequence FROM verdicts ORDER BY 1") == [(n,) for n in range(80)]
    assert foreign.rows("SELECT sequence FROM triggers ORDER BY 1") == [(n,) for n in range(80)]
    await asyncio.to_thread(postgres.crash)
    await asyncio.to_thread(postgres.start)
    assert foreign.one("SELECT count(*) FROM verdicts") == 80, "what was said to be on the disk is there"


async def test_crash_while_parts_run_loses_none_and_doubles_none(
    journal: Journal, foreign: Any, postgres: PostgresServer, make_part: Parts, make_outcome: Outcomes
) -> None:
    ended = asyncio.Event()

    async def crashes() -> None:
        for pause_s in (0.3, 0.7, 1.5):
            await asyncio.sleep(pause_s)
            await asyncio.to_thread(postgres.crash)
            await asyncio.to_thread(postgres.start)
        ended.set()

    trouble = asyncio.ensure_future(crashes())
    sequence, slowest_s = 0, 0.0
    while not ended.is_set():
        part = make_part(sequence)
        began = time.monotonic()
        journal.accept(part, at_utc_ns=0)
        journal.gate_event(
            line="line1", station="station1", epoch=1, sequence=sequence, event="ordered", reason=None, at_utc_ns=0
        )
        waiting = asyncio.ensure_future(journal.append(make_outcome(part)))
        slowest_s = max(slowest_s, time.monotonic() - began)
        await asyncio.wait({waiting}, timeout=0.01)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        sequence += 1
        await asyncio.sleep(0.005)
    await trouble
    await on_disk(journal)
    everyone = [(n,) for n in range(sequence)]
    for table in ("triggers", "verdicts", "gate_events"):
        assert foreign.rows(f"SELECT sequence FROM {table} ORDER BY 1") == everyone, table
    assert journal.refused == 0
    await eventually(lambda: journal.healthy)
    assert slowest_s < 0.1, "queueing a row waits for no server"


async def test_stalled_server_is_unhealthy_after_a_second_and_gets_every_row_when_it_goes_on(
    journal: Journal, foreign: Any, postgres: PostgresServer, make_part: Parts, make_outcome: Outcomes
) -> None:
    await journal.append(make_outcome(make_part(0)))
    postgres.signal_all(signal.SIGSTOP)
    try:
        began = time.monotonic()
        for sequence in range(1, 30):
            journal.accept(make_part(sequence), at_utc_ns=0)
            with pytest.raises((JournalError, TimeoutError)):
                async with asyncio.timeout(0.02):
                    await journal.append(make_outcome(make_part(sequence)))
        assert journal.healthy
        await eventually(lambda: not journal.healthy)
        assert 0.9 < time.monotonic() - began < 2.5
        assert "1 s" in str(journal.trouble)
    finally:
        postgres.signal_all(signal.SIGCONT)
    await eventually(lambda: journal.healthy)
    await on_disk(journal)
    assert foreign.rows("SELECT sequence FROM verdicts ORDER BY 1") == [(n,) for n in range(30)]


async def test_connections_that_the_server_ends_are_made_anew_without_an_alarm(
    journal: Journal, foreign: Any, make_part: Parts, make_outcome: Outcomes
) -> None:
    for sequence in range(3):
        journal.accept(make_part(sequence), at_utc_ns=0)
        foreign.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'linegate'")
        await asyncio.sleep(0.05)
        await asyncio.gather(journal.append(make_outcome(make_part(sequence))), return_exceptions=True)
        await on_disk(journal)
        assert journal.healthy
    assert foreign.rows("SELECT sequence FROM verdicts ORDER BY 1") == [(0,), (1,), (2,)]
    assert foreign.one("SELECT count(*) FROM triggers") == 3


async def test_two_bridges_that_start_at_once_make_the_tables_once(foreign: Any, record_url: str) -> None:
    journals = await asyncio.gather(*(asyncio.to_thread(Journal, record_url) for _ in range(6)))
    assert sorted(foreign.columns()) == ["gate_events", "linegate_tables", "triggers", "verdicts"]
    assert foreign.rows("SELECT version FROM linegate_tables") == [(1,)]
    for journal in journals:
        await journal.close()


async def test_tables_of_a_later_version_are_refused(journal: Journal, foreign: Any, record_url: str) -> None:
    await journal.close()
    foreign.change("UPDATE linegate_tables SET version = 99")
    with pytest.raises(StartError, match="later version"):
        Journal(record_url)


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("LINEGATE_", "PG"))}
    command = [sys.executable, "-P", "-m", "bridge", *arguments]
    return subprocess.run(
        command, cwd=folder, env=plain | environment, capture_output=True, text=True, timeout=25, check=False
    )


@pytest.mark.timeout(60)
async def test_password_comes_by_file_url_or_environment_and_is_shown_nowhere(
    tmp_path: Path, foreign: Any, record_url: str, postgres: PostgresServer
) -> None:
    bare = postgres.url(foreign.name)
    await Journal(record_url).close()  # makes the tables
    (tmp_path / "secret").write_text(PASSWORD + "\n")
    (tmp_path / "wrong").write_text("wr0ng-s3cret")
    (tmp_path / "linegate.toml").write_text(f'[records]\nurl = "{bare}"\n')
    for way in ({"LINEGATE_RECORDS__PASSWORD_FILE": str(tmp_path / "secret")}, {"PGPASSWORD": PASSWORD}):
        listed = run(tmp_path, "records", "list", "--json", **way)
        assert (listed.returncode, json.loads(listed.stdout), listed.stderr) == (0, [], "")
    checked = run(tmp_path, "check-config", LINEGATE_RECORDS__URL=record_url)
    assert checked.returncode == 0, checked.stderr
    told = [checked.stdout, checked.stderr]
    file = tmp_path / "linegate.toml"
    for settings in (f'url = "{bare}"\npassword_file = "wrong"', f'url = "{record_url}-none"'):
        file.write_text(f"[records]\n{settings}\n")
        with pytest.raises(StartError) as refused:
            Journal(load_config(file, {}).records.url)
        told.append(str(refused.value))
    assert "password" in told[2]
    assert "does not exist" in told[3]
    file.write_text(f'[records]\nurl = "{record_url.replace("postgresql:", "postgres:")}"\n')
    with pytest.raises(ConfigError, match=r"records\.url") as mistaken:
        load_config(file, {})
    for text in (*told, str(mistaken.value)):
        assert "\n" not in text or text == checked.stdout
        assert "f@sh" not in text
        assert "f%40sh" not in text
        assert "wr0ng" not in text


def test_server_that_is_away_at_the_start_is_one_line() -> None:
    (port,) = free_ports(1)
    with pytest.raises(StartError, match=f"127.0.0.1:{port}/lines.*see that the server runs") as caught:
        Journal(f"postgresql://line:s3cret@127.0.0.1:{port}/lines")
    assert "\n" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["postgresql://user@host", "postgresql://user:s3cret@host:port/db", "mysql://u:s3cret@h/d"]
)
def test_url_that_names_no_database_is_a_mistake_in_the_configuration(url: str) -> None:
    with pytest.raises(ConfigError, match=r"records\.url") as caught:
        Journal(url)
    assert "s3cret" not in str(caught.value)


def test_missing_driver_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from bridge.records.database import database_of\n"
        "try: database_of('postgresql://user@host/db')\n"
        "except Exception as exc: print(type(exc).__name__, exc)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=25, check=False
    )
    assert done.stdout == "ConfigError records.url: PostgreSQL needs its driver: pip install 'linegate[postgres]'\n"


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("postgresql://user:already@host/db", "a password already"),
        ("postgresql://host/db", "names no user"),
    ],
)
def test_password_file_needs_a_place_for_it(tmp_path: Path, url: str, named: str) -> None:
    (tmp_path / "secret").write_text("s3cret")
    (tmp_path / "linegate.toml").write_text(f'[records]\nurl = "{url}"\npassword_file = "secret"\n')
    with pytest.raises(ConfigError, match=named) as caught:
        load_config(tmp_path / "linegate.toml", {})
    assert "already@" not in str(caught.value)
