"""Export a cell model to ONNX with everything inside: normalisation, backbone, head, calibration and image score."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

from models.toolkit.ball_screw.head import CellHead, image_logit
from models.toolkit.figures.calibration import Calibration
from models.toolkit.graphs.session import open_file

OPSET = 17
PARITY_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class InputShape:
    """The fixed input of an exported model, in pixels."""

    width: int
    height: int


class CellModel(nn.Module):
    """The shipped graph: uint8 RGB 1 x H x W x 3 in; scores 1 x 1 and cells 1 x 1 x H/8 x W/8 out, each 0..1."""

    def __init__(self, trunk: nn.Module, head: CellHead, calibration: Calibration) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head.folded()
        self.gain = calibration.gain
        self.shift = calibration.shift

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return image scores and cell scores; the image score is the highest cell."""
        logits = self.gain * self.head(self.trunk(image)) + self.shift
        return torch.sigmoid(image_logit(logits))[:, None], torch.sigmoid(logits)


def export_onnx(model: CellModel, path: Path, shape: InputShape) -> None:
    """Write one self-contained ONNX file for batch 1 and check it against the ONNX rules."""
    example = torch.zeros((1, shape.height, shape.width, 3), dtype=torch.uint8)
    with torch.inference_mode():
        torch.onnx.export(
            model.eval(),
            (example,),
            str(path),
            opset_version=OPSET,
            dynamo=False,
            input_names=["image"],
            output_names=["scores", "cells"],
        )
    onnx.checker.check_model(str(path), full_check=True)


def largest_difference(model: CellModel, path: Path, pictures: Sequence[npt.NDArray[np.uint8]]) -> float:
    """Return the largest difference of any output between the trained and the exported model."""
    session = open_file(path)
    worst = 0.0
    for picture in pictures:
        with torch.inference_mode():
            wanted = [output.numpy() for output in model(torch.from_numpy(picture)[None])]
        given = session.run(None, {"image": picture[None]})
        worst = max(worst, *(float(np.abs(a - b).max()) for a, b in zip(wanted, given, strict=True)))
    return worst


def check_parity(model: CellModel, path: Path, pictures: Sequence[npt.NDArray[np.uint8]]) -> float:
    """Return the largest difference, or raise ValueError where the export changed the model."""
    worst = largest_difference(model, path, pictures)
    if worst > PARITY_TOLERANCE:
        raise ValueError(f"the exported model differs by {worst:.2g}, allowed is {PARITY_TOLERANCE:g}")
    return worst
