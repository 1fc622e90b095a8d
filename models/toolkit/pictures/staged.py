"""Pictures as bytes at the size of a model's input, to be changed and then handed on as the model wants them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from bridge.errors import CameraError
from bridge.inference.manifest import InputSpec
from bridge.inference.picture import Picture, decode
from bridge.inference.preprocess import Preprocessor
from models.toolkit.pictures.folder import DataError, Sample

Bytes = npt.NDArray[np.uint8]
HELD_OUT_SHARE = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """`kept` may be learnt and calibrated from; `held_out` judges, and nothing else has seen it."""

    kept: tuple[Sample, ...]
    held_out: tuple[Sample, ...]


def split_off(samples: Sequence[Sample], *, share: float = HELD_OUT_SHARE, seed: int) -> Split:
    """Hold back this share of each class, at least one picture of it.

    Chosen by the pictures' hashes and the seed, not by names or their order: the same pictures are held back by every
    command that is given the seed, also after the folder was copied. Pictures with the same bytes, and pictures of one
    group, stay together.
    """
    held: set[str] = set()
    for label in sorted({sample.label for sample in samples}):
        keys = sorted({_key(sample, seed) for sample in samples if sample.label == label})
        held.update(keys[: max(1, round(share * len(keys)))])
    return Split(
        kept=tuple(sample for sample in samples if _key(sample, seed) not in held),
        held_out=tuple(sample for sample in samples if _key(sample, seed) in held),
    )


def _key(sample: Sample, seed: int) -> str:
    return hashlib.sha256(f"{seed} {sample.group or sample.sha256}".encode()).hexdigest()


class Stage:
    """Between picture files and one model's input; not thread-safe."""

    def __init__(self, spec: InputSpec) -> None:
        bytes_only = {"layout": "NHWC", "dtype": "uint8", "mean": (), "std": ()}
        self.spec = spec
        self._first = Preprocessor(spec.model_copy(update=bytes_only))
        self._second = Preprocessor(spec)

    def read(self, samples: Sequence[Sample]) -> Bytes:
        """Give the pictures as N x H x W x channels bytes, in the model's colours; raises DataError."""
        return np.stack([self.staged(_bytes(sample.path), where=str(sample.path)) for sample in samples])

    def staged(self, data: bytes, *, where: str) -> Bytes:
        """Give one encoded picture as H x W x channels bytes; raises DataError."""
        try:
            picture = decode(data, colour=self.spec.colour, ours=True)
        except CameraError as exc:
            raise DataError(f"{where}: {exc}") from exc
        return self.fitted(picture)

    def fitted(self, picture: Picture) -> Bytes:
        """Give one decoded picture, in the model's colours, as H x W x channels bytes."""
        self._first.fill(picture)
        return np.array(self._first.tensor[0], np.uint8)

    def as_input(self, staged: Bytes) -> npt.NDArray[np.generic]:
        """Give one staged picture (H x W x channels) as the model's input tensor, batch 1, a copy."""
        height, width = staged.shape[:2]
        self._second.fill(Picture(pixels=staged, width=width, height=height))
        return np.array(self._second.tensor)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise DataError(f"{path}: can't be read: {exc.strerror}") from exc


def expose(staged: Bytes, gain: float) -> Bytes:
    """Give a picture as it would be with `gain` times the light, clipped where the sensor would be."""
    return np.asarray(cv2.convertScaleAbs(staged, alpha=gain), np.uint8).reshape(staged.shape)
