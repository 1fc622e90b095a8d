"""Train a classifier on a labelled folder, judge it on pictures that it never saw, and write it as a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch

from bridge.inference.manifest import InputSpec
from models.toolkit.bundles.files import check_target
from models.toolkit.figures.costs import Costs, label_thresholds
from models.toolkit.figures.metrics import Share, macro_f1
from models.toolkit.graphs.heads import SCORES
from models.toolkit.graphs.session import open_model
from models.toolkit.pictures.folder import LabelledFolder, Sample, read_folder
from models.toolkit.pictures.prepared import choose_input
from models.toolkit.pictures.staged import Stage, split_off
from models.toolkit.progress import Say
from models.toolkit.training.bundle import Trained, write_trained
from models.toolkit.training.export import export_classifier
from models.toolkit.training.fine_tuning import Fitted, Labelled, Plan, class_weights, fit, read_learning_set
from models.toolkit.training.nets import ARCHITECTURES, build_net

_SIDE = 224
_PATIENCE = 12
_PARITY_PICTURES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainReport:
    """How a model came to be, and what it does to held-out pictures; `out` is the bundle."""

    architecture: str
    labels: tuple[str, ...]
    trained_on: int
    validated_on: int
    input_size: tuple[int, int]
    fitted: Fitted
    accuracy: Share
    macro_f1: float
    confusion: tuple[tuple[int, ...], ...]
    size_bytes: int
    out: Path

    def as_json(self) -> dict[str, Any]:
        """Give the report as plain values; rows of `confusion` are the truth, columns what was told."""
        return {
            "architecture": self.architecture,
            "labels": list(self.labels),
            "trained_on": self.trained_on,
            "validated_on": self.validated_on,
            "input": list(self.input_size),
            "epochs": self.fitted.epochs,
            "best_epoch": self.fitted.best_epoch,
            "n": self.accuracy.n,
            "accuracy": round(self.accuracy.value, 5),
            "accuracy_interval": list(self.accuracy.interval),
            "macro_f1": round(self.macro_f1, 5),
            "confusion": [list(row) for row in self.confusion],
            "size_bytes": self.size_bytes,
            "out": str(self.out),
        }


def train(
    folder: Path, out: Path, *, architecture: str, good: str | None, seed: int, epochs: int, say: Say, side: int = _SIDE
) -> TrainReport:
    """Train `architecture` on `folder` and write a signed bundle to `out`.

    30 % of each class are held out and judge, 15 % of the rest say when to stop. The input has about `side` x `side` pixels,
    no more than the pictures, in their proportions. Raises DataError for pictures or an architecture that can't be used.
    """
    check_target(out)
    pictures = read_folder(folder, good=good)
    torch.manual_seed(seed)
    net = build_net(architecture, labels=len(pictures.labels), option="--architecture")
    spec = _input_for(pictures, side)
    split = split_off(pictures.samples, seed=seed)
    stage = Stage(spec)
    data = read_learning_set(stage, split.kept, pictures.labels, seed=seed)
    plan = Plan(epochs=epochs, learning_rate=ARCHITECTURES[architecture].learning_rate, patience=_PATIENCE, seed=seed)
    say(f"{architecture} at {spec.width} x {spec.height}: {len(data.training)} pictures to learn from")
    weights = class_weights(data.training.labels, len(pictures.labels))
    fitted = fit(net, torch.from_numpy, data, plan, weights=weights, say=say)
    model = export_classifier(net, spec, data.validation.pictures[:_PARITY_PICTURES])
    confusion = _confusion(model, spec, stage, split.held_out, pictures.labels)
    report = TrainReport(
        architecture=architecture, labels=pictures.labels, trained_on=len(data.training),
        validated_on=len(data.validation), input_size=(spec.width, spec.height), fitted=fitted,
        accuracy=Share(count=int(np.trace(confusion)), n=int(confusion.sum())), macro_f1=macro_f1(confusion),
        confusion=tuple(tuple(row) for row in confusion.tolist()), size_bytes=model.ByteSize(), out=out,
    )  # fmt: skip
    golden = [next(sample for sample in split.held_out if sample.label == label) for label in pictures.labels]
    training = {
        "architecture": architecture, "counts": pictures.counts, "pictures_sha256": pictures.sha256, "seed": seed,
        "split_seed": seed,
    }  # fmt: skip
    measured = {key: report.as_json()[key] for key in ("n", "accuracy", "accuracy_interval", "macro_f1", "confusion")}
    trained = Trained(
        model=model, spec=spec, folder=pictures, golden=golden, training=training, measured=measured,
        thresholds=_thresholds(model, spec, pictures, data.validation),
    )  # fmt: skip
    write_trained(out, trained)
    return report


def _thresholds(
    model: onnx.ModelProto, spec: InputSpec, folder: LabelledFolder, data: Labelled
) -> dict[str, dict[str, float]]:
    """Give each label its limits from the validation pictures."""
    session = open_model(model)
    scores = np.stack([session.run([SCORES], {spec.name: picture[None]})[0][0] for picture in data.pictures])
    return label_thresholds(folder.labels, folder.good, scores.astype(np.float64), data.labels, Costs())


def _input_for(pictures: LabelledFolder, side: int) -> InputSpec:
    """Give an input no larger than the pictures: enlarging them costs time and shows nothing new."""
    own = float(np.median([sample.width * sample.height for sample in pictures.samples]))
    return choose_input(pictures.samples, area_px=round(min(side * side, own)))


def _confusion(
    model: onnx.ModelProto, spec: InputSpec, stage: Stage, held_out: Sequence[Sample], labels: Sequence[str]
) -> npt.NDArray[np.int64]:
    """Count the truth (rows) against the highest score (columns) of the exported model."""
    session = open_model(model)
    counts = np.zeros((len(labels), len(labels)), np.int64)
    for sample, picture in zip(held_out, stage.read(held_out), strict=True):
        scores = session.run([SCORES], {spec.name: picture[None]})[0]
        counts[labels.index(sample.label), int(scores.argmax())] += 1
    return counts
