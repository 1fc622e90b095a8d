"""What makes a folder of pictures, or a model made of it, less trustworthy than its figures: said in sentences."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from models.toolkit.pictures.folder import LabelledFolder, Sample, read_picture
from models.toolkit.teaching.teach import Taught

FEW = 30
SURELY_ANOTHER = 0.95
LIGHT_TELLS = 2.0
LIGHT_SAMPLE = 40
SHOWN = 3


def doubts_of(taught: Taught) -> list[str]:
    """Give one sentence for each reason to doubt the figures; none is a good sign."""
    folder = taught.folder
    return [*_few(folder), *_nearly_identical(taught), *_contradicting(taught), *_light(folder)]


def _few(folder: LabelledFolder) -> Iterator[str]:
    few = {label: count for label, count in folder.counts.items() if count < FEW}
    if few:
        told = ", ".join(f"{label} {count}" for label, count in few.items())
        yield f"Few pictures: {told}. Below {FEW} of a class its figures may be luck; see the intervals."


def _nearly_identical(taught: Taught) -> Iterator[str]:
    samples = taught.folder.samples
    alike = len(samples) - len(np.unique(taught.groups))
    named = any(sample.group for sample in samples)
    if alike and not named:
        yield (
            f"{alike} pictures are nearly the same as another one. They were kept on one side of each split, so they don't "
            "flatter the figures; but they teach nothing either. If many come from one part or one run, name it with --groups."
        )


def _contradicting(taught: Taught) -> Iterator[str]:
    samples, said, unseen = taught.folder.samples, taught.said, taught.unseen
    sure = (unseen.max(axis=1) > SURELY_ANOTHER) & (said != taught.truth)
    rows = sorted(np.flatnonzero(sure), key=lambda row: -unseen[row].max())
    if rows:
        told = ", ".join(
            f"{_name(samples[row])} ({taught.names[taught.truth[row]]}, looks like {taught.names[said[row]]})"
            for row in rows[:SHOWN]
        )
        yield f"{len(rows)} labels contradict what pictures like them say: {told}. Look at them; a wrong label costs twice."


def _light(folder: LabelledFolder) -> Iterator[str]:
    """Compare the brightness of the classes: where it alone tells them apart, the model may have learned the lamp."""
    if folder.good is None:
        return
    of_class = {label: _brightness([s for s in folder.samples if s.label == label]) for label in folder.labels}
    good = of_class[folder.good]
    for label in folder.defects:
        other = of_class[label]
        spread = np.sqrt((good.var() + other.var()) / 2) + 1.0
        apart = abs(float(good.mean() - other.mean())) / spread
        if apart > LIGHT_TELLS:
            yield (
                f"Mixed lighting: {label} is {'darker' if other.mean() < good.mean() else 'brighter'} than {folder.good} by "
                f"{apart:.1f} standard deviations. The model may have learned the light; take both under the same."
            )


def _brightness(samples: list[Sample]) -> npt.NDArray[np.float64]:
    step = max(1, len(samples) // LIGHT_SAMPLE)
    return np.asarray([float(cv2.mean(read_picture(sample.path).pixels)[1]) for sample in samples[::step]])


def _name(sample: Sample) -> str:
    return f"{sample.label}/{sample.path.name}"
