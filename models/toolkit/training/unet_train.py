"""Train a net that marks defects on a folder with masks, judge it on pictures that it never saw, write it as a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from bridge.inference.manifest import InputSpec
from models.toolkit.bundles.files import check_target
from models.toolkit.figures.calibration import Calibration
from models.toolkit.figures.metrics import Share, rounded, shown
from models.toolkit.graphs.frame_time import frame_ms
from models.toolkit.pictures.folder import DataError, LabelledFolder, Sample, read_folder
from models.toolkit.pictures.prepared import choose_small_input
from models.toolkit.pictures.staged import Stage
from models.toolkit.progress import Say
from models.toolkit.training.epochs import Epochs, told_if_best_last
from models.toolkit.training.fine_tuning import Plan
from models.toolkit.training.good_or_not import GoodOrNot, judge_pictures
from models.toolkit.training.limits import calibrate_pictures
from models.toolkit.training.masked import MaskedPictures, marked_labels, read_masked
from models.toolkit.training.parts import divide
from models.toolkit.training.places_bundle import PlacesModel, limits_alike, write_places
from models.toolkit.training.segmentation import Marked, fit_masks, mark
from models.toolkit.training.settings import TrainSettings
from models.toolkit.training.unet import SEGMENTERS
from models.toolkit.training.unet_bundle import export_masks, masks_card

_BATCH, _PATIENCE = 8, 10
_PARITY_PICTURES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkingReport:
    """How a model came to be, and what it does to held-out pictures; `out` is the bundle.

    `per_label` has, for each class of defects, its pictures, how many
    of them were not passed, and Dice over its pixels (None where no mask shows any).
    """

    architecture: str
    labels: tuple[str, ...]
    trained_on: int
    left_out: int
    validated_on: int
    input_size: tuple[int, int]
    fitted: Epochs
    n: int
    good_or_not: GoodOrNot
    dice: float | None
    per_label: Mapping[str, tuple[Share, float | None]]
    ms: float
    size_bytes: int
    out: Path

    def as_json(self) -> dict[str, Any]:
        """Give the report as plain values."""
        return {
            "architecture": self.architecture, "labels": list(self.labels), "trained_on": self.trained_on,
            "left_out": self.left_out, "validated_on": self.validated_on, "input": list(self.input_size),
            "epochs": self.fitted.count, "best_epoch": self.fitted.best, "n": self.n,
            **self.good_or_not.as_json(),
            "dice": rounded(self.dice),
            "per_label": {
                label: {**caught.as_json(), "dice": rounded(dice)} for label, (caught, dice) in self.per_label.items()
            },
            "frame_ms_one_thread": round(self.ms, 1), "size_bytes": self.size_bytes, "out": str(self.out),
        }  # fmt: skip

    def in_terminal(self) -> str:
        """Give the report as lines for a person."""
        rows = [
            ("held-out pictures", str(self.n)),
            *self.good_or_not.rows(),
            ("Dice over defect pixels", shown(self.dice)),
            *((f"  {label}", f"caught {got}; Dice {shown(dice)}") for label, (got, dice) in self.per_label.items()),
            ("one frame, one thread", f"{self.ms:.1f} ms"),
        ]
        lines = [f"{name:<33}{value}" for name, value in rows]
        lines += [f"! {doubt}" for doubt in told_if_best_last(self.fitted.best, of=self.fitted.count)]
        return "\n".join([*lines, f"wrote {self.out}"])


def train_masks(folder: Path, out: Path, settings: TrainSettings, *, say: Say) -> MarkingReport:
    """Train one of SEGMENTERS on a folder with good parts and masks, and write a signed bundle to `out`.

    30 % of each class are held out and judge, 15 % of the rest say when to stop and set the threshold, groups kept
    together. The input has about `side` x `side` pixels, no more than the pictures. Raises DataError or BundleError.
    """
    architecture, seed = settings.architecture, settings.seed
    settings.refuse_what_only_classifiers_take()
    check_target(out)
    parts = _read(folder, good=settings.good, groups=settings.groups, seed=seed, side=settings.side)
    torch.manual_seed(seed)
    net, count = SEGMENTERS[architecture].build(len(parts.labels)), len(parts.labels)
    learnt, spec = parts.training.only_known(), parts.spec
    say(
        f"{architecture} at {spec.width} x {spec.height}: {len(learnt)} pictures to learn from, "
        f"{len(parts.training) - len(learnt)} of defects without a mask left out; it marks {', '.join(parts.labels)}"
    )
    plan = Plan(
        epochs=settings.epochs, learning_rate=SEGMENTERS[architecture].learning_rate, patience=_PATIENCE, seed=seed,
        batch=_BATCH,
    )  # fmt: skip
    fitted = fit_masks(net, learnt, parts.validation.only_known(), plan, count=count, say=say)
    calibration = calibrate_pictures(
        mark(net, parts.validation, count=count).highest.max(1), parts.validation.defective
    )
    model = export_masks(net, calibration, spec, parts.held_out.pictures[:_PARITY_PICTURES])
    report = MarkingReport(
        architecture=architecture, labels=parts.labels, trained_on=len(learnt), fitted=fitted, out=out,
        left_out=len(parts.training) - len(learnt), validated_on=len(parts.validation), n=len(parts.held_out),
        input_size=(spec.width, spec.height), ms=frame_ms(model, np.zeros(spec.shape, np.uint8)),
        size_bytes=model.ByteSize(), **_judged(mark(net, parts.held_out, count=count), parts, calibration),
    )  # fmt: skip
    _write(report, parts, model=model, calibration=calibration, seed=seed)
    return report


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """A folder with masks, read at the size of the input: to learn from, to stop by, and `unseen` to judge by."""

    folder: LabelledFolder
    labels: tuple[str, ...]
    spec: InputSpec
    unseen: tuple[Sample, ...]
    training: MaskedPictures
    validation: MaskedPictures
    held_out: MaskedPictures


def _read(folder: Path, *, good: str | None, groups: str | None, seed: int, side: int) -> _Parts:
    """Read and split a folder; raises DataError where it has no good class, no masks, or a part lacks a kind."""
    pictures = read_folder(folder, good=good, groups=groups)
    if pictures.good is None:
        raise DataError(f"{folder}: no class of good parts among {', '.join(pictures.labels)}: name it with --good")
    parts = divide(pictures, seed=seed)
    labels = marked_labels(parts.training, pictures)
    spec = choose_small_input(pictures.samples, side_px=side)
    stage = Stage(spec)
    read = {name: read_masked(stage, part, labels=labels, good=pictures.good) for name, part in parts.by_name.items()}
    return _Parts(folder=pictures, labels=labels, spec=spec, unseen=parts.held_out, **read)


def _judged(told: Marked, parts: _Parts, calibration: Calibration) -> dict[str, Any]:
    """Count what the finished model does to held-out pictures; the fields of a report."""
    logits, known = told.highest.max(1), parts.held_out.known
    scores = calibration.apply(logits)
    per_label = {}
    for label in parts.folder.defects:
        own = np.asarray([sample.label == label for sample in parts.unseen])
        caught = Share(count=int((scores[own] >= calibration.doubt).sum()), n=int(own.sum()))
        dice = told.dice(own & known, parts.labels.index(label)) if label in parts.labels else None
        per_label[label] = (caught, dice)
    return {
        "good_or_not": judge_pictures(logits, parts.held_out.defective, calibration), "per_label": per_label,
        "dice": told.dice(known),
    }  # fmt: skip


def _write(
    report: MarkingReport, parts: _Parts, *, model: onnx.ModelProto, calibration: Calibration, seed: int
) -> None:
    told = report.as_json()
    names = (
        "n", "auroc", "escapes_at_1pct_false_rejects", "escapes", "false_rejects", "dice", "frame_ms_one_thread",
    )  # fmt: skip
    training = {
        "architecture": report.architecture, "counts": parts.folder.counts, "pictures_sha256": parts.folder.sha256,
        "good": parts.folder.good, "seed": seed, "split_seed": seed, "epochs": report.fitted.best,
    }  # fmt: skip
    made = PlacesModel(
        task="segmentation", model=model, spec=parts.spec, folder=parts.folder, labels=parts.labels,
        limits=limits_alike(parts.labels, calibration), unseen=parts.unseen, licence=SEGMENTERS[report.architecture].licence,
        training=training, measured={key: told[key] for key in names},
        card=masks_card(parts.folder, parts.labels, parts.spec, told),
    )  # fmt: skip
    write_places(report.out, made)
