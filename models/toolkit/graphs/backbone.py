"""The shipped backbone, cut to the taps that are wanted, ready for a head to be put on; no torch.

`efficientnet-lite0.onnx`, written by `models.toolkit.training.make_backbone`: uint8 RGB, 1 x H x W x 3, sides multiples of 32,
to `early` (40 channels at 1/8 of the side), `deep` (112 at 1/16) and `last` (1280 at 1/32), ImageNet weights, Apache-2.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from models.toolkit.pictures.prepared import SIDE_MULTIPLE

TAPS = {"early": 40, "deep": 112, "last": 1280}
BACKBONE = Path(str(files("models"))) / "backbones" / "efficientnet-lite0.onnx"


def load_backbone(taps: Sequence[str], *, width: int, height: int) -> onnx.ModelProto:
    """Give the backbone for one size of picture with these taps as outputs, nothing behind the last of them.

    Raises ValueError for a side that is no multiple of 32.
    """
    if width % SIDE_MULTIPLE or height % SIDE_MULTIPLE:
        raise ValueError(f"input of {width} x {height}: allowed are multiples of {SIDE_MULTIPLE}")
    model = onnx.load(BACKBONE)
    _unpack_weights(model.graph)
    keep_what_leads_to(model.graph, taps)
    for dim, side in zip(model.graph.input[0].type.tensor_type.shape.dim[1:3], (height, width), strict=True):
        dim.dim_value = side
    del model.graph.output[:]
    stride = {"early": 8, "deep": 16, "last": 32}
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(
            tap, onnx.TensorProto.FLOAT, [1, TAPS[tap], height // stride[tap], width // stride[tap]]
        )
        for tap in taps
    )
    return model


def _unpack_weights(graph: onnx.GraphProto) -> None:
    """Turn weights that are stored as float16 into the float32 that their cast would give."""
    stored = {weight.name: weight for weight in graph.initializer}
    casts = [node for node in graph.node if node.op_type == "Cast" and node.input[0] in stored]
    for node in casts:
        values = numpy_helper.to_array(stored[node.input[0]]).astype(np.float32)
        stored[node.input[0]].CopyFrom(numpy_helper.from_array(values, node.output[0]))
        graph.node.remove(node)


def keep_what_leads_to(graph: onnx.GraphProto, outputs: Sequence[str]) -> None:
    """Drop every node and weight that none of the outputs needs."""
    needed, kept = set(outputs), []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    weights = [weight for weight in graph.initializer if weight.name in needed]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(weights)
