"""Find, in a classifier's graph, the feature maps whose pooled values one linear layer turns into logits.

Read backwards from the scores: an activation, a linear layer (Gemm, or MatMul and Add), the pooled features beside each
other, and for each the map it is pooled from. Steps that change no value (reshaping, INT8 rounding) are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from models.toolkit.pictures.folder import DataError

Pooling = Literal["mean", "max", "std"]
Array = npt.NDArray[np.float64]
_SAME = (
    "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Cast", "QuantizeLinear", "DequantizeLinear",
)  # fmt: skip
_ACTIVATIONS = ("Softmax", "Sigmoid")
_POOLS: Mapping[str, Pooling] = {
    "GlobalAveragePool": "mean", "ReduceMean": "mean", "GlobalMaxPool": "max", "ReduceMax": "max",
}  # fmt: skip


class NotPooledError(DataError):
    """A graph whose scores don't come of pooled feature maps and one linear layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledMap:
    """A tensor, 1 x channels x rows x columns, and how it becomes one value a channel."""

    tensor: str
    how: Pooling


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledHead:
    """The maps in the order of their features, the tensor of the logits, and what the linear layer multiplies and adds.

    `weight` is the name of a tensor of labels x features, or features x labels where `turned`, times `gain`. `bias` is
    the name of a tensor of one value a label, times `bias_gain`; None where none is added.
    """

    maps: tuple[PooledMap, ...]
    logits: str
    weight: str
    turned: bool
    gain: float = 1.0
    bias: str | None = None
    bias_gain: float = 1.0

    @property
    def tensors(self) -> tuple[str, ...]:
        """Every tensor that an explanation reads, each once."""
        names = (self.logits, self.weight, *(each.tensor for each in self.maps), *([self.bias] if self.bias else []))
        return tuple(dict.fromkeys(names))


class _Backwards:
    """A graph, looked at from its outputs."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._made = {name: node for node in graph.node for name in node.output}
        self._stored = {item.name for item in graph.initializer}

    def before(self, tensor: str, same: Sequence[str] = _SAME) -> onnx.NodeProto:
        """Give the node behind a tensor that does more than those in `same`; raises NotPooledError at an input."""
        node = self._made.get(tensor)
        while node is not None and node.op_type in same:
            node = self._made.get(node.input[0])
        if node is None:
            raise NotPooledError(f"{tensor} comes of no layer")
        return node

    def constant(self, tensor: str) -> bool:
        """Whether a tensor is the same for every picture."""
        node = self._made.get(tensor)
        if node is None:
            return tensor in self._stored
        return all(self.constant(name) for name in node.input if name)

    def plain(self, tensor: str) -> str:
        """Give the tensor that this one is a reshaped or rounded copy of."""
        node = self._made.get(tensor)
        return tensor if node is None or node.op_type not in _SAME else self.plain(node.input[0])


def find_pooled_head(model: onnx.ModelProto, scores: str) -> PooledHead:
    """Find the head that gives `scores`; raises NotPooledError saying which layer is of another kind."""
    back = _Backwards(model.graph)
    layer, bias = back.before(scores, (*_SAME, *_ACTIVATIONS)), None
    logits = layer.output[0]
    if layer.op_type == "Add":
        (bias, *_), moving = _sides(back, layer)
        layer = back.before(moving)
    if layer.op_type not in ("Gemm", "MatMul") or not back.constant(layer.input[1]):
        raise NotPooledError(f"the scores come of {_named(layer)}, not of a linear layer")
    settings = {each.name: onnx.helper.get_attribute_value(each) for each in layer.attribute}
    if layer.op_type == "Gemm" and len(layer.input) > 2 and bias is None:
        bias = layer.input[2]
    return PooledHead(
        maps=tuple(_maps(back, layer.input[0])), logits=logits, weight=layer.input[1],
        turned=not settings.get("transB", 0), gain=settings.get("alpha", 1.0), bias=bias,
        bias_gain=settings.get("beta", 1.0),
    )  # fmt: skip


def _sides(back: _Backwards, node: onnx.NodeProto) -> tuple[list[str], str]:
    """Give the constant side of an addition, and the other one."""
    constants = [name for name in node.input if back.constant(name)]
    moving = [name for name in node.input if name not in constants]
    if len(constants) != 1 or len(moving) != 1:
        raise NotPooledError(f"the scores come of {_named(node)}, not of a linear layer")
    return constants, moving[0]


def _maps(back: _Backwards, features: str) -> list[PooledMap]:
    node = back.before(features)
    if node.op_type == "Concat":
        return [found for name in node.input for found in _maps(back, name)]
    if node.op_type in _POOLS:
        return [PooledMap(tensor=node.input[0], how=_POOLS[node.op_type])]
    if node.op_type == "Sqrt":
        return [PooledMap(tensor=_spread_of(back, node), how="std")]
    raise NotPooledError(f"the linear layer reads {_named(node)}, not a pooled feature map")


def _spread_of(back: _Backwards, root: onnx.NodeProto) -> str:
    """Give the map of which a node gives the standard deviation: the root of mean(x * x) - mean(x) * mean(x)."""
    difference = back.before(root.input[0], (*_SAME, "Relu", "Clip"))
    if difference.op_type == "Sub":
        first, second = (back.before(name) for name in difference.input)
        if first.op_type == "GlobalAveragePool" and second.op_type == "Mul":
            square = back.before(first.input[0])
            means = [back.before(name) for name in second.input]
            names = [*square.input, *(mean.input[0] for mean in means if mean.op_type == "GlobalAveragePool")]
            if square.op_type == "Mul" and len(names) == 4 and len({back.plain(name) for name in names}) == 1:
                return str(square.input[0])
    raise NotPooledError(f"the linear layer reads {_named(root)}, not a pooled feature map")


def _named(node: onnx.NodeProto) -> str:
    return f"{node.name or node.output[0]} ({node.op_type})"


def stored(model: onnx.ModelProto, name: str) -> Array | None:
    """Give a tensor that the graph stores as it is; None for one that is computed."""
    found = next((item for item in model.graph.initializer if item.name == name), None)
    return None if found is None else np.asarray(numpy_helper.to_array(found), np.float64)


def with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """Give a copy with these tensors as its only outputs."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return copy
