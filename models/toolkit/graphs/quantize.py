"""Quantize a model to INT8: static, QDQ, 7-bit weights signed for each channel, activations unsigned (U8S8)."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from bridge.inference.manifest import InputSpec
from models.toolkit.pictures.folder import DataError, Sample
from models.toolkit.pictures.prepared import Preparer

RANGE_PICTURES = 64
_COPIES = 4
"""Of the model on the disk at one time while it is quantized."""
_ELSEWHERE = "make room, or set TMPDIR to another folder"
_BACKBONE = ("/blocks.", "/head/")
_IN_FLOAT = ("/blocks.0/", "/blocks.1/")
"""What of the backbone's blocks stays float32, as its stem does. With all of it in INT8 features were off by 0.5 to 0.8 of
their deviation (magnetic tiles), so by 0.13 to 0.24, in the same time: large maps of few channels gain nothing from INT8."""


class PictureReader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    """Feed prepared pictures (H x W x 3, uint8) to the calibration, one at a time."""

    def __init__(self, pictures: Sequence[npt.NDArray[np.uint8]]) -> None:
        self._left: Iterator[npt.NDArray[np.uint8]] = iter(pictures)

    def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
        """Return the next input, None at the end."""
        picture = next(self._left, None)
        return None if picture is None else {"image": picture[None]}


def quantize_u8s8(
    source: Path, target: Path, pictures: Sequence[npt.NDArray[np.uint8]], *, in_float: Sequence[str] = ()
) -> None:
    """Write a quantized copy of a model, its ranges from the given pictures (H x W x 3); nodes `in_float` stay as they are.

    Only convolutions and what lies between them are quantized; the calibrated logit, the maximum and the sigmoid
    stay float32, because thresholds are read there. S8S8 is several times slower on x86 with VNNI: U8S8 it is. Weights
    keep 7 bits: the processors of small industrial computers often have no VNNI, and their 16-bit sums would saturate.
    """
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            PictureReader(pictures),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Clip", "Relu", "Add", "Concat", "Resize"],
            nodes_to_exclude=list(in_float),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )


def quantize_backbone(
    model: onnx.ModelProto, samples: Sequence[Sample], spec: InputSpec, *, seed: int
) -> onnx.ModelProto:
    """Give a copy with the backbone in INT8, ranges from some of the line's own pictures, drawn by the seed; raises DataError.

    The backbone's first blocks, and all that stands before and behind it, stay float32.
    """
    in_float = [node.name for node in model.graph.node if not _is_quantized(node.name)]
    preparer = Preparer(spec)
    drawn = np.random.default_rng(seed).permutation(len(samples))[:RANGE_PICTURES]
    pictures = [preparer.tensor(samples[row])[0] for row in drawn]
    return quantized(model, pictures, in_float=in_float)


def quantized(
    model: onnx.ModelProto, pictures: Sequence[npt.NDArray[np.uint8]], *, in_float: Sequence[str] = ()
) -> onnx.ModelProto:
    """Give a model as `quantize_u8s8` writes it; raises DataError where temporary files find no room."""
    try:
        with tempfile.TemporaryDirectory() as place:
            needed, free = _COPIES * model.ByteSize(), shutil.disk_usage(place).free
            if free < needed:  # onnxruntime would say so in words that nobody understands
                raise DataError(
                    f"{tempfile.gettempdir()}: {free >> 20} MB free: {needed >> 20} MB are needed; {_ELSEWHERE}"
                )
            source, target = Path(place) / "float32.onnx", Path(place) / "int8.onnx"
            onnx.save(model, source)
            quantize_u8s8(source, target, pictures, in_float=in_float)
            return onnx.load(target)
    except OSError as exc:
        raise DataError(
            f"{tempfile.gettempdir()}: temporary files can't be written: {exc.strerror or exc}; {_ELSEWHERE}"
        ) from exc


def _is_quantized(name: str) -> bool:
    return name.startswith(_BACKBONE) and not name.startswith(_IN_FLOAT)
