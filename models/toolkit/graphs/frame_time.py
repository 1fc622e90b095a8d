"""What one frame of a model takes, as the bridge runs it."""

from __future__ import annotations

import statistics
import time

import numpy as np
import numpy.typing as npt
import onnx

from models.toolkit.graphs.session import open_model
from models.toolkit.pictures.prepared import IMAGE

TIMED_RUNS = 15


def frame_ms(model: onnx.ModelProto, tensor: npt.NDArray[np.uint8]) -> float:
    """Give the median time of one frame on one thread, in ms."""
    session = open_model(model)
    times = []
    for _ in range(TIMED_RUNS):
        began = time.perf_counter()
        session.run(None, {IMAGE: tensor})
        times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times)
