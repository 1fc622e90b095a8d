"""Fit a torch net to labelled pictures, and to a teacher's scores where there is one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.toolkit.pictures.folder import Sample
from models.toolkit.pictures.staged import Bytes, Split, Stage, split_off
from models.toolkit.pictures.variations import vary
from models.toolkit.progress import Say
from models.toolkit.training.epochs import run_epochs

Scores = npt.NDArray[np.float32]
ToInput = Callable[[Bytes], Tensor]
Teacher = Callable[[Bytes], Scores]
_TEMPERATURE = 4.0
_SOFT_SHARE = 0.9
"""Hinton, Vinyals, Dean 2015: soft scores carry most of what there is to learn, the labels a little."""
_LEAST = 1e-6
_VALIDATION_SHARE = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """Staged pictures, N x H x W x channels, and the number of each one's label."""

    pictures: Bytes
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningSet:
    """What a net is fitted to, and what tells when to stop."""

    training: Labelled
    validation: Labelled


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """Varied training pictures, N x variants x H x W x channels, and a teacher's scores of them, N x variants x labels."""

    pictures: Bytes
    told: Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Some training pictures as they are shown once; `told` is None where there is no teacher."""

    pictures: Bytes
    labels: Tensor
    told: Tensor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and how fast to learn; `patience` is how many epochs may pass without a better validation loss."""

    epochs: int
    learning_rate: float
    patience: int
    seed: int
    batch: int = 32
    weight_decay: float = 1e-4
    warm_up: float = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What fitting came to; the net holds the weights of `best_epoch`."""

    epochs: int
    best_epoch: int
    validation_loss: float
    validation_accuracy: float

    @property
    def how(self) -> dict[str, Any]:
        """What a step's report says of it."""
        return {"epochs": self.epochs, "validation_accuracy": round(self.validation_accuracy, 4)}


def read_learning_set(stage: Stage, samples: Sequence[Sample], labels: Sequence[str], *, seed: int) -> LearningSet:
    """Read pictures and set 15 % of each class aside for validation; raises DataError."""
    parts = set_aside(samples, seed=seed)
    return LearningSet(
        training=read_labelled(stage, parts.kept, labels), validation=read_labelled(stage, parts.held_out, labels)
    )


def set_aside(samples: Sequence[Sample], *, seed: int) -> Split:
    """Hold back 15 % of each class: they learn nothing and tell when to stop."""
    return split_off(samples, share=_VALIDATION_SHARE, seed=seed)


def read_labelled(stage: Stage, samples: Sequence[Sample], labels: Sequence[str]) -> Labelled:
    """Read pictures at the input's size, with the numbers of their labels; raises DataError."""
    numbers = np.array([labels.index(sample.label) for sample in samples], np.int64)
    return Labelled(pictures=stage.read(samples), labels=numbers)


def ask(teacher: Teacher, data: Labelled, *, variants: int, seed: int, say: Say) -> Lessons:
    """Let a teacher score `variants` of each picture, once: a large one takes longer than all that is learnt of it."""
    random = np.random.default_rng(seed)
    say(f"the original scores {variants} variants of {len(data)} pictures")
    pictures = np.stack([[vary(picture, random) for _ in range(variants)] for picture in data.pictures])
    return Lessons(pictures=pictures, told=np.stack([teacher(each) for each in pictures]))


def class_weights(labels: npt.NDArray[np.int64], count: int) -> Tensor:
    """Give 1 / sqrt(frequency) of each label, their mean over the pictures 1: rare kinds count more, but not all."""
    frequency = np.maximum(np.bincount(labels, minlength=count), 1) / len(labels)
    weights = 1 / np.sqrt(frequency)
    return torch.from_numpy((weights / weights[labels].mean()).astype(np.float32))


def fit(
    net: nn.Module,
    to_input: ToInput,
    data: LearningSet,
    plan: Plan,
    *,
    weights: Tensor,
    say: Say,
    lessons: Lessons | None = None,
) -> Fitted:
    """Fit `net` (pictures to logits) with AdamW, a warm-up and a cosine to zero; stops early, keeps the best epoch.

    With `lessons`, their pictures are shown and their scores learnt beside the labels.
    """
    random = np.random.default_rng(plan.seed)
    optimiser = torch.optim.AdamW(net.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay)
    steps = plan.epochs * math.ceil(len(data.training) / plan.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps, plan.warm_up))
    done = run_epochs(
        net, optimiser, schedule, epochs=plan.epochs, patience=plan.patience, say=say,
        losses=lambda: (
            _loss(net(to_input(batch.pictures)), batch, weights)
            for batch in _batches(data.training, lessons, plan.batch, random)
        ),
        validate=lambda: _validate(net, to_input, data.validation, plan.batch),
        tell=lambda accuracy: f"accuracy {100 * accuracy:.1f} %",
    )  # fmt: skip
    return Fitted(epochs=done.count, best_epoch=done.best, validation_loss=done.loss, validation_accuracy=done.figure)


def fit_to_teacher(
    net: nn.Module,
    to_input: ToInput,
    data: LearningSet,
    plan: Plan,
    *,
    teacher: Teacher,
    variants: int,
    labels: int,
    say: Say,
) -> Fitted:
    """Fit `net` to a teacher's scores of so many variants of each picture, and to their labels, of which there are `labels`."""
    lessons = ask(teacher, data.training, variants=variants, seed=plan.seed, say=say)
    weights = class_weights(data.training.labels, labels)
    return fit(net, to_input, data, plan, weights=weights, say=say, lessons=lessons)


def _rate(step: int, steps: int, warm_up: float) -> float:
    """Give the share of the learning rate: up in a line, then down half a cosine (Loshchilov, Hutter 2017)."""
    first = max(1, int(warm_up * steps))
    if step < first:
        return (step + 1) / first
    return 0.5 * (1 + math.cos(math.pi * (step - first) / max(1, steps - first)))


def _loss(logits: Tensor, batch: _Batch, weights: Tensor) -> Tensor:
    labels = batch.labels
    hard = (functional.cross_entropy(logits, labels, reduction="none") * weights[labels]).mean()
    if batch.told is None:
        return hard
    soft = functional.kl_div(
        functional.log_softmax(logits / _TEMPERATURE, dim=1),
        functional.log_softmax(torch.log(batch.told.clamp(min=_LEAST)) / _TEMPERATURE, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return _SOFT_SHARE * _TEMPERATURE**2 * soft + (1 - _SOFT_SHARE) * hard


def _batches(data: Labelled, lessons: Lessons | None, size: int, random: np.random.Generator) -> Iterator[_Batch]:
    """Give varied pictures in a new order; a last picture alone is left out, for it has no spread to normalise by."""
    order = random.permutation(len(data))
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        if len(chosen) < 2:
            return
        labels = torch.from_numpy(data.labels[chosen])
        if lessons is None:
            varied = np.stack([vary(data.pictures[number], random) for number in chosen])
            yield _Batch(pictures=varied, labels=labels, told=None)
        else:
            variant = random.integers(lessons.told.shape[1], size=len(chosen))
            told = torch.from_numpy(lessons.told[chosen, variant])
            yield _Batch(pictures=lessons.pictures[chosen, variant], labels=labels, told=told)


def _validate(net: nn.Module, to_input: ToInput, data: Labelled, size: int) -> tuple[float, float]:
    net.eval()
    with torch.inference_mode():
        logits = torch.cat([net(to_input(data.pictures[start : start + size])) for start in range(0, len(data), size)])
        labels = torch.from_numpy(data.labels)
        loss = float(functional.cross_entropy(logits, labels))
    return loss, float((logits.argmax(1) == labels).float().mean())
