"""The whole line with real processes and sockets, long enough to count on: identities and counts, never times."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def run_demo(tmp_path: Path, *options: str) -> dict[str, Any]:
    report = tmp_path / "report.json"
    command = [sys.executable, "-P", "-m", "bridge", "demo", "--no-dashboard", "--report", str(report), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, cwd=tmp_path, check=False)
    assert report.exists(), done.stdout[-3000:] + done.stderr[-3000:]
    result: dict[str, Any] = json.loads(report.read_text())
    assert result["problems"] == [], done.stdout[-3000:]
    assert result["reconciled"] and done.returncode == 0
    return result


@pytest.mark.soak
@pytest.mark.timeout(180)
@pytest.mark.parametrize("gate", ["plc", "bridge"])
def test_three_hundred_parts_reconcile(tmp_path: Path, gate: str) -> None:
    report = run_demo(tmp_path, "--parts", "300", "--gate", gate)
    assert (report["parts"], report["triggers"], report["records"]) == (300, 300, 300)
    assert (report["opcua_results"], report["modbus_results"]) == (300, 300)
    assert sum(report["verdicts"].values()) == 300
    assert report["verdicts"]["ERROR"] == 0
    assert report["gate"]["wrong"] == 0


@pytest.mark.soak
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("trigger", "gate"), [("modbus", "plc"), ("opcua", "bridge")])
def test_two_hundred_parts_triggered_by_handshake_reconcile(tmp_path: Path, trigger: str, gate: str) -> None:
    report = run_demo(tmp_path, "--parts", "200", "--gate", gate, "--trigger", trigger)
    assert (report["parts"], report["triggers"], report["records"]) == (200, 200, 200)
    assert (report["opcua_results"], report["modbus_results"]) == (200, 200)
    assert sum(report["verdicts"].values()) == 200
    assert report["verdicts"]["ERROR"] == 0
    assert report["gate"]["wrong"] == 0
    assert report["judgement"]["escapes"] == 0, "each part was judged by its own picture"


@pytest.mark.soak
@pytest.mark.timeout(120)
@pytest.mark.parametrize("trigger", ["modbus", "opcua"])
def test_a_plc_that_restarts_while_it_triggers_leaves_no_part_wrong(tmp_path: Path, trigger: str) -> None:
    faults = tmp_path / "faults.toml"
    faults.write_text('[[fault]]\nkind = "plc_restart"\nat_s = 3.0\ndown_s = 1.0\n')
    report = run_demo(tmp_path, "--parts", "60", "--trigger", trigger, "--faults", str(faults))
    assert report["triggers"] == sum(report["verdicts"].values()) == report["records"]
    assert 40 < report["triggers"] <= report["parts"] == 60
    untold = [entry for entry in report["exceptions"] if entry["class"] == "no trigger"]
    assert len(untold) == report["parts"] - report["triggers"], "told late by the new PLC, or lost with the old one"
    assert report["verdicts"]["LATE"] + len(untold) > 0
    assert report["gate"]["wrong"] == 0
    assert report["judgement"]["escapes"] == 0


@pytest.mark.soak
@pytest.mark.timeout(180)
def test_every_fault_of_the_shipped_file_reconciles(tmp_path: Path) -> None:
    faults = ROOT / "simulators" / "faults" / "basic.toml"
    report = run_demo(tmp_path, "--parts", "120", "--faults", str(faults))
    assert report["triggers"] == sum(report["verdicts"].values()) == report["records"]
    assert report["triggers"] < report["parts"] == 120
    assert report["gate"]["wrong"] == 0


@pytest.mark.soak
@pytest.mark.timeout(180)
@pytest.mark.parametrize("gate", ["plc", "bridge"])
def test_every_reject_is_seen_in_the_bin_by_its_name(tmp_path: Path, gate: str) -> None:
    keep = tmp_path / "kept"
    report = run_demo(tmp_path, "--parts", "120", "--gate", gate, "--keep", str(keep))
    with sqlite3.connect(keep / "data" / "linegate.db") as records:
        rows = records.execute("SELECT event, sequence FROM gate_events").fetchall()
    noted = {event: {sequence for each, sequence in rows if each == event} for event, _ in rows}
    parts = json.loads((keep / "conveyor.json").read_text())["parts"]
    fallen = {part["sequence"] for part in parts if part["outcome"] == "binned"}
    ordered = noted["ordered"] - noted.get("missed", set())
    assert len(ordered) > 10
    assert noted["confirmed"] <= fallen
    assert ordered & fallen <= noted["confirmed"]
    assert not {"PASS_IN_BIN", "REJECT_NOT_CONFIRMED"} & set(report["alarms"])


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What a fault must leave in the report: an alarm or none, and classes of parts one of which must be there."""

    keys: str
    alarm: str | None = None
    classes: frozenset[str] = frozenset()


