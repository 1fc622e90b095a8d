"""Ranges of a model's inner tensors over calibration pictures, from which INT8 scales are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import onnx

from models.toolkit.graphs.session import open_model

Range = tuple[np.float32, np.float32]
Counts = npt.NDArray[np.float64]
_BINS = 2048
_LEVELS = 128
_LEAST_WIDTH = 1e-6


@dataclass(slots=True, kw_only=True)
class Spread:
    """One tensor's lowest and highest value, and how often each magnitude up to `reach` occurred."""

    lowest: float
    highest: float
    counts: Counts

    @property
    def reach(self) -> float:
        """The largest magnitude."""
        return max(abs(self.lowest), abs(self.highest), _LEAST_WIDTH)

    def clipped(self, limit: float) -> Range:
        """Give the range within -limit to limit."""
        return np.float32(max(self.lowest, -limit)), np.float32(min(self.highest, limit))


def observe(model: onnx.ModelProto, inputs: Sequence[Mapping[str, npt.NDArray[np.generic]]]) -> dict[str, Spread]:
    """Run the model over the inputs twice: for the limits of every float tensor, then for the counts between them."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = _float_tensors(model)
    known = {output.name for output in model.graph.output}
    watched.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names if name not in known
    )
    session = open_model(watched)
    spreads: dict[str, Spread] = {}
    for feed in inputs:
        for name, values in zip(names, session.run(names, feed), strict=True):
            low, high = float(values.min()), float(values.max())
            if name not in spreads:
                spreads[name] = Spread(lowest=low, highest=high, counts=np.zeros(_BINS))
            spreads[name].lowest = min(spreads[name].lowest, low)
            spreads[name].highest = max(spreads[name].highest, high)
    for feed in inputs:
        for name, values in zip(names, session.run(names, feed), strict=True):
            spread = spreads[name]
            bins = (np.abs(values.ravel()) * np.float32((_BINS - 1) / spread.reach)).astype(np.int32)
            spread.counts += np.bincount(np.clip(bins, 0, _BINS - 1), minlength=_BINS)
    return spreads


def _float_tensors(model: onnx.ModelProto) -> list[str]:
    """Name every tensor of known type float that some node makes."""
    graph = model.graph
    floats = {
        value.name
        for value in (*graph.value_info, *graph.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    return [name for node in graph.node for name in node.output if name in floats and node.op_type != "Constant"]


def _min_max(spread: Spread) -> Range:
    return spread.clipped(spread.reach)


def _percentile(spread: Spread) -> Range:
    """Leave out the largest 0.01 % of magnitudes: one glint must not cost all others their resolution."""
    share = np.cumsum(spread.counts) / spread.counts.sum()
    return spread.clipped((int(np.searchsorted(share, 0.9999)) + 1) / _BINS * spread.reach)


def _entropy(spread: Spread) -> Range:
    """Choose the limit that loses the least information (Migacz, "8-bit inference with TensorRT", 2017).

    For each limit: the Kullback-Leibler divergence from the counts, with what lies beyond it added to the last bin, to
    the same counts joined into 128 levels.
    """
    counts = spread.counts.copy()
    counts[0] = 0  # exact zeros behind a ReLU are exact at every scale, and would outweigh all others
    if not counts.any():
        return spread.clipped(spread.reach)
    limits = range(_LEVELS, _BINS + 1, 16)
    best = min(limits, key=lambda limit: _divergence(counts, limit))
    return spread.clipped(best / _BINS * spread.reach)


def _divergence(counts: Counts, limit: int) -> float:
    inside = counts[:limit]
    wanted = inside.copy()
    wanted[-1] += counts[limit:].sum()
    level = np.arange(limit) * _LEVELS // limit
    seen = inside > 0
    sums = np.bincount(level, inside, minlength=_LEVELS)
    bins = np.bincount(level, seen, minlength=_LEVELS)
    given = np.where(seen, (sums / np.maximum(bins, 1))[level], 0.0)
    if not given.any():
        return float("inf")
    p, q = wanted / wanted.sum(), given / given.sum()
    both = (p > 0) & (q > 0)
    lost = float(p[(p > 0) & (q == 0)].sum())
    return float(np.sum(p[both] * np.log(p[both] / q[both]))) + lost * np.log(_BINS)


RULES: Mapping[str, Callable[[Spread], Range]] = MappingProxyType(
    {"min-max": _min_max, "percentile": _percentile, "entropy": _entropy}
)
