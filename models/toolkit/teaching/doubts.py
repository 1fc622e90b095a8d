"""What makes a folder of pictures, or a model made of it, less trustworthy than its figures: said in sentences."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from models.toolkit.figures.metrics import Share
from models.toolkit.pictures.folder import LabelledFolder, Sample, read_picture
from models.toolkit.teaching.teach import Taught

FEW = 30
SURELY_ANOTHER = 0.95
LIGHT_TELLS = 2.0
LIGHT_SAMPLE = 40
SHOWN = 3
MANY_REJECTED = 0.1


def doubts_of(taught: Taught) -> list[str]:
    """Give one sentence for each reason to doubt the figures; none is a good sign."""
    folder = taught.folder
    return [
        *_no_good(folder), *_few(folder), *_guessing(taught), *_both_classes(taught), *_nearly_identical(taught), *_dear(taught),
        *_contradicting(taught), *_light(folder),
    ]  # fmt: skip


def _no_good(folder: LabelledFolder) -> Iterator[str]:
    if folder.good is None:
        yield (
            f"No class of good parts is known among {', '.join(folder.labels)}: every class is a defect, and nothing passes. "
            "If one of them is good, name it with --good."
        )


def _few(folder: LabelledFolder) -> Iterator[str]:
    few = {label: count for label, count in folder.counts.items() if count < FEW}
    if few:
        told = ", ".join(f"{label} {count}" for label, count in few.items())
        yield f"Few pictures: {told}. Below {FEW} of a class its figures may be luck; see the intervals."


def _guessing(taught: Taught) -> Iterator[str]:
    """Compare with what always saying the most frequent label would give."""
    right = Share(count=int((taught.unseen.argmax(axis=1) == taught.truth).sum()), n=len(taught.truth))
    counts = np.bincount(taught.truth)
    if right.interval[0] <= counts.max() / counts.sum():
        yield (
            f"No better than guessing: {right} right by the highest score, and always saying {taught.names[counts.argmax()]} "
            f"would be right in {counts.max()}. The pictures don't show what the labels say, or there are too few."
        )


def _both_classes(taught: Taught) -> Iterator[str]:
    """Find pictures that are nearly the same and have two labels."""
    samples = taught.folder.samples
    if any(sample.group for sample in samples):  # one part's pictures may well be good and not
        return
    first: dict[int, Sample] = {}
    twice = []
    for group, sample in zip(taught.groups.tolist(), samples, strict=True):
        other = first.setdefault(group, sample)
        if other.label != sample.label:
            twice.append(f"{_name(other)} and {_name(sample)}")
    if twice:
        told = ", ".join(twice[:SHOWN])
        yield f"{len(twice)} pictures are nearly the same as one of another class: {told}. One of the labels is wrong."


def _dear(taught: Taught) -> Iterator[str]:
    """Tell why many good parts are rejected: by the costs and the pictures' own share of defects."""
    good = taught.folder.good
    if good is None:
        return
    place = taught.names.index(good)
    own = taught.truth == place
    rejected = float((taught.unseen[own, place] < taught.accept).mean())
    if rejected > MANY_REJECTED:
        yield (
            f"{rejected:.0%} of the good parts are rejected. The limit is the cheapest one if {1 - own.mean():.0%} of the parts "
            "are defective, as of these pictures. If fewer are on your line, tell so: --defect-rate 0.01; linegate model tune "
            "shows what each limit costs."
        )


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
    samples, unseen = taught.folder.samples, taught.unseen
    said = unseen.argmax(axis=1)  # not by the limit: a good part just below it does not look like a defect
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
