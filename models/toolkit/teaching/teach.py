"""From a folder of labelled pictures to a signed bundle: features, head, quantization, thresholds, golden frames, report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from bridge.inference.bundle import Bundle
from bridge.inference.manifest import InputSpec
from models.toolkit.bundles.files import CARD_END, LICENCE, Draft, GoldenPicture, check_target, write_bundle
from models.toolkit.bundles.golden import scored
from models.toolkit.figures.costs import Costs, label_thresholds
from models.toolkit.graphs.backbone import load_backbone
from models.toolkit.graphs.extract import extract
from models.toolkit.graphs.frame_time import frame_ms
from models.toolkit.graphs.heads import add_classifier, add_pooling, pooled_size
from models.toolkit.graphs.quantize import quantize_backbone
from models.toolkit.pictures.folder import LabelledFolder, read_folder
from models.toolkit.pictures.prepared import MIRRORS, Preparer, choose_input
from models.toolkit.progress import Stage
from models.toolkit.teaching.cell_bundle import make_cells
from models.toolkit.teaching.classifier import ClassifierFit, fit_classifier, group_numbers, label_numbers

SIDE_PX = 224
CHOICES = (("early", "deep"), ("early", "deep", "last"))
GOLDEN_FRAMES = 6
ALLOWED_LOSS = 0.0025


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """What was made, and what the report tells of it.

    `unseen` (pictures x names, 0 to 1) is what each picture got from a model that had not seen it, `truth` the place of
    its own name, `groups` which pictures are nearly the same. A part passes from `accept` of the good name on. `float_ms` is
    None where no float32 model was made.
    """

    bundle: Bundle
    folder: LabelledFolder
    names: tuple[str, ...]
    unseen: npt.NDArray[np.float64]
    truth: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    accept: float
    quantized: bool
    float_ms: float | None
    model_ms: float
    seconds: float

    @property
    def said(self) -> npt.NDArray[np.int64]:
        """The place of what an unseen model said: the highest, or for two names what the threshold makes of it."""
        if self.folder.good is not None and len(self.names) == 2:
            place = self.names.index(self.folder.good)
            return np.where(self.unseen[:, place] >= self.accept, place, 1 - place)
        return np.asarray(self.unseen.argmax(axis=1), np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """One arithmetic to judge in: its backbone with pooled features, the head, and what a frame costs."""

    backbone: onnx.ModelProto
    fit: ClassifierFit
    ms: float


def teach_classifier(
    folder: LabelledFolder,
    out: Path,
    *,
    costs: Costs,
    seed: int,
    side_px: int = SIDE_PX,
    stage: Stage = lambda _name, _done, _of: None,
) -> Taught:
    """Make a signed classifier bundle at `out`; raises DataError or BundleError. `stage` hears name, done, of.

    The input has as many pixels as a square of `side_px`: fewer are faster, more show smaller defects.
    """
    began = time.monotonic()
    check_target(out)
    spec = choose_input(folder.samples, area_px=side_px**2)
    labels = label_numbers(folder)
    whole = _candidate(_pooled(CHOICES[-1], spec), folder, spec, labels, seed=seed, name="features", stage=stage)
    stage("quantizing", 0, 1)
    taps = whole.fit.taps
    in_int8 = quantize_backbone(_pooled(taps, spec), folder.samples, spec, seed=seed)
    small = _candidate(in_int8, folder, spec, labels, seed=seed, name="features in INT8", stage=stage, taps=taps)
    lost = small.fit.errors(labels) - whole.fit.errors(labels)
    quantized = small.ms < whole.ms and lost <= ALLOWED_LOSS * len(labels)
    chosen = small if quantized else _cut(whole, spec)
    stage("writing", 0, 1)
    thresholds = label_thresholds(folder.labels, folder.good, chosen.fit.unseen, labels, costs)
    model = add_classifier(onnx.ModelProto.FromString(chosen.backbone.SerializeToString()), chosen.fit.head)
    measured = _measured(chosen, whole, labels)
    draft = Draft(
        task="classification", head="classifier", labels=folder.labels,
        good_labels=(folder.good,) if folder.good else (), input=spec, thresholds=thresholds, licence=LICENCE,
        training=_training(folder, chosen.fit, seed=seed), measured=measured,
    )  # fmt: skip
    golden = _golden(model, folder, chosen.fit, labels, spec)
    card = _card(folder, chosen, measured, spec, quantized=quantized)
    bundle = write_bundle(out, draft, model=model.SerializeToString(), golden=golden, card=card)
    return Taught(
        bundle=bundle, folder=folder, names=folder.labels, unseen=chosen.fit.unseen, truth=labels,
        groups=chosen.fit.groups, accept=0.0 if folder.good is None else thresholds[folder.good]["accept"],
        quantized=quantized, float_ms=whole.ms, model_ms=chosen.ms, seconds=time.monotonic() - began,
    )  # fmt: skip


def teach_cells(folder: LabelledFolder, out: Path, *, seed: int, stage: Stage) -> Taught:
    """Make a signed bundle of a cell model at `out`; raises DataError or BundleError."""
    began = time.monotonic()
    made = make_cells(folder, out, seed=seed, stage=stage)
    fit = made.fit
    names = (str(folder.good), fit.label)
    return Taught(
        bundle=made.bundle, folder=folder, names=names, unseen=np.stack([1 - fit.scores, fit.scores], axis=1),
        truth=fit.defective.astype(np.int64), groups=np.arange(len(fit.folds)),
        accept=1 - fit.calibration.doubt, quantized=True, float_ms=None, model_ms=made.ms,
        seconds=time.monotonic() - began,
    )  # fmt: skip


def _pooled(taps: Sequence[str], spec: InputSpec) -> onnx.ModelProto:
    """Give the backbone for this input, in float32, with `features` of these taps."""
    return add_pooling(load_backbone(taps, width=spec.width, height=spec.height), taps)


def _candidate(
    backbone: onnx.ModelProto,
    folder: LabelledFolder,
    spec: InputSpec,
    labels: npt.NDArray[np.int64],
    *,
    seed: int,
    name: str,
    stage: Stage,
    taps: Sequence[str] | None = None,
) -> _Candidate:
    features = extract(backbone, folder.samples, spec, mirrors=MIRRORS, progress=lambda done, of: stage(name, done, of))
    stage("fitting", 0, 1)
    groups = group_numbers(folder, features[:, 0])
    fit = fit_classifier(features, labels, groups, CHOICES if taps is None else (taps,), seed=seed)
    return _Candidate(backbone=backbone, fit=fit, ms=frame_ms(backbone, Preparer(spec).tensor(folder.samples[0])))


def _cut(whole: _Candidate, spec: InputSpec) -> _Candidate:
    """Leave out what the chosen features don't need."""
    taps = whole.fit.taps
    backbone = _pooled(taps, spec)
    ms = whole.ms if taps == CHOICES[-1] else frame_ms(backbone, np.zeros(spec.shape, np.uint8))
    return _Candidate(backbone=backbone, fit=whole.fit, ms=ms)


