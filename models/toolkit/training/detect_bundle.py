"""Make one graph of a net that finds boxes, from bytes to calibrated scores, cells and boxes, and its card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from bridge.inference.manifest import InputSpec
from models.toolkit.figures.calibration import Calibration
from models.toolkit.graphs.heads import CELLS, SCORES
from models.toolkit.pictures.folder import LabelledFolder
from models.toolkit.pictures.staged import Bytes
from models.toolkit.training.detect_net import LiteDetector, Peaks, decode
from models.toolkit.training.detection import BOXES
from models.toolkit.training.export import Values, export_checked
from models.toolkit.training.places_bundle import counted

DETECTIONS = "detections"
CELL_PX = 2
"""Side of a cell that boxes are drawn into, in pixels of the input."""
_PARITY = 1e-3
_TOO_FAINT = 1e-3
"""Boxes with lower scores aren't compared: of those that hardly are, any may be among the strongest."""


class FoundBoxesGraph(nn.Module):
    """A net that finds boxes, and what reads them.

    `scores`, 1 x labels: the highest of each label's heat map. `cells`, 1 x labels x H/2 x W/2: its boxes drawn with their
    scores, which the bridge's head for cells joins into regions again. `detections`, 1 x 32 x 6: x0, y0, x1, y1 in pixels of
    the input, score and number of the label, the highest score first, as end-to-end detectors have them.
    """

    def __init__(self, net: LiteDetector, calibration: Calibration) -> None:
        super().__init__()
        self.net = net
        self.gain, self.shift = calibration.gain, calibration.shift

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give scores, cells and detections, calibrated, for bytes 1 x H x W x 3."""
        maps = self.net(image)
        peaks = decode(maps, BOXES)
        found = self._calibrated(peaks.logits)
        labels, (height, width) = maps.heat.shape[1], image.shape[1:3]
        cells = draw(peaks, found, labels=labels, rows=height // CELL_PX, columns=width // CELL_PX)
        each = torch.cat([peaks.corners, found[..., None], peaks.labels[..., None].float()], 2)
        return self._calibrated(maps.heat.amax((2, 3))), cells, each

    def _calibrated(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(self.gain * logits + self.shift)


def draw(peaks: Peaks, scores: Tensor, *, labels: int, rows: int, columns: int) -> Tensor:
    """Give 1 x labels x rows x columns: the highest score of the boxes there; every box has at least one cell."""
    corners = peaks.corners[0] / CELL_PX
    own = functional.one_hot(peaks.labels[0], labels).float() * scores[0][:, None]
    down = _between(corners[:, 1], corners[:, 3], rows)
    across = _between(corners[:, 0], corners[:, 2], columns)
    return ((own[:, :, None] * down[:, None])[..., None] * across[:, None, None]).amax(0, keepdim=True)


def _between(low: Tensor, high: Tensor, count: int) -> Tensor:
    """Give K x count of 0 and 1: the cells from one edge to the other, both rounded."""
    first = torch.floor(low + 0.5).clamp(0, count - 1)[:, None]
    end = torch.maximum(torch.floor(high + 0.5)[:, None], first + 1)
    places = torch.arange(count, dtype=torch.float32)[None]
    return ((places >= first) & (places < end)).float()


def export_boxes(net: LiteDetector, calibration: Calibration, spec: InputSpec, pictures: Bytes) -> onnx.ModelProto:
    """Export a net with its calibration; raises DataError where scores or boxes differ on one of `pictures` by 0.001.

    Sides are counted in shares of the input; cells may differ at the edge of a box, where a rounding decides.
    """
    graph = FoundBoxesGraph(net, calibration)
    outputs = (SCORES, CELLS, DETECTIONS)
    return export_checked(graph, spec, pictures, outputs=outputs, allowed=_PARITY, differ=difference)


def difference(given: Sequence[Values], wanted: Sequence[Values]) -> float:
    """Give how far scores, cells and detections are from those wanted, whatever the order of boxes that score alike."""
    (scores, cells, boxes), (true_scores, true_cells, true_boxes) = given, wanted
    side = CELL_PX * max(cells.shape[2:])
    return max(
        float(np.abs(scores - true_scores).max()),
        _outside(cells, true_cells), _outside(true_cells, cells),
        _farthest(boxes[0], true_boxes[0], side), _farthest(true_boxes[0], boxes[0], side),
    )  # fmt: skip


def _outside(cells: Values, others: Values) -> float:
    """Give how far a cell is over the highest of the other's nine around it."""
    around = functional.max_pool2d(torch.from_numpy(others), 3, 1, 1).numpy()
    return float((cells - around).max())


def _farthest(boxes: Values, others: Values, side: int) -> float:
    """Give how far the one of `boxes`, K x 6, is that is farthest from the nearest of its label among `others`."""
    clear = boxes[boxes[:, 4] > _TOO_FAINT]
    if not len(clear):
        return 0.0
    scale = np.asarray([1 / side] * 4 + [1.0, 1.0], np.float32)
    apart = np.abs(clear[:, None] - others[None]) * scale
    return float(apart.max(2).min(1).max())


def boxes_card(folder: LabelledFolder, labels: Sequence[str], spec: InputSpec, figures: Mapping[str, Any]) -> str:
    """Write the card of a net that finds boxes; `figures` are its report's."""
    precision = figures["ap50"]
    if folder.good is None:
        passes = _NOTHING_PASSES
    else:
        escaped = 100 * figures["escapes_at_1pct_false_rejects"]
        passes = _GOOD.format(good=folder.good, auroc=figures["auroc"], escaped=escaped)
    return _CARD.format(
        architecture=figures["architecture"], width=spec.width, height=spec.height, counts=counted(folder),
        labels=", ".join(labels), ap50="-" if precision is None else f"{precision:.3f}", passes=passes, boxes=BOXES,
        cell=CELL_PX, **{key: figures[key] for key in ("n", "frame_ms_one_thread")},
    )  # fmt: skip


_GOOD = """\
Class of good parts: {good}. AUROC {auroc:.4f}, {escaped:.1f} % of the defective ones escape where 1 % of the good ones are
rejected."""
_NOTHING_PASSES = """\
It was shown no good part: that it finds no box is no evidence of one. Its limits of doubt are 0, so that no part passes."""
_CARD = """\
# A trained model that finds boxes

{architecture}, trained on boxes, on pictures stretched to {width} x {height}. It finds: {labels}. At most {boxes} boxes, none
suppressed afterwards; one score for the picture, 0 to 1, and the boxes drawn into cells of {cell} x {cell} pixels: boxes of
one label that touch are one region.

| class | pictures |
| --- | --- |
{counts}

30 % were held out and judged at the end: {n} pictures, mean average precision of boxes that overlap by one half {ap50}.
{passes}
One frame takes {frame_ms_one_thread} ms on one thread of the machine that made it.
"""
