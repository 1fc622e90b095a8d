"""Judge a bundle's model on held-out pictures, and time two models so that whatever else runs disturbs both alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from bridge.domain.verdict import Scores, VerdictCode, decide
from bridge.inference.manifest import Manifest
from models.toolkit.bundles.recipe import own_recipe
from models.toolkit.figures.metrics import Share
from models.toolkit.graphs.session import open_model
from models.toolkit.pictures.folder import DataError, LabelledFolder, Sample
from models.toolkit.pictures.staged import Bytes, Stage

Array = npt.NDArray[np.float64]
TIMING_S = 12.0
_LEAST_ROUNDS, _MOST_ROUNDS = 60, 400
_UNJUDGED_ROUNDS = 5
_LEAST_SCORE = 1e-6


class Runner:
    """A model as the bridge runs it, one thread: from staged pictures to scores. Not thread-safe."""

    def __init__(self, model: onnx.ModelProto, manifest: Manifest, stage: Stage) -> None:
        self._session = open_model(model)
        self._stage, self._input = stage, manifest.input.name
        cells = manifest.output.cells
        self._outputs = [manifest.output.scores, *([cells] if cells else [])]
        self.size_bytes = model.ByteSize()

    def scores(self, staged: Bytes) -> Array:
        """Give the scores of N staged pictures, N x labels."""
        return np.stack([self.outputs(picture)[0][0] for picture in staged]).astype(np.float64)

    def outputs(self, picture: Bytes) -> list[npt.NDArray[np.float32]]:
        """Run one staged picture; gives the scores and, where the head has them, the cells."""
        found: list[npt.NDArray[np.float32]] = self._session.run(
            self._outputs, {self._input: self._stage.as_input(picture)}
        )
        return found

    def seconds(self, picture: npt.NDArray[np.generic]) -> float:
        """Time one run on an input tensor."""
        start = time.perf_counter()
        self._session.run(self._outputs, {self._input: picture})
        return time.perf_counter() - start

    def example(self, picture: Bytes) -> npt.NDArray[np.generic]:
        """Give a staged picture as input tensor."""
        return self._stage.as_input(picture)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """One thread, batch 1, in ms."""

    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """What a model does to held-out pictures.

    `escapes` are defective ones that the bundle's own thresholds let pass, `false_rejects` good ones that they do not;
    both None where no label is good.
    """

    right: Share
    escapes: Share | None
    false_rejects: Share | None


Timing = Callable[[Sequence[Runner], Sequence[Bytes]], list[Latency]]
"""How models are timed side by side, each on its staged picture."""


def interleaved(runners: Sequence[Runner], pictures: Sequence[Bytes], *, budget_s: float = TIMING_S) -> list[Latency]:
    """Time models in turns, each on its staged picture, in about `budget_s`: a disturbed moment meets them all."""
    pairs = [(runner, runner.example(picture)) for runner, picture in zip(runners, pictures, strict=True)]
    for _ in range(_UNJUDGED_ROUNDS):
        once = sum(runner.seconds(tensor) for runner, tensor in pairs)
    rounds = min(max(round(budget_s / once), _LEAST_ROUNDS), _MOST_ROUNDS)
    took = np.array([[runner.seconds(tensor) for runner, tensor in pairs] for _ in range(rounds)]) * 1e3
    return [Latency(p50_ms=float(np.median(each)), p99_ms=float(np.percentile(each, 99))) for each in took.T]


class Judge:
    """Held-out pictures with their labels, read once; raises DataError where the folder does not suit the model."""

    def __init__(self, manifest: Manifest, folder: LabelledFolder, held_out: Sequence[Sample], stage: Stage) -> None:
        strangers = [label for label in folder.labels if label not in manifest.labels and label != folder.good]
        if strangers:
            raise DataError(
                f"{folder.path / strangers[0]}: the model {manifest.reference} knows no {strangers[0]!r}: "
                f"allowed are {', '.join(manifest.labels)}{'' if manifest.good_labels else ' and one class of good parts'}"
            )
        self.pictures = stage.read(held_out)
        self._truth = [sample.label for sample in held_out]
        self._good = set(manifest.good_labels) | ({folder.good} - set(manifest.labels) if folder.good else set())
        self._manifest = manifest
        self._recipe = own_recipe(manifest)

    def judge(self, scores: Array) -> Accuracy:
        """Compare scores, N x labels, with what the pictures show."""
        told = [dict(zip(self._manifest.labels, map(float, row.clip(0, 1)), strict=True)) for row in scores]
        passed = [decide(Scores(by_label=row), self._recipe).code == VerdictCode.PASS for row in told]
        right = [self._named(row, ok) == true for row, ok, true in zip(told, passed, self._truth, strict=True)]
        good = [true in self._good for true in self._truth]
        return Accuracy(
            right=Share(count=sum(right), n=len(right)),
            escapes=_share(passed, [not is_good for is_good in good]) if any(good) else None,
            false_rejects=_share([not ok for ok in passed], good) if any(good) else None,
        )

    def _named(self, row: Mapping[str, float], passed: bool) -> str:
        """Give the class that the scores name: the highest, or the good one where the model has no label for it."""
        if passed and self._good and not self._manifest.good_labels:
            return next(iter(self._good))
        return max(row, key=lambda label: row[label])


def _share(found: Sequence[bool], among: Sequence[bool]) -> Share | None:
    return Share(count=sum(a and b for a, b in zip(found, among, strict=True)), n=sum(among))


def distance(scores: Array, reference: Array) -> float:
    """Give how far scores lie from a reference: root mean square over all pictures and labels of ln(score / reference).

    Logarithms, because a verdict hangs on the small score of a sure picture as much as on the large one.
    """
    logs = [np.log(np.clip(values, _LEAST_SCORE, 1.0)) for values in (scores, reference)]
    return float(np.sqrt(np.mean((logs[0] - logs[1]) ** 2)))
