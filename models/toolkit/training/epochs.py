"""The loop that every fitting has in common: epoch after epoch, stopped early, the best weights kept."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.toolkit.progress import Say

_STEEPEST = 5.0
"""Norm of the gradients from which they are scaled down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Epochs:
    """How many epochs ran, which was the best, and its validation: the loss, and the figure that people read."""

    count: int
    best: int
    loss: float
    figure: float


def run_epochs(
    net: nn.Module,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    *,
    epochs: int,
    patience: int,
    losses: Callable[[], Iterable[Tensor]],
    validate: Callable[[], tuple[float, float]],
    tell: Callable[[float], str],
    say: Say,
) -> Epochs:
    """Take a step for each of an epoch's `losses`, then `validate` (loss and figure); the net is left with its best weights.

    Stops when the validation loss has not fallen for `patience` epochs. `tell` puts the figure into words.
    """
    best, best_state, epoch = Epochs(count=0, best=0, loss=math.inf, figure=0.0), copy.deepcopy(net.state_dict()), 0
    for epoch in range(1, epochs + 1):
        net.train()
        for loss in losses():
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), _STEEPEST)
            optimiser.step()
            schedule.step()
        measured, figure = validate()
        say(f"epoch {epoch} of {epochs}: validation loss {measured:.3f}, {tell(figure)}")
        if measured < best.loss:
            best = Epochs(count=epoch, best=epoch, loss=measured, figure=figure)
            best_state = copy.deepcopy(net.state_dict())
        elif epoch - best.best >= patience:
            say(f"no better for {patience} epochs: stopped, epoch {best.best} is kept")
            break
    net.load_state_dict(best_state)
    net.eval()
    return Epochs(count=epoch, best=best.best, loss=best.loss, figure=best.figure)


def one_cycle(
    groups: list[dict[str, Any]], *, steps: int, weight_decay: float, warm_up: float
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Give AdamW over groups of parameters, each on one cycle of its own rate (Smith, Topin 2018)."""
    optimiser = torch.optim.AdamW(groups, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, [group["lr"] for group in groups], total_steps=max(2, steps), pct_start=warm_up, cycle_momentum=False
    )
    return optimiser, schedule


def draw_epoch(defective: npt.NDArray[np.bool_], random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw an epoch's pictures: all with a defect, and at most as many good ones, others each time."""
    bad, good = np.flatnonzero(defective), np.flatnonzero(~defective)
    return random.permutation(np.concatenate([bad, random.permutation(good)[: len(bad)]]))


def told_if_best_last(best: int, *, of: int) -> list[str]:
    """Give a warning where the last epoch was the best: then more of them make the net better."""
    if best != of:
        return []
    return [f"Still getting better at epoch {of}, the last: more --epochs make it better."]
