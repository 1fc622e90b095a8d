"""Bundles of models that show where: cells taught by masks, and what is strange beside good parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from bridge.inference.bundle import Bundle
from bridge.inference.manifest import InputSpec
from models.toolkit.anomaly import LABEL, AnomalyFit, Kind, anomaly_model, fit_anomaly
from models.toolkit.backbone_file import IMAGE
from models.toolkit.bundle_files import Draft, GoldenPicture, check_target, write_bundle
from models.toolkit.cells import CellFit, cell_model, fit_cells
from models.toolkit.extract import open_model
from models.toolkit.folder import LabelledFolder, Sample, read_pictures
from models.toolkit.frame_time import frame_ms
from models.toolkit.graphs import SCORES
from models.toolkit.metrics import auroc
from models.toolkit.prepared import Preparer

GOLDEN_FRAMES = 4
LICENCE = "Apache-2.0 (ImageNet weights of EfficientNet-Lite0); the pictures are their owner's"
Stage = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellBundle:
    """A bundle of a cell model with the fit that it came from, and what a frame takes on one thread, in ms."""

    bundle: Bundle
    fit: CellFit
    ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalyBundle:
    """A bundle of an anomaly model with the fit that it came from."""

    bundle: Bundle
    fit: AnomalyFit
    ms: float


def make_cells(folder: LabelledFolder, out: Path, *, seed: int, stage: Stage) -> CellBundle:
    """Teach a cell model of a folder with masks and write its bundle; raises DataError or BundleError."""
    check_target(out)
    fit = fit_cells(folder, seed=seed, progress=stage)
    stage("writing", 0, 1)
    model = cell_model(fit)
    ms = frame_ms(model, np.zeros(fit.spec.shape, np.uint8))
    limits = {"reject": fit.calibration.reject, "doubt": fit.calibration.doubt, "region": fit.calibration.reject}
    draft = Draft(
        task="segmentation", head="cells", labels=(fit.label,), input=fit.spec, cells=True, licence=LICENCE,
        thresholds={fit.label: limits},
        training={"counts": folder.counts, "pictures_sha256": folder.sha256, "good": folder.good or "", "seed": seed},
        measured={
            "how": "cross-validation", "n": len(fit.scores), "auroc": round(auroc(fit.scores, fit.defective), 4),
            "frame_ms_one_thread": round(ms, 1),
        },
    )  # fmt: skip
    golden = _golden(model, folder.samples, fit.scores, fit.spec, fit.label)
    card = _CARD.format(
        what="Finds defects that were marked by masks", width=fit.spec.width, height=fit.spec.height,
        counts=", ".join(f"{label} {count}" for label, count in folder.counts.items()),
        arithmetic="INT8, weights of 7 bits",
        measured=f"AUROC {auroc(fit.scores, fit.defective):.4f} of {len(fit.scores)} pictures, each judged unseen",
    )  # fmt: skip
    bundle = write_bundle(out, draft, model=model.SerializeToString(), golden=golden, card=card)
    return CellBundle(bundle=bundle, fit=fit, ms=ms)


def make_anomaly(
    folder: Path, out: Path, *, kind: Kind, false_rejects: float, seed: int, stage: Stage
) -> AnomalyBundle:
    """Learn what good parts look like and write the bundle; raises DataError or BundleError."""
    check_target(out)
    pictures = read_pictures(folder)
    fit = fit_anomaly(
        pictures, kind=kind, false_rejects=false_rejects, seed=seed,
        progress=lambda done, of: stage("good parts", done, of),
    )  # fmt: skip
    stage("writing", 0, 1)
    model = anomaly_model(fit)
    ms = frame_ms(model, np.zeros(fit.input.shape, np.uint8))
    share = fit.held_back_false_rejects
    limits = fit.thresholds.model_dump(exclude_none=True, include={"reject", "doubt", "region"})
    draft = Draft(
        task="anomaly", head="cells", labels=(LABEL,), input=fit.input, cells=True, licence=LICENCE,
        thresholds={LABEL: limits},
        training={
            "counts": {"good": len(fit.samples)}, "pictures_sha256": pictures.sha256, "kind": fit.kind, "seed": seed,
        },
        measured={
            "how": "held-back good pictures", "n": len(fit.held_back), "false_rejects": round(share, 4),
            "false_rejects_wanted": false_rejects, "frame_ms_one_thread": round(ms, 1),
        },
    )  # fmt: skip
    golden = _golden(model, fit.samples, np.asarray(fit.held_back), fit.input, LABEL)
    card = _CARD.format(
        what=f"Finds what good parts don't have ({fit.kind})", width=fit.input.width, height=fit.input.height,
        counts=f"good {len(fit.samples)}", arithmetic="float32",
        measured=f"{share:.2%} of {len(fit.held_back)} held-back good pictures rejected, {false_rejects:.2%} wanted",
    )  # fmt: skip
    bundle = write_bundle(out, draft, model=model.SerializeToString(), golden=golden, card=card)
    return AnomalyBundle(bundle=bundle, fit=fit, ms=ms)


def _scores(model: onnx.ModelProto, samples: Sequence[Sample], spec: InputSpec) -> npt.NDArray[np.float64]:
    session, preparer = open_model(model), Preparer(spec)
    return np.asarray(
        [session.run([SCORES], {IMAGE: preparer.tensor(sample)})[0][0, 0] for sample in samples], np.float64
    )


def _golden(
    model: onnx.ModelProto, samples: Sequence[Sample], scores: npt.NDArray[np.float64], spec: InputSpec, label: str
) -> list[GoldenPicture]:
    """Choose four pictures over the range of scores, and what the finished model says of each."""
    order = np.argsort(scores)
    chosen = [samples[order[place]] for place in np.linspace(0, len(order) - 1, GOLDEN_FRAMES).astype(int)]
    told = _scores(model, chosen, spec)
    return [
        GoldenPicture(sample=sample, scores={label: float(score)}) for sample, score in zip(chosen, told, strict=True)
    ]


def summary(measured: Mapping[str, Any]) -> str:
    """Give the measured figures of a bundle on one line each."""
    return "\n".join(f"{key.replace('_', ' '):<30} {value}" for key, value in measured.items())


_CARD = """\
# A taught model that shows where

{what}, in pictures stretched to {width} x {height}. One score for the picture and one for each cell, 0 to 1. Frozen features
of EfficientNet-Lite0 (ImageNet weights, Apache-2.0). Arithmetic: {arithmetic}. Pictures: {counts}.

Measured: {measured}.

It knows the light, the camera and the parts of these pictures and no others. Judge it on pictures of another day with
`linegate model evaluate` before it drives a gate.
"""
