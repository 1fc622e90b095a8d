"""Pictures as the model's input, made by the bridge's own code: what is taught is what will be judged."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from bridge.inference.manifest import InputSpec
from bridge.inference.picture import Picture
from bridge.inference.preprocess import Preprocessor
from models.toolkit.pictures.folder import Sample, read_mask, read_picture

IMAGE = "image"
"""Name of the input of every model made here."""
SIDE_MULTIPLE = 32
MIRRORS = 4
Tensor = npt.NDArray[np.uint8]


def choose_input(samples: Sequence[Sample], *, area_px: int) -> InputSpec:
    """Give an input of about `area_px` pixels with the pictures' usual proportions, sides multiples of 32."""
    aspect = statistics.median(sample.width / sample.height for sample in samples)
    aspect = min(max(aspect, 0.25), 4.0)
    width, height = math.sqrt(area_px * aspect), math.sqrt(area_px / aspect)
    return InputSpec(name=IMAGE, width=_side(width), height=_side(height))


def choose_small_input(samples: Sequence[Sample], *, side_px: int) -> InputSpec:
    """Give an input of about `side_px` x `side_px`, no larger than the pictures: enlarging them shows nothing new."""
    own = statistics.median(sample.width * sample.height for sample in samples)
    return choose_input(samples, area_px=round(min(side_px**2, own)))


def _side(length: float) -> int:
    return max(2, round(length / SIDE_MULTIPLE)) * SIDE_MULTIPLE


def preprocess(spec: InputSpec, picture: Picture) -> npt.NDArray[np.generic]:
    """Give a decoded picture as a bundle's input tensor, of its type and layout."""
    preprocessor = Preprocessor(spec)
    preprocessor.fill(picture)
    return np.array(preprocessor.tensor)


class Preparer:
    """Turn picture files into input tensors; not thread-safe."""

    def __init__(self, spec: InputSpec) -> None:
        self.spec = spec
        self._preprocessor = Preprocessor(spec)

    def tensor(self, sample: Sample) -> Tensor:
        """Give a picture as 1 x H x W x 3 bytes, a copy; raises DataError."""
        self._preprocessor.fill(read_picture(sample.path))
        return np.array(self._preprocessor.tensor, np.uint8)

    def cells(self, sample: Sample, *, stride: int) -> npt.NDArray[np.float32]:
        """Give the masked share of each cell of `stride` pixels, H/stride x W/stride; raises DataError."""
        mask = read_mask(sample).astype(np.float32)
        size = (self.spec.width // stride, self.spec.height // stride)
        # INTER_AREA is the exact mean over a cell: a pit of a few pixels must not fall between two samples
        return np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_AREA), np.float32)


def mirrored(
    tensor: npt.NDArray[np.generic], number: int, *, rows: int = 1, columns: int = 2
) -> npt.NDArray[np.generic]:
    """Give mirror image 0 to 3 of an array: bit 0 flips its columns, bit 1 its rows."""
    flipped = np.flip(tensor, columns) if number & 1 else tensor
    return np.ascontiguousarray(np.flip(flipped, rows) if number & 2 else flipped)
