"""Patch features of the good parts' pictures: read, sampled evenly, projected on their main axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import onnx

from bridge.inference.manifest import InputSpec
from models.toolkit.anomalies.memory_graph import LEAST_INSIDE, Array, Projection
from models.toolkit.anomalies.patch_graph import patch_model
from models.toolkit.graphs.extract import extract
from models.toolkit.pictures.folder import Sample
from models.toolkit.pictures.prepared import choose_input
from models.toolkit.progress import Progress

_PART = 64
_LEAST_SPREAD = 1e-3
_ONE_PROPORTION = 1.1
_NEAREST = 4
_MOST_RELATED = 0.5

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patches:
    """Patch features: `local` pictures x cells x channels as float16, `inside` pictures x cells, cells row by row."""

    local: npt.NDArray[np.float16]
    inside: Flags

    def __len__(self) -> int:
        return len(self.local)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """Cells taken evenly from the pictures: their features (cells x channels) and the number of each one's picture."""

    local: Array
    owner: npt.NDArray[np.intp]


def anomaly_input(samples: Sequence[Sample], *, area_px: int) -> InputSpec:
    """Give an input of about `area_px` pixels that keeps the proportions of every picture.

    Where they differ by more than a tenth, pictures are fitted in and filled up with black, which the model leaves out.
    """
    spec = choose_input(samples, area_px=area_px)
    aspects = [sample.width / sample.height for sample in samples]
    if max(aspects) <= _ONE_PROPORTION * min(aspects):
        return spec
    return spec.model_copy(update={"resize": "letterbox", "pad": 0})


def read_patches(features: onnx.ModelProto, samples: Sequence[Sample], spec: InputSpec, progress: Progress) -> Patches:
    """Give the patch features of pictures, a few at a time so that they fit in memory; raises DataError.

    `features` is a graph of LOCAL and INSIDE for that input.
    """
    model = patch_model(features)
    local, inside = [], []
    for start in range(0, len(samples), _PART):
        part = samples[start : start + _PART]
        maps = extract(model, part, spec, progress=partial(_shifted, progress, start, len(samples)))
        cells = maps[:, 0].reshape(len(part), maps.shape[2], -1).transpose(0, 2, 1)
        local.append(cells[:, :, :-1].astype(np.float16))
        inside.append(cells[:, :, -1] > LEAST_INSIDE)
    return Patches(local=np.concatenate(local), inside=np.concatenate(inside))


def _shifted(progress: Progress, start: int, of: int, done: int, _of_part: int) -> None:
    progress(start + done, of)


def sample_cells(patches: Patches, numbers: Sequence[int], *, count: int, rng: np.random.Generator) -> Sampled:
    """Take about `count` cells, as many from each of the pictures with these numbers, none of the padding."""
    share = math.ceil(count / len(numbers))
    local, owner = [], []
    for number in numbers:
        inside = np.flatnonzero(patches.inside[number])
        taken = rng.permutation(inside)[:share]
        local.append(patches.local[number, taken].astype(np.float32))
        owner.append(np.full(len(taken), number))
    return Sampled(local=np.concatenate(local), owner=np.concatenate(owner))


def learn_projection(local: Array, *, dimensions: int) -> Projection:
    """Standardise channels and turn to the main axes (cells x channels); the spread along an axis is kept.

    A channel that does not vary is not standardised: it would only bring in noise.
    """
    mean, spread = local.mean(0, dtype=np.float64), local.std(0, dtype=np.float64)
    spread = np.where(spread < _LEAST_SPREAD, 1.0, spread)
    standard = (local - mean) / spread
    _, axes = np.linalg.eigh(standard.T @ standard / len(standard))
    weight = axes[:, ::-1][:, :dimensions].T / spread
    return Projection(weight=weight.astype(np.float32), bias=(-weight @ mean).astype(np.float32))


def related_pictures(samples: Sequence[Sample], projected: Array) -> Flags:
    """Give which pictures (pictures x pictures) may show the same part: no proof of what a new part will look like.

    Those are: the picture itself, one of the same group or the same bytes, and its nearest few in features (`projected`,
    pictures x cells x dimensions), since one part is often shot several times under different light.
    """
    flat = projected.reshape(len(projected), -1)
    lengths = np.einsum("ij,ij->i", flat, flat)
    apart = lengths[:, None] + lengths[None, :] - 2 * flat @ flat.T
    np.fill_diagonal(apart, -np.inf)
    kept = min(_NEAREST, len(samples) // 10)
    nearest = np.argsort(apart, axis=1)[:, : 1 + kept]
    related = np.zeros(apart.shape, np.bool_)
    np.put_along_axis(related, nearest, values=True, axis=1)
    for names in ([sample.group or sample.sha256 for sample in samples], [sample.sha256 for sample in samples]):
        same = np.unique(names, return_inverse=True)[1]
        related |= same[:, None] == same[None, :]
    related = np.asarray(related | related.T, np.bool_)
    # who is related to most others (all pictures alike) leaves out its own group alone: something must be left
    groups = np.unique([sample.group or str(number) for number, sample in enumerate(samples)], return_inverse=True)[1]
    crowded = related.mean(1) > _MOST_RELATED
    related[crowded] = (groups[:, None] == groups[None, :])[crowded]
    related[related.all(1)] = False
    np.fill_diagonal(related, val=True)
    return related
