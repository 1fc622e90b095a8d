"""Pictures with boxes at the size of a model's input: what a net that finds boxes learns from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.toolkit.figures.boxes import Corners, TrueBoxes
from models.toolkit.pictures.boxes import LabelledBoxes
from models.toolkit.pictures.folder import DataError, LabelledFolder, Sample
from models.toolkit.pictures.staged import Bytes, Stage
from models.toolkit.pictures.variations import Matrix, posed, relight
from models.toolkit.training.detect_net import STRIDE

_LEAST_SEEN = 0.3
"""Share of a box that must still lie in a moved picture."""
_MAY_SHIFT = 0.3 / 1.7
"""Share of its side by which a box may be shifted and still overlap itself by 0.7, as in CornerNet (Law, Deng 2018)."""
_ROUND = np.linspace(0, 2 * math.pi, 32, endpoint=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxedPictures:
    """Pictures N x H x W x 3 and the boxes of each, in their pixels, labels as numbers.

    `known` says whether the boxes are the whole truth: they are for good pictures, and for defects with at least one box.
    """

    pictures: Bytes
    boxes: tuple[TrueBoxes, ...]
    defective: npt.NDArray[np.bool_]
    known: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.pictures)

    def only_known(self) -> BoxedPictures:
        """Leave out the pictures of defects that nobody marked."""
        return BoxedPictures(
            pictures=self.pictures[self.known], defective=self.defective[self.known], known=self.known[self.known],
            boxes=tuple(boxes for boxes, known in zip(self.boxes, self.known, strict=True) if known),
        )  # fmt: skip

    def usual_sides(self) -> tuple[float, float]:
        """Give width and height of the usual box (geometric means), in pixels."""
        corners = np.concatenate([boxes.corners for boxes in self.boxes])
        across, along = np.exp(np.log(np.maximum(corners[:, 2:] - corners[:, :2], 1)).mean(0))
        return float(across), float(along)


def boxed_labels(
    samples: Sequence[Sample], boxes: Mapping[Path, LabelledBoxes], folder: LabelledFolder
) -> tuple[str, ...]:
    """Give the defects of which there is a box among `samples`; raises DataError where there is none."""
    found = {label for sample in samples for label in boxes[sample.path].labels}
    if not found:
        raise DataError(
            f"{folder.path}: no box among the {len(samples)} pictures to learn from: wanted is annotations/NAME.xml (Pascal "
            "VOC) or CLASS/masks/NAME.png, white where the defect is"
        )
    return tuple(label for label in folder.labels if label in found)


def read_boxed(
    stage: Stage,
    samples: Sequence[Sample],
    boxes: Mapping[Path, LabelledBoxes],
    labels: Sequence[str],
    good: str | None,
) -> BoxedPictures:
    """Read pictures at the input's size and scale their boxes with them; raises DataError.

    Boxes of defects that no label stands for are left out.
    """
    defective = np.asarray([sample.label != good for sample in samples], np.bool_)
    return BoxedPictures(
        pictures=stage.read(samples), defective=defective,
        known=~defective | np.asarray([len(boxes[sample.path]) > 0 for sample in samples], np.bool_),
        boxes=tuple(_scaled(boxes[sample.path], sample, stage, labels) for sample in samples),
    )  # fmt: skip


def _scaled(own: LabelledBoxes, sample: Sample, stage: Stage, labels: Sequence[str]) -> TrueBoxes:
    across, along = stage.spec.width / sample.width, stage.spec.height / sample.height
    kept = [row for row, label in enumerate(own.labels) if label in labels]
    return TrueBoxes(
        corners=own.corners[kept] * (across, along, across, along),
        labels=np.asarray([labels.index(own.labels[row]) for row in kept], np.int64),
    )


def varied_boxes(
    data: BoxedPictures, rows: npt.NDArray[np.int64], random: np.random.Generator
) -> tuple[Bytes, list[TrueBoxes]]:
    """Give some pictures as the camera might have seen them, with boxes around what was in theirs."""
    pictures, boxes = np.empty_like(data.pictures[rows]), []
    for place, row in enumerate(rows):
        picture, matrix = posed(data.pictures[row], random)
        pictures[place] = relight(picture, random)
        boxes.append(moved_boxes(data.boxes[row], matrix, size=(picture.shape[1], picture.shape[0])))
    return pictures, boxes


def moved_boxes(boxes: TrueBoxes, matrix: Matrix, *, size: tuple[int, int]) -> TrueBoxes:
    """Give the boxes around the moved ellipses in these boxes; those mostly outside (width, height) are left out.

    The corners of a box are seldom part of what is in it: boxes around moved corners would grow with every turn.
    """
    if not len(boxes.labels):
        return boxes
    middles, halves = (
        (boxes.corners[:, 2:] + boxes.corners[:, :2]) / 2,
        (boxes.corners[:, 2:] - boxes.corners[:, :2]) / 2,
    )
    around = np.stack([np.cos(_ROUND), np.sin(_ROUND)], 1)
    points = middles[:, None] + halves[:, None] * around - 0.5  # edges of pixels to their middles
    moved = cv2.perspectiveTransform(points.reshape(-1, 1, 2), matrix).reshape(points.shape) + 0.5
    whole = np.concatenate([moved.min(1), moved.max(1)], 1)
    seen = np.clip(whole, 0, np.asarray([*size, *size], np.float64))
    kept = _areas(seen) >= _LEAST_SEEN * _areas(whole)
    return TrueBoxes(corners=seen[kept], labels=boxes.labels[kept])


def _areas(corners: Corners) -> npt.NDArray[np.float64]:
    return np.asarray(np.prod(corners[:, 2:] - corners[:, :2], axis=1), np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What the net should say: heat N x labels x H/4 x W/4, 1 at middles; for each of M boxes its cell, sides and offset.

    `cells` are picture, row and column, M x 3; `sides` logarithms of width and height in cells, `offsets` x and y, M x 2.
    """

    heat: Tensor
    cells: Tensor
    sides: Tensor
    offsets: Tensor


