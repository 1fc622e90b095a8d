"""Train a classifier on a labelled folder, judge it on pictures that it never saw, and write it as a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from models.toolkit.bundles.files import check_target
from models.toolkit.pictures.folder import LabelledFolder, Sample, read_folder
from models.toolkit.pictures.prepared import choose_small_input
from models.toolkit.pictures.staged import Stage, split_off
from models.toolkit.progress import Say
from models.toolkit.training.bundle import Trained, write_trained
from models.toolkit.training.folds import cross_validate
from models.toolkit.training.judging import confusion_of, thresholds_of
from models.toolkit.training.learning import Learnt, Lesson, learn
from models.toolkit.training.nets import Wanted, build_net, check_net
from models.toolkit.training.report import TrainReport
from models.toolkit.training.settings import TrainSettings
from models.toolkit.training.weights import Hub, fetch_from_hub

_OPTION = "--architecture"


def train(folder: Path, out: Path, settings: TrainSettings, *, say: Say, hub: Hub = fetch_from_hub) -> TrainReport:
    """Train a net on `folder` and write a signed bundle to `out`.

    30 % of each class are held out and judge, 15 % of the rest say when to stop. With folds every picture judges once, by a net
    of its fold, and the model that is written learns from all of them but the 15 %. The input has no more pixels than the
    pictures, in their proportions. Raises DataError for pictures or wishes that can't be used.
    """
    check_target(out)
    check_net(settings.architecture, settings.attention, option=_OPTION)
    pictures = read_folder(folder, good=settings.good, groups=settings.groups)
    lesson = _lesson(pictures, settings, hub, say)
    stage, held_out = Stage(lesson.spec), tuple[Sample, ...]()
    crossed = cross_validate(lesson, say=say) if settings.folds else None
    if crossed is None:
        split = split_off(pictures.samples, seed=settings.seed)
        learnt, held_out = learn(lesson, split.kept, say=say), split.held_out
        confusion = confusion_of(learnt.model, stage, held_out, pictures.labels)
    else:
        say("all folds are judged; now the model that is kept, on all pictures")
        learnt, confusion = learn(lesson, pictures.samples, say=say), crossed.total
    report = TrainReport(
        architecture=settings.architecture, attention=settings.attention, weights=lesson.built.weights,
        labels=pictures.labels, trained_on=learnt.trained_on, validated_on=len(learnt.validation),
        blended=learnt.blended, input_size=(lesson.spec.width, lesson.spec.height), fitted=learnt.fitted,
        confusion=confusion, folds=crossed, size_bytes=learnt.model.ByteSize(), out=out,
    )  # fmt: skip
    write_trained(out, _trained(lesson, learnt, report, golden_of=held_out or learnt.validation_samples))
    return report


def _lesson(pictures: LabelledFolder, settings: TrainSettings, hub: Hub, say: Say) -> Lesson:
    spec = choose_small_input(pictures.samples, side_px=settings.side)
    torch.manual_seed(settings.seed)
    wanted = Wanted(
        architecture=settings.architecture, labels=len(pictures.labels), height=spec.height, width=spec.width,
        attention=settings.attention, weights=settings.weights,
    )  # fmt: skip
    built = build_net(wanted, option=_OPTION, hub=hub)
    say(f"{settings.architecture} at {spec.width} x {spec.height}, {len(pictures.samples)} pictures")
    say(f"first weights: {built.weights}")
    return Lesson(folder=pictures, spec=spec, settings=settings, built=built)


def _trained(lesson: Lesson, learnt: Learnt, report: TrainReport, *, golden_of: Sequence[Sample]) -> Trained:
    pictures, settings, weights = lesson.folder, lesson.settings, lesson.built.weights
    training: dict[str, Any] = {
        "architecture": settings.architecture, "attention": settings.attention, "weights": weights.source,
        "weights_licence": weights.licence or "none", "counts": pictures.counts, "blended": dict(learnt.blended),
        "pictures_sha256": pictures.sha256, "seed": settings.seed,
    }  # fmt: skip
    if settings.groups is not None:
        training["groups_by"] = settings.groups
    if not settings.folds:
        # `compress` holds the same pictures out; with folds there are none that the model had not seen
        training["split_seed"] = settings.seed
    return Trained(
        model=learnt.model, spec=lesson.spec, folder=pictures, training=training, report=report,
        golden=[next(sample for sample in golden_of if sample.label == label) for label in pictures.labels],
        thresholds=thresholds_of(learnt.model, Stage(lesson.spec), pictures, learnt.validation),
    )  # fmt: skip
