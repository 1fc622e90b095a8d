"""The one place that imports onnxruntime: a session of one model with explicit threads and fixed shapes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

# Its wheels keep a database of what they were used for, and send it; read once, as the library is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from bridge.errors import BundleError, InferenceError

_ORT_ERRORS: tuple[type[Exception], ...] = (
    ort_state.EPFail,
    ort_state.EngineError,
    ort_state.Fail,
    ort_state.InvalidArgument,
    ort_state.InvalidGraph,
    ort_state.InvalidProtobuf,
    ort_state.NoModel,
    ort_state.NoSuchFile,
    ort_state.NotImplemented,
    ort_state.RuntimeException,
    RuntimeError,
    ValueError,
    MemoryError,
)
_TYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}
_LOG_FATAL = 4


class OnnxSession:
    """A model ready to run on the CPU. Not thread-safe: one worker owns it."""

    def __init__(
        self, model: bytes, *, external_data: Mapping[str, bytes], where: str, threads: int = 1, spin: bool = False
    ) -> None:
        """Build the session; raises BundleError.

        External data comes from `external_data` alone: the folder that onnxruntime would look in is set to one that
        holds no file. With `spin`, threads wait busily for each other within a run, which pays for networks of many small
        operators; between runs they sleep in any case, for the other threads need the core.
        """
        self._where = where
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = _LOG_FATAL  # what fails is raised and reported once, in our own words
        spinning = "1" if spin else "0"
        options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
        if external_data:
            names, buffers = list(external_data), list(external_data.values())
            options.add_external_initializers_from_files_in_memory(names, buffers, [len(data) for data in buffers])
        try:
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except _ORT_ERRORS as exc:
            raise BundleError(f"{where}: model.onnx can't be loaded: {_line(exc)}") from exc

    def expect(self, *, name: str, shape: tuple[int, ...], dtype: str, outputs: tuple[str, ...]) -> None:
        """Check that the model has the one input and the outputs that its manifest names; raises BundleError.

        A dimension that the model leaves open is accepted: it is always fed the one fixed `shape`.
        """
        inputs = self._session.get_inputs()
        if [tensor.name for tensor in inputs] != [name]:
            found = [tensor.name for tensor in inputs]
            raise BundleError(f"{self._where}: model.onnx has the inputs {found}: input.name = {name!r} in bundle.toml")
        found_shape, found_type = inputs[0].shape, _TYPES.get(inputs[0].type, inputs[0].type)
        fits = len(found_shape) == len(shape) and all(
            not isinstance(has, int) or has == want for has, want in zip(found_shape, shape, strict=True)
        )
        if not fits or found_type != dtype:
            raise BundleError(
                f"{self._where}: model.onnx takes {found_type} {found_shape}, bundle.toml says {dtype} {list(shape)}"
            )
        given = [tensor.name for tensor in self._session.get_outputs()]
        for output in outputs:
            if output not in given:
                raise BundleError(f"{self._where}: model.onnx has no output {output!r}, only {given}")
        self._input, self._outputs = name, outputs

    def described(self) -> tuple[list[tuple[str, str, list[object]]], list[tuple[str, str, list[object]]]]:
        """Give name, type and shape of each input and each output."""
        return tuple(  # type: ignore[return-value]  # two of them
            [(each.name, _TYPES.get(each.type, each.type), list(each.shape)) for each in side]
            for side in (self._session.get_inputs(), self._session.get_outputs())
        )

    def run(self, tensor: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Run the model once and give its outputs by name; raises InferenceError."""
        try:
            values = self._session.run(self._outputs, {self._input: tensor})
        except _ORT_ERRORS as exc:
            raise InferenceError(f"the model failed: {_line(exc)}") from exc
        return {name: np.asarray(value) for name, value in zip(self._outputs, values, strict=True)}


def _line(exc: Exception) -> str:
    return " ".join(str(exc).split())[:300]


def describe_model(
    model: bytes, *, where: str
) -> tuple[list[tuple[str, str, list[object]]], list[tuple[str, str, list[object]]]]:
    """Give name, type and shape of each input and each output; raises BundleError. External data is never read."""
    session = OnnxSession(model, external_data={}, where=where)
    return session.described()
