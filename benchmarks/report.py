"""What was measured, as ratios to the floor and as the page `benchmarks/results.md`."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version


@dataclass(slots=True, kw_only=True)
class Figures:
    """One program's figures, a list entry for each round; times in ms."""

    latencies: list[list[float]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    to_registers: list[float] = field(default_factory=list)
    to_tags: list[float] = field(default_factory=list)
    steps: dict[str, float] = field(default_factory=dict)

    @property
    def pooled(self) -> list[float]:
        """All latencies of all rounds."""
        return [latency for round_ in self.latencies for latency in round_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How it was measured."""

    bundle: str
    pictures: str
    rounds: int
    parts: int
    interval_ms: float
    in_flight: int
    flat_out: int
    floor_threads: int


def quantile(values: Sequence[float], share: float) -> float:
    """Give the value below which `share` of `values` lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def ratio_of_rounds(bridge: Sequence[float], floor: Sequence[float]) -> tuple[float, float, float]:
    """Give the median, lowest and highest ratio of rounds measured side by side."""
    ratios = [ours / theirs for ours, theirs in zip(bridge, floor, strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def rows(bridge: Figures, floor: Figures) -> list[tuple[str, str, str, str]]:
    """Give the table: what, floor, bridge, ratio."""
    table = []
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        ours, theirs = quantile(bridge.pooled, share), quantile(floor.pooled, share)
        by_round = [[quantile(latencies, share) for latencies in each.latencies] for each in (bridge, floor)]
        middle, low, high = ratio_of_rounds(by_round[0], by_round[1])
        ratio = f"{ours / theirs:.2f} (rounds {middle:.2f}, {low:.2f} to {high:.2f})"
        table.append((f"trigger published to registers, {name}, ms", f"{theirs:.1f}", f"{ours:.1f}", ratio))
    middle, low, high = ratio_of_rounds(bridge.rates, floor.rates)
    rates = statistics.median(floor.rates), statistics.median(bridge.rates)
    ratio = f"{middle:.2f} ({low:.2f} to {high:.2f})"
    table.append(("flat out, parts/s (more is better)", f"{rates[0]:.1f}", f"{rates[1]:.1f}", ratio))
    for name, ours_, theirs_ in (
        ("verdict to registers, p50, ms", bridge.to_registers, floor.to_registers),
        ("verdict to ten tags, p50, ms", bridge.to_tags, floor.to_tags),
    ):
        ours, theirs = quantile(ours_, 0.5), quantile(theirs_, 0.5)
        table.append((name, f"{theirs:.1f}", f"{ours:.1f}", f"{ours - theirs:+.1f} ms"))
    return table


def page(bridge: Figures, floor: Figures, setting: Setting) -> str:
    """Write the whole of `results.md`."""
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows(bridge, floor))
    packages = ", ".join(
        f"{name} {version(name)}"
        for name in ("onnxruntime", "opencv-python-headless", "paho-mqtt", "pymodbus", "asyncua", "iotcore")
    )
    threads = "its default" if setting.floor_threads == 0 else str(setting.floor_threads)
    steps = "\n".join(
        f"| {step} | {took:.2f} | {bridge.steps.get(step, 0):.2f} |" for step, took in floor.steps.items()
    )
    busy = f"{os.getloadavg()[0]:.1f}"
    return f"""# The bridge beside the most direct script

Written by `make bench` (`benchmarks/run.py`). Ratios are bridge : floor, measured side by side; on shared machines only
they say something, the milliseconds do not.

| | floor | bridge | ratio |
| --- | --- | --- | --- |
{table}

## What is compared
The floor (`benchmarks/floor.py`) is the most direct script: in paho's callback it decodes the picture, runs onnxruntime
(threads: {threads}) and hands one Modbus block and ten tags to the loop that serves pymodbus and asyncua. The bridge is
`python -P -m bridge run` with its shipped recipe and its defaults: queue, deadline, decision, gate order, journal, all
outputs. Both take the same model ({setting.bundle}), the same pictures ({setting.pictures}) and the same load.

## How it was measured
- {setting.rounds} rounds, each program in turn, the order swapped every round, all on loopback with the demo's broker.
- Latency: from just before the trigger is published to the end of the Modbus read that first shows its sequence. The
  registers are read every millisecond or so. {setting.parts} parts a round, one every {setting.interval_ms:g} ms.
- Flat out: {setting.flat_out} parts a round with {setting.in_flight} in flight.
- Verdict to registers and tags: from the SourceTimestamp of the result to the read that first shows it; registers and
  tags are read in turn, which adds about a millisecond to both programs.
- Load generator, broker and program share {os.cpu_count()} cores ({platform.machine()}, load average {busy} at the end),
  Python {platform.python_version()}, {packages}.

## Where the time goes
Each program's own stopwatch, mean in ms:

| step | floor | bridge |
| --- | --- | --- |
{steps}

The rest of a part's time is the broker, the hand-overs between threads, the outputs and the wait for the next read. The
bridge adds its queue, the hop to the model's worker, the journal's commit and the hand-over to the servers' thread.
"""
