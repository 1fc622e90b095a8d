"""Train a net that marks defects on a folder with masks, judge it on pictures that it never saw, write it as a bundle."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch

from bridge.inference.manifest import InputSpec
from models.toolkit.bundles.files import check_target
from models.toolkit.figures.calibration import Calibration, fit_slope
from models.toolkit.figures.costs import Costs, cost_curve
from models.toolkit.figures.metrics import (
    Share,
    Verdicts,
    auroc,
    count_verdicts,
    cut_at_false_rejects,
    escapes_at_false_rejects,
)
from models.toolkit.graphs.frame_time import frame_ms
from models.toolkit.pictures.folder import DataError, LabelledFolder, Sample, read_folder
from models.toolkit.pictures.prepared import choose_small_input
from models.toolkit.pictures.staged import Stage, split_off
from models.toolkit.progress import Say
from models.toolkit.training.fine_tuning import Plan, set_aside
from models.toolkit.training.masked import MaskedPictures, marked_labels, read_masked
from models.toolkit.training.segmentation import Marked, SegmentationFitted, fit_masks, mark
from models.toolkit.training.settings import TrainSettings
from models.toolkit.training.unet import SEGMENTERS
from models.toolkit.training.unet_bundle import MarkingModel, export_masks, write_marking

_BATCH, _PATIENCE = 8, 10
_PARITY_PICTURES = 8
_DOUBTFUL_GOOD = 0.05
_GAINS = (0.05, 1.0)
"""Nets fitted with Dice are too sure of themselves: their logits are flattened, never sharpened."""
_ALMOST_0 = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkingReport:
    """How a model came to be, and what it does to held-out pictures; `out` is the bundle.

    `verdicts` are those at the bundle's own thresholds; `per_label` has, for each class of defects, its pictures, how many
    of them were not passed, and Dice over its pixels (None where no mask shows any).
    """

    architecture: str
    labels: tuple[str, ...]
    trained_on: int
    left_out: int
    validated_on: int
    input_size: tuple[int, int]
    fitted: SegmentationFitted
    n: int
    auroc: float
    escapes: Share
    verdicts: Verdicts
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
            "epochs": self.fitted.epochs, "best_epoch": self.fitted.best_epoch, "n": self.n,
            "auroc": round(self.auroc, 5), "escapes_at_1pct_false_rejects": round(self.escapes.value, 5),
            "escapes_at_1pct_interval": [round(end, 5) for end in self.escapes.interval],
            "escapes": _counted(self.verdicts.passed_defective),
            "false_rejects": _counted(self.verdicts.rejected_good), "doubtful_good": _counted(self.verdicts.doubtful_good),
            "dice": _rounded(self.dice),
            "per_label": {
                label: {**_counted(caught), "dice": _rounded(dice)} for label, (caught, dice) in self.per_label.items()
            },
            "frame_ms_one_thread": round(self.ms, 1), "size_bytes": self.size_bytes, "out": str(self.out),
        }  # fmt: skip

    def in_terminal(self) -> str:
        """Give the report as lines for a person."""
        rows = [
            ("held-out pictures", str(self.n)),
            ("AUROC, good or not", f"{self.auroc:.4f}"),
            ("escapes at 1 % false rejects", str(self.escapes)),
            ("escapes at its thresholds", str(self.verdicts.passed_defective)),
            ("false rejects at its thresholds", str(self.verdicts.rejected_good)),
            ("Dice over defect pixels", _shown(self.dice)),
            *((f"  {label}", f"caught {got}; Dice {_shown(dice)}") for label, (got, dice) in self.per_label.items()),
            ("one frame, one thread", f"{self.ms:.1f} ms"),
        ]
        lines = [f"{name:<33}{value}" for name, value in rows]
        if self.fitted.best_epoch == self.fitted.epochs:
            lines.append(
                f"! Still getting better at epoch {self.fitted.epochs}, the last: more --epochs make it better."
            )
        return "\n".join(lines)


def train_masks(folder: Path, out: Path, settings: TrainSettings, *, say: Say) -> MarkingReport:
    """Train one of SEGMENTERS on a folder with good parts and masks, and write a signed bundle to `out`.

    30 % of each class are held out and judge, 15 % of the rest say when to stop and set the threshold, groups kept
    together. The input has about `side` x `side` pixels, no more than the pictures. Raises DataError or BundleError.
    """
    architecture, seed = settings.architecture, settings.seed
    _check(settings)
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
    calibration = _calibrate(mark(net, parts.validation, count=count), parts.validation.defective)
    model = export_masks(net, calibration, spec, parts.held_out.pictures[:_PARITY_PICTURES])
    report = MarkingReport(
        architecture=architecture, labels=parts.labels, trained_on=len(learnt), fitted=fitted, out=out,
        left_out=len(parts.training) - len(learnt), validated_on=len(parts.validation), n=len(parts.held_out),
        input_size=(spec.width, spec.height), ms=frame_ms(model, np.zeros(spec.shape, np.uint8)),
        size_bytes=model.ByteSize(), **_judged(mark(net, parts.held_out, count=count), parts, calibration),
    )  # fmt: skip
    _write(report, parts, model=model, calibration=calibration, seed=seed)
    return report


def _check(settings: TrainSettings) -> None:
    """Raise DataError for a wish that only classifiers can have granted."""
    plain = TrainSettings(architecture=settings.architecture, epochs=settings.epochs)
    for name in ("weights", "attention", "folds", "blend"):
        if getattr(settings, name) != getattr(plain, name):
            raise DataError(
                f"--{name} {getattr(settings, name)}: {settings.architecture} doesn't take it, classifiers do"
            )


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
    split = split_off(pictures.samples, seed=seed)
    inner = set_aside(split.kept, seed=seed)
    chosen = {"training": inner.kept, "validation": inner.held_out, "held_out": split.held_out}
    for name, samples in chosen.items():
        _check_part(folder, name, [sample.label != pictures.good for sample in samples])
    labels = marked_labels(inner.kept, pictures)
    spec = choose_small_input(pictures.samples, side_px=side)
    stage = Stage(spec)
    read = {name: read_masked(stage, part, labels=labels, good=pictures.good) for name, part in chosen.items()}
    return _Parts(folder=pictures, labels=labels, spec=spec, unseen=split.held_out, **read)


def _check_part(folder: Path, name: str, defective: Sequence[bool]) -> None:
    """Raise DataError where a part of the pictures lacks good or defective ones: groups may be that uneven."""
    if any(defective) and not all(defective):
        return
    kind = "pictures with a defect" if not any(defective) else "good pictures"
    raise DataError(
        f"{folder}: no {kind} in the {name.replace('_', '-')} part: wanted are more pictures, or groups (--groups) "
        "that each have good and defective ones"
    )


def _calibrate(told: Marked, defective: npt.NDArray[np.bool_]) -> Calibration:
    """Scale the logits so that 0.5 is the limit where mistakes on these pictures cost least; doubt begins lower.

    The gain is that of a logistic fit (Platt 1999). With fewer than 20 good pictures there is no band of doubt.
    """
    logits = told.highest.max(1)
    gain = float(np.clip(fit_slope(logits, defective), *_GAINS))
    curve = cost_curve(1 / (1 + np.exp(-gain * logits)), defective, Costs())
    cut = min(max(float(curve.thresholds[curve.best]), _ALMOST_0), 1 - _ALMOST_0)
    shift = -math.log(cut / (1 - cut))
    if _DOUBTFUL_GOOD * (~defective).sum() < 1:  # too few to say where this share of them lies
        return Calibration(gain=gain, shift=shift, reject=0.5, doubt=0.5)
    doubtful = gain * cut_at_false_rejects(logits, defective, share=_DOUBTFUL_GOOD) + shift
    doubt = math.ceil(100 / (1 + math.exp(-doubtful))) / 100
    return Calibration(gain=gain, shift=shift, reject=0.5, doubt=min(0.5, doubt))


def _judged(told: Marked, parts: _Parts, calibration: Calibration) -> dict[str, Any]:
    """Count what the finished model does to held-out pictures; the fields of a report."""
    logits, bad, known = told.highest.max(1), parts.held_out.defective, parts.held_out.known
    scores = calibration.apply(logits)
    per_label = {}
    for label in parts.folder.defects:
        own = np.asarray([sample.label == label for sample in parts.unseen])
        caught = Share(count=int((scores[own] >= calibration.doubt).sum()), n=int(own.sum()))
        dice = told.dice(own & known, parts.labels.index(label)) if label in parts.labels else None
        per_label[label] = (caught, dice)
    return {
        "auroc": auroc(logits, bad), "escapes": escapes_at_false_rejects(logits, bad), "per_label": per_label,
        "verdicts": count_verdicts(scores, bad, reject=calibration.reject, doubt=calibration.doubt),
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
        "good": parts.folder.good, "seed": seed, "split_seed": seed, "epochs": report.fitted.best_epoch,
    }  # fmt: skip
    # TOML has no null: a figure that there is not is not told
    measured = {key: told[key] for key in names if told[key] is not None}
    made = MarkingModel(
        model=model, spec=parts.spec, folder=parts.folder, labels=parts.labels, calibration=calibration,
        unseen=parts.unseen, licence=SEGMENTERS[report.architecture].licence, training=training, measured=measured,
    )  # fmt: skip
    write_marking(report.out, made)


def _counted(share: Share) -> dict[str, Any]:
    return {"count": share.count, "n": share.n, "interval": [round(end, 5) for end in share.interval]}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
