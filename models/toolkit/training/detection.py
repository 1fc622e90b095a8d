"""Fit a net that finds boxes, and let it find them.

The loss of "Objects as Points" (Zhou, Wang, Kraehenbuehl 2019): a focal loss (Lin et al. 2017) for each cell of the heat map,
in which cells near a middle count less (CornerNet, Law, Deng 2018), plus the distances of sides and offsets (L1), at the
middles alone. Of the sides the logarithms are learnt, so that a small box counts as much as a large one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from models.toolkit.figures.boxes import FoundBoxes, Hits, hits_of, mean_precision
from models.toolkit.figures.calibration import Calibration
from models.toolkit.pictures.staged import Bytes
from models.toolkit.progress import Say
from models.toolkit.training.boxed import BoxedPictures, Targets, as_targets, varied_boxes
from models.toolkit.training.detect_net import NO_PEAK, LiteDetector, Maps, decode
from models.toolkit.training.epochs import Epochs, draw_epoch, one_cycle, run_epochs
from models.toolkit.training.fine_tuning import Plan
from models.toolkit.training.way_down import learning_groups

BOXES = 32
"""How many boxes a picture has at most: as many regions as a verdict shows."""
_FOCUS, _NEARNESS = 2, 4
"""Exponents of the focal loss: how much less a cell counts that is already right, and one near a middle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a net found in N pictures: boxes with logits for scores, and the highest logit of each label, N x labels."""

    boxes: tuple[FoundBoxes, ...]
    highest: npt.NDArray[np.float64]

    def at_least(self, calibration: Calibration, limits: Sequence[float]) -> list[FoundBoxes]:
        """Give the boxes whose calibrated score is at or over the limit of their label."""
        kept = [calibration.apply(own.scores) >= np.asarray(limits)[own.labels] for own in self.boxes]
        return [
            FoundBoxes(corners=own.corners[rows], labels=own.labels[rows], scores=own.scores[rows])
            for own, rows in zip(self.boxes, kept, strict=True)
        ]

    def hits(self, data: BoxedPictures) -> list[Hits]:
        """Compare with the boxes of pictures in which all are known, for each label."""
        rows = np.flatnonzero(data.known)
        found, true = [self.boxes[row] for row in rows], [data.boxes[row] for row in rows]
        return [hits_of(found, true, label) for label in range(self.highest.shape[1])]


def box_loss(maps: Maps, targets: Targets) -> Tensor:
    """Give the sum of the three losses, each over the number of boxes."""
    count = max(1, len(targets.cells))
    picture, row, column = targets.cells.unbind(1)
    sides, offsets = (each[picture, :, row, column] for each in (maps.sides, maps.offsets))
    near = (sides - targets.sides).abs().sum() + (offsets - targets.offsets).abs().sum()
    return focal_loss(maps.heat, targets.heat) + near / (2 * count)


def focal_loss(logits: Tensor, heat: Tensor) -> Tensor:
    """Give the penalty-reduced focal loss of N x labels x H x W, summed and divided by the number of middles (heat 1)."""
    chance, middle = torch.sigmoid(logits), (heat == 1).float()
    there = middle * (1 - chance) ** _FOCUS * functional.logsigmoid(logits)
    elsewhere = (1 - heat) ** _NEARNESS * chance**_FOCUS * functional.logsigmoid(-logits)
    return -(there + (1 - middle) * elsewhere).sum() / middle.sum().clamp(min=1)


def fit_boxes(
    net: LiteDetector, training: BoxedPictures, validation: BoxedPictures, plan: Plan, *, count: int, say: Say
) -> Epochs:
    """Fit `net` to the boxes of `count` labels with AdamW on one cycle; its figure is the mean average precision.

    Stops when the validation loss has not fallen for `plan.patience` epochs; the net is left with its best weights.
    """
    random = np.random.default_rng(plan.seed)
    optimiser, schedule = one_cycle(
        learning_groups(net, plan.learning_rate), weight_decay=plan.weight_decay, warm_up=plan.warm_up,
        steps=plan.epochs * math.ceil(len(draw_epoch(training.defective, random)) / plan.batch),
    )  # fmt: skip
    return run_epochs(
        net, optimiser, schedule, epochs=plan.epochs, patience=plan.patience, say=say,
        losses=lambda: (
            box_loss(net(torch.from_numpy(pictures)), targets)
            for pictures, targets in _batches(training, plan.batch, count, random)
        ),
        validate=lambda: _validate(net, validation, plan.batch, count),
        tell=lambda precision: f"AP50 {precision:.3f}",
    )  # fmt: skip


def find(net: LiteDetector, data: BoxedPictures, *, batch: int = 8) -> Found:
    """Let a net in evaluation mode look for boxes in every picture."""
    boxes: list[FoundBoxes] = []
    highest: list[npt.NDArray[np.float64]] = []
    with torch.inference_mode():
        for start in range(0, len(data), batch):
            maps = net(torch.from_numpy(data.pictures[start : start + batch]))
            highest.append(maps.heat.amax((2, 3)).double().numpy())
            boxes += [_listed(*own) for own in zip(*(each.numpy() for each in decode(maps, BOXES)), strict=True)]
    return Found(boxes=tuple(boxes), highest=np.concatenate(highest))


def _listed(
    logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], corners: npt.NDArray[np.float32]
) -> FoundBoxes:
    there = logits > NO_PEAK
    return FoundBoxes(
        corners=corners[there].astype(np.float64), labels=labels[there], scores=logits[there].astype(np.float64)
    )


def _batches(
    data: BoxedPictures, size: int, count: int, random: np.random.Generator
) -> Iterator[tuple[Bytes, Targets]]:
    """Give varied pictures with their targets in a new order."""
    order = draw_epoch(data.defective, random)
    height, width = data.pictures.shape[1:3]
    for start in range(0, len(order), size):
        pictures, boxes = varied_boxes(data, order[start : start + size], random)
        yield pictures, as_targets(boxes, labels=count, height=height, width=width)


def _validate(net: LiteDetector, data: BoxedPictures, size: int, count: int) -> tuple[float, float]:
    """Give the mean loss of a batch, and the mean average precision."""
    net.eval()
    losses, weights = [], []
    height, width = data.pictures.shape[1:3]
    with torch.inference_mode():
        for start in range(0, len(data), size):
            rows = slice(start, start + size)
            targets = as_targets(data.boxes[rows], labels=count, height=height, width=width)
            losses.append(float(box_loss(net(torch.from_numpy(data.pictures[rows])), targets)))
            weights.append(len(data.boxes[rows]))
    precision = mean_precision([hits.precision for hits in find(net, data, batch=size).hits(data)])
    return float(np.average(losses, weights=weights)), precision or 0.0
