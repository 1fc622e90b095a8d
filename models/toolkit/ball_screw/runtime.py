"""Judge a picture by a cell model, and time it."""

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One inference: the image score of the first label, and how long it took."""

    score: float
    seconds: float


def run_scores(session: onnxruntime.InferenceSession, picture: npt.NDArray[np.uint8]) -> Run:
    """Judge one prepared picture (H x W x 3, uint8, RGB) and time the call."""
    start = time.perf_counter()
    (scores,) = session.run(["scores"], {"image": picture[None]})
    return Run(score=float(scores[0, 0]), seconds=time.perf_counter() - start)
