"""Make a bundle's model smaller and faster, and keep only what proves to be so on pictures that it never saw."""

from __future__ import annotations

import dataclasses
import importlib.util
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from bridge.inference.bundle import Bundle, read_bundle
from bridge.inference.manifest import MODEL, Manifest
from bridge.inference.trust import Trust
from models.toolkit.bundles.files import check_target
from models.toolkit.compression import int8
from models.toolkit.compression.bundle import write_compressed
from models.toolkit.compression.judging import Accuracy, Array, Judge, Latency, Runner, Timing, interleaved
from models.toolkit.compression.report import CompressReport, Step, why_refused
from models.toolkit.compression.steps import Candidate, Made, MakeStep, Material
from models.toolkit.pictures.folder import DataError, LabelledFolder, Sample, read_folder
from models.toolkit.pictures.staged import Bytes, Stage, split_off
from models.toolkit.progress import Say

_CALIBRATION_PICTURES, _CHECK_PICTURES = 100, 100


def compress(
    bundle: Path,
    folder: Path,
    out: Path,
    *,
    quantize: bool,
    prune: float | None,
    distil: str | None,
    allowed_loss: float,
    seed: int,
    say: Say,
    timing: Timing = interleaved,
) -> CompressReport:
    """Compress the classifier in `bundle` by the named steps, in the order distil, prune, quantize; see `take_steps`.

    `prune` is the share of channels to cut, `distil` an architecture.
    """
    steps = _planned(quantize=quantize, prune=prune, distil=distil)
    return take_steps(bundle, folder, out, steps, allowed_loss=allowed_loss, seed=seed, say=say, timing=timing)


def take_steps(
    bundle: Path,
    folder: Path,
    out: Path,
    steps: Sequence[tuple[str, MakeStep]],
    *,
    allowed_loss: float,
    seed: int,
    say: Say,
    timing: Timing = interleaved,
) -> CompressReport:
    """Take named steps one after the other, compare what each makes, and write the last that was kept to `out`.

    30 % of each class are held out and judge; a bundle made by `train` says which (`split_seed`), of another it is not
    known whether its training saw them (`CompressReport.unseen`). `allowed_loss` is in percentage points. A step that is
    not faster, or loses more, is refused, and the next one works on what was there before it; where all are refused, nothing
    is written. Raises DataError for pictures, and BundleError for a bundle, that can't be used.
    """
    check_target(out)
    source = read_bundle(bundle, Trust(require_signature=False))
    _check_task(source.manifest)
    original = Candidate(model=_load_model(source), manifest=source.manifest)
    trained = source.manifest.training
    pictures = read_folder(folder, good=_good(source.manifest), groups=trained.get("groups_by"))
    split_seed = int(trained.get("split_seed", trained.get("compress_seed", seed)))
    split = split_off(pictures.samples, seed=split_seed)
    material = Material(folder=pictures, split=split, seed=seed, say=say)
    bench = _Bench(original, pictures, split.held_out, timing)
    current = original
    judged: list[Step] = []
    kept: list[Step] = []
    for name, make in steps:
        say(f"{name}: working")
        made = make(current, material)
        step = bench.compare(name, made, allowed_loss=allowed_loss)
        judged.append(step)
        say(f"{name}: {'refused, ' + step.refused if step.refused else 'kept'}")
        if not step.refused:
            current = made.candidate
            kept.append(step)
    report = CompressReport(
        bundle=source.reference, pictures=len(split.held_out), split_seed=split_seed, allowed_loss=allowed_loss,
        unseen="split_seed" in trained,
        steps=(bench.original_step(judged), *judged), out=out if kept else None,
    )  # fmt: skip
    if kept:
        write_compressed(out, source, current, report)
    return report


def _check_task(manifest: Manifest) -> None:
    """Raise DataError for a detector: what judges here looks at scores, and INT8 moves boxes without changing those."""
    if manifest.task == "detection":
        raise DataError(
            f"{manifest.reference}: task = 'detection': compress judges scores, and would not notice lost boxes"
        )


