"""Put a net that marks defects into a signed bundle: one graph from bytes to calibrated scores and cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from bridge.inference.bundle import Bundle
from bridge.inference.manifest import InputSpec
from models.toolkit.bundles.files import CARD_END, Draft, GoldenPicture, write_bundle
from models.toolkit.bundles.golden import scored
from models.toolkit.figures.calibration import Calibration
from models.toolkit.graphs.heads import CELLS, SCORES
from models.toolkit.pictures.folder import LabelledFolder, Sample
from models.toolkit.pictures.staged import Bytes
from models.toolkit.training.export import export_checked

CELL_PX = 4
"""Side of a cell in pixels of the input."""
_PARITY = 1e-4
_GOLDEN_MOST = 6


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


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkingModel:
    """A model that marks defects, and what its bundle says of it; `unseen` are held-out pictures."""

    model: onnx.ModelProto
    spec: InputSpec
    folder: LabelledFolder
    labels: Sequence[str]
    calibration: Calibration
    unseen: Sequence[Sample]
    licence: str
    training: Mapping[str, Any]
    measured: Mapping[str, Any]


def write_marking(out: Path, made: MarkingModel) -> Bundle:
    """Write the bundle of a model that marks defects, named after `out`; raises BundleError."""
    limits = {"reject": made.calibration.reject, "doubt": made.calibration.doubt, "region": made.calibration.reject}
    draft = Draft(
        task="segmentation", head="cells", labels=made.labels, input=made.spec, cells=True, licence=made.licence,
        thresholds=dict.fromkeys(made.labels, limits), training=made.training, measured=made.measured,
    )  # fmt: skip
    return write_bundle(
        out, draft, model=made.model.SerializeToString(), golden=_golden(made), card=_card(made)
    )  # fmt: skip


def _golden(made: MarkingModel) -> list[GoldenPicture]:
    """Take one held-out picture of each label, good parts first, and what the finished model says of it."""
    firsts = {sample.label: sample for sample in reversed(made.unseen)}
    order = sorted(firsts, key=lambda label: (label != made.folder.good, label))
    return scored(made.model, [firsts[label] for label in order][:_GOLDEN_MOST], made.spec, made.labels)


def _card(made: MarkingModel) -> str:
    counts = "\n".join(f"| {label} | {count} |" for label, count in made.folder.counts.items())
    measured = made.measured
    dice = measured.get("dice")
    told = _CARD.format(
        architecture=made.training["architecture"], width=made.spec.width, height=made.spec.height, counts=counts,
        good=made.folder.good, labels=", ".join(made.labels), dice="-" if dice is None else f"{dice:.3f}",
        escaped=100 * measured["escapes_at_1pct_false_rejects"],
        **{key: measured[key] for key in ("n", "auroc", "frame_ms_one_thread")},
    )  # fmt: skip
    return told + CARD_END


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