FAULTS = {
    "broker_kill": Mark(keys="down_s = 1.0", classes=frozenset({"late", "no trigger"})),
    "plc_restart": Mark(keys="down_s = 1.0", alarm="SPEED_STALE", classes=frozenset({"released", "collateral"})),
    "slow_model": Mark(keys="duration_s = 2.0\nstop_ms = 600\nrun_ms = 100", classes=frozenset({"late", "error"})),
    "frozen_model": Mark(keys="duration_s = 1.5", alarm="PART_LATE", classes=frozenset({"late"})),
    "frozen_bridge": Mark(keys="duration_s = 3.0", alarm="PART_LATE", classes=frozenset({"late"})),
    "disk_full": Mark(keys="duration_s = 2.5", alarm="JOURNAL_DEAD"),
    "disk_slow": Mark(keys="duration_s = 2.5\nhold_ms = 2000", alarm="JOURNAL_DEAD"),
    "network_delay": Mark(keys="duration_s = 1.5\ndelay_ms = 600\njitter_ms = 100", classes=frozenset({"late"})),
}


def check_faulty(report: dict[str, Any]) -> None:
    """Hold a run with faults to what holds for every one: each part in one class, none wrong, every other one named."""
    assert report["triggers"] == sum(report["verdicts"].values()) == report["records"]
    assert sum(report["gate"].values()) == report["parts"]
    assert report["gate"]["wrong"] == 0
    named = {entry["part_id"]: entry for entry in report["exceptions"]}
    assert len(named) == len(report["exceptions"])
    assert all(entry["part_id"] and entry["cause"] for entry in named.values())
    assert len([e for e in named.values() if e["class"] == "no trigger"]) == report["parts"] - report["triggers"]
    assert report["verdicts"]["ERROR"] + report["verdicts"]["LATE"] <= len(named)
    assert not {"wrong", "unjudged"} & {entry["class"] for entry in named.values()}


@pytest.mark.soak
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_of_a_process_leaves_no_part_wrong(tmp_path: Path, kind: str) -> None:
    mark, faults = FAULTS[kind], tmp_path / "faults.toml"
    faults.write_text(f'[[fault]]\nkind = "{kind}"\nat_s = 3.0\n{mark.keys}\n')
    report = run_demo(tmp_path, "--parts", "50", "--faults", str(faults))

    check_faulty(report)
    during = {entry["class"] for entry in report["exceptions"] if kind in entry.get("during", ())}
    assert not mark.classes or during & mark.classes
    assert mark.alarm is None or mark.alarm in report["alarms"]
    if kind in ("disk_slow", "disk_full", "frozen_bridge"):
        assert report["stop_requested"]


@pytest.mark.soak
@pytest.mark.timeout(60)
@pytest.mark.parametrize("gate", ["plc", "bridge"])
def test_parts_that_touch_fall_both_and_are_one_verdict(tmp_path: Path, gate: str) -> None:
    faults, keep = tmp_path / "faults.toml", tmp_path / "kept"
    faults.write_text("".join(f'[[fault]]\nkind = "touching"\nat_part = {n}\n' for n in (6, 14, 15, 23)))
    report = run_demo(tmp_path, "--parts", "30", "--gate", gate, "--faults", str(faults), "--keep", str(keep))

    check_faulty(report)
    assert (report["parts"], report["triggers"]) == (30, 26)
    parts = json.loads((keep / "conveyor.json").read_text())["parts"]
    pairs = {part["sequence"] for part in parts if part["ahead"]}
    assert [part["outcome"] for part in parts if part["sequence"] in pairs] == ["binned"] * 7
    assert "PARTS_TOUCH" in report["alarms"]
    assert not {"TRIGGER_MISSED", "PASS_IN_BIN", "REJECT_NOT_CONFIRMED"} & set(report["alarms"])
    causes = {entry["sequence"]: entry["cause"] for entry in report["exceptions"] if entry["class"] == "error"}
    assert causes.keys() == pairs
    assert all(cause.startswith("parts touch: ") for cause in causes.values())
    assert not report["stop_requested"]


@pytest.mark.soak
@pytest.mark.timeout(180)
@pytest.mark.parametrize("gate", ["plc", "bridge"])
def test_all_the_faults_that_there_are_leave_no_part_wrong(tmp_path: Path, gate: str) -> None:
    report = run_demo(tmp_path, "--parts", "520", "--faults", "all", "--gate", gate)

    check_faulty(report)
    assert report["gate"]["collateral"] > 0
    alarms = {"ENCODER_RESET", "JOURNAL_DEAD", "CLOCK", "COLLATERAL", "ORDER_MISSED", "PARTS_TOUCH"}
    assert alarms <= set(report["alarms"])
    named = {entry["class"] for entry in report["exceptions"]}
    assert {"no trigger", "error", "late"} <= named
    assert ("released" in named) == (gate == "plc"), "the bridge gives the releases itself"
    assert report["stop_requested"]
