"""The page `benchmarks/results.md`: how it was measured, aims beside figures, then the section of each part."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from benchmarks.figures import Aim, Findings, table

QUIET = 0.5
"""A load average above this before the start means that other work disturbs the figures."""
PACKAGES = ("onnxruntime", "opencv-python-headless", "paho-mqtt", "pymodbus", "asyncua", "iotcore")
_MET = {True: "yes", False: "**no**", None: "not measured"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Under what it was measured. `shipped` says that the bridge ran with its shipped recipe."""

    bundle: str
    shipped: bool
    quick: bool
    load_before: float
    took_s: float


def page(findings: Sequence[Findings], conditions: Conditions) -> str:
    """Write the whole of `results.md`."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    recipe = "its shipped recipe" if conditions.shipped else "a bare recipe for this model"
    quick = " A quick run (`--quick`): short rounds, few firings." if conditions.quick else ""
    sections = "\n\n".join(each.text for each in findings)
    return f"""# What the bridge costs

Written by `make bench` (`benchmarks/run.py`) in {conditions.took_s / 60:.1f} minutes. Ratios are bridge : the better floor
in that line, measured side by side; on shared machines only ratios say something, the milliseconds do not. Load average
before the start: {conditions.load_before:.1f}. {_quiet(conditions.load_before)}{quick}

{"".join(each.ratios for each in findings)}

{aims_table([aim for each in findings for aim in each.aims])}

## What is compared

The floor (`benchmarks/floor.py`) is the most direct script: in paho's callback it decodes the picture, runs onnxruntime
and hands one Modbus block and ten tags to the loop that serves pymodbus and asyncua. It runs twice: `floor` with
onnxruntime's default threads and `floor1` with one. The bridge is `python -P -m bridge run` with {recipe} and its
defaults: queue, deadline, decision, gate order, journal, all outputs. All take the same model ({conditions.bundle}), the same
pictures, decoded in full, and the same load, on loopback with the demo's broker. Everything shares {os.cpu_count()} cores
({platform.machine()}). Python {platform.python_version()}, {packages}.

{sections}
"""


def aims_table(aims: Sequence[Aim]) -> str:
    """Write what is aimed at beside what was measured."""
    return table(("figure", "aim", "measured", "met"), [(aim.what, aim.aim, aim.figure, _MET[aim.met]) for aim in aims])


def _quiet(load_before: float) -> str:
    if load_before < QUIET:
        return "Nothing else of weight ran on the machine."
    return "OTHER WORK RAN ON THE MACHINE: take the ratios as rough, and run it again when it is quiet."
