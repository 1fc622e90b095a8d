"""The graph of a cell model: what a cell is judged by, the head over it, and the score of the picture.

A cell of 8 x 8 pixels is described by the features at its place, by means and maxima around it, and by the whole picture's
mean and spread of every feature: what is a flaw under one exposure is the plain surface under another. The context and the
head are made of the same nodes in training, in judging and in the shipped graph, so they can't drift apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from bridge.inference.manifest import InputSpec
from models.toolkit.graphs.backbone import TAPS
from models.toolkit.graphs.writer import GraphWriter, set_outputs

CELL_PX = 8
"""Side of a cell in pixels of the input: the stride of the finer tap."""
MAP_TAPS = ("early", "deep")
OPSET = 17
FLOAT_PREFIX = "head_"
"""Names of all nodes behind the backbone begin so: they are float32 always, thresholds are read there."""
NEAR, FAR, WHOLE = "head_near", "head_far", "head_whole"
SIZES = {NEAR: 3 * TAPS["early"], FAR: 3 * TAPS["deep"], WHOLE: 2 * (TAPS["early"] + TAPS["deep"])}
"""Features of a cell at 1/8 of the side, at 1/16, and of the whole picture."""
Weights = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellHead:
    """One hidden layer of K units over raw features: `near` K x 120, `far` K x 336, `whole` K x 304, `bias` K.

    A cell's logit is `out` (K) times the rectified hidden layer, plus `out_bias`.
    """

    near: Weights
    far: Weights
    whole: Weights
    bias: Weights
    out: Weights
    out_bias: float


def context_model(spec: InputSpec) -> onnx.ModelProto:
    """Give the graph from `early` and `deep` to a cell's features: near 1 x 120 x H/8 x W/8, far at 1/16, whole 1 x 1."""
    model, writer = _map_model(spec), GraphWriter(prefix=FLOAT_PREFIX)
    _add_context(writer)
    writer.into(model.graph)
    rows, columns = spec.height // CELL_PX, spec.width // CELL_PX
    shapes = {NEAR: (rows, columns), FAR: (rows // 2, columns // 2), WHOLE: (1, 1)}
    return set_outputs(model, {name: [1, SIZES[name], *shape] for name, shape in shapes.items()})


def judge_model(spec: InputSpec, head: CellHead) -> onnx.ModelProto:
    """Give the graph from `early` and `deep` to `head_logits`, 1 x 1 x H/8 x W/8, uncalibrated."""
    model, writer = _map_model(spec), GraphWriter(prefix=FLOAT_PREFIX)
    _add_context(writer)
    _add_head(writer, head)
    writer.into(model.graph)
    return set_outputs(model, {"head_logits": [1, 1, spec.height // CELL_PX, spec.width // CELL_PX]})


def whole_model(
    backbone: onnx.ModelProto, spec: InputSpec, head: CellHead, *, gain: float, shift: float
) -> onnx.ModelProto:
    """Give the graph from `image` to `scores` 1 x 1 and `cells` 1 x 1 x H/8 x W/8, each sigmoid(gain * logit + shift).

    `backbone`, left as it is, gives both taps, in float32 or INT8: the one whose features the head was fitted on. The
    score of the picture is its highest cell: a score at or over a threshold always has a region to show for it.
    """
    model = onnx.ModelProto.FromString(backbone.SerializeToString())
    writer = GraphWriter(prefix=FLOAT_PREFIX)
    _add_context(writer)
    _add_head(writer, replace(head, out=gain * head.out, out_bias=gain * head.out_bias + shift))
    writer.node("Sigmoid", ["head_logits"], "cells")
    writer.node("GlobalMaxPool", ["cells"], "head_highest")
    writer.node("Flatten", ["head_highest"], "scores", axis=1)
    writer.into(model.graph)
    rows, columns = spec.height // CELL_PX, spec.width // CELL_PX
    return set_outputs(model, {"scores": [1, 1], "cells": [1, 1, rows, columns]})


def _map_model(spec: InputSpec) -> onnx.ModelProto:
    stride = {"early": CELL_PX, "deep": 2 * CELL_PX}
    inputs = [
        helper.make_tensor_value_info(
            tap, TensorProto.FLOAT, [1, TAPS[tap], spec.height // stride[tap], spec.width // stride[tap]]
        )
        for tap in MAP_TAPS
    ]
    graph = helper.make_graph([], "cells", inputs, [])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def _add_context(writer: GraphWriter) -> None:
    """Make `NEAR`, `FAR` and `WHOLE` of the two taps."""
    _pool(writer, "AveragePool", "early", "head_early_mean3", side=3)
    _pool(writer, "MaxPool", "early", "head_early_max3", side=3)
    _pool(writer, "AveragePool", "deep", "head_deep_mean3", side=3)
    _pool(writer, "AveragePool", "deep", "head_deep_mean5", side=5)
    writer.node("Concat", ["early", "head_early_mean3", "head_early_max3"], NEAR, axis=1)
    writer.node("Concat", ["deep", "head_deep_mean3", "head_deep_mean5"], FAR, axis=1)
    parts = []
    for tap in MAP_TAPS:
        mean, spread = f"head_{tap}_mean", f"head_{tap}_spread"
        writer.node("GlobalAveragePool", [tap], mean)
        # the mean of squared differences: the difference of mean squares loses digits in float32
        writer.node("Sub", [tap, mean], f"{spread}_difference")
        writer.node("Mul", [f"{spread}_difference"] * 2, f"{spread}_squares")
        writer.node("GlobalAveragePool", [f"{spread}_squares"], f"{spread}_variance")
        writer.node("Sqrt", [f"{spread}_variance"], spread)
        parts += [mean, spread]
    writer.node("Concat", parts, WHOLE, axis=1)


def _add_head(writer: GraphWriter, head: CellHead) -> None:
    """Put `head_logits` on the context; each part is weighed at its own resolution, which is cheaper than at 1/8."""
    for name, weight in ((NEAR, head.near), (FAR, head.far), (WHOLE, head.whole)):
        writer.constant(f"{name}_weight", weight[:, :, None, None])
        inputs = [name, f"{name}_weight"]
        if name == WHOLE:
            writer.constant("head_bias", head.bias)
            inputs.append("head_bias")
        writer.node("Conv", inputs, f"{name}_hidden")
    writer.constant("head_twice", [1, 1, 2, 2])
    writer.node(
        "Resize", [f"{FAR}_hidden", "", "head_twice"], "head_far_repeated", mode="nearest",
        coordinate_transformation_mode="asymmetric", nearest_mode="floor",
    )  # fmt: skip
    writer.node("Add", [f"{NEAR}_hidden", "head_far_repeated"], "head_sum")
    writer.node("Add", ["head_sum", f"{WHOLE}_hidden"], "head_hidden")
    writer.node("Relu", ["head_hidden"], "head_active")
    writer.constant("head_out", head.out[None, :, None, None])
    writer.constant("head_out_bias", [head.out_bias])
    writer.node("Conv", ["head_active", "head_out", "head_out_bias"], "head_logits")


def _pool(writer: GraphWriter, kind: str, source: str, output: str, *, side: int) -> None:
    """Pool over side x side cells, as many out as in; what lies outside of the picture doesn't count."""
    writer.node(kind, [source], output, kernel_shape=[side, side], pads=[side // 2] * 4, strides=[1, 1])
