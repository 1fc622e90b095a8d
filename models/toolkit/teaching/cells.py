"""Fit a model that finds defects by their masks: frozen features, small networks by scikit-learn, no torch.

Each cell of 8 x 8 pixels is a sample. Nearly all background is easy, so the first networks see random background, the next
ones also the cells that looked most like defects to those before (hard-negative mining, Sung and Poggio 1998).
The thresholds come from pictures that the judging networks did not learn from, split by group where groups are given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from bridge.inference.manifest import InputSpec
from models.toolkit.figures.calibration import Calibration, calibrate
from models.toolkit.graphs.session import open_model
from models.toolkit.pictures.folder import DataError, LabelledFolder
from models.toolkit.progress import Stage
from models.toolkit.teaching.cell_graph import (
    FAR,
    NEAR,
    SIZES,
    WHOLE,
    CellHead,
    context_model,
    judge_model,
    whole_model,
)
from models.toolkit.teaching.cell_maps import (
    PictureMaps,
    background_cells,
    cell_input,
    defect_cells,
    map_backbone,
    read_maps,
)
from models.toolkit.threads import each_in_threads

DEFECT = "defect"
FOLDS = 4
FALSE_REJECTS, DOUBTFUL_GOOD = 0.01, 0.05
Rows = npt.NDArray[np.int64]
Logits = npt.NDArray[np.float64]
Samples = npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellSettings:
    """How a head is fitted; the counts are cells for each view of a picture, fewer from `many` pictures on."""

    hidden: int = 32
    networks: int = 3
    epochs: int = 12
    scouting_epochs: int = 4
    rounds: int = 3
    defect_cells: int = 16
    random_cells: int = 12
    hard_cells: int = 40
    decay: float = 1e-2
    batch: int = 256
    many: int = 1500

    def fewer(self, pictures: int) -> CellSettings:
        """Give the same with so many cells of each picture that memory and time stay bounded."""
        share = min(1.0, self.many / pictures)
        names = ("defect_cells", "random_cells", "hard_cells")
        return replace(self, **{name: max(1, round(share * getattr(self, name))) for name in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class CellFit:
    """A fitted head with its input, and what it gave for pictures that it hadn't seen.

    `scores` (pictures of the folder, in order) are calibrated, from the fold in which a picture was kept back; `folds`
    says which that was. The thresholds are on them: `calibration.reject` and `calibration.doubt`.
    """

    spec: InputSpec
    label: str
    backbone: onnx.ModelProto
    head: CellHead
    calibration: Calibration
    scores: Logits
    defective: npt.NDArray[np.bool_]
    folds: Rows


def fit_cells(
    folder: LabelledFolder, *, seed: int, progress: Stage = lambda _step, _done, _of: None,
    settings: CellSettings | None = None, spec: InputSpec | None = None, int8: bool = True,
) -> CellFit:  # fmt: skip
    """Fit a cell model of a folder with masks; raises DataError. The seed fixes the result.

    Several classes of defects become one label. Pictures of a defect without a mask teach nothing but are judged.
    With `int8` the backbone is quantized first and the head learns from what that gives; the head itself is float32.
    """
    settings, spec = settings or CellSettings(), spec or cell_input(folder)
    defective = np.asarray([sample.label != folder.good for sample in folder.samples])
    folds = _folds(folder, defective, seed=seed)
    backbone = map_backbone(folder.samples, spec, int8=int8, seed=seed)
    maps = read_maps(
        backbone,
        folder.samples,
        spec,
        good=folder.good,
        seed=seed,
        progress=lambda done, of: progress("features", done, of),
    )
    teacher = _Teacher(maps, defective, spec, settings.fewer(len(maps)))
    count = int(folds.max()) + 1
    logits = np.zeros(len(maps))
    for fold in range(count):
        progress("folds", fold, count + 1)
        kept_back = np.flatnonzero(folds == fold)
        head = teacher.fit(np.flatnonzero(folds != fold), seed=seed)
        logits[kept_back] = teacher.judge(head, kept_back)
    progress("folds", count, count + 1)
    head = teacher.fit(np.arange(len(maps)), seed=seed)
    progress("folds", count + 1, count + 1)
    calibration = calibrate(logits, defective, false_rejects=FALSE_REJECTS, doubtful_good=DOUBTFUL_GOOD)
    label = folder.defects[0] if len(folder.defects) == 1 else DEFECT
    return CellFit(
        spec=spec, label=label, backbone=backbone, head=head, calibration=calibration, scores=calibration.apply(logits),
        defective=defective, folds=folds,
    )  # fmt: skip


def cell_model(fit: CellFit) -> onnx.ModelProto:
    """Give the whole graph: `image`, uint8 1 x H x W x 3, to `scores` and `cells`, calibrated; to be shipped as it is."""
    return whole_model(fit.backbone, fit.spec, fit.head, gain=fit.calibration.gain, shift=fit.calibration.shift)


def _folds(folder: LabelledFolder, defective: npt.NDArray[np.bool_], *, seed: int) -> Rows:
    """Give each picture's fold, groups kept together; a picture without a group is its own. Raises DataError."""
    names = [sample.group or sample.path.as_posix() for sample in folder.samples]
    good_groups = {name for name, bad in zip(names, defective, strict=True) if not bad}
    bad_groups = {name for name, bad in zip(names, defective, strict=True) if bad}
    count = min(FOLDS, len(good_groups), len(bad_groups))
    if count < 2:
        kind = "good pictures" if len(good_groups) < 2 else "pictures with a defect"
        raise DataError(
            f"{folder.path}: all {kind} are of one group: wanted are two groups of each, to judge unseen ones"
        )
    folds = np.zeros(len(names), np.int64)
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    for fold, (_, kept_back) in enumerate(splitter.split(np.zeros(len(names)), defective, names)):
        folds[kept_back] = fold
    return folds


