"""Measure everything: `python -P -m benchmarks.run [--quick] [--only-part PART]`, or `make bench ARGS="..."`.

Prints what it finds and writes `benchmarks/results.md`. Under eight minutes by default, about three with `--quick`.
"""

from __future__ import annotations

import argparse
import importlib.resources
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import compare, gate, notifications, outputs, pollers, secured, stations
from benchmarks.figures import Findings, Setup
from benchmarks.pictures import SHIPPED, make_payloads
from benchmarks.report import QUIET, Conditions, aims_table, page

RESULTS = Path(__file__).parent / "results.md"
PARTS: Mapping[str, Callable[[Setup], Findings]] = {
    "floor": compare.measure,
    "outputs": outputs.measure,
    "secured": secured.measure,
    "notifications": notifications.measure,
    "gate": gate.measure,
    "stations": stations.measure,
    "pollers": pollers.measure,
}


def parser() -> argparse.ArgumentParser:
    """Make the command line."""
    options = argparse.ArgumentParser(prog="benchmarks.run", description="Measure the bridge beside the direct script.")
    options.add_argument("--only-part", choices=list(PARTS), help="measure one part, print it, write no page")
    options.add_argument("--rounds", type=int, default=5, help="rounds of each program [5]")
    options.add_argument("--in-flight", type=int, default=4, help="parts under way when flat out [4]")
    options.add_argument("--firings", type=int, default=10_000, help="firings with SCHED_FIFO, a fifth without [10000]")
    options.add_argument("--bundle", type=Path, help="model bundle, a folder [the shipped one]")
    options.add_argument(
        "--images", type=Path, default=SHIPPED, help="JPEGs to make the pictures from [the shipped ones]"
    )
    options.add_argument("--quick", action="store_true", help="short rounds and 1000 firings")
    options.add_argument("--out", type=Path, default=RESULTS, help="where the page goes [benchmarks/results.md]")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write; gives the exit code."""
    options = parser().parse_args(arguments)
    logging.getLogger("asyncua").setLevel(logging.ERROR)
    load_before, start = os.getloadavg()[0], time.monotonic()
    if load_before >= QUIET:
        sys.stderr.write(f"benchmarks: load average {load_before:.1f}: other work will disturb the figures\n")
    try:
        with tempfile.TemporaryDirectory(prefix="linegate-bench-") as scratch:
            setup = _setup(options, Path(scratch))
            findings = [_measure(name, setup) for name in PARTS if options.only_part in (None, name)]
    except (RuntimeError, ValueError) as exc:
        sys.stderr.write(f"benchmarks: {exc}\n")
        return 1
    aims = [aim for each in findings for aim in each.aims]
    print("\n\n".join([*(each.ratios for each in findings if each.ratios), *([aims_table(aims)] if aims else [])]))
    if options.only_part is None:
        conditions = Conditions(
            bundle=setup.model.name,
            shipped=options.bundle is None,
            quick=options.quick,
            load_before=load_before,
            took_s=time.monotonic() - start,
        )
        options.out.write_text(page(findings, conditions), encoding="utf-8")
        print(f"written: {options.out}")
    return 0


def _setup(options: argparse.Namespace, scratch: Path) -> Setup:
    images = scratch / "images"
    images.mkdir()
    return Setup(
        bundle=options.bundle,
        model=options.bundle or _shipped_bundle(),
        payloads=make_payloads(options.images, images),
        images=images,
        scratch=scratch,
        rounds=options.rounds,
        in_flight=options.in_flight,
        firings=min(options.firings, 1000) if options.quick else options.firings,
        quick=options.quick,
    )


def _measure(name: str, setup: Setup) -> Findings:
    start = time.monotonic()
    found = PARTS[name](setup)
    print(f"{found.text}\n\n[{name}: {time.monotonic() - start:.0f} s]\n", flush=True)
    return found


def _shipped_bundle() -> Path:
    folder = Path(str(importlib.resources.files("models"))) / "bundles"
    return sorted(path for path in folder.iterdir() if path.name.startswith("ball-screw-"))[-1]


if __name__ == "__main__":
    sys.exit(main())
