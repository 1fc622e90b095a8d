"""The bundle of a model that was made of good parts only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bridge.inference.bundle import Bundle
from models.toolkit.anomalies.fit import LABEL, LEAST_PICTURES, AnomalyFit, Kind, anomaly_model, fit_anomaly
from models.toolkit.bundles.files import LICENCE, Draft, check_target, write_bundle
from models.toolkit.bundles.maps import card_of, golden_of
from models.toolkit.graphs.frame_time import frame_ms
from models.toolkit.pictures.folder import DataError, LabelledFolder, read_pictures
from models.toolkit.progress import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalyBundle:
    """A bundle of an anomaly model with the fit that it came from."""

    bundle: Bundle
    fit: AnomalyFit
    ms: float


def make_anomaly(
    folder: Path, out: Path, *, kind: Kind, false_rejects: float, seed: int, stage: Stage, groups: str | None = None
) -> AnomalyBundle:
    """Learn what good parts look like and write the bundle; raises DataError or BundleError.

    `groups` is searched in each file's name: pictures with the same captured text are of one part, place or run, and none of
    them is held back from what was learnt of another.
    """
    check_target(out)
    pictures = _read_good(folder, groups)
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
            "groups": groups or "",
        },
        measured={
            "how": "held-back good pictures", "n": len(fit.held_back), "false_rejects": round(share, 4),
            "false_rejects_wanted": false_rejects, "frame_ms_one_thread": round(ms, 1),
        },
    )  # fmt: skip
    golden = golden_of(model, fit.samples, np.asarray(fit.held_back), fit.input, LABEL)
    card = card_of(
        fit.input, what=f"Finds what good parts don't have ({fit.kind})", counts=f"good {len(fit.samples)}",
        arithmetic="features INT8 with weights of 7 bits, distances float32" if fit.int8 else "float32",
        measured=f"{share:.2%} of {len(fit.held_back)} held-back good pictures rejected, {false_rejects:.2%} wanted",
    )  # fmt: skip
    bundle = write_bundle(out, draft, model=model.SerializeToString(), golden=golden, card=card)
    return AnomalyBundle(bundle=bundle, fit=fit, ms=ms)


def _read_good(folder: Path, groups: str | None) -> LabelledFolder:
    pictures = read_pictures(folder, least=LEAST_PICTURES, groups=groups)
    different = len({sample.sha256 for sample in pictures.samples})
    if different < LEAST_PICTURES:
        raise DataError(
            f"{folder}: {len(pictures.samples)} pictures, but {different} different ones: "
            f"wanted are at least {LEAST_PICTURES}, of different parts"
        )
    return pictures


def summary(measured: Mapping[str, Any]) -> str:
    """Give the measured figures of a bundle on one line each."""
    return "\n".join(f"{key.replace('_', ' '):<30} {value}" for key, value in measured.items())
