"""Put heads on a backbone: every bundle is one ONNX graph from the bytes of a picture to scores from 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from models.toolkit.graphs.backbone import TAPS
from models.toolkit.graphs.writer import GraphWriter, set_outputs

SCORES, CELLS, FEATURES = "scores", "cells", "features"
Array = npt.NDArray[np.float64]
POOLED = {"early": ("mean", "std", "max"), "deep": ("mean", "std", "max"), "last": ("mean",)}
"""What a picture is described by: how much of each feature there is, how it varies, and for the finer maps its strongest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """Weights (outputs x inputs) and bias of a layer over what is standardised by nobody any more."""

    weight: Array
    bias: Array


def pooled_size(taps: Sequence[str]) -> int:
    """Give how many pooled features these taps make."""
    return sum(TAPS[tap] * len(POOLED[tap]) for tap in taps)


def add_pooling(model: onnx.ModelProto, taps: Sequence[str]) -> onnx.ModelProto:
    """Make `features`, 1 x `pooled_size`, the only output."""
    writer = GraphWriter()
    parts = [_pool(writer, tap, how) for tap in taps for how in POOLED[tap]]
    writer.node("Flatten", [writer.node("Concat", parts, "pooled", axis=1)], FEATURES, axis=1)
    writer.into(model.graph)
    return set_outputs(model, {FEATURES: [1, pooled_size(taps)]})


def _pool(writer: GraphWriter, tap: str, how: str) -> str:
    """Reduce a map to one value a channel; gives the tensor's name."""
    name = f"{tap}_{how}"
    if how != "std":
        return writer.node("GlobalAveragePool" if how == "mean" else "GlobalMaxPool", [tap], name)
    mean = f"{tap}_mean"  # stands before it in every row of POOLED
    squared = writer.node("Mul", [tap, tap], f"{tap}_squared")
    mean_square = writer.node("GlobalAveragePool", [squared], f"{tap}_mean_square")
    square_mean = writer.node("Mul", [mean, mean], f"{tap}_square_mean")
    difference = writer.node("Sub", [mean_square, square_mean], f"{tap}_difference")
    return writer.node("Sqrt", [writer.node("Relu", [difference], f"{tap}_variance")], name)


def add_classifier(model: onnx.ModelProto, head: Linear) -> onnx.ModelProto:
    """Put a softmax over the labels on `features`; `scores`, 1 x labels, is the only output."""
    writer = GraphWriter()
    inputs = [FEATURES, writer.constant("head_weight", head.weight.T), writer.constant("head_bias", head.bias)]
    writer.nodes.append(helper.make_node("Gemm", inputs, ["logits"], name="head"))
    writer.node("Softmax", ["logits"], SCORES, axis=1)
    writer.into(model.graph)
    return set_outputs(model, {SCORES: [1, len(head.bias)]})
