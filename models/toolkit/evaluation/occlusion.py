"""What a model says when a place of the picture is covered (Zeiler and Fergus 2014), in log-odds.

Log-odds, because a score near 1 hardly moves while its reasons vanish one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

PLACES = 12
Heat = npt.NDArray[np.float64]
Tensor = npt.NDArray[Any]
Judge = Callable[[Tensor], float]
"""Gives the log-odds of the deciding label for an input tensor."""
_LEAST = 1e-7


def log_odds(scores: npt.NDArray[np.float32], label: int) -> float:
    """Give the log-odds of one of `scores` (a score a label), against all others where they sum to 1."""
    values = scores.astype(np.float64)
    others = np.delete(values, label)
    # of a softmax the others' sum keeps the digits that 1 - score has lost
    against = others.sum() if len(others) and abs(values.sum() - 1) < 1e-3 else 1 - values[label]
    return float(np.log(max(values[label], _LEAST)) - np.log(max(against, _LEAST)))


def occlude(tensor: Tensor, judge: Judge, *, channels_last: bool) -> Heat:
    """Cover each of 12 x 12 places with a patch of a fifth of the sides in the mean colour; gives how far the log-odds fall."""
    rows_at, columns_at = (1, 2) if channels_last else (2, 3)
    height, width = tensor.shape[rows_at], tensor.shape[columns_at]
    mean = tensor.mean(axis=(rows_at, columns_at), keepdims=True).astype(tensor.dtype)
    half_h, half_w = max(1, height // 10), max(1, width // 10)
    whole = judge(tensor)
    heat = np.zeros((PLACES, PLACES))
    for row in range(PLACES):
        for column in range(PLACES):
            y, x = int((row + 0.5) * height / PLACES), int((column + 0.5) * width / PLACES)
            rows, columns = slice(max(0, y - half_h), y + half_h), slice(max(0, x - half_w), x + half_w)
            covered = tensor.copy()
            where = (slice(None), rows, columns) if channels_last else (slice(None), slice(None), rows, columns)
            covered[where] = mean
            heat[row, column] = whole - judge(covered)
    return heat
