"""Train the shipped ball-screw model: `python -m models.toolkit.ball_screw.train --data FOLDER --out BUNDLE`."""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from models.toolkit.ball_screw.bundle import GoldenFrame, Manifest, write_golden, write_manifest
from models.toolkit.ball_screw.data import (
    FOLDS,
    HELD_OUT_PLACES,
    Picture,
    hash_pictures,
    in_places,
    load_rgb,
    read_pictures,
)
from models.toolkit.ball_screw.export import CellModel, InputShape, check_parity, export_onnx
from models.toolkit.ball_screw.features import compute_features
from models.toolkit.ball_screw.head import CellHead, HeadSettings, train_head
from models.toolkit.ball_screw.runtime import run_scores
from models.toolkit.figures import metrics
from models.toolkit.figures.calibration import NEUTRAL, Calibration, calibrate, logits_of
from models.toolkit.graphs.quantize import quantize_u8s8
from models.toolkit.graphs.session import open_file
from models.toolkit.training import backbone

LABEL = "pitting"
VALIDATION_PLACES = FOLDS[3]
FALSE_REJECTS, DOUBTFUL_GOOD = 0.01, 0.08
CALIBRATION_PICTURES, AUROC_LOSS = 60, 0.005
LICENCE = "CC-BY-SA-4.0 (pictures), Apache-2.0 (ImageNet weights of EfficientNet-Lite0)"


@dataclass(frozen=True, slots=True)
class Judged:
    """Scores of a set of pictures by the exported model, with the time of each inference in ms."""

    scores: metrics.Scores
    labels: metrics.Labels
    times_ms: list[float]


