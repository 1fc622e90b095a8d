"""Make one graph of a net that marks defects, from bytes to calibrated scores and cells, and its card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from bridge.inference.manifest import InputSpec
from models.toolkit.figures.calibration import Calibration
from models.toolkit.graphs.heads import CELLS, SCORES
from models.toolkit.pictures.folder import LabelledFolder
from models.toolkit.pictures.staged import Bytes
from models.toolkit.training.export import export_checked
from models.toolkit.training.places_bundle import counted

CELL_PX = 4
"""Side of a cell in pixels of the input."""
_PARITY = 1e-4


class Judged(nn.Module):
    """A net that gives logits for each pixel, and what the bridge reads of them."""

    def __init__(self, net: nn.Module, calibration: Calibration) -> None:
        super().__init__()
        self.net = net
        self.gain, self.shift = calibration.gain, calibration.shift

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Give scores, N x labels, and cells, N x labels x H/4 x W/4, calibrated, for bytes N x H x W x 3.

        A cell is the highest of its 16 pixels, a score the highest cell: a defect of one pixel isn't averaged away.
        """
        highest = functional.max_pool2d(self.net(image), CELL_PX)
        cells = torch.sigmoid(self.gain * highest + self.shift)
        return cells.amax((2, 3)), cells


def export_masks(net: nn.Module, calibration: Calibration, spec: InputSpec, pictures: Bytes) -> onnx.ModelProto:
    """Export a net with its calibration; raises DataError where a score or cell is off by 1e-4 on one of `pictures`."""
    judged = Judged(net, calibration)
    return export_checked(judged, spec, pictures, outputs=(SCORES, CELLS), allowed=_PARITY)


def masks_card(folder: LabelledFolder, labels: Sequence[str], spec: InputSpec, figures: Mapping[str, Any]) -> str:
    """Write the card of a net that marks defects; `figures` are its report's."""
    dice = figures["dice"]
    return _CARD.format(
        architecture=figures["architecture"], width=spec.width, height=spec.height, counts=counted(folder),
        good=folder.good, labels=", ".join(labels), dice="-" if dice is None else f"{dice:.3f}",
        escaped=100 * figures["escapes_at_1pct_false_rejects"],
        **{key: figures[key] for key in ("n", "auroc", "frame_ms_one_thread")},
    )  # fmt: skip


_CARD = """\
# A trained model that marks defects

{architecture}, trained on masks, on pictures stretched to {width} x {height}. It marks: {labels}. One score for the picture
and one for each cell of 4 x 4 pixels, 0 to 1; a cell is the highest of its pixels, a score the highest of its cells. Class
of good parts: {good}.

| class | pictures |
| --- | --- |
{counts}

30 % were held out and judged at the end: {n} pictures, AUROC {auroc:.4f}, {escaped:.1f} % of the defective ones escape where 1 %
of the good ones are rejected, Dice over defect pixels {dice}. One frame takes {frame_ms_one_thread} ms on one thread of the
machine that made it.
"""
