"""A classifier's ONNX graph as a torch module, so that any float bundle can be fitted further; nothing is exported back.

The weights are the graph's own, by name: what was learnt is written into the same graph. No state beside the model, and
so no pickle, is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from models.toolkit.pictures.folder import DataError

_LEARNT = ("Conv", "Gemm", "MatMul")
_TYPES = MappingProxyType({onnx.TensorProto.FLOAT: torch.float32, onnx.TensorProto.INT64: torch.int64})
Attributes = Mapping[str, Any]
Operator = Callable[[list[Tensor | None], Attributes], Tensor]


class GraphModule(nn.Module):
    """A simplified classifier (`models.toolkit.compression.int8.simplified`) from its input, N at a time, to the logits.

    Raises DataError where it has an operator that is not known here, or scores that no softmax made.
    """

    def __init__(self, model: onnx.ModelProto, *, scores: str, where: str) -> None:
        super().__init__()
        last = next((node for node in model.graph.node if scores in node.output), None)
        if last is None or last.op_type != "Softmax":
            raise DataError(f"{where}: its scores come from {last.op_type if last else 'nowhere'}: wanted is a Softmax")
        self._steps = [node for node in model.graph.node if node is not last]
        unknown = sorted({node.op_type for node in self._steps} - set(_OPERATORS))
        if unknown:
            raise DataError(f"{where}: the operator {unknown[0]} can't be fitted: allowed are {', '.join(_OPERATORS)}")
        self._attributes = [
            {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute} for node in self._steps
        ]
        self._input, self._logits = model.graph.input[0].name, last.input[0]
        learnt = {name for node in self._steps if node.op_type in _LEARNT for name in node.input}
        self._names: dict[str, str] = {}
        for number, item in enumerate(model.graph.initializer):
            values = torch.from_numpy(numpy_helper.to_array(item).copy())
            self._names[item.name] = f"weight_{number}"
            if item.name in learnt:
                self.register_parameter(f"weight_{number}", nn.Parameter(values))
            else:
                self.register_buffer(f"weight_{number}", values)

    def forward(self, inputs: Tensor) -> Tensor:
        """Give N x labels logits."""
        found: dict[str, Tensor] = {name: cast(Tensor, getattr(self, inner)) for name, inner in self._names.items()}
        found[self._input] = inputs
        for node, attributes in zip(self._steps, self._attributes, strict=True):
            arguments = [found[name] if name else None for name in node.input]
            found[node.output[0]] = _OPERATORS[node.op_type](arguments, attributes)
        return found[self._logits]

    def weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """Give the learnt weights by their names in the graph."""
        inner = dict(self.named_parameters())
        return {
            name: inner[key].detach().numpy().astype(np.float32) for name, key in self._names.items() if key in inner
        }

    def gradients(self) -> dict[str, npt.NDArray[np.float32]]:
        """Give the gradients of the learnt weights, zeros where there is none yet."""
        inner = dict(self.named_parameters())
        return {
            name: np.zeros(inner[key].shape, np.float32)
            if (slope := inner[key].grad) is None
            else slope.numpy().astype(np.float32)
            for name, key in self._names.items()
            if key in inner
        }


def _need(value: Tensor | None) -> Tensor:
    if value is None:
        raise DataError("the model's graph lacks an input that its operator needs")
    return value


def _padded(x: Tensor, attributes: Attributes, value: float) -> Tensor:
    """Pad the last two axes as `pads` (top, left, bottom, right) says."""
    top, left, bottom, right = attributes.get("pads") or (0, 0, 0, 0)
    return functional.pad(x, (left, right, top, bottom), value=value) if top or left or bottom or right else x


def _conv(given: list[Tensor | None], attributes: Attributes) -> Tensor:
    weight, bias = _need(given[1]), given[2] if len(given) > 2 else None
    return functional.conv2d(
        _padded(_need(given[0]), attributes, 0.0), weight, bias, stride=tuple(attributes.get("strides", (1, 1))),
        dilation=tuple(attributes.get("dilations", (1, 1))), groups=int(attributes.get("group", 1)),
    )  # fmt: skip


def _gemm(given: list[Tensor | None], attributes: Attributes) -> Tensor:
    weight = _need(given[1])
    result = float(attributes.get("alpha", 1.0)) * (
        _need(given[0]) @ (weight.T if attributes.get("transB", 0) else weight)
    )
    bias = given[2] if len(given) > 2 else None
    return result if bias is None else result + float(attributes.get("beta", 1.0)) * bias


def _max_pool(given: list[Tensor | None], attributes: Attributes) -> Tensor:
    x = _padded(_need(given[0]), attributes, float("-inf"))
    return functional.max_pool2d(x, tuple(attributes["kernel_shape"]), tuple(attributes.get("strides", (1, 1))))


def _average_pool(given: list[Tensor | None], attributes: Attributes) -> Tensor:
    pads = tuple(attributes.get("pads") or (0, 0, 0, 0))
    if any(pads) and not attributes.get("count_include_pad", 0):
        raise DataError("the operator AveragePool can't be fitted where it leaves out what it pads")
    x = _padded(_need(given[0]), attributes, 0.0)
    return functional.avg_pool2d(x, tuple(attributes["kernel_shape"]), tuple(attributes.get("strides", (1, 1))))


def _normalise(given: list[Tensor | None], attributes: Attributes) -> Tensor:
    """Apply a batch normalisation that no convolution could take in, by its stored mean and spread."""
    x, scale, shift, mean, variance = (_need(each) for each in given)
    return functional.batch_norm(x, mean, variance, scale, shift, eps=float(attributes.get("epsilon", 1e-5)))


def _reduced(attributes: Attributes) -> dict[str, Any]:
    """Give the axes as opset 17 tells them."""
    return {"dim": tuple(attributes["axes"]), "keepdim": bool(attributes.get("keepdims", 1))}


def _clip(given: list[Tensor | None], _attributes: Attributes) -> Tensor:
    low, high = [*given[1:], None, None][:2]
    return torch.clamp(_need(given[0]), None if low is None else low, None if high is None else high)


def _pad(given: list[Tensor | None], _attributes: Attributes) -> Tensor:
    pads = [int(value) for value in _need(given[1])]
    axes = len(pads) // 2
    value = 0.0 if len(given) < 3 or given[2] is None else float(given[2])
    backwards = [edge for axis in reversed(range(axes)) for edge in (pads[axis], pads[axis + axes])]
    return functional.pad(_need(given[0]), backwards, value=value)


def _concat(given: list[Tensor | None], attributes: Attributes) -> Tensor:
    return torch.cat([_need(each) for each in given], dim=int(attributes["axis"]))


def _each(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda given, _attributes: function(_need(given[0]))


def _both(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda given, _attributes: function(_need(given[0]), _need(given[1]))


_OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        "Conv": _conv,
        "Gemm": _gemm,
        "MatMul": _both(torch.matmul),
        "Relu": _each(functional.relu),
        "Clip": _clip,
        "HardSwish": _each(functional.hardswish),
        "HardSigmoid": lambda given, attributes: torch.clamp(
            float(attributes.get("alpha", 0.2)) * _need(given[0]) + float(attributes.get("beta", 0.5)), 0.0, 1.0
        ),
        "Sigmoid": _each(torch.sigmoid),
        "Sqrt": _each(torch.sqrt),
        "Identity": _each(lambda x: x),
        "Add": _both(torch.add),
        "Sub": _both(torch.sub),
        "Mul": _both(torch.mul),
        "Div": _both(torch.div),
        "MaxPool": _max_pool,
        "AveragePool": _average_pool,
        "BatchNormalization": _normalise,
        "ReduceMean": lambda given, attributes: _need(given[0]).mean(**_reduced(attributes)),
        "ReduceMax": lambda given, attributes: _need(given[0]).amax(**_reduced(attributes)),
        "GlobalAveragePool": _each(lambda x: x.mean((2, 3), keepdim=True)),
        "GlobalMaxPool": _each(lambda x: x.amax((2, 3), keepdim=True)),
        "Flatten": _each(lambda x: x.flatten(1)),
        "Concat": _concat,
        "Pad": _pad,
        "Transpose": lambda given, attributes: _need(given[0]).permute(*attributes["perm"]),
        "Cast": lambda given, attributes: _need(given[0]).to(_TYPES[attributes["to"]]),
    }
)
