"""ONNX nodes of the anomaly detectors: from patch features to distances, and from distances to `scores` and `cells`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from models.toolkit.anomalies.patch_graph import INSIDE, LOCAL
from models.toolkit.graphs.heads import CELLS, SCORES
from models.toolkit.graphs.writer import GraphWriter, set_outputs

Array = npt.NDArray[np.float32]
LEAST_INSIDE = 0.9
"""Cells that the picture covers less than this are padding: they are never strange."""
TOP_SHARE = 0.01
_KEYS_AT_ONCE = 1000
_TINY = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """Patch features, standardised, on their main axes: `weight` (dimensions x channels) and `bias` (dimensions)."""

    weight: Array
    bias: Array

    def __call__(self, local: Array) -> Array:
        """Project features (... x channels)."""
        return np.asarray(local.astype(np.float32) @ self.weight.T + self.bias, np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """How a distance becomes a value from 0 to 1: x**power / (x**power + limit**power), so the limit becomes 0.5."""

    limit: float
    power: float

    def __call__(self, distances: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Map distances of at least 0; monotone."""
        logarithm = np.log(np.asarray(distances, np.float64) + _TINY) - np.log(self.limit + _TINY)
        return np.asarray(1 / (1 + np.exp(np.clip(-self.power * logarithm, -80, 80))), np.float64)


def top_cells(rows: int, columns: int) -> int:
    """Give how many cells are the highest 1 % of a grid, at least one."""
    return max(1, round(TOP_SHARE * rows * columns))


def picture_value(distances: Array, inside: npt.NDArray[np.bool_], *, top: int, whole: float) -> float:
    """Give a picture's strangeness of its cells' distances (0 outside the picture).

    It is the mean of the `top` highest, which finds a small mark, and with weight `whole`, 0 to 1, the mean over the picture,
    which finds what is a little strange everywhere.
    """
    highest = np.sort(distances, axis=None)[-top:]
    return float((1 - whole) * highest.mean() + whole * distances.sum() / max(1, inside.sum()))


def add_projection(writer: GraphWriter, projection: Projection) -> str:
    """Project LOCAL as a convolution of 1 x 1; gives the name, 1 x dimensions x rows x columns."""
    weight = writer.constant("axes", projection.weight[:, :, None, None])
    return writer.node("Conv", [LOCAL, weight, writer.constant("axes_bias", projection.bias)], "projected")


def add_memory(writer: GraphWriter, keys: Array, *, rows: int, columns: int) -> str:
    """Give squared distances to the nearest of `keys` (count x (dimensions + 2)), 1 x 1 x rows x columns.

    A key is (-2 b / s^2, 1 / s^2, |b|^2 / s^2) for a remembered patch b of local scale s; its product with (q, |q|^2, 1) is
    |q - b|^2 / s^2, so one matrix product gives every distance. Cells are its rows, and the keys come in parts whose distances
    stay in the processor's cache: on one core that took 0.6 of the time of one product with the keys as rows.
    """
    length = writer.node("ReduceSumSquare", ["projected"], "length", axes=[1], keepdims=1)
    ones = writer.constant("ones", np.ones((1, 1, rows, columns)))
    query = writer.node("Concat", ["projected", length, ones], "query", axis=1)
    shape = writer.constant("query_shape", [keys.shape[1], rows * columns], np.int64)
    flat = writer.node("Reshape", [query, shape], "query_columns")
    queries = writer.node("Transpose", [flat], "queries", perm=[1, 0])
    nearest = []
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        part = writer.constant(f"keys_{start}", keys[start : start + _KEYS_AT_ONCE].T)
        distances = writer.node("MatMul", [queries, part], f"distances_{start}")
        nearest.append(writer.node("ReduceMin", [distances], f"nearest_{start}", axes=[1], keepdims=1))
    of_all = writer.node("Min", nearest, "nearest")
    return writer.node("Reshape", [of_all, writer.constant("map_shape", [1, 1, rows, columns], np.int64)], "map")


