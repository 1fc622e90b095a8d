"""Compute the figures of a model card: AUROC, escapes at a fixed share of false rejects, Wilson intervals."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]
Labels = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A count out of n with its 95 % Wilson interval."""

    count: int
    n: int

    @property
    def value(self) -> float:
        """Return count / n, 0 where n is 0."""
        return self.count / self.n if self.n else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95 % Wilson score interval (Wilson 1927), 0..1 where n is 0."""
        return wilson_interval(count=self.count, n=self.n)

    def as_json(self) -> dict[str, Any]:
        """Give count, n and interval as plain values."""
        return {"count": self.count, "n": self.n, "interval": [round(end, 5) for end in self.interval]}

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.count} of {self.n} = {100 * self.value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """What thresholds do to a set of pictures: shares of defective and of good ones."""

    passed_defective: Share
    rejected_good: Share
    doubtful_good: Share


def wilson_interval(*, count: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion."""
    if n == 0:
        return 0.0, 1.0
    share = count / n
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def auroc(scores: Scores, defective: Labels) -> float:
    """Return the chance that a defective picture scores above a good one; ties count half."""
    bad, good = scores[defective], scores[~defective]
    above = (bad[:, None] > good[None, :]).sum() + 0.5 * (bad[:, None] == good[None, :]).sum()
    return float(above / (len(bad) * len(good)))


def macro_f1(confusion: npt.NDArray[np.int64]) -> float:
    """Give the mean over the classes of 2 TP / (2 TP + FP + FN), 0 for a class that is neither there nor told."""
    hits, both = np.diag(confusion), confusion.sum(axis=0) + confusion.sum(axis=1)
    return float(np.mean(2 * hits / np.maximum(both, 1)))


def cut_at_false_rejects(scores: Scores, defective: Labels, *, share: float) -> float:
    """Return the lowest cut at which no more than this share of the good pictures scores at or over it."""
    good = np.sort(scores[~defective])[::-1]
    allowed = math.floor(share * len(good))
    highest_passed = good[allowed]
    above = np.concatenate([scores[scores > highest_passed], [highest_passed + 2e-6]])
    return float((highest_passed + above.min()) / 2)


def escapes_at_false_rejects(scores: Scores, defective: Labels, *, share: float = 0.01) -> Share:
    """Count defective pictures below the cut that this set itself gives for the share of false rejects."""
    cut = cut_at_false_rejects(scores, defective, share=share)
    bad = scores[defective]
    return Share(count=int((bad < cut).sum()), n=len(bad))


def count_verdicts(scores: Scores, defective: Labels, *, reject: float, doubt: float) -> Verdicts:
    """Count the verdicts of a single label: FAIL at or over `reject`, UNCERTAIN at or over `doubt`, else PASS."""
    bad, good = scores[defective], scores[~defective]
    return Verdicts(
        passed_defective=Share(count=int((bad < doubt).sum()), n=len(bad)),
        rejected_good=Share(count=int((good >= reject).sum()), n=len(good)),
        doubtful_good=Share(count=int(((good >= doubt) & (good < reject)).sum()), n=len(good)),
    )


def rounded(value: float | None) -> float | None:
    """Give a figure to five digits; None where there is none."""
    return None if value is None else round(value, 5)


def shown(value: float | None) -> str:
    """Give a figure as a person reads it; a dash where there is none."""
    return "-" if value is None else f"{value:.3f}"
