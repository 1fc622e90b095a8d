"""Put what `train` and `compress` made into a signed bundle: golden frames with the new scores, thresholds, card."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from bridge.inference.bundle import Bundle
from bridge.inference.manifest import InputSpec
from models.toolkit.bundle_files import Draft, GoldenPicture, write_bundle
from models.toolkit.compress_report import CompressReport, Step
from models.toolkit.compress_steps import Candidate
from models.toolkit.extract import open_model
from models.toolkit.folder import LabelledFolder, Sample
from models.toolkit.graphs import CELLS, SCORES
from models.toolkit.judging import Runner
from models.toolkit.staged import Stage

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


def write_compressed(out: Path, source: Bundle, made: Candidate, report: CompressReport) -> Bundle:
    """Write the bundle of a compressed model: what the source says of itself, its golden pictures scored anew.

    Raises BundleError.
    """
    manifest = made.manifest
    kept = [step for step in report.steps[1:] if not step.refused]
    draft = Draft(
        task=manifest.task, head=manifest.head, labels=manifest.labels, good_labels=manifest.good_labels,
        input=manifest.input, cells=manifest.output.cells is not None, licence=manifest.licence,
        thresholds={label: spec.model_dump(exclude_none=True) for label, spec in manifest.thresholds.items()},
        training={
            **manifest.training, "compressed_from": source.reference, "steps": [step.name for step in kept],
            "compress_seed": report.split_seed,
        },
        measured={"n": report.pictures, "original": _measured(report.steps[0]), "compressed": _measured(kept[-1])},
    )  # fmt: skip
    card = (
        f"# Compressed from {source.reference}\n\nHeld-out pictures: {report.pictures}.\n\n```\n{report.table()}\n```\n"
    )
    model = _renamed(made.model, {manifest.output.scores: SCORES, manifest.output.cells or CELLS: CELLS})
    with tempfile.TemporaryDirectory() as place:
        return write_bundle(
            out, draft, model=model.SerializeToString(), golden=_scored(source, made, Path(place)), card=card
        )


def _scored(source: Bundle, made: Candidate, place: Path) -> list[GoldenPicture]:
    """Let the model judge the source's golden pictures as the bridge will."""
    stage = Stage(made.manifest.input)
    runner = Runner(made.model, made.manifest, stage)
    found = []
    for frame in source.golden.frame:
        data = source.files[f"golden/{frame.file}"]
        path = place / frame.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        scores = runner.scores(stage.staged(data, where=frame.file)[None])[0].clip(0, 1)
        sample = Sample(path=path, label="", mask=None, sha256="", width=0, height=0)
        told = dict(zip(made.manifest.labels, map(float, scores), strict=True))
        found.append(GoldenPicture(sample=sample, scores=told))
    return found


def _renamed(model: onnx.ModelProto, names: Mapping[str, str]) -> onnx.ModelProto:
    """Give a copy whose tensors have the names that bundles made here have."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in copy.graph.output:
        value.name = names.get(value.name, value.name)
    return copy


def _measured(step: Step) -> dict[str, Any]:
    """Give a step's figures for the manifest, where a null can't stand."""
    return {key: value for key, value in step.as_json().items() if value not in (None, "", {})}


def _trained_card(trained: Trained) -> str:
    low, high = trained.measured["accuracy_interval"]
    counts = "\n".join(f"| {label} | {count} |" for label, count in trained.folder.counts.items())
    return _CARD.format(
        **trained.measured, architecture=trained.training["architecture"], low=100 * low, high=100 * high,
        percent=100 * trained.measured["accuracy"], width=trained.spec.width, height=trained.spec.height, counts=counts,
        good=trained.folder.good or "none: every class is a defect",
    )  # fmt: skip


_CARD = """\
# A trained classifier

{architecture}, all of it trained, on pictures stretched to {width} x {height}. Class of good parts: {good}.

| class | pictures |
| --- | --- |
{counts}

30 % of each class were held out and judged at the end: {n} pictures, accuracy {percent:.1f} % [{low:.1f}, {high:.1f}],
macro-F1 {macro_f1:.3f}.

It knows the light, the camera and the parts of these pictures and no others. Judge it on pictures of another day with
`linegate model evaluate` before it drives a gate.
"""
