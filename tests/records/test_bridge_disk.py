"""A whole bridge whose disk is full, whose database is held by somebody, or whose server crashes: it judges on."""

from __future__ import annotations

import contextlib
import json
import resource
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.setup_files import write_project
from tests.cli.processes import PICTURES, Bridge, Ports, Publisher, eventually, linegate, running, simulated_broker
from tests.records.conftest import ForeignServer
from tests.records.servers import PASSWORD, PostgresServer

pytestmark = pytest.mark.soak

GOOD = sorted((PICTURES / "good").glob("*.jpg"))[0].read_bytes()
SLOW_BELT = {"belt__speed_mm_s": "120"}


class Line:
    """A bridge with its broker, and somebody who sends it parts."""

    def __init__(self, bridge: Bridge, publisher: Publisher) -> None:
        self.bridge, self.publisher = bridge, publisher
        self.sent = 0

    def judge(self) -> float:
        """Send one part and wait for its verdict; gives how long that took, in s."""
        self.sent += 1
        began = time.monotonic()
        self.publisher.send(
            GOOD,
            content_type="image/jpeg",
            user_properties=[("sequence", str(self.sent)), ("part_id", f"A-{self.sent}")],
        )
        assert self.publisher.verdict_of(self.sent)["verdict"] == "PASS"
        return time.monotonic() - began

    def alarms(self, name: str) -> list[str]:
        return [each["state"] for each in self.publisher.heard("alarm") if each["name"] == name]

    def wait_alarm(self, name: str, state: str, *, limit_s: float = 20.0) -> None:
        eventually(lambda: self.alarms(name)[-1:] == [state], limit_s)

    def clear(self) -> None:
        self.publisher.send(b'{"command": "clear-error"}', topic="command")

    def recorded(self) -> list[int]:
        """Ask the records by the command for the sequences of all verdicts."""
        done = linegate(self.bridge.folder, "records", "export", "--format", "jsonl", **self.bridge.settings)
        assert done.returncode == 0, done.stderr
        return sorted(json.loads(line)["sequence"] for line in done.stdout.splitlines())


@contextlib.contextmanager
def line(folder: Path, **settings: str) -> Iterator[Line]:
    write_project(folder)
    ports = Ports.free()
    with contextlib.ExitStack() as stack:
        stack.enter_context(simulated_broker(folder, ports.mqtt))
        bridge = stack.enter_context(running(Bridge(folder=folder, ports=ports, settings=SLOW_BELT | settings)))
        publisher = stack.enter_context(Publisher(ports.mqtt))
        bridge.wait_ready()
        yield Line(bridge, publisher)


def limit_files(bridge: Bridge, size: int) -> None:
    """Let no write of the bridge go beyond `size` in any file: what a full disk does, with another number of error."""
    _, hard = resource.prlimit(bridge.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(bridge.process.pid, resource.RLIMIT_FSIZE, (size, hard))


@pytest.mark.soak
@pytest.mark.timeout(120)
def test_full_disk_is_alarmed_within_3_s_and_everything_comes_back_with_the_room(tmp_path: Path) -> None:
    with line(tmp_path) as lane:
        lane.judge()
        limit_files(lane.bridge, 1)
        began = time.monotonic()
        lane.judge()
        lane.wait_alarm("PICTURE_LOST", "raised", limit_s=3.0 - (time.monotonic() - began))
        lane.wait_alarm("JOURNAL_DEAD", "raised", limit_s=3.0 - (time.monotonic() - began))
        for _ in range(4):
            assert lane.judge() < 2.0
        eventually(lambda: lane.publisher.heard("status")[-1]["stop_request"])
        status, text = lane.bridge.get("/readyz")
        assert status == 503
        assert "journal" in text
        lane.clear()
        time.sleep(0.5)
        assert lane.alarms("JOURNAL_DEAD") == ["raised"], "the cause stands: it can't be cleared"
        limit_files(lane.bridge, resource.RLIM_INFINITY)
        lane.bridge.wait_ready()
        assert lane.recorded() == [1, 2, 3, 4, 5, 6], "what could not be written was held"
        assert lane.alarms("JOURNAL_DEAD") == ["raised"], "latched until ClearError"
        lane.clear()
        lane.wait_alarm("JOURNAL_DEAD", "cleared")
        lane.wait_alarm("PICTURE_LOST", "cleared")
        lane.judge()
        eventually(lambda: list(tmp_path.glob("data/pictures/line1/station1/*/7.jpg")))
        assert sorted(path.name for path in tmp_path.glob("data/pictures/*/*/*/*")) == ["1.jpg", "7.jpg"]
        assert lane.recorded() == list(range(1, 8))
        assert lane.bridge.stop()[0] == 0
        verified = linegate(tmp_path, "records", "verify", "--json", **lane.bridge.settings)
        checks = {each["name"]: each["ok"] for each in json.loads(verified.stdout)["checks"]}
        assert checks["one_verdict"]
        assert checks["integrity"]
        assert checks["no_orphans"]


@pytest.mark.timeout(60)
def test_held_database_delays_no_output_is_alarmed_after_a_second_and_gets_all(tmp_path: Path) -> None:
    with line(tmp_path) as lane:
        usual_s = min(lane.judge() for _ in range(5))
        holder = sqlite3.connect(tmp_path / "data" / "linegate.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        held_s = min(lane.judge() for _ in range(5))
        assert held_s < usual_s + 0.1, "10 ms for the commit; the rest is the machine's load"
        lane.wait_alarm("JOURNAL_DEAD", "raised")
        assert 0.9 < time.monotonic() - began < 4.0
        assert lane.judge() < usual_s + 1.0
        holder.execute("ROLLBACK")
        holder.close()
        lane.bridge.wait_ready()
        assert lane.recorded() == list(range(1, 12))
        lane.clear()
        lane.wait_alarm("JOURNAL_DEAD", "cleared")


@pytest.mark.soak
@pytest.mark.timeout(120)
def test_bridge_on_postgresql_outlives_a_crash_of_the_server(tmp_path: Path, postgres: PostgresServer) -> None:
    name = "whole-bridge"
    postgres.make_database(name)
    foreign = ForeignServer(postgres, name)
    (tmp_path / "secret").write_text(PASSWORD)
    with line(tmp_path, records__url=postgres.url(name), records__password_file="secret") as lane:
        for _ in range(3):
            lane.judge()
        postgres.crash()
        for _ in range(3):
            assert lane.judge() < 2.0
        lane.wait_alarm("JOURNAL_DEAD", "raised")
        postgres.start()
        lane.bridge.wait_ready()
        lane.judge()
        eventually(lambda: foreign.one("SELECT count(*) FROM verdicts") == 7)
        # it commits again before it flushes again, and a cause that stands can't be cleared
        eventually(lambda: lane.bridge.told("journal_disk_back"))
        lane.clear()
        lane.wait_alarm("JOURNAL_DEAD", "cleared")
        assert lane.bridge.stop()[0] == 0
        assert not [text for text in lane.bridge.log if PASSWORD in text or "f%40sh" in text or "Traceback" in text]
        assert lane.recorded() == list(range(1, 8))
        verified = linegate(tmp_path, "records", "verify", **lane.bridge.settings)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert "the record holds" in verified.stdout
