"""Which channels of a classifier's graph hang together, and how to cut some of them out everywhere; no torch.

Channels that are added to each other, or filtered one by one, must go together: each such set is a group (the idea of
DepGraph, Fang et al. 2023, on the ONNX graph itself). What reaches an output, or an operator not known here, stays whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

Weights = dict[str, npt.NDArray[np.float32]]
_THROUGH = (
    "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "HardSwish", "HardSigmoid",
    "Sigmoid", "Sqrt", "Identity", "Resize", "ReduceMean",
)  # fmt: skip
_JOINING = ("Add", "Mul", "Sub", "Div")
_WIDTH_STEP = 8
"""Convolution kernels work on 8 or 16 channels at once: widths between cost time and give nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Where a group's channels lie in one weight: along `axis`."""

    weight: str
    axis: int


@dataclass(slots=True, kw_only=True)
class Group:
    """Channels that can only go together: `width` of them, and every weight that has one row or column for each."""

    width: int
    locked: bool = False
    slices: list[Slice] = field(default_factory=list)


class ChannelGroups:
    """The groups of a simplified classifier (`models.toolkit.compression.int8.simplified`)."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.weights: Weights = {
            item.name: numpy_helper.to_array(item).copy()
            for item in model.graph.initializer
            if item.data_type == onnx.TensorProto.FLOAT
        }
        self._shapes = _shapes(model)
        self._of: dict[str, Group] = {}
        for node in model.graph.node:
            self._follow(node)
        for output in model.graph.output:
            self._group(output.name).locked = True
        self.groups = self._found()

    def _found(self) -> list[Group]:
        once: dict[int, Group] = {id(group): group for group in self._of.values()}
        return [group for group in once.values() if not group.locked and group.width and group.slices]

    def _group(self, tensor: str) -> Group:
        """Give the group of a tensor's channels; what no known operator made is locked."""
        if tensor not in self._of:
            self._of[tensor] = Group(width=0, locked=True)
        return self._of[tensor]

    def _follow(self, node: onnx.NodeProto) -> None:
        if node.op_type == "Conv":
            self._convolution(node)
        elif node.op_type in ("Gemm", "MatMul") and node.input[1] in self.weights:
            self._linear(node)
        elif node.op_type in _THROUGH or (node.op_type in ("Flatten", "Reshape") and self._pooled(node.input[0])):
            self._of[node.output[0]] = self._group(node.input[0])
        elif node.op_type in _JOINING:
            self._join(node)
        else:
            self._lock(node)

    def _pooled(self, tensor: str) -> bool:
        """Whether a tensor has one value a channel, so that flattening it keeps its channels."""
        return self._shapes.get(tensor, (0, 0, 0))[2:] in ((), (1, 1))

    def _lock(self, node: onnx.NodeProto) -> None:
        for name in (*node.input, *node.output):
            if name and name not in self.weights:
                self._group(name).locked = True

    def _convolution(self, node: onnx.NodeProto) -> None:
        weight, count = self.weights[node.input[1]], _attribute(node, "group", 1)
        inputs = self._group(node.input[0])
        if count == 1:
            inputs.slices.append(Slice(weight=node.input[1], axis=1))
            outputs = Group(width=len(weight))
        elif count == len(weight) and weight.shape[1] == 1:
            outputs = inputs
        else:
            inputs.locked = True
            outputs = Group(width=len(weight), locked=True)
        outputs.slices += [Slice(weight=name, axis=0) for name in node.input[1:] if name]
        self._of[node.output[0]] = outputs

    def _linear(self, node: onnx.NodeProto) -> None:
        turned = _attribute(node, "transB", 0)
        weight = self.weights[node.input[1]]
        self._group(node.input[0]).slices.append(Slice(weight=node.input[1], axis=1 if turned else 0))
        outputs = Group(width=weight.shape[0 if turned else 1])
        outputs.slices.append(Slice(weight=node.input[1], axis=0 if turned else 1))
        outputs.slices += [Slice(weight=name, axis=0) for name in node.input[2:3]]
        self._of[node.output[0]] = outputs

    def _join(self, node: onnx.NodeProto) -> None:
        """Tie the channels of two tensors; a constant for all channels alike ties nothing, another locks."""
        first, second = node.input
        constants = [name for name in node.input if name in self.weights]
        if constants:
            moving = second if first in constants else first
            if self.weights[constants[0]].size != 1:
                self._group(moving).locked = True
            self._of[node.output[0]] = self._group(moving)
            return
        one, other = self._group(first), self._group(second)
        if one.width != other.width:
            one.locked = other.locked = True
        elif one is not other:
            one.slices += other.slices
            one.locked = one.locked or other.locked
            for name, group in self._of.items():
                if group is other:
                    self._of[name] = one
        self._of[node.output[0]] = one


def unshared(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give a copy in which each layer has weights of its own: exporters store equal ones once, cut ones differ."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    stored = {item.name: item for item in copy.graph.initializer}
    taken: set[str] = set()
    for node in copy.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        for number, name in enumerate(node.input):
            if name in taken:
                own = onnx.TensorProto()
                own.CopyFrom(stored[name])
                own.name = f"{node.name}_own_{number}"
                copy.graph.initializer.append(own)
                node.input[number] = own.name
            elif name in stored:
                taken.add(name)
    return copy


def cut(groups: ChannelGroups, saliency: Mapping[str, npt.NDArray[np.float32]], *, share: float) -> Weights:
    """Give all weights without the `share` of each group's channels that matter least.

    `saliency` has the shape of each weight; a channel's is the sum over all its rows and columns. Widths stay multiples of
    8, where they were.
    """
    weights = dict(groups.weights)
    for group in groups.groups:
        staying = _width(group.width, share)
        total = np.zeros(group.width)
        for place in group.slices:
            values = np.moveaxis(saliency[place.weight], place.axis, 0)
            total += values.reshape(group.width, -1).sum(1)
        kept = np.sort(np.argsort(-total, kind="stable")[:staying])
        for place in group.slices:
            weights[place.weight] = np.take(weights[place.weight], kept, axis=place.axis)
    return weights


def _width(width: int, share: float) -> int:
    staying = width * (1 - share)
    if width % _WIDTH_STEP == 0:
        staying = max(1, round(staying / _WIDTH_STEP)) * _WIDTH_STEP
    return min(width, max(1, round(staying)))


def with_weights(model: onnx.ModelProto, weights: Weights) -> onnx.ModelProto:
    """Give a copy of the model with these weights, its inner shapes anew; raises onnx's errors where they do not fit."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for item in copy.graph.initializer:
        if item.name in weights:
            item.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(weights[item.name], np.float32), item.name))
    for node in copy.graph.node:
        if node.op_type == "Conv" and _attribute(node, "group", 1) != 1 and weights[node.input[1]].shape[1] == 1:
            for attribute in node.attribute:
                if attribute.name == "group":
                    attribute.i = len(weights[node.input[1]])
    del copy.graph.value_info[:]
    onnx.checker.check_model(copy, full_check=True)
    return onnx.shape_inference.infer_shapes(copy, strict_mode=True)


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(each.i) for each in node.attribute if each.name == name), default)


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    return {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*model.graph.input, *model.graph.value_info, *model.graph.output)
    }
