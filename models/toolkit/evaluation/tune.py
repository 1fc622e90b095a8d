"""Tell what each threshold of a bundle would cost on labelled pictures, and which is the cheapest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Group
from rich.table import Table

from models.toolkit.evaluation.evaluate import Evaluation, evaluate, good_or_not
from models.toolkit.figures.costs import CostCurve, Costs, cost_curve
from models.toolkit.pictures.folder import DataError
from models.toolkit.progress import Progress

SHOWN = 9
DOUBT_SHARE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """The cheapest threshold on the defect score, from where on a part is doubtful, and the curve they come from."""

    evaluation: Evaluation
    curve: CostCurve
    costs: Costs
    rate: float
    parts_a_year: int
    threshold: float
    doubt: float

    @property
    def recipe(self) -> str:
        """The lines for a recipe file.

        With a good label its limit decides alone: no defect's own limit, here or in the bundle, may reject what it lets pass.
        """
        bundle = self.evaluation.bundle
        if bundle.good_labels:
            limit = max(0.5, self.threshold)
            defects = (label for label in bundle.labels if label not in bundle.good_labels)
            return f'[thresholds."{bundle.good_labels[0]}"]\naccept = {1 - self.threshold:.4f}\n' + "".join(
                f'[thresholds."{label}"]\nreject = {limit:.4f}\ndoubt = {limit:.4f}\n' for label in defects
            )
        lines = (
            f'[thresholds."{label}"]\nreject = {self.threshold:.4f}\ndoubt = {self.doubt:.4f}\n'
            for label in bundle.labels
        )
        return "".join(lines)

    @property
    def document(self) -> dict[str, Any]:
        """What `--json` writes."""
        curve, best = self.curve, self.curve.best
        return {
            "bundle": self.evaluation.bundle.reference, "threshold": self.threshold, "doubt": self.doubt,
            "escape_rate": float(curve.escape_rate[best]), "false_reject_rate": float(curve.false_reject_rate[best]),
            "defect_rate": self.rate, "cost_per_part": float(curve.cost[best]),
            "cost_per_year": float(curve.cost[best] * self.parts_a_year), "recipe": self.recipe,
            "curve": [list(map(float, row)) for row in zip(
                curve.thresholds, curve.escape_rate, curve.false_reject_rate, curve.cost, strict=True
            )],
        }  # fmt: skip


def tune(
    bundle: Path,
    folder: Path,
    *,
    good: str | None,
    costs: Costs,
    parts_a_year: int,
    progress: Progress = lambda _done, _of: None,
) -> Tuned:
    """Judge the folder and find the cheapest threshold; raises DataError where it has not both good and defective parts."""
    done = evaluate(bundle, folder, good=good, progress=progress)
    two = good_or_not(done.bundle, done.folder, done.pictures)
    if two is None:
        raise DataError(
            f"{folder}: wanted are pictures of good and of defective parts; name the good class with --good"
        )
    scores, bad = two
    curve = cost_curve(scores, bad, costs)
    threshold = float(np.clip(curve.thresholds[curve.best], 0.0001, 0.9999))
    # doubtful is what lies below the threshold and above nearly all good parts
    usual = float(np.quantile(scores[~bad], 1 - DOUBT_SHARE))
    rate = float(bad.mean()) if costs.defect_rate is None else costs.defect_rate
    return Tuned(
        evaluation=done, curve=curve, costs=costs, rate=rate, parts_a_year=parts_a_year, threshold=round(threshold, 4),
        doubt=round(min(threshold, max(usual, 0.0001)), 4),
    )  # fmt: skip


def in_terminal(tuned: Tuned) -> Group:
    """Make the table of the curve around the cheapest threshold, and what to write into the recipe."""
    curve, best = tuned.curve, tuned.curve.best
    table = Table(
        "threshold", "escapes", "false rejects", "cost of a part", "cost of a year", title="What a threshold costs"
    )
    chosen = {best, *np.linspace(0, len(curve.thresholds) - 1, min(SHOWN, len(curve.thresholds))).astype(int).tolist()}
    digits = max(2, 3 - math.floor(math.log10(max(curve.cost[best], 1e-9))))
    for place in _told_apart(sorted(chosen), curve.thresholds, best):
        table.add_row(
            f"{curve.thresholds[place]:.4f}", f"{curve.escape_rate[place]:.2%}", f"{curve.false_reject_rate[place]:.2%}",
            f"{curve.cost[place]:.{min(digits, 6)}f}", f"{curve.cost[place] * tuned.parts_a_year:,.0f}",
            style="bold" if place == best else "",
        )  # fmt: skip
    told = (
        f"An escape costs {tuned.costs.escape:g}, a good part in the bin {tuned.costs.scrap:g}; {tuned.rate:.2%} of the parts "
        f"are defective, {tuned.parts_a_year:,} pass in a year. For the recipe:"
    )
    return Group(table, told, "", tuned.recipe)


def _told_apart(places: Sequence[int], thresholds: npt.NDArray[np.float64], best: int) -> list[int]:
    """Leave out thresholds that print alike: of a model that is sure of everything most lie at 0 or 1."""
    first: dict[str, int] = {}
    for place in (best, *places):
        first.setdefault(f"{thresholds[place]:.4f}", place)
    return sorted(first.values())
