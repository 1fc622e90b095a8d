"""Judge every training picture by a model that never saw its place, once in float32 and once in INT8."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from models.toolkit.calibration import NEUTRAL, logits_of
from models.toolkit.data import Picture, load_rgb
from models.toolkit.export import CellModel, InputShape, export_onnx
from models.toolkit.features import FeatureSet
from models.toolkit.head import CellHead, HeadSettings, train_head
from models.toolkit.metrics import Labels, Scores, auroc, escapes_at_false_rejects
from models.toolkit.quantize import quantize_u8s8
from models.toolkit.runtime import open_session, run_scores

CALIBRATION_PICTURES = 64
# INT8 must save at least a tenth of the time, and may lose no more than this much AUROC and no escape at all.
WORTHWHILE_TIME_RATIO = 0.9
ALLOWED_AUROC_LOSS = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Out-of-fold logits of one kind of model, and the median seconds of an inference on one thread."""

    logits: Scores
    seconds: float

    def describe(self, defective: Labels) -> str:
        """Return AUROC and escapes in one line."""
        escapes = escapes_at_false_rejects(self.logits, defective)
        return f"AUROC {auroc(self.logits, defective):.4f}, escapes at 1 % false rejects {escapes}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossValidation:
    """The same pictures, never seen by the model that judged them, in float32 and in INT8."""

    defective: Labels
    plain: Measured
    quantized: Measured

    @property
    def int8_wins(self) -> bool:
        """Tell whether INT8 is faster by a margin and no worse."""
        if self.quantized.seconds > WORTHWHILE_TIME_RATIO * self.plain.seconds:
            return False
        loss = auroc(self.plain.logits, self.defective) - auroc(self.quantized.logits, self.defective)
        more = escapes_at_false_rejects(self.quantized.logits, self.defective).count
        return loss <= ALLOWED_AUROC_LOSS and more <= escapes_at_false_rejects(self.plain.logits, self.defective).count

    @property
    def winner(self) -> Measured:
        """Return the measurement of the kind that ships."""
        return self.quantized if self.int8_wins else self.plain


def pick_calibration(pictures: Sequence[Picture], shape: InputShape, *, seed: int) -> list[npt.NDArray[np.uint8]]:
    """Load a random sample of the pictures a model was trained on, to take INT8 ranges from."""
    chosen = np.random.default_rng(seed).permutation(len(pictures))[:CALIBRATION_PICTURES]
    return [load_rgb(pictures[index].path, width=shape.width, height=shape.height) for index in chosen]


def judge(path: Path, pictures: Sequence[Picture], shape: InputShape) -> tuple[Scores, list[float]]:
    """Return score and seconds of every picture, read from its file as the bridge would."""
    session = open_session(path)
    runs = [run_scores(session, load_rgb(p.path, width=shape.width, height=shape.height)) for p in pictures]
    return np.asarray([run.score for run in runs], dtype=np.float64), [run.seconds for run in runs]


def cross_validate(
    pictures: Sequence[Picture],
    data: FeatureSet,
    trunk: nn.Module,
    shape: InputShape,
    settings: HeadSettings,
    *,
    folds: Sequence[Sequence[str]],
    seed: int,
) -> CrossValidation:
    """Train one head for each fold of places on all the others and judge the fold; both kinds take turns in time."""
    logits = np.zeros((2, len(pictures)), dtype=np.float64)
    seconds: tuple[list[float], list[float]] = ([], [])
    for fold in folds:
        held = [index for index, picture in enumerate(pictures) if picture.place in fold]
        rows = [index for index in range(len(pictures)) if pictures[index].place not in fold]
        head = train_head(data, rows, settings, seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            paths = export_both(trunk, head, [pictures[row] for row in rows], shape, Path(folder), seed=seed)
            for kind, path in enumerate(paths):
                scores, took = judge(path, [pictures[index] for index in held], shape)
                logits[kind, held] = logits_of(scores, NEUTRAL)
                seconds[kind].extend(took)
        print(f"fold {', '.join(fold)}: {len(held)} pictures judged", flush=True)
    return CrossValidation(
        defective=np.asarray([picture.pitting for picture in pictures]),
        plain=Measured(logits=logits[0], seconds=float(np.median(seconds[0]))),
        quantized=Measured(logits=logits[1], seconds=float(np.median(seconds[1]))),
    )


def export_both(
    trunk: nn.Module, head: CellHead, trained_on: Sequence[Picture], shape: InputShape, folder: Path, *, seed: int
) -> tuple[Path, Path]:
    """Write a fold's model in float32 and INT8, not yet calibrated."""
    plain, quantized = folder / "float32.onnx", folder / "int8.onnx"
    export_onnx(CellModel(trunk, head, NEUTRAL), plain, shape)
    quantize_u8s8(plain, quantized, pick_calibration(trained_on, shape, seed=seed))
    return plain, quantized
