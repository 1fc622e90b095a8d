"""Put a net that finds places into a signed bundle: one graph from bytes to calibrated scores and cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from bridge.inference.bundle import Bundle
from bridge.inference.manifest import InputSpec
from models.toolkit.bundles.files import CARD_END, Draft, GoldenPicture, write_bundle
from models.toolkit.bundles.golden import scored
from models.toolkit.figures.calibration import Calibration
from models.toolkit.pictures.folder import LabelledFolder, Sample

Limits = Mapping[str, Mapping[str, float]]
"""Thresholds of each label, as a manifest has them: reject, doubt, region."""
_GOLDEN_MOST = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacesModel:
    """A model that finds places, and what its bundle says of it; `unseen` are held-out pictures, `card` lacks its end."""

    task: str
    model: onnx.ModelProto
    spec: InputSpec
    folder: LabelledFolder
    labels: Sequence[str]
    limits: Limits
    unseen: Sequence[Sample]
    licence: str
    training: Mapping[str, Any]
    measured: Mapping[str, Any]
    card: str


def write_places(out: Path, made: PlacesModel) -> Bundle:
    """Write the bundle of a model that finds places, named after `out`; raises BundleError."""
    # TOML has no null: a figure that there is not is not told
    draft = Draft(
        task=made.task, head="cells", labels=made.labels, input=made.spec, cells=True, licence=made.licence,
        thresholds=made.limits, training=made.training,
        measured={key: value for key, value in made.measured.items() if value is not None},
    )  # fmt: skip
    model = made.model.SerializeToString()
    return write_bundle(out, draft, model=model, golden=_golden(made), card=made.card + CARD_END)


def limits_alike(labels: Sequence[str], calibration: Calibration) -> Limits:
    """Give every label the limits of a calibration; what rejects is a region too."""
    own = {"reject": calibration.reject, "doubt": calibration.doubt, "region": calibration.reject}
    return dict.fromkeys(labels, own)


def counted(folder: LabelledFolder) -> str:
    """Give the rows of a card's table: the pictures of each class."""
    return "\n".join(f"| {label} | {count} |" for label, count in folder.counts.items())


def _golden(made: PlacesModel) -> list[GoldenPicture]:
    """Take one held-out picture of each label, good parts first, and what the finished model says of it."""
    firsts = {sample.label: sample for sample in reversed(made.unseen)}
    order = sorted(firsts, key=lambda label: (label != made.folder.good, label))
    return scored(made.model, [firsts[label] for label in order][:_GOLDEN_MOST], made.spec, made.labels)
