"""PaDiM: a Gaussian of good patch features at each place, the Mahalanobis distance from it (Defard et al., ICPR 2021).

Lighter than PatchCore in the graph and in time. Features are reduced to their main axes instead of a random choice of channels.
Each place's Gaussian is shrunk towards the one of all places, so a few pictures do. Where pictures are of different proportions
a place means nothing: then one Gaussian stands for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.toolkit.anomalies.memory_graph import Array, Projection, add_gaussians
from models.toolkit.anomalies.patches import Patches, learn_projection, sample_cells
from models.toolkit.graphs.writer import GraphWriter
from models.toolkit.pictures.folder import Sample

DIMENSIONS = 48
FOLDS = 5
_SAMPLED = 30_000
_PRIOR = 20
"""As many pictures as the Gaussian of all places weighs against a place's own."""
_RIDGE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class PaDiM:
    """Means (places x dimensions) and whitening matrices (places x dimensions x dimensions); places: cells, or one for all."""

    projection: Projection
    means: Array
    whitening: Array

    def distances(self, local: Array) -> Array:
        """Give the Mahalanobis distance of each cell (cells x channels)."""
        white = (self.projection(local) - self.means)[:, None, :] @ self.whitening
        return np.asarray(np.sqrt(np.einsum("ijk,ijk->i", white, white)), np.float32)

    def write(self, writer: GraphWriter, *, rows: int, columns: int) -> str:
        """Write the nodes; gives the name of the squared distances."""
        return add_gaussians(writer, self.means, self.whitening, rows=rows, columns=columns)


def fit_padim(patches: Patches, samples: Sequence[Sample], *, aligned: bool, seed: int) -> tuple[PaDiM, list[Array]]:
    """Fit the Gaussians; gives the model and the distances (cells) of each picture to a model that never saw its fold.

    Pictures of one group, and neighbours in the order of names, are in one fold. `aligned` says that a cell shows the same place
    of every part.
    """
    rng = np.random.default_rng(seed)
    held_back: dict[int, Array] = {}
    everything = list(range(len(patches)))
    for fold in _folds(samples):
        rest = sorted(set(everything) - set(fold))
        model = _fit(patches, rest, aligned=aligned, rng=rng)
        for number in fold:
            held_back[number] = model.distances(patches.local[number]) * patches.inside[number]
    return _fit(patches, everything, aligned=aligned, rng=rng), [held_back[number] for number in everything]


def _folds(samples: Sequence[Sample]) -> list[list[int]]:
    """Cut the pictures, in the order they have, into folds of about the same size without dividing a group."""
    groups: dict[str, list[int]] = {}
    for number, sample in enumerate(samples):
        groups.setdefault(sample.group or sample.sha256, []).append(number)
    least = 2 if any(sample.group for sample in samples) else FOLDS
    members = list(groups.values()) if len(groups) >= least else [[number] for number in range(len(samples))]
    blocks = np.array_split(np.arange(len(members)), min(FOLDS, len(members)))
    return [[number for index in block for number in members[index]] for block in blocks]


def _fit(patches: Patches, numbers: Sequence[int], *, aligned: bool, rng: np.random.Generator) -> PaDiM:
    sampled = sample_cells(patches, numbers, count=_SAMPLED, rng=rng)
    projection = learn_projection(sampled.local, dimensions=DIMENSIONS)
    good = projection(sampled.local)
    mean = good.mean(0, dtype=np.float64)
    spread = np.cov(good.T.astype(np.float64))
    if not aligned:
        return PaDiM(projection=projection, means=mean[None].astype(np.float32), whitening=_whitening(spread)[None])
    projected = np.stack([projection(patches.local[number]) for number in numbers]).astype(np.float64)
    means = projected.mean(0)
    centred = projected - means
    own = np.einsum("ncd,nce->cde", centred, centred, optimize=True)
    covariances = (own + _PRIOR * spread) / (len(numbers) + _PRIOR)
    whitening = np.stack([_whitening(covariance) for covariance in covariances])
    return PaDiM(projection=projection, means=means.astype(np.float32), whitening=whitening)


def _whitening(covariance: np.ndarray) -> Array:
    """Give the matrix that makes this covariance the identity; directions without spread count as if they had a little."""
    values, axes = np.linalg.eigh(covariance)
    ridge = max(_RIDGE * float(values.mean()), 1e-6)
    return np.asarray(axes / np.sqrt(np.maximum(values, 0) + ridge), np.float32)