def as_targets(boxes: Sequence[TrueBoxes], *, labels: int, height: int, width: int) -> Targets:
    """Draw the heat map, a bump around each middle as wide as a box may be shifted, and list the boxes."""
    rows, columns = height // STRIDE, width // STRIDE
    heat = np.zeros((len(boxes), labels, rows, columns), np.float32)
    pictures = np.concatenate([np.full(len(own.labels), number) for number, own in enumerate(boxes)]).astype(np.int64)
    corners = np.concatenate([own.corners for own in boxes]) / STRIDE
    middles, sides = (corners[:, 2:] + corners[:, :2]) / 2, np.maximum(corners[:, 2:] - corners[:, :2], 1 / STRIDE)
    cells = np.clip(middles.astype(np.int64), 0, (columns - 1, rows - 1))
    for picture, label, cell, side in zip(
        pictures, np.concatenate([own.labels for own in boxes]), cells, sides, strict=True
    ):
        own = heat[picture, label]
        np.maximum(own, _bump(cell, side, rows=rows, columns=columns), out=own)
    return Targets(
        heat=torch.from_numpy(heat), cells=torch.from_numpy(np.column_stack([pictures, cells[:, ::-1]])),
        sides=torch.from_numpy(np.log(sides).astype(np.float32)),
        offsets=torch.from_numpy((middles - cells).astype(np.float32)),
    )  # fmt: skip


def _bump(
    cell: npt.NDArray[np.int64], sides: npt.NDArray[np.float64], *, rows: int, columns: int
) -> npt.NDArray[np.float32]:
    """Give rows x columns of a Gaussian that is 1 at `cell` (x, y); a sixth of its reach, as in CornerNet, is its spread."""
    across, along = (2 * _MAY_SHIFT * sides + 1) / 6
    x, y = np.arange(columns) - cell[0], np.arange(rows) - cell[1]
    return np.asarray(np.exp(-(y**2) / (2 * along**2))[:, None] * np.exp(-(x**2) / (2 * across**2))[None], np.float32)
