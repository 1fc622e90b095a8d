"""Put heads on a backbone: every bundle is one ONNX graph from the bytes of a picture to scores from 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from models.toolkit.graphs.backbone import TAPS

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
    graph = model.graph
    parts = [_pool(graph, tap, how) for tap in taps for how in POOLED[tap]]
    graph.node.append(helper.make_node("Concat", parts, ["pooled"], axis=1, name="pooled"))
    graph.node.append(helper.make_node("Flatten", ["pooled"], [FEATURES], axis=1, name=FEATURES))
    _set_outputs(model, {FEATURES: [1, pooled_size(taps)]})
    return model


def _pool(graph: onnx.GraphProto, tap: str, how: str) -> str:
    """Reduce a map to one value a channel; gives the tensor's name."""
    name = f"{tap}_{how}"
    if how != "std":
        kind = "GlobalAveragePool" if how == "mean" else "GlobalMaxPool"
        graph.node.append(helper.make_node(kind, [tap], [name], name=name))
        return name
    mean = f"{tap}_mean"  # stands before it in every row of POOLED
    steps = [
        ("Mul", [tap, tap], f"{tap}_squared"),
        ("GlobalAveragePool", [f"{tap}_squared"], f"{tap}_mean_square"),
        ("Mul", [mean, mean], f"{tap}_square_mean"),
        ("Sub", [f"{tap}_mean_square", f"{tap}_square_mean"], f"{tap}_difference"),
        ("Relu", [f"{tap}_difference"], f"{tap}_variance"),
        ("Sqrt", [f"{tap}_variance"], name),
    ]
    graph.node.extend(helper.make_node(kind, inputs, [output], name=output) for kind, inputs, output in steps)
    return name


def add_classifier(model: onnx.ModelProto, head: Linear) -> onnx.ModelProto:
    """Put a softmax over the labels on `features`; `scores`, 1 x labels, is the only output."""
    graph = model.graph
    _constant(graph, "head_weight", head.weight.T)
    _constant(graph, "head_bias", head.bias)
    graph.node.append(helper.make_node("Gemm", [FEATURES, "head_weight", "head_bias"], ["logits"], name="head"))
    graph.node.append(helper.make_node("Softmax", ["logits"], [SCORES], axis=1, name=SCORES))
    _set_outputs(model, {SCORES: [1, len(head.bias)]})
    return model


def _constant(graph: onnx.GraphProto, name: str, values: npt.NDArray[np.generic]) -> None:
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name))


def _set_outputs(model: onnx.ModelProto, shapes: dict[str, list[int]]) -> None:
    del model.graph.output[:]
    model.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()
    )
    onnx.checker.check_model(model)
