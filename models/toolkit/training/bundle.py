"""Put what `train` made into a signed bundle: thresholds, golden frames from the held-out pictures, card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from bridge.inference.bundle import Bundle
from bridge.inference.manifest import InputSpec
from models.toolkit.bundles.files import CARD_END, Draft, write_bundle
from models.toolkit.bundles.golden import scored
from models.toolkit.pictures.folder import LabelledFolder, Sample
from models.toolkit.training.report import TrainReport

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
    report: TrainReport

    @property
    def licence(self) -> str:
        """Under which licence the bundle is: that of its first weights binds it too."""
        weights = self.report.weights
        return f"{weights.licence} ({weights.source}); {_LICENCE}" if weights.pretrained else _LICENCE


def write_trained(out: Path, trained: Trained) -> Bundle:
    """Write the bundle of a model that `train` made, named after `out`; raises BundleError."""
    folder, spec = trained.folder, trained.spec
    draft = Draft(
        task="classification", head="classifier", labels=folder.labels,
        good_labels=() if folder.good is None else (folder.good,), input=spec, thresholds=trained.thresholds,
        licence=trained.licence, training=trained.training, measured=trained.report.figures(),
    )  # fmt: skip
    golden = scored(trained.model, trained.golden[:_GOLDEN_MOST], spec, folder.labels)
    return write_bundle(out, draft, model=trained.model.SerializeToString(), golden=golden, card=_trained_card(trained))


def _trained_card(trained: Trained) -> str:
    report, folder = trained.report, trained.folder
    lines = ["| class | pictures |", "| --- | --- |"]
    lines += [f"| {label} | {count} |" for label, count in folder.counts.items()]
    if report.blended:
        more = [
            "blended ones, to learn from only",
            "---",
            *(str(report.blended.get(label, 0)) for label in folder.labels),
        ]
        lines = [f"{line} {cell} |" for line, cell in zip(lines, more, strict=True)]
    counts = "\n".join(lines)
    attention = "" if report.attention == "none" else f" with attention {report.attention}"
    figures = report.figures()
    judged = (
        f"Of {report.how}: {report.accuracy} right, macro-F1 {figures['macro_f1']:.3f}."
        if report.folds is None
        else f"By {report.how}. {report.accuracy} right, macro-F1 {figures['macro_f1']:.3f}; mean of the folds "
        f"{100 * report.folds.mean:.1f} %, spread {100 * report.folds.spread:.1f} points."
    )
    told = _CARD.format(
        architecture=report.architecture, attention=attention, weights=report.weights, width=trained.spec.width,
        height=trained.spec.height, good=folder.good or "none: every class is a defect", counts=counts, judged=judged,
        validated=report.validated_on,
    )  # fmt: skip
    return told + CARD_END


_CARD = """\
# A trained classifier

{architecture}{attention}, all of it trained, on pictures stretched to {width} x {height}. Class of good parts: {good}.
It began with weights: {weights}.

{counts}

{judged}
When to stop was told by {validated} other pictures.
"""
