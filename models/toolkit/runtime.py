"""Run a cell model as the bridge does: onnxruntime, CPU, one thread, no spinning."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One inference: the image score of the first label, and how long it took."""

    score: float
    seconds: float


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """Open a model with one thread, set explicitly: the default ignores the limits of a container."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_scores(session: onnxruntime.InferenceSession, picture: npt.NDArray[np.uint8]) -> Run:
    """Judge one prepared picture (H x W x 3, uint8, RGB) and time the call."""
    start = time.perf_counter()
    (scores,) = session.run(["scores"], {"image": picture[None]})
    return Run(score=float(scores[0, 0]), seconds=time.perf_counter() - start)
