"""Thresholds from what mistakes cost: an escape reaches the customer, a false reject scraps a good part.

The expected cost of a threshold is escapes x escape cost + false rejects x scrap cost, at the share of defective parts that
the line has (Elkan 2001, "The foundations of cost-sensitive learning"); the pictures' own share is used where none is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What one escape and one false reject cost, in any unit, and the share of defective parts (None: the pictures')."""

    escape: float = 20.0
    scrap: float = 1.0
    defect_rate: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CostCurve:
    """For each threshold on the defect score: escape and false-reject rate, 0 to 1, and the cost of one part."""

    thresholds: Scores
    escape_rate: Scores
    false_reject_rate: Scores
    cost: Scores

    @property
    def best(self) -> int:
        """Place of the cheapest threshold; of several the one in the middle of the widest stretch."""
        cheapest = np.flatnonzero(self.cost <= self.cost.min() + 1e-12)
        runs = np.split(cheapest, np.flatnonzero(np.diff(cheapest) > 1) + 1)
        ends = np.append(self.thresholds, 1.0)
        widest = max(runs, key=lambda run: ends[run[-1] + 1] - ends[run[0]])
        return int(widest[len(widest) // 2])


def cost_curve(scores: Scores, defective: Flags, costs: Costs) -> CostCurve:
    """Give the curve over every threshold that changes a verdict; a part is rejected at or over the threshold.

    A threshold lies halfway, in log-odds, between two scores that occur.
    """
    levels = np.unique(np.clip(scores, 1e-6, 1 - 1e-6))
    logits = np.log(levels / (1 - levels))
    between = 1 / (1 + np.exp(-(logits[1:] + logits[:-1]) / 2))
    thresholds = np.concatenate([[levels[0] / 2], between, [(1 + levels[-1]) / 2]])
    bad, good = np.sort(scores[defective]), np.sort(scores[~defective])
    escape_rate = np.searchsorted(bad, thresholds) / max(1, len(bad))
    reject_rate = 1 - np.searchsorted(good, thresholds) / max(1, len(good))
    rate = defective.mean() if costs.defect_rate is None else costs.defect_rate
    cost = rate * escape_rate * costs.escape + (1 - rate) * reject_rate * costs.scrap
    return CostCurve(thresholds=thresholds, escape_rate=escape_rate, false_reject_rate=reject_rate, cost=cost)


def cheapest_threshold(scores: Scores, defective: Flags, costs: Costs) -> float:
    """Give the threshold on the defect score with the smallest expected cost, rounded to 4 digits, inside 0 to 1."""
    curve = cost_curve(scores, defective, costs)
    return float(np.clip(round(float(curve.thresholds[curve.best]), 4), 0.0001, 0.9999))


def label_thresholds(
    labels: Sequence[str], good: str | None, scores: Scores, truth: npt.NDArray[np.int64], costs: Costs
) -> dict[str, dict[str, float]]:
    """Give each label its limits: by cost where there are good parts, else so that nothing can pass unjudged.

    `scores` are pictures x labels, 0 to 1, `truth` the place of each picture's own label.
    """
    if good is None:
        # every class is a defect: even when all of them share the score, one has this much of it
        return {label: {"reject": 0.5, "doubt": int(100 / len(labels)) / 100} for label in labels}
    place = labels.index(good)
    cut = cheapest_threshold(1 - scores[:, place], truth != place, costs)
    return {label: {"accept": round(1 - cut, 4)} if label == good else {"reject": max(0.5, cut)} for label in labels}
