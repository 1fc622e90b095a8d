"""The bundle of a model that was taught by masks where defects are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bridge.inference.bundle import Bundle
from models.toolkit.bundles.files import LICENCE, Draft, check_target, write_bundle
from models.toolkit.bundles.maps import card_of, golden_of
from models.toolkit.figures.metrics import auroc
from models.toolkit.graphs.frame_time import frame_ms
from models.toolkit.pictures.folder import LabelledFolder
from models.toolkit.progress import Stage
from models.toolkit.teaching.cells import CellFit, cell_model, fit_cells


@dataclass(frozen=True, slots=True, kw_only=True)
class CellBundle:
    """A bundle of a cell model with the fit that it came from, and what a frame takes on one thread, in ms."""

    bundle: Bundle
    fit: CellFit
    ms: float


def make_cells(folder: LabelledFolder, out: Path, *, seed: int, stage: Stage) -> CellBundle:
    """Teach a cell model of a folder with masks and write its bundle; raises DataError or BundleError."""
    check_target(out)
    fit = fit_cells(folder, seed=seed, progress=stage)
    stage("writing", 0, 1)
    area = auroc(fit.scores, fit.defective)
    model = cell_model(fit)
    ms = frame_ms(model, np.zeros(fit.spec.shape, np.uint8))
    limits = {"reject": fit.calibration.reject, "doubt": fit.calibration.doubt, "region": fit.calibration.reject}
    draft = Draft(
        task="segmentation", head="cells", labels=(fit.label,), input=fit.spec, cells=True, licence=LICENCE,
        thresholds={fit.label: limits},
        training={"counts": folder.counts, "pictures_sha256": folder.sha256, "good": folder.good or "", "seed": seed},
        measured={
            "how": "cross-validation", "n": len(fit.scores), "auroc": round(area, 4),
            "frame_ms_one_thread": round(ms, 1),
        },
    )  # fmt: skip
    golden = golden_of(model, folder.samples, fit.scores, fit.spec, fit.label)
    card = card_of(
        fit.spec, what="Finds defects that were marked by masks",
        counts=", ".join(f"{label} {count}" for label, count in folder.counts.items()),
        arithmetic="INT8, weights of 7 bits",
        measured=f"AUROC {area:.4f} of {len(fit.scores)} pictures, each judged unseen",
    )  # fmt: skip
    bundle = write_bundle(out, draft, model=model.SerializeToString(), golden=golden, card=card)
    return CellBundle(bundle=bundle, fit=fit, ms=ms)
