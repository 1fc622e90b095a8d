"""Measure the bridge beside the floor, in turns: `python -P -m benchmarks.run [--quick] [--rounds N]`.

Prints the ratios and writes `benchmarks/results.md`. Three minutes by default, under two with `--quick`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.resources
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.load import Load
from benchmarks.processes import bridge, broker, floor, free_ports
from benchmarks.report import QUIET, Figures, Setting, page, rows

RESULTS = Path(__file__).parent / "results.md"
FLOORS = {"floor": 0, "floor1": 1}
"""The direct script with onnxruntime's default threads (0), and with one."""
_WARM_UP = 20


def parser() -> argparse.ArgumentParser:
    """Make the command line."""
    options = argparse.ArgumentParser(prog="benchmarks.run", description="Measure the bridge beside the direct script.")
    options.add_argument("--rounds", type=int, default=5, help="rounds of each program [5]")
    options.add_argument("--parts", type=int, default=40, help="paced parts a round [40]")
    options.add_argument("--interval-ms", type=float, default=100.0, help="time between paced parts [100]")
    options.add_argument("--flat-out", type=int, default=40, help="parts a round as fast as they go [40]")
    options.add_argument("--in-flight", type=int, default=4, help="parts under way when flat out [4]")
    options.add_argument("--bundle", type=Path, help="model bundle, a folder [the shipped one]")
    options.add_argument("--images", type=Path, help="folder of JPEG pictures [the bundle's golden frames]")
    options.add_argument("--quick", action="store_true", help="5 short rounds")
    options.add_argument("--only", choices=[*FLOORS, "bridge"], help="measure one program and write no page")
    options.add_argument("--out", type=Path, default=RESULTS, help="where the page goes [benchmarks/results.md]")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write; gives the exit code."""
    options = parser().parse_args(arguments)
    logging.getLogger("asyncua").setLevel(logging.ERROR)
    if options.quick:
        options.rounds, options.parts, options.flat_out = 5, 20, 20
    bundle = options.bundle or _shipped_bundle()
    folder = options.images or bundle / "golden"
    pictures = _pictures(folder)
    figures = {name: Figures() for name in (*FLOORS, "bridge")}
    load_before = os.getloadavg()[0]
    if load_before >= QUIET:
        sys.stderr.write(f"benchmarks: load average {load_before:.1f}: other work will disturb the figures\n")
    try:
        _measure(options, bundle, pictures, figures)
    except RuntimeError as exc:
        sys.stderr.write(f"benchmarks: {exc}\n")
        return 1
    if options.only:
        _print_alone(options.only, figures[options.only])
        return 0
    setting = Setting(
        bundle=bundle.name,
        pictures=_describe(pictures),
        rounds=options.rounds,
        parts=options.parts,
        interval_ms=options.interval_ms,
        in_flight=options.in_flight,
        flat_out=options.flat_out,
        shipped=options.bundle is None,
        load_before=load_before,
    )
    ours = figures.pop("bridge")
    options.out.write_text(page(figures, ours, setting), encoding="utf-8")
    print(f"{'':<46}{''.join(f'{name:>9}' for name in (*figures, 'bridge'))}  ratio to the better floor")
    for what, values, ratio in rows(list(figures.values()), ours):
        print(f"{what:<46}{''.join(f'{value:>9.1f}' for value in values)}  {ratio}")
    print(f"not judged by the bridge (ERROR, LATE): {ours.unjudged}; written: {options.out}")
    return 0


def _measure(
    options: argparse.Namespace,
    bundle: Path,
    pictures: Sequence[bytes],
    figures: dict[str, Figures],
) -> None:
    """Run the rounds; both programs stay up between their turns, idle."""
    (port,) = free_ports(1)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="linegate-bench-")))
        stack.enter_context(broker(port))
        targets = [
            stack.enter_context(
                floor(
                    bundle, name=name, broker_port=port, threads=threads, last=options.parts, report=figures[name].steps
                )
            )
            for name, threads in FLOORS.items()
            if options.only in (None, name)
        ]
        if options.only in (None, "bridge"):
            targets.append(stack.enter_context(bridge(scratch, broker_port=port, bundle=options.bundle)))
        loads = {target.name: stack.enter_context(Load(target, pictures)) for target in targets}
        for load in loads.values():
            load.paced(_WARM_UP, interval_s=0.05)
        for number in range(options.rounds):
            # the order is reversed each time, so that a drift of the machine hits all alike
            for name in sorted(loads, reverse=bool(number % 2)):
                figures[name].latencies.append(loads[name].paced(options.parts, interval_s=options.interval_ms / 1e3))
                figures[name].rates.append(loads[name].flat_out(options.flat_out, in_flight=options.in_flight))
        for name, load in loads.items():
            registers, tags = asyncio.run(load.output_delays(options.parts, interval_s=0.02))
            figures[name].to_registers, figures[name].to_tags = registers, tags
            figures[name].steps.update(load.steps)
            figures[name].unjudged = load.unjudged


def _shipped_bundle() -> Path:
    folder = Path(str(importlib.resources.files("models"))) / "bundles"
    return sorted(path for path in folder.iterdir() if path.name.startswith("ball-screw-"))[-1]


def _pictures(folder: Path) -> list[bytes]:
    pictures = [path.read_bytes() for path in sorted(folder.rglob("*.jpg"))]
    if not pictures:
        raise SystemExit(f"benchmarks: no JPEG pictures below {folder}")
    return pictures


def _describe(pictures: Sequence[bytes]) -> str:
    mean_kb = sum(len(picture) for picture in pictures) / len(pictures) / 1e3
    shown = cv2.imdecode(np.frombuffer(pictures[0], np.uint8), cv2.IMREAD_COLOR)
    size = "unreadable" if shown is None else f"{shown.shape[1]} x {shown.shape[0]}"
    return f"{len(pictures)} JPEGs, the first {size}, {mean_kb:.0f} kB on average"


def _print_alone(name: str, figures: Figures) -> None:
    for what, values, _ in rows([figures], figures):
        print(f"{what:<46} {name} {values[0]:.1f}")
    print(f"mean of each step in ms: {figures.steps}; not judged: {figures.unjudged}")


if __name__ == "__main__":
    sys.exit(main())
