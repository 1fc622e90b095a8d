"""The whole line in real time: the demo with the bridge itself; identities and counts, never latencies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from simulators.demo.records import read_verdicts
from tests.line.tiny_bundle import write_bundle, write_pictures

ROOT = Path(__file__).parent.parent.parent
RECIPE = 'name = "brightness"\nnumber = 7\nbundle = "bundle"\n[thresholds.pitting]\nreject = 0.6\ndoubt = 0.5\n'
FAULTS = '[[fault]]\nkind = "duplicate_trigger"\nat_part = 4\n[[fault]]\nkind = "missing_trigger"\nat_part = 9\n'


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    write_bundle(folder / "bundle")
    write_pictures(folder / "images")
    (folder / "recipes").mkdir()
    (folder / "recipes" / "brightness.toml").write_text(RECIPE)
    (folder / "faults.toml").write_text(FAULTS)
    return folder


def demo(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "LINEGATE_MODELS__REQUIRE_SIGNATURE": "false",
        "LINEGATE_MQTT__PORT": "1", "linegate_records__url": "sqlite:///elsewhere.db",  # of a real line, not of the demo
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-P", "-m", "simulators.demo", "--no-dashboard", "--images", "images", *arguments],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def report_of(project: Path, name: str, *arguments: str) -> tuple[dict[str, Any], subprocess.CompletedProcess[str]]:
    done = demo(
        project, "--recipe", "brightness", "--report", f"{name}.json", "--keep", name, "--spacing", "240", *arguments
    )
    assert "Traceback" not in done.stdout + done.stderr
    assert (project / f"{name}.json").exists(), done.stdout + done.stderr
    return json.loads((project / f"{name}.json").read_text()), done


def check(report: dict[str, Any], code: int, *, parts: int, triggers: int) -> None:
    assert (report["parts"], report["triggers"], report["records"]) == (parts, triggers, triggers)
    assert (report["modbus_results"], report["opcua_results"]) == (triggers, triggers)
    assert sum(report["verdicts"].values()) == triggers
    assert sum(report["gate"].values()) == parts
    assert report["judgement"]["escapes"] == 0
    assert report["problems"] == []
    assert report["reconciled"] and code == 0


@pytest.mark.realtime
@pytest.mark.timeout(120)
def test_every_told_part_is_judged_recorded_and_read_by_both_protocols(project: Path) -> None:
    report, done = report_of(project, "mqtt", "--parts", "16", "--faults", "faults.toml")

    check(report, done.returncode, parts=16, triggers=15)
    records = read_verdicts(project / "mqtt" / "data" / "linegate.db")
    assert sorted(record.sequence for record in records) == [n for n in range(1, 17) if n != 9]
    assert "part 9: rejected by positive release, no result" in done.stdout


@pytest.mark.realtime
@pytest.mark.timeout(120)
@pytest.mark.parametrize("trigger", ["modbus", "opcua"])
def test_the_plc_can_trigger_by_handshake(project: Path, trigger: str) -> None:
    report, done = report_of(project, trigger, "--parts", "40", "--trigger", trigger)

    check(report, done.returncode, parts=40, triggers=40)
    assert report["judgement"]["right"] + report["verdicts"]["LATE"] >= 40, "each part was judged by its own picture"
    assert "TRIGGER_MISSED" not in report["alarms"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--gate", "both"], "--gate both: allowed are plc and bridge"),
        (["--recipe", "unheard-of"], "--recipe unheard-of"),
        (["--model", "missing.lgb"], "--model missing.lgb"),
    ],
)
def test_a_mistake_ends_at_once_with_code_2(project: Path, arguments: list[str], named: str) -> None:
    done = demo(project, *arguments)

    assert done.returncode == 2
    assert named in done.stderr
    assert len(done.stderr.splitlines()) == 1
