"""Judge a trained classifier on pictures, and set the limits of its labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx

from models.toolkit.figures.costs import Costs, label_thresholds
from models.toolkit.figures.metrics import Share
from models.toolkit.graphs.heads import SCORES
from models.toolkit.graphs.session import open_model
from models.toolkit.pictures.folder import LabelledFolder, Sample
from models.toolkit.pictures.staged import Bytes, Stage
from models.toolkit.training.fine_tuning import Labelled

Confusion = npt.NDArray[np.int64]


def scores_of(model: onnx.ModelProto, stage: Stage, pictures: Bytes) -> npt.NDArray[np.float32]:
    """Give N x labels scores of staged pictures, one by one as on the line."""
    session = open_model(model)
    given = [session.run([SCORES], {stage.spec.name: stage.as_input(picture)})[0][0] for picture in pictures]
    return np.asarray(np.stack(given), np.float32)


def confusion_of(model: onnx.ModelProto, stage: Stage, samples: Sequence[Sample], labels: Sequence[str]) -> Confusion:
    """Count the truth (rows) against the highest score (columns); raises DataError for a picture."""
    counts = np.zeros((len(labels), len(labels)), np.int64)
    told = scores_of(model, stage, stage.read(samples)).argmax(axis=1)
    np.add.at(counts, (np.array([labels.index(sample.label) for sample in samples]), told), 1)
    return counts


def accuracy_of(confusion: Confusion) -> Share:
    """Give how many of all were told right."""
    return Share(count=int(np.trace(confusion)), n=int(confusion.sum()))


def thresholds_of(
    model: onnx.ModelProto, stage: Stage, folder: LabelledFolder, data: Labelled
) -> dict[str, dict[str, float]]:
    """Give each label its limits from the validation pictures: by cost where there are good parts."""
    scores = scores_of(model, stage, data.pictures).astype(np.float64)
    return label_thresholds(folder.labels, folder.good, scores, data.labels, Costs())
