"""The region head: a score for each label, and one for each label in each cell of a grid over the input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from bridge.domain.verdict import Region, Scores
from bridge.inference.heads.classifier import Tensors, checked, read_scores
from bridge.inference.preprocess import Placement

MAX_REGIONS = 32


def read_cells(
    outputs: Tensors,
    *,
    scores: str,
    cells: str,
    labels: Sequence[str],
    limits: Mapping[str, float],
    input_size: tuple[int, int],
    placement: Placement,
) -> Scores:
    """Read scores and join cells at or over a label's limit into regions; raises InferenceError.

    `cells` is float32 [1, labels, rows, columns], row 0 at the top; `limits` holds the labels to look for (good ones are
    left out); `input_size` is (width, height). A region is a set of cells that touch, also at corners; its score is the
    highest in it, its box in pixels of the original picture. The 32 highest are given, highest first.
    """
    whole = read_scores(outputs, scores, labels)
    grid = checked(outputs, cells, (1, len(labels), None, None))[0]
    regions = [
        Region(label=label, score=score, box=box)
        for label, layer in zip(labels, grid, strict=True)
        if label in limits
        for score, corners in _components(layer, limits[label], input_size)
        if (box := placement.box(*corners)) is not None
    ]
    regions.sort(key=lambda region: -region.score)
    return Scores(by_label=whole.by_label, regions=tuple(regions[:MAX_REGIONS]))


def _components(
    layer: NDArray[np.float32], limit: float, input_size: tuple[int, int]
) -> list[tuple[float, tuple[float, float, float, float]]]:
    """Give the highest score and the corners (x0, y0, x1, y1 in input pixels) of each set of touching cells."""
    mask = (layer >= limit).astype(np.uint8)
    if not mask.any():
        return []
    count, ids, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    highest = np.zeros(count, np.float32)
    found = mask.nonzero()
    np.maximum.at(highest, ids.astype(np.intp)[found], layer[found])
    rows, columns = layer.shape
    wide, tall = input_size[0] / columns, input_size[1] / rows
    return [
        (float(highest[n]), (x * wide, y * tall, (x + w) * wide, (y + h) * tall))
        for n, (x, y, w, h, _area) in enumerate(stats.tolist())
        if n > 0
    ]
