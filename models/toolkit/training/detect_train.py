"""Train a net that finds boxes on a folder with boxes or masks, judge it on pictures that it never saw, write it as a bundle."""

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
from models.toolkit.bundles.page import page_beside
from models.toolkit.figures.boxes import best_cut
from models.toolkit.figures.calibration import Calibration
from models.toolkit.graphs.frame_time import frame_ms
from models.toolkit.pictures.boxes import read_all_boxes
from models.toolkit.pictures.folder import LabelledFolder, Sample, read_folder
from models.toolkit.pictures.prepared import choose_small_input
from models.toolkit.pictures.staged import Stage
from models.toolkit.progress import Say
from models.toolkit.training.boxed import BoxedPictures, boxed_labels, read_boxed
from models.toolkit.training.detect_bundle import boxes_card, export_boxes
from models.toolkit.training.detect_net import DETECTORS
from models.toolkit.training.detect_page import write_boxes_page
from models.toolkit.training.detect_report import DetectionReport, LabelFigures
from models.toolkit.training.detection import Found, find, fit_boxes
from models.toolkit.training.fine_tuning import Plan
from models.toolkit.training.good_or_not import judge_pictures
from models.toolkit.training.limits import calibrate_pictures
from models.toolkit.training.parts import divide
from models.toolkit.training.places_bundle import Limits, PlacesModel, limits_alike, write_places
from models.toolkit.training.settings import TrainSettings

_BATCH, _PATIENCE = 8, 10
_PARITY_PICTURES = 8
_PLAIN = Calibration(gain=1.0, shift=0.0, reject=0.5, doubt=0.0)


def train_boxes(folder: Path, out: Path, settings: TrainSettings, *, say: Say) -> DetectionReport:
    """Train one of DETECTORS on a folder whose defects have boxes or masks, and write a signed bundle to `out`.

    30 % of each class are held out and judge, 15 % of the rest say when to stop and set the threshold, groups kept
    together. The input has about `side` x `side` pixels, no more than the pictures. Raises DataError or BundleError.
    """
    architecture, seed = settings.architecture, settings.seed
    settings.refuse_what_only_classifiers_take()
    check_target(out)
    parts = _read(folder, settings)
    torch.manual_seed(seed)
    net, count = DETECTORS[architecture].build(len(parts.labels)), len(parts.labels)
    learnt, spec = parts.training.only_known(), parts.spec
    net.begin_at(learnt.usual_sides())
    say(
        f"{architecture} at {spec.width} x {spec.height}: {len(learnt)} pictures to learn from, "
        f"{len(parts.training) - len(learnt)} of defects without a box left out; it finds {', '.join(parts.labels)}"
    )
    plan = Plan(
        epochs=settings.epochs, learning_rate=DETECTORS[architecture].learning_rate, patience=_PATIENCE, seed=seed,
        batch=_BATCH,
    )  # fmt: skip
    fitted = fit_boxes(net, learnt, parts.validation.only_known(), plan, count=count, say=say)
    calibration, limits = _calibrated(find(net, parts.validation), parts)
    model = export_boxes(net, calibration, spec, parts.held_out.pictures[:_PARITY_PICTURES])
    found = find(net, parts.held_out)
    report = DetectionReport(
        architecture=architecture, labels=parts.labels, trained_on=len(learnt), fitted=fitted, out=out,
        left_out=len(parts.training) - len(learnt), validated_on=len(parts.validation), n=len(parts.held_out),
        input_size=(spec.width, spec.height), ms=frame_ms(model, np.zeros(spec.shape, np.uint8)),
        size_bytes=model.ByteSize(), **_judged(found, parts, calibration, limits),
    )  # fmt: skip
    _write(report, parts, model=model, limits=limits, seed=seed)
    rejects = [limits[label]["reject"] for label in parts.labels]
    write_boxes_page(
        report, page_beside(out), unseen=parts.unseen, data=parts.held_out, found=found.at_least(calibration, rejects)
    )
    return report


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """A folder with boxes, read at the size of the input: to learn from, to stop by, and `unseen` to judge by."""

    folder: LabelledFolder
    labels: tuple[str, ...]
    spec: InputSpec
    unseen: tuple[Sample, ...]
    training: BoxedPictures
    validation: BoxedPictures
    held_out: BoxedPictures