class _Teacher:
    """Fit heads on some pictures' maps and judge others by them."""

    def __init__(
        self, maps: Sequence[PictureMaps], defective: npt.NDArray[np.bool_], spec: InputSpec, settings: CellSettings
    ) -> None:
        self._maps, self._defective, self._spec, self._settings = maps, defective, spec, settings
        self._context = open_model(context_model(spec))

    def fit(self, rows: Rows, *, seed: int) -> CellHead:
        """Fit a head in rounds, each with the hardest background of the one before; raises DataError without masks."""
        draw = np.random.default_rng(seed)
        each = self._settings
        defects = self._gather(rows, self._draw_defects, draw)
        if not len(defects):
            raise DataError("no mask with a defect among the pictures to learn from: wanted are masks that show it")
        background = [self._gather(rows, self._draw_random, draw)]
        for number in range(each.rounds - 1):
            scout = _train(
                defects, np.concatenate(background), each, networks=1, epochs=each.scouting_epochs, seed=seed
            )
            background.append(self._hardest(rows, scout, view=number))
        return _train(
            defects, np.concatenate(background), each, networks=each.networks, epochs=each.epochs, seed=seed
        )  # fmt: skip

    def judge(self, head: CellHead, rows: Rows) -> Logits:
        """Give the highest cell logit of each picture as it is."""
        session = open_model(judge_model(self._spec, head))

        def one(row: int) -> float:
            return float(session.run(None, self._maps[row].taps(0))[0].max())

        return np.asarray(each_in_threads(one, rows.tolist()))

    def _gather(
        self, rows: Rows, choose: Callable[[int, int, np.random.Generator], Rows], draw: np.random.Generator
    ) -> Samples:
        """Give the features of the chosen cells of every view of these pictures."""
        found = [np.zeros((0, sum(SIZES.values())), np.float16)]
        for row in rows.tolist():
            for view in range(len(self._maps[row].share)):
                cells = choose(row, view, draw)
                if len(cells):
                    found.append(self._features(row, view, cells))
        return np.concatenate(found)

    def _draw_defects(self, row: int, view: int, draw: np.random.Generator) -> Rows:
        share = self._maps[row].share[view]
        return draw.permutation(np.flatnonzero(defect_cells(share)))[: self._settings.defect_cells]

    def _draw_random(self, row: int, view: int, draw: np.random.Generator) -> Rows:
        return draw.permutation(self._background(row, view))[: self._settings.random_cells]

    def _background(self, row: int, view: int) -> Rows:
        share = self._maps[row].share[view]
        if self._defective[row] and not share.any():  # nobody says where its defect is
            return np.zeros(0, np.int64)
        return np.flatnonzero(background_cells(share))

    def _hardest(self, rows: Rows, head: CellHead, *, view: int) -> Samples:
        """Give the background cells that the head takes most for defects, in one view of each picture."""
        session = open_model(judge_model(self._spec, head))

        def one(row: int) -> Samples | None:
            shown = view % len(self._maps[row].share)
            background = self._background(row, shown)
            if not len(background):
                return None
            logits = session.run(None, self._maps[row].taps(shown))[0].ravel()[background]
            return self._features(row, shown, background[np.argsort(-logits)[: self._settings.hard_cells]])

        return np.concatenate([found for found in each_in_threads(one, rows.tolist()) if found is not None])

    def _features(self, row: int, view: int, cells: Rows) -> Samples:
        """Give the features of these cells, cells x 760."""
        near, far, whole = self._context.run([NEAR, FAR, WHOLE], self._maps[row].taps(view))
        rows, columns = np.divmod(cells, near.shape[3])
        parts = [
            near[0][:, rows, columns],
            far[0][:, rows // 2, columns // 2],
            np.repeat(whole[0, :, :, 0], len(cells), 1),
        ]
        return np.asarray(np.concatenate(parts).T, np.float16)


def _train(
    defects: Samples, background: Samples, settings: CellSettings, *, networks: int, epochs: int, seed: int
) -> CellHead:
    """Train networks on standardised cells, defects and background weighing alike, and join them into one head."""
    cells = np.concatenate([defects, background]).astype(np.float32)
    mean, deviation = cells.mean(0), cells.std(0) + 1e-3
    cells -= mean
    cells /= deviation
    labels = np.repeat([1, 0], [len(defects), len(background)])
    weight = np.repeat([0.5 / len(defects), 0.5 / len(background)], [len(defects), len(background)]) * len(cells)

    def one(number: int) -> MLPClassifier:
        network = MLPClassifier(
            (settings.hidden,), alpha=settings.decay, batch_size=min(settings.batch, len(cells)),
            random_state=np.random.RandomState((seed * networks + number) % 2**32),
        )  # fmt: skip
        for _ in range(epochs):  # not fit(): it warns where a number of epochs is set on purpose
            network.partial_fit(cells, labels, classes=[0, 1], sample_weight=weight)
        return network

    # a thread for each network: the threads of one small product of matrices wait longer than they compute
    with threadpool_limits(1, user_api="blas"):
        trained = each_in_threads(one, range(networks))
    return _join(trained, mean.astype(np.float64), deviation.astype(np.float64))


def _join(networks: Sequence[MLPClassifier], mean: Logits, deviation: Logits) -> CellHead:
    """Stand the networks side by side as one whose logit is their mean, the standardisation merged into its weights."""
    weight = np.concatenate([network.coefs_[0].T for network in networks]).astype(np.float64) / deviation
    bias = np.concatenate([network.intercepts_[0] for network in networks]).astype(np.float64) - weight @ mean
    near, far, whole = np.split(weight, np.cumsum([SIZES[NEAR], SIZES[FAR]]), axis=1)
    return CellHead(
        near=near, far=far, whole=whole, bias=bias,
        out=np.concatenate([network.coefs_[1][:, 0] for network in networks]).astype(np.float64) / len(networks),
        out_bias=float(np.mean([network.intercepts_[1][0] for network in networks])),
    )  # fmt: skip
