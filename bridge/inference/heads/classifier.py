"""The classifier's head: one score from 0 to 1 for each label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.domain.verdict import Scores
from bridge.errors import InferenceError

Tensors = Mapping[str, NDArray[Any]]
# float32 sums may lie this little outside 0 to 1; they are clipped, anything further is a fault
ROUNDING = 1e-5


def read_scores(outputs: Tensors, name: str, labels: Sequence[str]) -> Scores:
    """Read tensor `name`, float32 [1, labels], as scores; raises InferenceError on NaN, shape or range."""
    values = checked(outputs, name, (1, len(labels)))[0]
    return Scores(by_label={label: float(value) for label, value in zip(labels, values, strict=True)})


def checked(outputs: Tensors, name: str, shape: tuple[int | None, ...]) -> NDArray[np.float32]:
    """Give tensor `name` if it has `shape` (None = any) and holds finite values from 0 to 1; raises InferenceError."""
    tensor = outputs.get(name)
    if tensor is None:
        raise InferenceError(f"the model has no output {name!r}")
    fits = len(tensor.shape) == len(shape) and all(w in (None, n) for n, w in zip(tensor.shape, shape, strict=True))
    if not fits or 0 in tensor.shape or not np.issubdtype(tensor.dtype, np.floating):
        raise InferenceError(f"output {name!r} is {tensor.dtype} {list(tensor.shape)}, not float {list(shape)}")
    low, high = float(tensor.min()), float(tensor.max())
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):  # so written that NaN fails it
        raise InferenceError(f"output {name!r} holds values from {low:g} to {high:g}: allowed is 0 to 1")
    clipped: NDArray[np.float32] = np.clip(tensor, 0.0, 1.0, dtype=np.float32)
    return clipped
