"""Fit a net that marks defects, pixel by pixel, and count what it marks.

The loss is the cross-entropy of each pixel, defects weighing more for they are rare, plus a soft Dice loss (Milletari,
Navab, Ahmadi 2016), which counts a defect by its own area and not by the picture's, plus the cross-entropy of its kind.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.toolkit.pictures.staged import Bytes
from models.toolkit.progress import Say
from models.toolkit.training.epochs import Epochs, draw_epoch, one_cycle, run_epochs
from models.toolkit.training.fine_tuning import Plan
from models.toolkit.training.masked import MaskedPictures, as_targets, varied
from models.toolkit.training.way_down import learning_groups

_HEAVIEST = 10.0
_SMOOTH = 1.0
_KIND = 0.5
_MARKED = 0.0
"""Logit from which a pixel is taken for a defect: a probability of one half."""
Counts = npt.NDArray[np.int64]
Logits = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """What a net said of N pictures: the highest logit of each label, N x labels, and pixels for each picture and label.

    `both` were marked by mask and net, `told` by the net, `true` by the mask, all N x labels.
    """

    highest: Logits
    both: Counts
    told: Counts
    true: Counts

    def dice(self, rows: npt.NDArray[np.bool_], label: int | None = None) -> float | None:
        """Give 2 both / (told + true) over all pixels of these pictures, of one label or all; None without any."""
        columns = slice(None) if label is None else [label]
        both, told, true = (int(count[rows][:, columns].sum()) for count in (self.both, self.told, self.true))
        return 2 * both / (told + true) if told + true else None


class MaskLoss:
    """Weighted cross-entropy plus soft Dice of "any defect", plus the cross-entropy of its kind where there is one.

    The odds of any defect are the sum of the labels' odds: what one kind teaches of being a defect serves all of them.
    Fitted each for itself, the labels of small and rare defects had learnt nothing when the large ones were done.
    """

    def __init__(self, weight: float) -> None:
        self._weight = torch.tensor(weight)

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Give the loss of logits and targets, both N x labels x H x W."""
        anything, marked = torch.logsumexp(logits, 1), targets.amax(1)
        entropy = functional.binary_cross_entropy_with_logits(anything, marked, pos_weight=self._weight)
        return entropy + dice_loss(torch.sigmoid(anything), marked) + _KIND * kind_loss(logits, targets)


def dice_loss(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Give 1 - 2 sum(p t) / (sum(p p) + sum(t t)) of N x H x W, the mean over the pictures with a defect; 0 without any.

    Over a whole batch the large defects would be all that counts.
    """
    own = targets.sum((1, 2))
    both = (probabilities * targets).sum((1, 2))
    either = probabilities.square().sum((1, 2)) + own
    return _mean_of(1 - (2 * both + _SMOOTH) / (either + _SMOOTH), own > 0)


def kind_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Give the cross-entropy between labels over marked pixels of N x labels x H x W, each picture counting the same."""
    pixels = targets.sum((1, 2, 3))
    entropy = -(functional.log_softmax(logits, 1) * targets).sum((1, 2, 3)) / pixels.clamp(min=1)
    return _mean_of(entropy, pixels > 0)


def _mean_of(values: Tensor, counted: Tensor) -> Tensor:
    return (values * counted).sum() / counted.sum().clamp(min=1)


def pixel_weight(data: MaskedPictures) -> float:
    """Give what a defect's pixel weighs: the root of how many pixels there are for one of them, at most 10."""
    return min(math.sqrt(data.masks.size / max(1, int(data.masks.sum()))), _HEAVIEST)


def fit_masks(
    net: nn.Module, training: MaskedPictures, validation: MaskedPictures, plan: Plan, *, count: int, say: Say
) -> Epochs:
    """Fit `net` (bytes to `count` logits for each pixel) with AdamW on one cycle; its figure is Dice over defect pixels.

    Stops when the validation loss has not fallen for `plan.patience` epochs; the net is left with its best weights.
    """
    random, loss_of = np.random.default_rng(plan.seed), MaskLoss(pixel_weight(training))
    optimiser, schedule = one_cycle(
        learning_groups(net, plan.learning_rate), weight_decay=plan.weight_decay, warm_up=plan.warm_up,
        steps=plan.epochs * math.ceil(len(draw_epoch(training.defective, random)) / plan.batch),
    )  # fmt: skip
    return run_epochs(
        net, optimiser, schedule, epochs=plan.epochs, patience=plan.patience, say=say,
        losses=lambda: (
            loss_of(net(torch.from_numpy(pictures)), targets)
            for pictures, targets in _batches(training, plan.batch, count, random)
        ),
        validate=lambda: _validate(net, validation, loss_of, plan.batch, count),
        tell=lambda dice: f"Dice {dice:.3f}",
    )  # fmt: skip


def mark(net: nn.Module, data: MaskedPictures, *, count: int, batch: int = 8) -> Marked:
    """Let a net in evaluation mode mark every picture; full-size maps are kept for one batch at a time."""
    parts: list[tuple[Tensor, ...]] = []
    with torch.inference_mode():
        for start in range(0, len(data), batch):
            logits = net(torch.from_numpy(data.pictures[start : start + batch]))
            true = as_targets(data.masks[start : start + batch], data.labels[start : start + batch], count) > 0
            told = logits >= _MARKED
            counted = (each.sum((2, 3)) for each in (told & true, told, true))
            parts.append((logits.amax((2, 3)).double(), *counted))
    highest, both, told_pixels, true_pixels = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
    return Marked(highest=highest, both=both, told=told_pixels, true=true_pixels)


def _batches(
    data: MaskedPictures, size: int, count: int, random: np.random.Generator
) -> Iterator[tuple[Bytes, Tensor]]:
    """Give varied pictures with their targets in a new order."""
    order = draw_epoch(data.defective, random)
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        pictures, masks = varied(data, rows, random)
        yield pictures, as_targets(masks, data.labels[rows], count)


def _validate(net: nn.Module, data: MaskedPictures, loss_of: MaskLoss, size: int, count: int) -> tuple[float, float]:
    """Give the mean loss of a batch, and Dice over all pixels."""
    net.eval()
    losses, weights = [], []
    with torch.inference_mode():
        for start in range(0, len(data), size):
            rows = slice(start, start + size)
            targets = as_targets(data.masks[rows], data.labels[rows], count)
            losses.append(float(loss_of(net(torch.from_numpy(data.pictures[rows])), targets)))
            weights.append(len(targets))
    dice = mark(net, data, count=count, batch=size).dice(np.ones(len(data), np.bool_))
    return float(np.average(losses, weights=weights)), dice or 0.0
