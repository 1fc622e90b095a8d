"""Write nodes and constants into an ONNX graph: each call names its result, and gives the name back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphWriter:
    """Gather nodes for a graph; `into` puts them behind those that are there, or at a place between them.

    A node has the name of its output, with `prefix` before it where it doesn't begin so.
    """

    prefix: str = ""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node with one output; gives the output's name."""
        name = output if output.startswith(self.prefix) else self.prefix + output
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=name, **attributes))
        return output

    def constant(self, name: str, values: npt.ArrayLike, dtype: type[np.generic] = np.float32) -> str:
        """Add a constant tensor; gives its name."""
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(np.asarray(values, dtype)), name))
        return name

    def into(self, graph: onnx.GraphProto, *, at: int | None = None) -> None:
        """Put everything gathered into `graph`, its nodes before number `at`, else at the end."""
        place = len(graph.node) if at is None else at
        nodes = [*graph.node[:place], *self.nodes, *graph.node[place:]]
        del graph.node[:]
        graph.node.extend(nodes)
        graph.initializer.extend(self.constants)


def set_outputs(model: onnx.ModelProto, shapes: dict[str, list[int]]) -> onnx.ModelProto:
    """Make these float32 tensors the only outputs, checked; gives the model back."""
    del model.graph.output[:]
    model.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()
    )
    onnx.checker.check_model(model)
    return model
