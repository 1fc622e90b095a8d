"""The page of a net that finds boxes: its figures, and the held-out pictures in which it was most mistaken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from models.toolkit.bundles.page import bullets, figure, table, thumbnail, write_html
from models.toolkit.figures.boxes import Corners, FoundBoxes, TrueBoxes, hits_of
from models.toolkit.figures.metrics import shown
from models.toolkit.pictures.folder import Sample
from models.toolkit.pictures.staged import Bytes
from models.toolkit.training.boxed import BoxedPictures
from models.toolkit.training.detect_report import DetectionReport

MISTAKES = 12
_GREEN, _RED = (60, 180, 60), (40, 40, 220)
"""Blue, green, red."""


def write_boxes_page(
    report: DetectionReport,
    path: Path,
    *,
    unseen: Sequence[Sample],
    data: BoxedPictures,
    found: Sequence[FoundBoxes],
) -> Path:
    """Write the page; `found` are the boxes at or over the limit in `data`; raises BundleError where it can't be written."""
    rows = [
        (label, shown(own.precision), own.boxes, own.caught) for label, own in report.per_label.items()
    ]  # fmt: skip
    parts = [
        table(("", ""), report.rows()),
        "<h2>Warnings</h2>", bullets(report.doubts()),
        "<h2>Labels</h2>", table(("label", "AP at overlap 0.5", "true boxes", "pictures with a right box"), rows),
        "<h2>The worst mistakes</h2>", *_mistakes(report.labels, unseen, data, found),
    ]  # fmt: skip
    return write_html(path, report.out.name, parts)


def _mistakes(
    labels: Sequence[str], unseen: Sequence[Sample], data: BoxedPictures, found: Sequence[FoundBoxes]
) -> Iterator[str]:
    wrong = [
        sum(_missed_and_wrong(data.boxes[row], found[row], len(labels))) if data.known[row] else 0
        for row in range(len(unseen))
    ]
    worst = sorted(np.flatnonzero(wrong).tolist(), key=lambda row: -wrong[row])[:MISTAKES]
    if not worst:
        yield "<p>None among the pictures that were not seen.</p>"
        return
    yield (
        "<p>Boxes at its limit, in pictures that it had not seen. Green: what there is; red: what it found. Often a box was "
        "drawn otherwise, or one defect as two.</p>"
    )
    for row in worst:
        missed, more = _missed_and_wrong(data.boxes[row], found[row], len(labels))
        names = sorted({labels[number] for number in found[row].labels})
        text = f"{unseen[row].label}/{unseen[row].path.name}: {missed} missed, {more} wrong"
        pixels = _drawn(data.pictures[row], data.boxes[row].corners, found[row].corners)
        yield figure([pixels], f"{text}; found {', '.join(names) or 'nothing'}")


def _missed_and_wrong(true: TrueBoxes, found: FoundBoxes, labels: int) -> tuple[int, int]:
    """Count true boxes that none found, and found ones that are no true ones."""
    hits = [hits_of([found], [true], label) for label in range(labels)]
    right = sum(int(own.right.sum()) for own in hits)
    return len(true.labels) - right, len(found.labels) - right


def _drawn(pixels: Bytes, true: Corners, found: Corners) -> npt.NDArray[np.uint8]:
    shown_px = thumbnail(pixels)
    scale = shown_px.shape[1] / pixels.shape[1]
    for corners, colour in ((true, _GREEN), (found, _RED)):
        for x0, y0, x1, y1 in np.rint(corners * scale).astype(int).tolist():
            cv2.rectangle(shown_px, (x0, y0), (x1 - 1, y1 - 1), colour, 2)
    return shown_px
