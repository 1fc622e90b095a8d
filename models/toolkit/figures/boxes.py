"""Count what found boxes are worth: average precision as PASCAL VOC has defined it since 2010.

Everingham, Van Gool, Williams, Winn, Zisserman, "The Pascal Visual Object Classes (VOC) challenge", 2010, with the area under
the whole curve of its development kit of that year on, in place of eleven points: found boxes of a class are taken from the
highest score down; one is right when it overlaps the true box of its class that it overlaps most by at least one half, and
that one is not taken yet; a second box for the same one is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LEAST_OVERLAP = 0.5
Corners = npt.NDArray[np.float64]
"""K x 4: x0, y0, x1, y1, edges and not middles of pixels."""
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueBoxes:
    """What there is in one picture: corners K x 4 and numbers of labels, K."""

    corners: Corners
    labels: Numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundBoxes:
    """What a model found in one picture: corners K x 4, numbers of labels, K, and scores, K."""

    corners: Corners
    labels: Numbers
    scores: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hits:
    """The found boxes of a label from the highest score down: whether each is right, of which picture; `total` true boxes."""

    scores: npt.NDArray[np.float64]
    right: npt.NDArray[np.bool_]
    pictures: Numbers
    total: int

    @property
    def precision(self) -> float | None:
        """Area under the envelope of precision over recall, 0 to 1; None where there is no true box."""
        return area_under_envelope(self.right, self.total) if self.total else None


def overlaps(first: Corners, second: Corners) -> npt.NDArray[np.float64]:
    """Give intersection over union of each of K with each of M boxes, K x M, 0 to 1."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    both = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1) for boxes in (first, second)]
    either = areas[0][:, None] + areas[1][None, :] - both
    return np.asarray(both / np.maximum(either, 1e-12), np.float64)


def hits_of(
    found: Sequence[FoundBoxes], true: Sequence[TrueBoxes], label: int, *, least: float = LEAST_OVERLAP
) -> Hits:
    """Compare the boxes of one label in all pictures."""
    scores, right, pictures, total = [], [], [], 0
    for number, (told, there) in enumerate(zip(found, true, strict=True)):
        wanted = there.corners[there.labels == label]
        total += len(wanted)
        own = told.labels == label
        order = np.argsort(-told.scores[own], kind="stable")
        right += _right_ones(told.corners[own][order], wanted, least)
        scores += told.scores[own][order].tolist()
        pictures += [number] * len(order)
    ranked = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    return Hits(
        scores=np.asarray(scores, np.float64)[ranked], right=np.asarray(right, np.bool_)[ranked],
        pictures=np.asarray(pictures, np.int64)[ranked], total=total,
    )  # fmt: skip


def _right_ones(corners: Corners, wanted: Corners, least: float) -> list[bool]:
    """Tell which of one picture's boxes, the highest score first, are right."""
    if not len(wanted):
        return [False] * len(corners)
    shared, taken, right = overlaps(corners, wanted), set[int](), []
    for row in shared:
        best = int(row.argmax())
        right.append(bool(row[best] >= least) and best not in taken)
        if right[-1]:
            taken.add(best)
    return right


def area_under_envelope(right: npt.NDArray[np.bool_], total: int) -> float:
    """Give the area under the highest precision at this recall or a higher one, of hits ranked by score."""
    caught = np.cumsum(right)
    precision = caught / np.arange(1, len(right) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(envelope[right].sum() / total)


def mean_precision(values: Sequence[float | None]) -> float | None:
    """Give the mean over the labels that have true boxes; None where none has."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def best_cut(hits: Hits) -> float | None:
    """Give the score from which on a label's boxes have the highest F1, halfway to the next; None where none is right."""
    if not hits.right.any():
        return None
    ranked = hits.scores
    f1 = 2 * np.cumsum(hits.right) / (np.arange(1, len(ranked) + 1) + hits.total)
    last = np.append(ranked[1:] < ranked[:-1], True)  # scores that are alike pass or fail together
    best = int(np.where(last, f1, -1.0).argmax())
    return float(ranked[best : best + 2].mean())
