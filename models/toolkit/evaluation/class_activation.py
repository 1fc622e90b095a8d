"""Class activation: what each place of the picture adds to a label's logit, exactly (Zhou et al. 2016, with more poolings).

A logit is a bias plus weights times pooled features, and each pooled feature is a sum over places:

- mean: x / places;
- maximum: the mean as above, and what the maximum stands over it at the place of the maximum (shared where several tie);
- standard deviation: (x - mean)^2 / (places * deviation), which sums to variance / deviation.

So all places and the bias add up to the logit; that they do is checked on every picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from models.toolkit.graphs.pooled_head import NotPooledError, Pooling, find_pooled_head, stored, with_outputs
from models.toolkit.graphs.session import open_model

Array = npt.NDArray[np.float64]
_ROUNDING = 0.05
"""INT8 rounds between a map and its mean: so much of the logits' spread may be missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """What each place (rows x columns of the finest map) adds to one label's logit; with `bias` they sum to `logit`."""

    places: Array
    bias: float
    logit: float


class ClassActivation:
    """One classifier with its feature maps laid open; raises NotPooledError for a graph of another kind."""

    def __init__(self, model: onnx.ModelProto, *, image: str, scores: str) -> None:
        self._head, self._image = find_pooled_head(model, scores), image
        self._stored = {name: value for name in self._head.tensors if (value := stored(model, name)) is not None}
        self._computed = [name for name in self._head.tensors if name not in self._stored]
        self._session = open_model(with_outputs(model, self._computed))

    def of(self, tensor: npt.NDArray[Any], label: int) -> Activation:
        """Give what each place of one input (batch 1) adds to the logit of label number `label`.

        Raises NotPooledError where the parts don't add up to the logit: the graph does something else, then.
        """
        head = self._head
        found = dict(zip(self._computed, self._session.run(self._computed, {self._image: tensor}), strict=True))
        values = self._stored | {name: np.asarray(value, np.float64) for name, value in found.items()}
        logits = values[head.logits].reshape(-1)
        weight = head.gain * (values[head.weight].T if head.turned else values[head.weight])
        bias = np.zeros(len(logits)) if head.bias is None else head.bias_gain * values[head.bias].reshape(-1)
        maps = [(values[each.tensor], each.how) for each in head.maps]
        if weight.shape != (len(logits), sum(_channels(each) for each, _ in maps)):
            raise NotPooledError("the pooled maps have other features than the linear layer reads")
        parts, start = [], 0
        for each, how in maps:
            stop = start + each.shape[1]
            parts.append(_share(each[0], how, weight[label, start:stop]))
            start = stop
        places = _together(parts)
        bias_of_label, logit = float(np.broadcast_to(bias, logits.shape)[label]), float(logits[label])
        if abs(places.sum() + bias_of_label - logit) > _ROUNDING * max(1.0, float(np.ptp(logits))):
            raise NotPooledError(
                f"the places and the bias add up to {places.sum() + bias_of_label:.3f}, not {logit:.3f}"
            )
        return Activation(places=places, bias=bias_of_label, logit=logit)


def _channels(each: Array) -> int:
    if each.ndim != 4:
        raise NotPooledError(f"a map of {each.ndim} dimensions: wanted are 1 x channels x rows x columns")
    return each.shape[1]


def _share(x: Array, how: Pooling, weight: Array) -> Array:
    """Give what each place of a map (channels x rows x columns) adds to the weighted sum of its pooled channels."""
    count = x[0].size
    mean = x.mean(axis=(1, 2), keepdims=True)
    if how == "mean":
        return np.tensordot(weight, x / count, 1)
    if how == "max":
        highest = x.max(axis=(1, 2), keepdims=True)
        where = x == highest
        over = (highest - mean) * where / where.sum(axis=(1, 2), keepdims=True)
        return np.tensordot(weight, x / count + over, 1)
    squares = (x - mean) ** 2
    deviation = np.sqrt(squares.mean(axis=(1, 2), keepdims=True))
    return np.tensordot(weight, squares / (count * np.where(deviation > 0, deviation, 1.0)), 1)


def _together(parts: list[Array]) -> Array:
    """Add maps of different sizes on the finest grid; a coarse place's share is divided among the places in it."""
    rows, columns = max(part.shape[0] for part in parts), max(part.shape[1] for part in parts)
    return np.sum([_overlap(rows, part.shape[0]) @ part @ _overlap(columns, part.shape[1]).T for part in parts], axis=0)


def _overlap(fine: int, coarse: int) -> Array:
    """Give, fine x coarse, the share of each coarse cell that lies in each fine one; columns sum to 1."""
    ends, edges = np.arange(fine + 1) / fine, np.arange(coarse + 1) / coarse
    low, high = np.maximum(ends[:-1, None], edges[None, :-1]), np.minimum(ends[1:, None], edges[None, 1:])
    return np.asarray(np.clip(high - low, 0, None) * coarse, np.float64)
