"""How late a gate's command leaves: the bridge's gate process beside a busy bridge, and the simulated PLC."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Aim, Findings, Setup, table
from benchmarks.gate_driver import AHEAD_MS, MODEL_THREADS, PACES, SHORTEST_MS, UP_S, Firings
from benchmarks.processes import ENVIRONMENT, free_ports, sink

AIMS_MS = {
    "realtime": (("p99", 0.99, 0.2), ("largest", 1.0, 5.0)),
    "ordinary": (("p99", 0.99, 10.0),),
}
DEMO_SPEED_MM_S = 1200.0
DEMO_LIMIT_S = 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlcErrors:
    """The simulated PLC's own firing error in mm of belt, and what the demo's reconciliation found wrong."""

    parts: int
    p50_mm: float
    p99_mm: float
    max_mm: float
    problems: Sequence[str]


def measure(setup: Setup) -> Findings:
    """Measure the gate process with and without real time, and the PLC."""
    found, refused = {}, ""
    (port,) = free_ports(1)
    with sink(port):
        for class_, firings in (("realtime", setup.firings), ("ordinary", setup.firings // 5)):
            given = _drive(setup.model, port, firings, class_)
            if given.class_ == class_:
                found[class_] = given
            else:
                refused = given.why
    plc = _measure_plc(setup.scratch / "demo.json", 30 if setup.quick else 100)
    return Findings(text=section(found, plc, refused), aims=tuple(_aims(found)))


def section(found: dict[str, Firings], plc: PlcErrors, refused: str) -> str:
    """Write what was found."""
    rows = [
        (
            f"gate process, {'SCHED_FIFO' if each.class_ == 'realtime' else 'ordinary'}",
            f"{each.ordered}",
            *(_ms(each.error(share)) for share in (0.5, 0.99, 1.0)),
            f"{each.ordered - len(each.errors_ms)}",
        )
        for each in found.values()
    ]
    fast, slow = PACES["realtime"], PACES["ordinary"]
    per_ms = DEMO_SPEED_MM_S / 1e3
    rows.append(
        (
            "simulated PLC (`plc` mode)",
            f"{plc.parts} parts",
            *(f"{_ms(mm / per_ms)} ({mm:.1f} mm)" for mm in (plc.p50_mm, plc.p99_mm, plc.max_mm)),
            "",
        )
    )
    pictures = ", ".join(f"{each.pictures}" for each in found.values())
    lacking = f"\n\n**This user may not use SCHED_FIFO**: {refused}." if refused else ""
    problems = f" The demo's reconciliation found: {'; '.join(plc.problems)}." if plc.problems else ""
    return f"""## How late the gate's command leaves

In ms after the order's moment:

{table(("who fires", "firings", "p50", "p99", "largest", "missed"), rows)}{lacking}

*Gate process*: `bridge.gate.link` starts it as the bridge does and gives it orders {AHEAD_MS:g} ms ahead, one every
{fast.period_ms:g} ms (ordinary: {slow.period_ms:g} ms), each {SHORTEST_MS:g} ms long, to a Modbus module that is a process
of its own; the error is `error_ms` of the event `fired`, taken when the write has left. In the process that gives the
orders the shipped model judged pictures all the while on {MODEL_THREADS} threads ({pictures} of them), and a thread of pure
Python never rested. Ordinary: the same after CAP_SYS_NICE and the rtprio limit were given up. Missed: not fired within
{fast.jitter_ms:g} ms (ordinary: {slow.jitter_ms:g} ms), or merged with an order before that was so late; they count in the
quantiles as endlessly late. What limits it: with SCHED_FIFO the write into the socket, and what the kernel holds back;
without, the scheduler's slices for the other processes on these cores.

*PLC*: `linegate demo` at {DEMO_SPEED_MM_S:g} mm/s, the simulated PLC's on-command against its order's moment, for those of
the parts that are rejected. Its nature is half a scan of 10 ms on average and one scan at most.{problems}"""


def _aims(found: dict[str, Firings]) -> Iterator[Aim]:
    for class_, name in (("realtime", "SCHED_FIFO"), ("ordinary", "ordinary scheduling")):
        firings = found.get(class_)
        for what, share, limit_ms in AIMS_MS[class_]:
            figure, met = "not measured: this user may not use it", None
            if firings is not None:
                error_ms, met = firings.error(share), firings.error(share) <= limit_ms
                late = f"missed, so over {PACES[class_].jitter_ms:g} ms"
                figure = late if math.isinf(error_ms) else f"{_ms(error_ms)} ms"
            yield Aim(what=f"firing error with {name}, {what}", aim=f"{limit_ms:g} ms", figure=figure, met=met)


def _ms(value: float) -> str:
    return "missed" if math.isinf(value) else f"{value:.3f}"


def _drive(model: Path, port: int, firings: int, class_: str) -> Firings:
    """Run the driver; raises RuntimeError when it fails."""
    words = ["--model", str(model), "--port", str(port), "--firings", str(firings), "--class", class_]
    limit_s = UP_S + 30 + firings * PACES[class_].period_ms / 1e3
    done = _run(["benchmarks.gate_driver", *words], limit_s)
    if done.returncode:
        raise RuntimeError(f"the gate's driver failed: {done.stderr.strip()[-500:]}")
    return Firings(**json.loads(done.stdout.splitlines()[-1]))


def _measure_plc(report: Path, parts: int) -> PlcErrors:
    """Run the demo; raises RuntimeError when it leaves no report."""
    words = [
        "demo",
        "--parts",
        str(parts),
        "--no-dashboard",
        "--speed",
        f"{DEMO_SPEED_MM_S:g}",
        "--report",
        str(report),
    ]
    done = _run(["bridge", *words], DEMO_LIMIT_S)
    if not report.exists():
        raise RuntimeError(f"the demo left no report: {done.stderr.strip()[-300:]}")
    found = json.loads(report.read_text(encoding="utf-8"))
    errors = found["gate_error_mm"]
    return PlcErrors(
        parts=parts, p50_mm=errors["p50"], p99_mm=errors["p99"], max_mm=errors["max"], problems=found["problems"]
    )


def _run(words: Sequence[str], limit_s: float) -> subprocess.CompletedProcess[str]:
    """Run a module to its end; raises RuntimeError when that does not come."""
    command = [sys.executable, "-P", "-m", *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=limit_s, env=ENVIRONMENT, check=False)
    except subprocess.TimeoutExpired as exc:
        raise RuntimeError(f"{words[0]} did not end within {limit_s:.0f} s") from exc
