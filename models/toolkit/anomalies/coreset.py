"""Few rows that stand for many: k-centre greedy, the coreset of PatchCore (Roth et al., CVPR 2022, section 3.2).

Sener & Savarese ("Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018, algorithm 1): take,
again and again, the row that lies farthest from all that were taken. The largest distance of any row to the nearest one
taken is then at most twice the least that any choice of that many could reach.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.toolkit.anomalies.memory_graph import Array


def greedy_coreset(
    rows: Array, *, count: int, rng: np.random.Generator, dimensions: int | None = None
) -> npt.NDArray[np.intp]:
    """Give the numbers of `count` different rows (rows x features), in rising order; all of them where there are no more.

    The first is drawn. With `dimensions` below their features, distances are those of a random Gaussian projection to so
    many (Johnson-Lindenstrauss), as the paper does to save time.
    """
    if count >= len(rows):
        return np.arange(len(rows))
    if dimensions is not None and dimensions < rows.shape[1]:
        rows = rows @ (rng.standard_normal((rows.shape[1], dimensions)) / np.sqrt(dimensions)).astype(np.float32)
    rows = np.ascontiguousarray(rows, np.float32)
    lengths = np.einsum("ij,ij->i", rows, rows)
    nearest = np.full(len(rows), np.inf, np.float32)
    taken = np.empty(count, np.intp)
    newest = int(rng.integers(len(rows)))
    for place in range(count):
        taken[place] = newest
        squared = rows @ (-2 * rows[newest])
        squared += lengths
        squared += lengths[newest]
        np.minimum(nearest, squared, out=nearest)
        # a row that lies on top of one taken is at a distance of about 0: one that is taken must be below all of those
        nearest[newest] = -np.inf
        newest = int(nearest.argmax())
    return np.sort(taken)