def add_gaussians(writer: GraphWriter, means: Array, whitening: Array, *, rows: int, columns: int) -> str:
    """Give squared Mahalanobis distances, 1 x 1 x rows x columns.

    `means` is places x dimensions and `whitening` places x dimensions x dimensions: one Gaussian for each cell, row by row,
    or one place for all of them.
    """
    dimensions = means.shape[1]
    cells_last = writer.node("Transpose", ["projected"], "cells_last", perm=[0, 2, 3, 1])
    shape = writer.constant("places_shape", [rows * columns, 1, dimensions], np.int64)
    places = writer.node("Reshape", [cells_last, shape], "places")
    centred = writer.node("Sub", [places, writer.constant("means", means[:, None, :])], "centred")
    white = writer.node("MatMul", [centred, writer.constant("whitening", whitening)], "white")
    squared = writer.node("ReduceSumSquare", [white], "mahalanobis", axes=[2], keepdims=0)
    return writer.node("Reshape", [squared, writer.constant("map_shape", [1, 1, rows, columns], np.int64)], "map")


def finish(
    model: onnx.ModelProto,
    writer: GraphWriter,
    squared: str,
    *,
    rows: int,
    columns: int,
    whole: float,
    score: Mapping,
    cell: Mapping,
) -> onnx.ModelProto:
    """Make `scores`, 1 x 1, and `cells`, 1 x 1 x rows x columns, of squared distances, the model's only outputs.

    The strangest cell is at least as high as the score: a part that is rejected always shows where.
    """
    covered = writer.node("Greater", [INSIDE, writer.constant("least_inside", LEAST_INSIDE)], "is_inside")
    inside = writer.node("Cast", [covered], "inside_cells", to=onnx.TensorProto.FLOAT)
    rooted = writer.node("Sqrt", [writer.node("Relu", [squared], "not_negative")], "rooted")
    distances = writer.node("Mul", [rooted, inside], "distances")
    flat = writer.node("Reshape", [distances, writer.constant("flat_shape", [1, -1], np.int64)], "flat")
    count = writer.constant("top_count", [top_cells(rows, columns)], np.int64)
    writer.nodes.append(
        onnx.helper.make_node("TopK", [flat, count], ["strangest", "strangest_at"], axis=1, name="strangest")
    )
    top = writer.node("ReduceMean", ["strangest"], "top_mean", axes=[1], keepdims=1)
    axis = writer.constant("cells_axis", [1], np.int64)
    total = writer.node("ReduceSum", [flat, axis], "total", keepdims=1)
    flat_inside = writer.node("Reshape", [inside, "flat_shape"], "flat_inside")
    number = writer.node("ReduceSum", [flat_inside, axis], "number", keepdims=1)
    divisor = writer.node("Max", [number, writer.constant("one", 1.0)], "number_or_one")
    mean = writer.node("Div", [total, divisor], "whole_mean")
    of_top = writer.node("Mul", [top, writer.constant("top_weight", 1 - whole)], "of_top")
    of_whole = writer.node("Mul", [mean, writer.constant("whole_weight", whole)], "of_whole")
    value = writer.node("Add", [of_top, of_whole], "value")
    scores = _mapped(writer, value, score, SCORES)
    raw = writer.node("Mul", [_mapped(writer, distances, cell, "mapped_cells"), inside], "raw_cells")
    peak = writer.node("ReduceMax", [raw], "peak", keepdims=1)
    at_peak = writer.node("GreaterOrEqual", [raw, peak], "is_peak")
    lifted = writer.node(
        "Mul", [writer.node("Cast", [at_peak], "at_peak", to=onnx.TensorProto.FLOAT), scores], "lifted"
    )
    writer.node("Max", [raw, lifted], CELLS)
    writer.into(model.graph)
    return set_outputs(model, {SCORES: [1, 1], CELLS: [1, 1, rows, columns]})


def _mapped(writer: GraphWriter, values: str, mapping: Mapping, output: str) -> str:
    offset = -float(np.log(mapping.limit + _TINY))
    added = writer.node("Add", [values, writer.constant(f"{output}_tiny", _TINY)], f"{output}_positive")
    logarithm = writer.node("Log", [added], f"{output}_logarithm")
    shifted = writer.node("Add", [logarithm, writer.constant(f"{output}_offset", offset)], f"{output}_shifted")
    steep = writer.node("Mul", [shifted, writer.constant(f"{output}_power", mapping.power)], f"{output}_steep")
    return writer.node("Sigmoid", [steep], output)
