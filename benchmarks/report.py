"""What was measured, as ratios to the floor and as the page `benchmarks/results.md`."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

QUIET = 0.5
"""A load average above this before the start means that other work disturbs the figures."""


@dataclass(slots=True, kw_only=True)
class Figures:
    """One program's figures, a list entry for each round; times in ms."""

    latencies: list[list[float]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    to_registers: list[float] = field(default_factory=list)
    to_tags: list[float] = field(default_factory=list)
    steps: dict[str, float] = field(default_factory=dict)
    unjudged: int = 0

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
    shipped: bool
    load_before: float


def quantile(values: Sequence[float], share: float) -> float:
    """Give the value below which `share` of `values` lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def ratio_of_rounds(bridge: Sequence[float], floor: Sequence[float]) -> tuple[float, float, float]:
    """Give the median, lowest and highest ratio of rounds measured side by side."""
    ratios = [ours / theirs for ours, theirs in zip(bridge, floor, strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


Row = tuple[str, list[float], str]
"""What, its value for each program (floors first, the bridge last), the ratio to the better floor."""


def rows(floors: Sequence[Figures], bridge: Figures) -> list[Row]:
    """Give the table; each ratio is to whichever floor did better in that very line."""
    programs = [*floors, bridge]
    table: list[Row] = []
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        pooled = [quantile(each.pooled, share) for each in programs]
        best = min(range(len(floors)), key=pooled.__getitem__)
        by_round = [[quantile(latencies, share) for latencies in each.latencies] for each in (bridge, floors[best])]
        middle, low, high = ratio_of_rounds(by_round[0], by_round[1])
        ratio = f"{pooled[-1] / pooled[best]:.2f} (rounds {middle:.2f}, {low:.2f} to {high:.2f})"
        table.append((f"trigger published to registers, {name}, ms", pooled, ratio))
    rates = [statistics.median(each.rates) for each in programs]
    best = max(range(len(floors)), key=rates.__getitem__)
    middle, low, high = ratio_of_rounds(bridge.rates, floors[best].rates)
    table.append(("flat out, judged parts/s (more is better)", rates, f"{middle:.2f} ({low:.2f} to {high:.2f})"))
    for what, values in (
        ("verdict to registers, p50, ms", [quantile(each.to_registers, 0.5) for each in programs]),
        ("verdict to ten tags, p50, ms", [quantile(each.to_tags, 0.5) for each in programs]),
    ):
        table.append((what, values, f"{values[-1] - min(values[:-1]):+.1f} ms"))
    return table


def page(floors: dict[str, Figures], bridge: Figures, setting: Setting) -> str:
    """Write the whole of `results.md`."""
    programs = [*floors.values(), bridge]
    head = " | ".join([*floors, "bridge"])
    table = "\n".join(
        f"| {what} | {' | '.join(f'{value:.1f}' for value in values)} | {ratio} |"
        for what, values, ratio in rows(list(floors.values()), bridge)
    )
    steps = "\n".join(
        f"| {step} | {' | '.join(f'{each.steps.get(step, 0):.2f}' for each in programs)} |"
        for step in ("decode", "preprocess", "inference")
    )
    packages = ", ".join(
        f"{name} {version(name)}"
        for name in ("onnxruntime", "opencv-python-headless", "paho-mqtt", "pymodbus", "asyncua", "iotcore")
    )
    recipe = "its shipped recipe" if setting.shipped else "a bare recipe for this model"
    quiet = (
        "Nothing else of weight ran on the machine."
        if setting.load_before < QUIET
        else "OTHER WORK RAN ON THE MACHINE: take the ratios as rough, and run it again when it is quiet."
    )
    return f"""# The bridge beside the most direct script

Written by `make bench` (`benchmarks/run.py`). Ratios are bridge : the better floor in that line, measured side by side;
on shared machines only ratios say something, the milliseconds do not. Load average before the start:
{setting.load_before:.1f}. {quiet}

| | {head} | ratio |
| --- | {" | ".join("---" for _ in programs)} | --- |
{table}

Parts that the bridge did not judge (ERROR, LATE) in all of this: {bridge.unjudged}.

## What is compared
The floor (`benchmarks/floor.py`) is the most direct script: in paho's callback it decodes the picture, runs onnxruntime
and hands one Modbus block and ten tags to the loop that serves pymodbus and asyncua. It runs twice: with onnxruntime's
default threads and with one. The bridge is `python -P -m bridge run` with {recipe} and its defaults: queue, deadline,
decision, gate order, journal, all outputs. All take the same model ({setting.bundle}), the same pictures
({setting.pictures}) and the same load.

## How it was measured
- {setting.rounds} rounds, each program in turn, the order reversed every round, all on loopback with the demo's broker;
  the programs that wait stay up, idle.
- Latency: from just before the trigger is published to the end of the Modbus read that first shows its sequence. The
  registers are read every millisecond or so. {setting.parts} parts a round, one every {setting.interval_ms:g} ms.
- Flat out: {setting.flat_out} parts a round with {setting.in_flight} in flight.
- Verdict to registers and tags: from the SourceTimestamp of the result to the read that first shows it; registers and
  tags are read in turn, which adds about a millisecond to every program.
- Load generator, broker and programs share {os.cpu_count()} cores ({platform.machine()}). Python
  {platform.python_version()}, {packages}.

## Where the time goes
Each program's own stopwatch, mean in ms over the parts of the last measurement (registers and tags):

| step | {head} |
| --- | {" | ".join("---" for _ in programs)} |
{steps}

The rest of a part's time is the broker, the hand-overs between threads, the outputs and the wait for the next read. The
bridge adds its queue, the hop to the model's worker, the journal's commit and the hand-over to the servers' thread.
"""