def _planned(*, quantize: bool, prune: float | None, distil: str | None) -> list[tuple[str, MakeStep]]:
    """Give the steps by name; raises DataError for none, a share outside 0 to 0.9, and torch missing."""
    steps: list[tuple[str, MakeStep]] = []
    if (prune is not None or distil is not None) and importlib.util.find_spec("torch") is None:
        raise DataError("--prune and --distil need torch: pip install 'linegate[train]'")
    if distil is not None:
        from models.toolkit.compression.distil import distiller  # noqa: PLC0415 - torch is in an extra

        steps.append((f"distilled into {distil}", distiller(distil)))
    if prune is not None:
        if not 0 < prune <= 0.9:
            raise DataError(f"--prune {prune}: allowed is a share of the channels over 0, at most 0.9")
        from models.toolkit.compression.prune import pruner  # noqa: PLC0415 - torch is in an extra

        steps.append((f"pruned by {100 * prune:g} %", pruner(prune)))
    if quantize:
        steps.append(("INT8", _quantized))
    if not steps:
        raise DataError("nothing to do: name at least one of --quantize, --prune SHARE and --distil STUDENT")
    return steps


def _good(manifest: Manifest) -> str | None:
    return manifest.good_labels[0] if len(manifest.good_labels) == 1 else None


def _load_model(bundle: Bundle) -> onnx.ModelProto:
    """Read the model with all its weights inside."""
    with tempfile.TemporaryDirectory() as folder:
        for name, data in {MODEL: bundle.model, **bundle.external_data}.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return onnx.load(Path(folder) / MODEL)


def _quantized(current: Candidate, material: Material) -> Made:
    """Quantize; calibration and choice see only pictures that do not judge."""
    manifest = current.manifest
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in current.model.graph.node):
        raise DataError(f"{manifest.reference}: the model is INT8 already: --quantize wants one in float")
    stage = Stage(manifest.input)
    order = np.random.default_rng(material.seed).permutation(len(material.split.kept))
    chosen = [material.split.kept[number] for number in order[: _CALIBRATION_PICTURES + _CHECK_PICTURES]]
    half = len(chosen) // 2
    pictures = stage.read(chosen)

    def score(model: onnx.ModelProto, staged: Bytes) -> Array:
        return Runner(model, manifest, stage).scores(staged)

    def feed(staged: Bytes) -> Mapping[str, npt.NDArray[np.generic]]:
        return {manifest.input.name: stage.as_input(staged)}

    made = int8.quantize(
        current.model, calibration=pictures[:half], check=pictures[half:], feed=feed, score=score, say=material.say
    )
    how = {"ranges": made.rule, "kept_in_float": list(made.kept_in_float), "calibration_pictures": half}
    return Made(candidate=dataclasses.replace(current, model=made.model), how=how)


class _Bench:
    """The original and the last model that was kept beside each candidate, on the same held-out pictures."""

    def __init__(self, original: Candidate, folder: LabelledFolder, held_out: Sequence[Sample], timing: Timing) -> None:
        self._folder, self._held_out, self._timing = folder, held_out, timing
        runner, picture, self.accuracy = self._judged(original)
        self._first = self._kept = runner, picture

    def _judged(self, candidate: Candidate) -> tuple[Runner, Bytes, Accuracy]:
        stage = Stage(candidate.manifest.input)
        judge = Judge(candidate.manifest, self._folder, self._held_out, stage)
        runner = Runner(candidate.model, candidate.manifest, stage)
        return runner, judge.pictures[0], judge.judge(runner.scores(judge.pictures))

    def compare(self, name: str, made: Made, *, allowed_loss: float) -> Step:
        """Judge and time a candidate."""
        runner, picture, accuracy = self._judged(made.candidate)
        others = [self._first, *([] if self._kept is self._first else [self._kept])]
        pairs = [*others, (runner, picture)]
        latencies = self._timing([each for each, _ in pairs], [each for _, each in pairs])
        step = Step(
            name=name, size_bytes=runner.size_bytes, latency=latencies[-1], original_latency=latencies[0],
            previous_latency=latencies[-2], accuracy=accuracy, how=made.how,
        )  # fmt: skip
        refused = why_refused(step, self.accuracy, allowed_loss=allowed_loss)
        if not refused:
            self._kept = runner, picture
        return dataclasses.replace(step, refused=refused)

    def original_step(self, steps: Sequence[Step]) -> Step:
        """Give the original's own line, with its times beside the last step."""
        latency: Latency = steps[-1].original_latency
        return Step(
            name="original", size_bytes=self._first[0].size_bytes, latency=latency, original_latency=latency,
            previous_latency=latency, accuracy=self.accuracy, how={},
        )  # fmt: skip
