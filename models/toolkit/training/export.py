"""Export a torch classifier to one self-contained ONNX graph, from bytes to scores, and prove that it says the same."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

from bridge.inference.manifest import InputSpec
from models.toolkit.graphs.heads import SCORES
from models.toolkit.graphs.session import open_model
from models.toolkit.pictures.folder import DataError
from models.toolkit.pictures.staged import Bytes

Values = npt.NDArray[np.float32]
Differ = Callable[[Sequence[Values], Sequence[Values]], float]
"""Tells how far the graph's outputs for one picture are from the net's."""
_OPSET = 17
_PARITY = 1e-3


class _Scored(nn.Module):
    """A net that gives logits, with the softmax behind it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        """Give scores from 0 to 1, N x labels."""
        return cast(Tensor, torch.softmax(self.net(image), dim=1))


def export_classifier(net: nn.Module, spec: InputSpec, pictures: Bytes) -> onnx.ModelProto:
    """Export `net` (bytes 1 x H x W x 3 to logits) for batch 1; raises DataError where a score differs on `pictures`.

    Batch normalisations are folded into the convolutions, for the net is exported in evaluation mode.
    """
    return export_checked(_Scored(net), spec, pictures, outputs=(SCORES,), allowed=_PARITY)


def largest_difference(given: Sequence[Values], wanted: Sequence[Values]) -> float:
    """Give the largest distance between two values in the same place of the same output."""
    return max(float(np.abs(ours - theirs).max()) for ours, theirs in zip(given, wanted, strict=True))


def export_checked(
    net: nn.Module,
    spec: InputSpec,
    pictures: Bytes,
    *,
    outputs: Sequence[str],
    allowed: float,
    differ: Differ = largest_difference,
) -> onnx.ModelProto:
    """Export `net` as it is for batch 1, with names for what it gives (a tensor, or a tuple of them).

    Raises DataError where the outputs `differ` by more than `allowed` on one of `pictures`, N x H x W x channels.
    """
    net.eval()
    example = torch.zeros((1, spec.height, spec.width, spec.channels), dtype=torch.uint8)
    file = io.BytesIO()
    with torch.inference_mode(), warnings.catch_warnings():
        # the exporter is the old one on purpose, and warns of that, of what it does not fold, and of checks of shapes
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        torch.onnx.export(
            net, (example,), file, opset_version=_OPSET, dynamo=False, input_names=[spec.name],
            output_names=list(outputs),
        )  # fmt: skip
    model = onnx.load_model_from_string(file.getvalue())
    onnx.checker.check_model(model, full_check=True)
    worst = _worst(net, model, spec, pictures, outputs, differ)
    if worst > allowed:
        raise DataError(
            f"the exported model's scores differ by {worst:.2g} from the trained one's, allowed is {allowed}"
        )
    return model


def _worst(
    net: nn.Module,
    model: onnx.ModelProto,
    spec: InputSpec,
    pictures: Bytes,
    outputs: Sequence[str],
    differ: Differ,
) -> float:
    session, worst = open_model(model), 0.0
    for picture in pictures:
        given = session.run(list(outputs), {spec.name: picture[None]})
        with torch.inference_mode():
            told = net(torch.from_numpy(picture[None]))
        wanted = told if isinstance(told, tuple) else (told,)
        worst = max(worst, differ(given, [each.numpy() for each in wanted]))
    return worst