def main() -> None:
    """Train, export, calibrate, measure, and write the bundle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with no_pitting/ and pitting/")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--width", type=int, default=896)
    parser.add_argument("--height", type=int, default=368)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    shape = InputShape(width=given.width, height=given.height)
    pictures = read_pictures(given.data)
    settings = HeadSettings(epochs=given.epochs)
    head, trained_on = fit(pictures, shape, settings, seed=given.seed)
    build(given.out, pictures, trained_on, head, shape, settings=settings, seed=given.seed)


def fit(
    pictures: Sequence[Picture], shape: InputShape, settings: HeadSettings, *, seed: int
) -> tuple[CellHead, list[Picture]]:
    """Train the head on every place but those for validation and those held out."""
    trunk = backbone.Trunk()
    features = compute_features(pictures, trunk, width=shape.width, height=shape.height)
    kept_back = {*VALIDATION_PLACES, *HELD_OUT_PLACES}
    rows = [row for row, picture in enumerate(pictures) if picture.place and picture.place not in kept_back]
    return train_head(features, rows, settings, seed=seed), [pictures[row] for row in rows]


def build(
    out: Path,
    pictures: Sequence[Picture],
    trained_on: Sequence[Picture],
    head: CellHead,
    shape: InputShape,
    *,
    settings: HeadSettings,
    seed: int,
) -> None:
    """Export the model, calibrate it on the validation places, measure it on the held-out ones, write all files."""
    out.mkdir(parents=True, exist_ok=True)
    trunk = backbone.Trunk()
    validation, held_out = in_places(pictures, VALIDATION_PLACES), in_places(pictures, HELD_OUT_PLACES)
    chosen = np.random.default_rng(seed).choice(len(trained_on), CALIBRATION_PICTURES, replace=False)
    samples = [load_rgb(trained_on[row].path, width=shape.width, height=shape.height) for row in chosen]
    with tempfile.TemporaryDirectory() as folder:
        whole, path = Path(folder) / "float32.onnx", out / "model.onnx"
        export_onnx(CellModel(trunk, head, NEUTRAL), whole, shape)
        quantize_u8s8(whole, path, samples)
        raw = judge(path, validation, shape)
        logits = logits_of(raw.scores, NEUTRAL)
        calibration = calibrate(logits, raw.labels, false_rejects=FALSE_REJECTS, doubtful_good=DOUBTFUL_GOOD)
        model = CellModel(trunk, head, calibration)
        export_onnx(model, whole, shape)
        parity = check_parity(model, whole, samples[::10])
        quantize_u8s8(whole, path, samples)
        report = compare(whole, path, {"validation": validation, "held_out": held_out}, calibration, shape)
    frames = golden_frames(held_out, judge(path, held_out, shape))
    write_golden(out, LABEL, frames)
    report["largest_export_difference"] = float(f"{parity:.1e}")
    (out / "card.md").write_text(card(report, trained_on, shape, settings), encoding="utf-8")
    digest = write_manifest(out, manifest(report, trained_on, calibration, shape, seed=seed))
    print(json.dumps(report, indent=1), "\nbundle.toml", digest)


def compare(
    whole: Path, quantized: Path, sets: Mapping[str, Sequence[Picture]], calibration: Calibration, shape: InputShape
) -> dict[str, object]:
    """Measure the quantized model beside the float32 one; raises ValueError where it is worse or no faster."""
    report: dict[str, object] = {}
    times_ms: dict[Path, list[float]] = {whole: [], quantized: []}
    for name, pictures in sets.items():
        of_whole, of_quantized = judge(whole, pictures, shape), judge(quantized, pictures, shape)
        times_ms[whole] += of_whole.times_ms
        times_ms[quantized] += of_quantized.times_ms
        loss = metrics.auroc(of_whole.scores, of_whole.labels) - metrics.auroc(of_quantized.scores, of_quantized.labels)
        if name == "validation" and loss > AUROC_LOSS:
            raise ValueError(f"the quantized model loses {loss:.4f} of AUROC, allowed is {AUROC_LOSS}")
        report[name] = figures(of_quantized, calibration)
        report[f"{name}_float32"] = figures(of_whole, calibration)
    medians = {path: statistics.median(times) for path, times in times_ms.items()}
    if medians[quantized] >= medians[whole]:
        raise ValueError(f"the quantized model takes {medians[quantized]:.1f} ms, float32 {medians[whole]:.1f} ms")
    report["inference_ms_p50"] = round(medians[quantized], 1)
    report["inference_ms_p50_float32"] = round(medians[whole], 1)
    return report


def judge(path: Path, pictures: Sequence[Picture], shape: InputShape) -> Judged:
    """Score pictures with the exported model on one thread, as the bridge does."""
    session = open_file(path)
    runs = [run_scores(session, load_rgb(each.path, width=shape.width, height=shape.height)) for each in pictures]
    return Judged(
        np.asarray([run.score for run in runs]),
        np.asarray([picture.pitting for picture in pictures]),
        [run.seconds * 1e3 for run in runs],
    )


def figures(judged: Judged, calibration: Calibration) -> dict[str, object]:
    """Give the figures of one set: AUROC, verdict counts at the shipped thresholds, escapes at 1 % false rejects."""
    scores, bad = judged.scores, judged.labels
    verdicts = metrics.count_verdicts(scores, bad, reject=calibration.reject, doubt=calibration.doubt)
    escapes = verdicts.passed_defective
    return {
        "good": verdicts.rejected_good.n,
        "pitting": escapes.n,
        "auroc": round(metrics.auroc(scores, bad), 4),
        "escapes": escapes.count,
        "escapes_interval": [round(end, 3) for end in escapes.interval],
        "doubtful_good": verdicts.doubtful_good.count,
        "false_rejects": verdicts.rejected_good.count,
        "escapes_at_1pct_false_rejects": str(metrics.escapes_at_false_rejects(scores, bad)),
    }


def golden_frames(pictures: Sequence[Picture], judged: Judged) -> list[GoldenFrame]:
    """Choose four frames from the whole range of scores, defective and good."""
    order = np.argsort(judged.scores)
    chosen = [order[0], order[len(order) // 3], order[-len(order) // 6], order[-1]]
    return [GoldenFrame(picture=pictures[row].path, score=float(judged.scores[row])) for row in chosen]


def manifest(
    report: dict[str, object], trained_on: Sequence[Picture], calibration: Calibration, shape: InputShape, *, seed: int
) -> Manifest:
    """Fill the manifest of the shipped bundle."""
    places = sorted({picture.place for picture in trained_on})
    measured = [
        f"{part} = {{{', '.join(f'{key} = {json.dumps(value)}' for key, value in values.items())}}}"
        for part, values in report.items()
        if isinstance(values, dict)
    ]
    return Manifest(
        name="ball-screw",
        version="1.0.0",
        label=LABEL,
        width=shape.width,
        height=shape.height,
        reject=calibration.reject,
        doubt=calibration.doubt,
        licence=LICENCE,
        training=[
            'data = "BSData (Schlagenhauf, Landwehr, Fleischer), CC BY-SA 4.0"',
            f"good = {sum(not picture.pitting for picture in trained_on)}",
            f"pitting = {sum(picture.pitting for picture in trained_on)}",
            f"places = {json.dumps(places)}",
            f"validation_places = {json.dumps(list(VALIDATION_PLACES))}",
            f"held_out_places = {json.dumps(list(HELD_OUT_PLACES))}",
            f'pictures_sha256 = "{hash_pictures(trained_on)}"',
            f"seed = {seed}",
        ],
        measured=[*measured, *(f"{key} = {report[key]}" for key in ("inference_ms_p50", "inference_ms_p50_float32"))],
    )


def card(report: dict[str, object], trained_on: Sequence[Picture], shape: InputShape, settings: HeadSettings) -> str:
    """Write the model card; every figure comes from `report`."""
    rows = [
        f"| {part} | {values['good']} | {values['pitting']} | {values['auroc']} | {values['escapes']} "
        f"({values['escapes_interval']}) | {values['false_rejects']} | {values['doubtful_good']} "
        f"| {values['escapes_at_1pct_false_rejects']} |"
        for part, values in report.items()
        if isinstance(values, dict)
    ]
    return _CARD.format(
        good=sum(not picture.pitting for picture in trained_on),
        bad=sum(picture.pitting for picture in trained_on),
        places=len({picture.place for picture in trained_on}),
        rows="\n".join(rows),
        validation=", ".join(VALIDATION_PLACES),
        held_out=", ".join(HELD_OUT_PLACES),
        width=shape.width,
        height=shape.height,
        epochs=settings.epochs,
        ms=report["inference_ms_p50"],
        ms_float32=report["inference_ms_p50_float32"],
        samples=CALIBRATION_PICTURES,
    )


_CARD = """\
# ball-screw 1.0.0

