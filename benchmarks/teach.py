"""Teach on one part of a labelled folder and judge the other, several times: `python -P -m benchmarks.teach FOLDER`.

Each split is a folder of links, taught and evaluated by the very commands that a user has; with `--groups` all pictures of a
group lie on one side. Prints a line for each split and the mean with the spread (lowest to highest).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.toolkit.pictures.folder import LabelledFolder, Sample, read_folder

FIGURES = ("accuracy", "auroc", "escapes_at_1pct_false_rejects")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the splits; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--good")
    parser.add_argument("--groups")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--unseen", type=float, default=0.3, help="share of the pictures kept back [0.3]")
    parser.add_argument("--out", type=Path, help="JSON file for every figure")
    given = parser.parse_args(arguments)
    folder = read_folder(given.folder, good=given.good, groups=given.groups)
    reports = []
    for seed in different_splits(folder.samples, count=given.splits, unseen=given.unseen):
        report = one_split(folder, seed=seed, unseen=given.unseen, groups=given.groups)
        reports.append(report)
        print(seed, {name: report[name] for name in (*FIGURES, "n", "latency_ms", "teach_s")}, flush=True)
    for name in FIGURES:
        values = [float(str(report[name])) for report in reports if report[name] is not None]
        if values:
            print(f"{name}: mean {statistics.fmean(values):.4f}, {min(values):.4f} to {max(values):.4f}")
    if given.out is not None:
        given.out.write_text(json.dumps(reports, indent=1), encoding="utf-8")
    return 0


def one_split(folder: LabelledFolder, *, seed: int, unseen: float, groups: str | None) -> dict[str, object]:
    """Teach with one part and judge the other; gives the evaluation's report, with the time of teaching in s."""
    with tempfile.TemporaryDirectory() as place:
        base = Path(place)
        seen, kept = divide(folder.samples, seed=seed, unseen=unseen)
        link(seen, base / "seen")
        link(kept, base / "unseen")
        good = [] if folder.good is None else ["--good", folder.good]
        by = [] if groups is None else ["--groups", groups]
        began = os.times().elapsed
        run("teach", base / "seen", "--out", base / "taught", "--seed", seed, *good, *by)
        took_s = os.times().elapsed - began
        run("evaluate", base / "taught", base / "unseen", *good, "--json", base / "report.json")
        report: dict[str, object] = json.loads((base / "report.json").read_text())
        return {**report, "teach_s": round(took_s, 1)}


def different_splits(samples: Sequence[Sample], *, count: int, unseen: float) -> list[int]:
    """Give the first seeds that keep back different pictures, at most `count`: few groups can be divided in few ways."""
    seeds: dict[frozenset[Path], int] = {}
    for seed in range(20 * count):
        _seen, kept = divide(samples, seed=seed, unseen=unseen)
        seeds.setdefault(frozenset(sample.path for sample in kept), seed)
    return list(seeds.values())[:count]


def divide(samples: Sequence[Sample], *, seed: int, unseen: float) -> tuple[list[Sample], list[Sample]]:
    """Keep back about `unseen` of each class, whole groups where there are groups."""
    order = np.random.default_rng(seed)
    grouped = any(sample.group for sample in samples)
    piles: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        piles[sample.group if grouped else f"{sample.label}/{sample.path.name}"].append(sample)
    kept: list[Sample] = []
    if grouped:
        for name in order.permutation(sorted(piles)):
            if len(kept) < unseen * len(samples):
                kept += piles[str(name)]
    else:
        for label in sorted({sample.label for sample in samples}):
            own = [sample for sample in samples if sample.label == label]
            kept += [own[place] for place in order.permutation(len(own))[: round(unseen * len(own))]]
    back = {sample.path for sample in kept}
    return [sample for sample in samples if sample.path not in back], kept


def link(samples: Sequence[Sample], folder: Path) -> None:
    """Lay links to pictures and masks as a labelled folder."""
    for sample in samples:
        for path, kind in ((sample.path, "images"), (sample.mask, "masks")):
            if path is not None:
                place = folder / sample.label / kind
                place.mkdir(parents=True, exist_ok=True)
                (place / path.name).symlink_to(path.absolute())


def run(*arguments: object) -> None:
    """Run `linegate model`; raises CalledProcessError."""
    command = [sys.executable, "-P", "-m", "bridge", "model", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
