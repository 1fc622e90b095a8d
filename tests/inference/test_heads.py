"""Heads read tensors; anything odd about one is an error, never a score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bridge.errors import InferenceError
from bridge.inference.heads.cells import MAX_REGIONS, read_cells
from bridge.inference.heads.classifier import read_scores
from bridge.inference.preprocess import Placement

LABELS = ("good", "crack")
PLACE = Placement(left=0, top=0, width=80, height=60, roi=(100, 50, 160, 120))


def _scores(*values: float) -> dict[str, NDArray[Any]]:
    return {"scores": np.array([values], np.float32)}


def _cells(grid: Any, good: float = 0.2, bad: float = 0.9, **changes: Any) -> Any:
    layer = np.asarray(grid, np.float32)
    outputs = _scores(good, bad) | {"cells": np.stack([np.full_like(layer, 0.99), layer])[None]}
    options = {"scores": "scores", "cells": "cells", "labels": LABELS, "limits": {"crack": 0.5}}
    return read_cells(outputs, **(options | {"input_size": (80, 60), "placement": PLACE} | changes))


def test_scores_come_in_the_order_of_the_labels() -> None:
    assert read_scores(_scores(0.25, 0.75), "scores", LABELS).by_label == {"good": 0.25, "crack": 0.75}


def test_a_rounding_error_is_clipped() -> None:
    assert read_scores(_scores(1.000001, -0.000001), "scores", LABELS).by_label == {"good": 1.0, "crack": 0.0}


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        (_scores(float("nan"), 0.5), "nan"),
        (_scores(0.5, float("inf")), "inf"),
        (_scores(0.5, float("-inf")), "inf"),
        (_scores(1.01, 0.5), "0 to 1"),
        (_scores(-0.01, 0.5), "0 to 1"),
        (_scores(0.5), r"float32 \[1, 1\]"),
        (_scores(0.5, 0.5, 0.5), r"\[1, 3\]"),
        ({"scores": np.zeros((2, 2), np.float32)}, r"\[2, 2\]"),
        ({"scores": np.zeros(2, np.float32)}, r"\[2\]"),
        ({"scores": np.zeros((1, 2), np.int64)}, "int64"),
        ({"other": np.zeros((1, 2), np.float32)}, "no output 'scores'"),
    ],
)
def test_odd_scores_are_errors(outputs: dict[str, NDArray[Any]], words: str) -> None:
    with pytest.raises(InferenceError, match=words):
        read_scores(outputs, "scores", LABELS)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1.5, -0.5])
def test_one_odd_cell_is_an_error(value: float) -> None:
    grid = np.zeros((6, 8))
    grid[3, 3] = value
    with pytest.raises(InferenceError, match="cells"):
        _cells(grid)


def test_cells_of_a_wrong_shape_are_an_error() -> None:
    outputs = _scores(0.5, 0.5) | {"cells": np.zeros((1, 3, 6, 8), np.float32)}
    with pytest.raises(InferenceError, match=r"\[1, 3, 6, 8\]"):
        read_cells(
            outputs, scores="scores", cells="cells", labels=LABELS, limits={}, input_size=(8, 6), placement=PLACE
        )


def test_cells_that_touch_are_one_region_with_its_highest_score() -> None:
    grid = np.zeros((6, 8))
    grid[1, 2], grid[2, 3], grid[2, 4] = 0.6, 0.75, 0.5
    grid[5, 7] = 0.9
    regions = _cells(grid).regions
    assert [(region.label, round(region.score, 3), region.box) for region in regions] == [
        ("crack", 0.9, (100 + 140, 50 + 100, 20, 20)),
        ("crack", 0.75, (100 + 40, 50 + 20, 60, 40)),
    ]


def test_good_labels_and_low_cells_give_no_region() -> None:
    assert _cells(np.full((6, 8), 0.49)).regions == ()


def test_at_most_32_regions_are_given_the_highest_first() -> None:
    grid = np.zeros((24, 24))
    grid[::2, ::2] = np.linspace(0.6, 0.95, 144).reshape(12, 12)
    scores = [region.score for region in _cells(grid).regions]
    assert len(scores) == MAX_REGIONS
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == pytest.approx(0.95)


def test_regions_in_the_padding_are_left_out() -> None:
    padded = Placement(left=0, top=20, width=80, height=20, roi=(0, 0, 160, 40))
    grid = np.zeros((6, 8))
    grid[0, 0] = grid[3, 4] = 0.8
    assert [region.box for region in _cells(grid, placement=padded).regions] == [(80, 20, 20, 20)]