Finds wear pitting on the thread of ball-screw drives in colour pictures of about 1130 x 460 pixels, stretched to
{width} x {height}. One score for the picture, the highest of its cells of 8 x 8 pixels, and the cells themselves.

## Made of

Frozen features of EfficientNet-Lite0 (ImageNet weights, Apache-2.0) after the 5th and the 11th block, and a head of three
small convolutions, trained {epochs} epochs on cells with the masks of BSData (T. Schlagenhauf, M. Landwehr, J. Fleischer,
"Industrial machine tool component surface defect dataset", CC BY-SA 4.0): {good} good and {bad} pitting pictures of
{places} places on spindles. Quantized to INT8 (weights 7 bits, so that processors without VNNI give the same scores), the
ranges from {samples} of the training pictures.

## Measured

Split by the place on the spindle. The thresholds were set on the validation places ({validation}), for 1 % false rejects
and 8 % of good parts doubtful or rejected; the held-out places ({held_out}) were used for nothing. An escape is a pitting
picture with PASS; the interval is Wilson's at 95 %.

| set | good | pitting | AUROC | escapes (interval) | false rejects | doubtful good | escapes at 1 % false rejects |
| --- | --- | --- | --- | --- | --- | --- | --- |
{rows}

Inference on one thread of a shared virtual CPU: p50 {ms} ms, in float32 {ms_float32} ms. The largest share of a part's time.

## Limits

One machine, one camera and one light. Pits of a few pixels are missed. Train on your own pictures before you trust it.
The golden frames are pictures of BSData, unchanged, CC BY-SA 4.0.
"""

if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
