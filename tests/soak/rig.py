"""A whole line to be killed: mosquitto with its sessions on disk, `linegate run`, a photo-eye and those who watch."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cli.processes import LINEGATE, Bridge, Ports, environment, eventually
from tests.line.tiny_bundle import brightness_picture, write_bundle
from tests.soak.feeder import Feeder
from tests.soak.observers import Registers, Subscriber, Tags
from tests.wire.conftest import MosquittoBroker

MOSQUITTO = "max_inflight_messages 64\nmax_queued_messages 10000\nautosave_interval 1\nset_tcp_nodelay true\n"
"""Sane for this bridge: as many in flight as it takes, a queue that holds an outage, nothing held back."""
OUTPUT_MS = 20.0
DUE_MS = 490.8
"""(600 - 5) mm at 1200 mm/s less the lead of 5 ms: parts of 20 mm at a pitch of 48 mm can be told apart."""
PERIOD_S = 0.04

CONFIG = """
[models]
require_signature = false
[[stations]]
name = "station1"
recipe = "brightness"
part_length_mm = 20.0
guard_mm = 5.0
open_lead_ms = 5.0
close_lead_ms = 5.0
"""
RECIPE = 'name = "brightness"\nnumber = 3\nbundle = "{bundle}"\n'


def write_line(folder: Path) -> None:
    """Write a configuration with the tiny model, beside which the bridge itself is all that takes time."""
    bundle = write_bundle(folder / "bundle")
    (folder / "linegate.toml").write_text(CONFIG)
    (folder / "recipes").mkdir()
    (folder / "recipes" / "brightness.toml").write_text(RECIPE.format(bundle=bundle))


def pictures() -> tuple[bytes, bytes]:
    return brightness_picture(40, seed=1), brightness_picture(215, seed=2)


@dataclass(kw_only=True)
class KilledBridge(Bridge):
    """A bridge with one log for each run."""

    run: int = -1
    started_s: float = 0.0
    started_utc_ns: int = 0

    def start(self) -> None:
        self.run += 1
        self._log = self.folder / f"bridge-{self.run}.log"
        self.started_s, self.started_utc_ns = time.monotonic(), time.time_ns()
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*LINEGATE, "run"],
                cwd=self.folder,
                env=environment(**{**self.ports.settings, **self.settings}),
                stdout=log,
                stderr=log,
            )

    def logs(self) -> str:
        """Give the text of all runs' logs."""
        found = sorted(self.folder.glob("bridge-*.log"), key=lambda path: int(path.stem.split("-")[1]))
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')}" for path in found)


@dataclass(kw_only=True)
class Line:
    """Everything of one run of a test."""

    folder: Path
    broker: MosquittoBroker
    bridge: KilledBridge
    feeder: Feeder
    subscriber: Subscriber
    registers: Registers
    tags: Tags
    started_s: dict[int, float] = field(default_factory=dict)
    """By run, the moment of its start."""
    live_after_s: list[float] = field(default_factory=list)
    back_after_s: list[float] = field(default_factory=list)
    outages: list[tuple[int, int]] = field(default_factory=list)
    """Wall clock from a loss to the moment from which a part may be live again, in ns."""

    def rows(self, statement: str) -> list[dict[str, Any]]:
        """Ask the journal, as any reader of the file could."""
        with contextlib.closing(sqlite3.connect(f"file:{self.folder}/data/linegate.db?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute(statement)]

    def wait_answered(self) -> None:
        """Wait until every trigger that the broker acknowledged has its verdict in the journal."""
        wanted = {one.part_id for one in self.feeder.acknowledged}

        def missing() -> set[str]:
            return wanted - {row["part_id"] for row in self.rows("SELECT part_id FROM verdicts")}

        try:
            eventually(lambda: not missing(), 30)
        except AssertionError as exc:
            raise AssertionError(f"no verdict for {sorted(missing())[:20]} ({len(missing())})") from exc


@contextlib.contextmanager
def line(folder: Path, *, period_s: float = PERIOD_S) -> Iterator[Line]:
    """Run a line until the end of the block; the flow of parts begins when the bridge is ready."""
    write_line(folder)
    (folder / "mosquitto").mkdir()
    broker = MosquittoBroker(folder / "mosquitto", extra=MOSQUITTO)
    ports = Ports.free()
    ports.mqtt = broker.port
    bridge = KilledBridge(folder=folder, ports=ports)
    with contextlib.ExitStack() as stack:
        stack.callback(broker.kill)
        broker.start()
        stack.callback(bridge.kill)
        bridge.start()
        bridge.wait_ready()
        made = Line(
            folder=folder,
            broker=broker,
            bridge=bridge,
            feeder=Feeder(broker.port, pictures(), period_s=period_s),
            subscriber=Subscriber(broker.port),
            registers=Registers(ports.modbus, lambda: bridge.run),
            tags=Tags(port=ports.opcua, run=lambda: bridge.run),
        )
        for each in (made.subscriber, made.registers, made.tags, made.feeder):
            each.start()
            stack.callback(each.stop)
        yield made


def descendants(pid: int) -> list[tuple[int, str]]:
    """Give every living process below `pid` with its start moment, which tells it from a later one of its number."""
    below: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (stat := _stat(int(entry.name))):
            below.setdefault(int(stat[1]), []).append(int(entry.name))
    found, look = [], [pid]
    while look:
        for child in below.get(look.pop(), []):
            if stat := _stat(child):
                found.append((child, stat[19]))
            look.append(child)
    return found


def still_alive(processes: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Give those of `processes` that run; a zombie has ended."""
    return [(pid, began) for pid, began in processes if (stat := _stat(pid)) and stat[19] == began and stat[0] != "Z"]


def _stat(pid: int) -> list[str] | None:
    """Give the fields of /proc/PID/stat from the state on; None when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def count(name: str, default: int) -> int:
    """Give a count that the environment may raise."""
    return int(os.environ.get(name, default))


def tell(folder: Path, **figures: object) -> None:
    """Print what was measured, and leave it beside the logs."""
    text = json.dumps(figures, indent=1)
    print(text)
    (folder / "figures.json").write_text(text)
