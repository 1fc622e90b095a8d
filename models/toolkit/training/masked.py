"""Pictures with masks at the size of a model's input: what a net that finds places learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.toolkit.pictures.folder import DataError, LabelledFolder, Sample, read_mask
from models.toolkit.pictures.staged import Bytes, Stage
from models.toolkit.pictures.variations import pose, relight

NO_LABEL = -1
_MOSTLY = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedPictures:
    """Pictures N x H x W x 3, masks N x H x W of 0 and 1, and of each picture the number of its label.

    `labels` is NO_LABEL for good pictures and for defects that no label stands for; `known` says whether the mask is the
    whole truth: it is for good pictures, and for defects with a mask that shows something.
    """

    pictures: Bytes
    masks: Bytes
    labels: npt.NDArray[np.int64]
    defective: npt.NDArray[np.bool_]
    known: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.labels)

    def only_known(self) -> MaskedPictures:
        """Leave out the pictures of defects that nobody marked."""
        return MaskedPictures(
            pictures=self.pictures[self.known], masks=self.masks[self.known], labels=self.labels[self.known],
            defective=self.defective[self.known], known=self.known[self.known],
        )  # fmt: skip


def marked_labels(samples: Sequence[Sample], folder: LabelledFolder) -> tuple[str, ...]:
    """Give the defects of which a mask among `samples` shows something; raises DataError where none does."""
    found = {sample.label for sample in samples if sample.label != folder.good and read_mask(sample).any()}
    if not found:
        raise DataError(
            f"{folder.path}: no mask with a defect among the {len(samples)} pictures to learn from: wanted is "
            "CLASS/masks/NAME.png, white where the defect is"
        )
    return tuple(label for label in folder.labels if label in found)


def read_masked(stage: Stage, samples: Sequence[Sample], *, labels: Sequence[str], good: str | None) -> MaskedPictures:
    """Read pictures and their masks; raises DataError. A good picture's mask is empty, whatever lies beside it."""
    size = (stage.spec.width, stage.spec.height)
    masks = np.zeros((len(samples), *reversed(size)), np.uint8)
    for row, sample in enumerate(samples):
        if sample.label in labels:
            masks[row] = _shrunk(read_mask(sample), size)
    defective = np.asarray([sample.label != good for sample in samples], np.bool_)
    return MaskedPictures(
        pictures=stage.read(samples), masks=masks, defective=defective, known=~defective | masks.any((1, 2)),
        labels=np.asarray([labels.index(s.label) if s.label in labels else NO_LABEL for s in samples], np.int64),
    )  # fmt: skip


def _shrunk(mask: Bytes, size: tuple[int, int]) -> Bytes:
    """Scale a mask to (width, height); of a defect too small for any pixel its strongest pixels stay."""
    share = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.asarray((share > 0) & (share >= min(_MOSTLY, float(share.max()))), np.uint8)


def varied(data: MaskedPictures, rows: npt.NDArray[np.int64], random: np.random.Generator) -> tuple[Bytes, Bytes]:
    """Give some pictures and their masks as the camera might have seen them; both are turned alike."""
    pictures, masks = np.empty_like(data.pictures[rows]), np.empty_like(data.masks[rows])
    for place, row in enumerate(rows):
        posed = pose(np.dstack([data.pictures[row], data.masks[row] * 255]), random)
        pictures[place] = relight(posed[..., :-1], random)
        masks[place] = posed[..., -1] > 127
    return pictures, masks


def as_targets(masks: Bytes, labels: npt.NDArray[np.int64], count: int) -> Tensor:
    """Give N x `count` x H x W of 0 and 1: the mask in the channel of the picture's label."""
    targets = torch.zeros((len(masks), count, *masks.shape[1:]))
    for row, label in enumerate(labels):
        if label != NO_LABEL:
            targets[row, label] = torch.from_numpy(masks[row])
    return targets
