"""Run a model as the bridge does: onnxruntime, CPU, one thread, no spinning."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime


def one_thread() -> onnxruntime.SessionOptions:
    """Give options with one thread, set explicitly: the default ignores the limits of a container."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def open_model(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Open a model; several such sessions share the processors."""
    return onnxruntime.InferenceSession(model.SerializeToString(), one_thread(), providers=["CPUExecutionProvider"])


def open_file(path: Path) -> onnxruntime.InferenceSession:
    """Open a model's file."""
    return onnxruntime.InferenceSession(str(path), one_thread(), providers=["CPUExecutionProvider"])
