"""Put what `compress` made into a signed bundle: golden frames with the new scores, the steps in card and manifest."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from bridge.inference.bundle import Bundle
from models.toolkit.bundles.files import Draft, GoldenPicture, write_bundle
from models.toolkit.compression.judging import Runner
from models.toolkit.compression.report import CompressReport, Step
from models.toolkit.compression.steps import Candidate
from models.toolkit.graphs.heads import CELLS, SCORES
from models.toolkit.pictures.folder import Sample
from models.toolkit.pictures.staged import Stage


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
