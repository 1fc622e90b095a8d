"""Put what `train` made into a signed bundle: thresholds, golden frames from the held-out pictures, card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from bridge.inference.bundle import Bundle
from bridge.inference.manifest import InputSpec
from models.toolkit.bundles.files import CARD_END, Draft, GoldenPicture, write_bundle
from models.toolkit.graphs.heads import SCORES
from models.toolkit.graphs.session import open_model
from models.toolkit.pictures.folder import LabelledFolder, Sample
from models.toolkit.pictures.staged import Stage

_GOLDEN_MOST = 6
_LICENCE = "the pictures are their owner's"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A trained model and what its bundle says of it; `golden` are held-out pictures."""

    model: onnx.ModelProto
    spec: InputSpec
    folder: LabelledFolder
    golden: Sequence[Sample]
    thresholds: Mapping[str, Mapping[str, float]]
    training: Mapping[str, Any]
    measured: Mapping[str, Any]
    licence: str = _LICENCE


def write_trained(out: Path, trained: Trained) -> Bundle:
    """Write the bundle of a model that `train` made, named after `out`; raises BundleError."""
    folder, spec = trained.folder, trained.spec
    draft = Draft(
        task="classification", head="classifier", labels=folder.labels,
        good_labels=() if folder.good is None else (folder.good,), input=spec, thresholds=trained.thresholds,
        licence=trained.licence, training=trained.training, measured=trained.measured,
    )  # fmt: skip
    session, stage = open_model(trained.model), Stage(spec)
    golden = []
    for sample in trained.golden[:_GOLDEN_MOST]:
        scores = session.run([SCORES], {spec.name: stage.as_input(stage.read([sample])[0])})[0][0]
        told = {label: float(np.clip(score, 0, 1)) for label, score in zip(folder.labels, scores, strict=True)}
        golden.append(GoldenPicture(sample=sample, scores=told))
    return write_bundle(out, draft, model=trained.model.SerializeToString(), golden=golden, card=_trained_card(trained))


def _trained_card(trained: Trained) -> str:
    low, high = trained.measured["accuracy_interval"]
    counts = "\n".join(f"| {label} | {count} |" for label, count in trained.folder.counts.items())
    told = _CARD.format(
        **trained.measured, architecture=trained.training["architecture"], low=100 * low, high=100 * high,
        percent=100 * trained.measured["accuracy"], width=trained.spec.width, height=trained.spec.height, counts=counts,
        good=trained.folder.good or "none: every class is a defect",
    )  # fmt: skip
    return told + CARD_END


_CARD = """\
# A trained classifier

{architecture}, all of it trained, on pictures stretched to {width} x {height}. Class of good parts: {good}.

| class | pictures |
| --- | --- |
{counts}

30 % of each class were held out and judged at the end: {n} pictures, accuracy {percent:.1f} % [{low:.1f}, {high:.1f}],
macro-F1 {macro_f1:.3f}.
"""