def _read(folder: Path, settings: TrainSettings) -> _Parts:
    """Read and split a folder; raises DataError where it has no boxes, a wrong one, or a part lacks a kind."""
    pictures = read_folder(folder, good=settings.good, groups=settings.groups)
    samples = pictures.samples
    boxes = {sample.path: own for sample, own in zip(samples, read_all_boxes(samples, pictures), strict=True)}
    parts = divide(pictures, seed=settings.seed)
    labels = boxed_labels(parts.training, boxes, pictures)
    spec = choose_small_input(samples, side_px=settings.side)
    stage = Stage(spec)
    read = {name: read_boxed(stage, part, boxes, labels, pictures.good) for name, part in parts.by_name.items()}
    return _Parts(folder=pictures, labels=labels, spec=spec, unseen=parts.held_out, **read)


def _calibrated(found: Found, parts: _Parts) -> tuple[Calibration, Limits]:
    """Set the limits by the validation pictures: by what mistakes cost where there are good parts.

    Without good parts each label's limit is where its boxes are right most often (F1), and doubt begins at 0: that no box
    is found is no evidence of a good part, so none may pass.
    """
    if parts.folder.good is not None:
        calibration = calibrate_pictures(found.highest.max(1), parts.validation.defective)
        return calibration, limits_alike(parts.labels, calibration)
    limits = {}
    for label, hits in zip(parts.labels, found.hits(parts.validation), strict=True):
        cut = round(float(_PLAIN.apply(np.asarray(best_cut(hits) or 0.0))), 4)
        limits[label] = {"reject": cut, "doubt": _PLAIN.doubt, "region": cut}
    return _PLAIN, limits


def _judged(found: Found, parts: _Parts, calibration: Calibration, limits: Limits) -> Mapping[str, Any]:
    """Count what the finished model does to held-out pictures; the fields of a report."""
    hits, true = found.hits(parts.held_out), parts.held_out.boxes
    per_label: dict[str, LabelFigures] = {}
    for number, label in enumerate(parts.labels):
        own = hits[number]
        told = own.right & (calibration.apply(own.scores) >= limits[label]["reject"])
        per_label[label] = LabelFigures(
            precision=own.precision, boxes=own.total, found=len(set(own.pictures[told].tolist())),
            pictures=sum(number in boxes.labels for boxes in true),
        )  # fmt: skip
    told_good = None
    if parts.folder.good is not None:
        told_good = judge_pictures(found.highest.max(1), parts.held_out.defective, calibration)
    return {"per_label": per_label, "good_or_not": told_good}


def _write(report: DetectionReport, parts: _Parts, *, model: onnx.ModelProto, limits: Limits, seed: int) -> None:
    told = report.as_json()
    names = (
        "n", "ap50", "auroc", "escapes_at_1pct_false_rejects", "escapes", "false_rejects", "frame_ms_one_thread",
    )  # fmt: skip
    training = {
        "architecture": report.architecture, "counts": parts.folder.counts, "pictures_sha256": parts.folder.sha256,
        "seed": seed, "split_seed": seed, "epochs": report.fitted.best,
        **({} if parts.folder.good is None else {"good": parts.folder.good}),
    }  # fmt: skip
    made = PlacesModel(
        task="detection", model=model, spec=parts.spec, folder=parts.folder, labels=parts.labels,
        limits=limits, unseen=parts.unseen, licence=DETECTORS[report.architecture].licence,
        training=training, measured={key: told.get(key) for key in names},
        card=boxes_card(parts.folder, parts.labels, parts.spec, told),
    )  # fmt: skip
    write_places(report.out, made)
