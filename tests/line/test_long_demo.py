"""The whole line with real processes and sockets, long enough to count on: identities and counts, never times."""

from __future__ import annotations

import json
import subprocess
import sys
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
def test_three_hundred_parts_reconcile(tmp_path: Path) -> None:
    report = run_demo(tmp_path, "--parts", "300")
    assert (report["parts"], report["triggers"], report["records"]) == (300, 300, 300)
    assert (report["opcua_results"], report["modbus_results"]) == (300, 300)
    assert sum(report["verdicts"].values()) == 300
    assert report["verdicts"]["ERROR"] == 0
    assert report["gate"]["wrong"] == 0


@pytest.mark.soak
@pytest.mark.timeout(180)
def test_every_fault_of_the_shipped_file_reconciles(tmp_path: Path) -> None:
    faults = ROOT / "simulators" / "faults" / "basic.toml"
    report = run_demo(tmp_path, "--parts", "120", "--faults", str(faults))
    assert report["triggers"] == sum(report["verdicts"].values()) == report["records"]
    assert report["triggers"] < report["parts"] == 120
    assert report["gate"]["wrong"] == 0
