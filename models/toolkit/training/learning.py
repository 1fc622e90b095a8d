"""Train one net on some pictures of a folder: set some aside, blend what is rare, fit, export."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch

from bridge.inference.manifest import InputSpec
from bridge.inference.picture import Picture
from models.toolkit.pictures.blending import blend_missing, missing_pictures
from models.toolkit.pictures.folder import DataError, LabelledFolder, Sample
from models.toolkit.pictures.staged import Stage
from models.toolkit.progress import Say
from models.toolkit.training.export import export_classifier
from models.toolkit.training.fine_tuning import (
    Fitted,
    Labelled,
    LearningSet,
    Plan,
    class_weights,
    fit,
    read_labelled,
    set_aside,
)
from models.toolkit.training.nets import Built
from models.toolkit.training.settings import TrainSettings

_PATIENCE = 12
_PARITY_PICTURES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What every net of one run has in common: the folder, the input, the wishes, and the net as it begins."""

    folder: LabelledFolder
    spec: InputSpec
    settings: TrainSettings
    built: Built


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """A trained net as ONNX, with the pictures that told when to stop; `blended` are the pictures made for it, by label."""

    model: onnx.ModelProto
    fitted: Fitted
    trained_on: int
    validation: Labelled
    validation_samples: tuple[Sample, ...]
    blended: Mapping[str, int]


def learn(lesson: Lesson, samples: Sequence[Sample], *, say: Say) -> Learnt:
    """Train a copy of the lesson's net on `samples`, 15 % of them set aside; raises DataError."""
    folder, settings, stage = lesson.folder, lesson.settings, Stage(lesson.spec)
    parts = set_aside(samples, seed=settings.seed)
    _check_classes(folder, parts.kept)
    missing = missing_pictures(folder, parts.kept, wanted=settings.blend) if settings.blend else {}
    training = read_labelled(stage, parts.kept, folder.labels)
    if missing:
        training = _with_blended(training, folder, parts.kept, missing, stage, seed=settings.seed)
        say("blended: " + ", ".join(f"{count} pictures of {label}" for label, count in missing.items()))
    data = LearningSet(training=training, validation=read_labelled(stage, parts.held_out, folder.labels))
    say(f"{len(data.training)} pictures to learn from, {len(data.validation)} others tell when to stop")
    plan = Plan(
        epochs=settings.epochs, learning_rate=lesson.built.learning_rate, patience=_PATIENCE, seed=settings.seed
    )
    net = copy.deepcopy(lesson.built.net)
    torch.manual_seed(settings.seed)  # drop-out draws from it
    weights = class_weights(data.training.labels, len(folder.labels))
    fitted = fit(net, torch.from_numpy, data, plan, weights=weights, say=say)
    return Learnt(
        model=export_classifier(net, lesson.spec, data.validation.pictures[:_PARITY_PICTURES]), fitted=fitted,
        trained_on=len(data.training), validation=data.validation, validation_samples=parts.held_out, blended=missing,
    )  # fmt: skip


def _check_classes(folder: LabelledFolder, kept: Sequence[Sample]) -> None:
    """Make sure that each class is among what is learnt from: --groups may hold all of it back."""
    for label in folder.labels:
        if not any(sample.label == label for sample in kept):
            raise DataError(
                f"{folder.path / label}: no picture is left to learn from, for pictures of one group stay together: wanted "
                "are more groups of this class, or another --groups"
            )


def _with_blended(
    data: Labelled,
    folder: LabelledFolder,
    samples: Sequence[Sample],
    missing: Mapping[str, int],
    stage: Stage,
    *,
    seed: int,
) -> Labelled:
    pictures, numbers = [], []
    for label, blended in blend_missing(folder, samples, missing, seed=seed):
        height, width = blended.area.shape
        pictures.append(stage.fitted(Picture(pixels=blended.pixels, width=width, height=height)))
        numbers.append(folder.labels.index(label))
    return Labelled(
        pictures=np.concatenate([data.pictures, np.stack(pictures)]),
        labels=np.concatenate([data.labels, np.array(numbers, np.int64)]),
    )
