"""Models from good parts only: fit one, set its limits by pictures it did not learn from, write it as one ONNX graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx

from bridge.inference.manifest import InputSpec, ThresholdSpec
from models.toolkit.anomalies.memory_graph import Array, Mapping, add_projection, finish, picture_value, top_cells
from models.toolkit.anomalies.padim import PaDiM, fit_padim
from models.toolkit.anomalies.patch_graph import grid_of, local_features
from models.toolkit.anomalies.patchcore import BANK, PatchCore, fit_patchcore
from models.toolkit.anomalies.patches import Patches, anomaly_input, read_patches
from models.toolkit.graphs.frame_time import frame_ms
from models.toolkit.graphs.quantize import quantize_backbone
from models.toolkit.graphs.writer import GraphWriter
from models.toolkit.pictures.folder import DataError, LabelledFolder, Sample
from models.toolkit.progress import Progress

Kind = Literal["patchcore", "padim"]
LABEL = "anomaly"
AREA_PX = 320 * 320
LEAST_PICTURES = 10
MOST_PICTURES = 1500
WHOLE = 0.5
"""Weight of the mean over the picture in its score; see `picture_value`."""
DOUBTS = 0.05
"""Share of good parts at or over the limit of doubt, those rejected among them."""
_CELLS = 0.005
_LEAST_LIMIT = 1.0
_USUAL = 0.1
_POWERS = (1.0, 50.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalyFit:
    """A model of good parts.

    `held_back` are the scores, 0 to 1, of its good pictures, each judged without what it was itself remembered by;
    `false_rejects` is the share of good parts that the limits were set for, `samples` the pictures it was made of,
    `features` the graph of patch features that it looks through, with a backbone in INT8 or not.
    """

    kind: Kind
    input: InputSpec
    thresholds: ThresholdSpec
    held_back: tuple[float, ...]
    false_rejects: float
    samples: tuple[Sample, ...]
    features: onnx.ModelProto
    int8: bool
    detector: PatchCore | PaDiM
    whole: float
    score: Mapping
    cell: Mapping

    @property
    def held_back_false_rejects(self) -> float:
        """Share of the held-back good pictures that the model would reject."""
        return sum(score >= self.thresholds.reject for score in self.held_back) / len(self.held_back)

    def judge(self, local: Array, inside: npt.NDArray[np.bool_]) -> tuple[float, npt.NDArray[np.float64]]:
        """Give score and cells (rows x columns) of one picture's patch features, as the ONNX graph does.

        `local` is cells x channels, `inside` cells.
        """
        rows, columns = grid_of(self.input)
        distances = self.detector.distances(local) * inside
        score = float(self.score(picture_value(distances, inside, top=top_cells(rows, columns), whole=self.whole)))
        cells = self.cell(distances) * inside
        lifted = np.where(cells >= cells.max(), np.maximum(cells, score), cells)
        return score, lifted.reshape(rows, columns)

    def graph(self) -> onnx.ModelProto:
        """Give the model as one ONNX graph, as `anomaly_model` does."""
        return anomaly_model(self)


def fit_anomaly(
    folder: LabelledFolder,
    *,
    kind: Kind = "patchcore",
    false_rejects: float = 0.01,
    seed: int = 0,
    progress: Progress = lambda _done, _of: None,
    area_px: int = AREA_PX,
    bank: int = BANK,
    whole: float = WHOLE,
    int8: bool | None = None,
) -> AnomalyFit:
    """Learn what good parts look like from a folder's good pictures; raises DataError.

    The limits are quantiles of held-back pictures: a good part is rejected in at most a share `false_rejects` of cases if
    parts stay as these are (the conformal rank, (n + 1)(1 - share) of n). With fewer than 1 / share pictures no rank gives that;
    then a log-normal tail is fitted to them. Of more than 1,500 pictures 1,500 are taken, evenly. `whole` weighs the mean over
    the picture against its strangest cells: 0.5 suits textured surfaces, 0 tiny marks on parts that differ much as a whole.
    `int8` says whether the backbone is in INT8; by default it is if that is faster on this computer.
    """
    if not 0 <= whole <= 1:
        raise DataError(f"weight of the whole picture = {whole:g}: allowed is 0 to 1")
    if not 0 < false_rejects < DOUBTS * 10:
        raise DataError(f"false rejects = {false_rejects:g}: allowed is a share over 0 and below {DOUBTS * 10:g}")
    samples = _good_samples(folder)
    spec = anomaly_input(samples, area_px=area_px)
    features, in_int8 = _features(samples, spec, int8=int8, seed=seed)
    patches = read_patches(features, samples, spec, progress)
    detector, distances = _fit(kind, patches, samples, aligned=spec.resize == "stretch", bank=bank, seed=seed)
    top = top_cells(*grid_of(spec))
    values = [
        picture_value(d, inside, top=top, whole=whole) for d, inside in zip(distances, patches.inside, strict=True)
    ]
    score = _mapping(values, limit_for(values, false_rejects))
    cells = np.concatenate([d[inside] for d, inside in zip(distances, patches.inside, strict=True)])
    cell = _mapping(cells, float(np.quantile(cells, 1 - _CELLS)))
    doubt = float(score(min(limit_for(values, max(DOUBTS, false_rejects)), score.limit)))
    return AnomalyFit(
        kind=kind, input=spec, thresholds=ThresholdSpec(reject=0.5, doubt=min(0.5, round(doubt, 4)), region=0.5),
        held_back=tuple(float(value) for value in score(values)), false_rejects=false_rejects, samples=tuple(samples),
        features=features, int8=in_int8, detector=detector, whole=whole, score=score, cell=cell,
    )  # fmt: skip


def anomaly_model(fit: AnomalyFit) -> onnx.ModelProto:
    """Give a graph from `image`, uint8 1 x H x W x 3, to `scores` and `cells`, head kind `cells`, label "anomaly"."""
    rows, columns = grid_of(fit.input)
    model = onnx.ModelProto()
    model.CopyFrom(fit.features)
    writer = GraphWriter()
    add_projection(writer, fit.detector.projection)
    squared = fit.detector.write(writer, rows=rows, columns=columns)
    return finish(model, writer, squared, rows=rows, columns=columns, whole=fit.whole, score=fit.score, cell=fit.cell)


def limit_for(values: Sequence[float], share: float) -> float:
    """Give the least limit that at most `share` of new values will reach, by the conformal rank or a log-normal tail."""
    ordered = np.sort(np.asarray(values, np.float64))
    rank = math.ceil((len(ordered) + 1) * (1 - share))
    if rank <= len(ordered):
        limit = float(ordered[rank - 1])
    else:
        logarithms = np.log(np.maximum(ordered, 1e-9))
        tail = math.exp(float(logarithms.mean() + NormalDist().inv_cdf(1 - share) * logarithms.std(ddof=1)))
        limit = max(float(ordered[-1]), tail)
    # a value at the limit is rejected, and the rank counts it as kept; the margin is far over the graph's rounding
    return max(limit, _LEAST_LIMIT) * (1 + 1e-4)


def _features(
    samples: Sequence[Sample], spec: InputSpec, *, int8: bool | None, seed: int
) -> tuple[onnx.ModelProto, bool]:
    """Give the graph of patch features and whether its backbone is in INT8; raises DataError."""
    whole = local_features(spec)
    if int8 is False:
        return whole, False
    small = quantize_backbone(whole, samples, spec, seed=seed)
    if int8 is None:
        frame = np.zeros(spec.shape, np.uint8)
        int8 = frame_ms(small, frame) < frame_ms(whole, frame)
    return (small, True) if int8 else (whole, False)


def _good_samples(folder: LabelledFolder) -> list[Sample]:
    good = [sample for sample in folder.samples if folder.good is None or sample.label == folder.good]
    if len(good) < LEAST_PICTURES:
        raise DataError(f"{folder.path}: {len(good)} pictures of good parts: wanted are at least {LEAST_PICTURES}")
    if len(good) <= MOST_PICTURES:
        return good
    return [good[index] for index in np.linspace(0, len(good) - 1, MOST_PICTURES).round().astype(int)]


def _fit(
    kind: Kind, patches: Patches, samples: Sequence[Sample], *, aligned: bool, bank: int, seed: int
) -> tuple[PatchCore | PaDiM, list[Array]]:
    fits: dict[Kind, Callable[[], tuple[PatchCore | PaDiM, list[Array]]]] = {
        "patchcore": lambda: fit_patchcore(patches, samples, bank=bank, seed=seed),
        "padim": lambda: fit_padim(patches, samples, aligned=aligned, seed=seed),
    }
    return fits[kind]()


def _mapping(values: Sequence[float] | Array, limit: float) -> Mapping:
    """Map the limit to 0.5 and the usual good value to 0.1, as steep as that takes."""
    limit = max(limit, _LEAST_LIMIT)
    usual = max(float(np.median(values)), 1e-6)
    power = math.log((1 - _USUAL) / _USUAL) / max(math.log(limit / usual), 1e-6) if limit > usual else _POWERS[1]
    return Mapping(limit=limit, power=float(np.clip(power, *_POWERS)))