def _training(folder: LabelledFolder, fit: ClassifierFit, *, seed: int) -> dict[str, Any]:
    return {
        "counts": folder.counts, "pictures_sha256": folder.sha256, "groups": len(np.unique(fit.groups)), "seed": seed,
        "backbone": "EfficientNet-Lite0, ImageNet, frozen", "taps": list(fit.taps), "strength": fit.strength,
    }  # fmt: skip


def _measured(chosen: _Candidate, whole: _Candidate, labels: npt.NDArray[np.int64]) -> dict[str, Any]:
    n, errors = len(labels), chosen.fit.errors(labels)
    return {
        "how": "cross-validation, each picture judged by a head that had not seen it nor one nearly like it",
        "n": n, "accuracy": round(1 - errors / n, 4), "accuracy_float32": round(1 - whole.fit.errors(labels) / n, 4),
        "frame_ms_one_thread": round(chosen.ms, 1), "frame_ms_one_thread_float32": round(whole.ms, 1),
    }  # fmt: skip


def _golden(
    model: onnx.ModelProto,
    folder: LabelledFolder,
    fit: ClassifierFit,
    labels: npt.NDArray[np.int64],
    spec: InputSpec,
) -> list[GoldenPicture]:
    """Choose a clear picture of each label, up to six, and what the finished model says of each."""
    chosen = []
    for number in range(min(len(folder.labels), GOLDEN_FRAMES)):
        own = np.flatnonzero(labels == number)
        chosen.append(folder.samples[own[fit.unseen[own, number].argmax()]])
    return scored(model, chosen, spec, folder.labels)


def _card(
    folder: LabelledFolder, chosen: _Candidate, measured: Mapping[str, Any], spec: InputSpec, *, quantized: bool
) -> str:
    counts = "\n".join(f"| {label} | {count} |" for label, count in folder.counts.items())
    told = _CARD.format(
        taps=" and ".join(chosen.fit.taps), width=spec.width, height=spec.height, counts=counts,
        arithmetic="INT8, weights of 7 bits" if quantized else "float32", good=folder.good or "none: every class is a defect",
        size=pooled_size(chosen.fit.taps), **measured,
    )  # fmt: skip
    return told + CARD_END


_CARD = """\
# A taught classifier

Frozen features of EfficientNet-Lite0 (ImageNet weights, Apache-2.0), maps {taps}: {size} values for a picture stretched to
{width} x {height}; a logistic regression on them. Arithmetic: {arithmetic}. Class of good parts: {good}.

| class | pictures |
| --- | --- |
{counts}

Measured by {how}: accuracy {accuracy} of {n} pictures (in float32 {accuracy_float32}). One frame takes
{frame_ms_one_thread} ms on one thread of the machine that made it, in float32 {frame_ms_one_thread_float32} ms.
"""


def teach(
    folder: Path,
    out: Path,
    *,
    good: str | None,
    groups: str | None,
    costs: Costs,
    seed: int,
    side_px: int,
    stage: Stage,
) -> Taught:
    """Read a folder and teach a model of it; raises DataError or BundleError, and leaves nothing half-written.

    Where most defects have masks and there are good parts, the model learns where they are; else what a picture is.
    """
    check_target(out)
    labelled = read_folder(folder, good=good, groups=groups)
    if labelled.has_masks and labelled.good is not None:
        return teach_cells(labelled, out, seed=seed, stage=stage)
    return teach_classifier(labelled, out, costs=costs, seed=seed, side_px=side_px, stage=stage)
