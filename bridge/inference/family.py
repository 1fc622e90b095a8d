"""Tell what family of heads an ONNX file has, from the names and shapes of its inputs and outputs alone.

Shapes are facts of each exporter: YOLOv5 gives 1 x anchors x (5 + classes) with three anchors a cell, YOLOX the same with
one, v8 and later 1 x (4 + classes) x anchors, end-to-end exports 1 x detections x 6, NanoDet 1 x cells x (classes + 32).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bridge.errors import BundleError
from bridge.inference.onnx import describe_model

Family = Literal[
    "classification", "yolov5", "yolov8", "yolo-e2e", "yolo-seg", "yolox", "nanodet", "ssd", "detr", "unet", "maskrcnn",
    "anomalib", "unknown",
]  # fmt: skip
TASKS: dict[Family, str] = {
    "classification": "classification", "yolov5": "detection", "yolov8": "detection", "yolo-e2e": "detection",
    "yolo-seg": "segmentation", "yolox": "detection", "nanodet": "detection", "ssd": "detection", "detr": "detection",
    "unet": "segmentation", "maskrcnn": "segmentation", "anomalib": "anomaly", "unknown": "unknown",
}  # fmt: skip
STRIDES = ((8, 16, 32), (8, 16, 32, 64))
PROTOTYPES = 32
DISTRIBUTION = 32  # NanoDet: four sides of eight bins
MOST_CLASSES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorShape:
    """A tensor's name, type and shape; 0 stands for a side that the model leaves open."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """The inputs and outputs of a model."""

    inputs: tuple[TensorShape, ...]
    outputs: tuple[TensorShape, ...]

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of the picture, 0 where open."""
        shape = self.inputs[0].shape if self.inputs else ()
        if len(shape) != 4:
            return (0, 0)
        return (shape[2], shape[3]) if shape[1] in (1, 3) else (shape[1], shape[2])

    def cells(self, strides: Sequence[int]) -> int:
        """Count the cells of grids with these strides over the picture."""
        height, width = self.sides
        return sum(-(-height // stride) * -(-width // stride) for stride in strides)


def inspect_model(path: Path) -> dict[str, Any]:
    """Describe an ONNX file: family, task, inputs and outputs; raises BundleError."""
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise BundleError(f"{path}: can't be read: {exc.strerror or exc}") from exc
    return described(shape_of(data, where=str(path)))


def described(model: ModelShape) -> dict[str, Any]:
    """Tell a model's family, task, inputs and outputs as JSON has it."""
    family = family_of(model)
    return {
        "family": family, "task": TASKS[family],
        "inputs": [_told(tensor) for tensor in model.inputs], "outputs": [_told(tensor) for tensor in model.outputs],
    }  # fmt: skip


def shape_of(data: bytes, *, where: str) -> ModelShape:
    """Read the names and shapes of a model; raises BundleError."""
    inputs, outputs = describe_model(data, where=where)
    return ModelShape(inputs=tuple(map(_tensor, inputs)), outputs=tuple(map(_tensor, outputs)))


def family_of(model: ModelShape) -> Family:
    """Give the first family whose mark the model bears."""
    return next((family for family, fits in _MARKS if fits(model)), "unknown")


def _tensor(described: tuple[str, str, Sequence[object]]) -> TensorShape:
    name, dtype, shape = described
    return TensorShape(name=name, dtype=dtype, shape=tuple(side if isinstance(side, int) else 0 for side in shape))


def _told(tensor: TensorShape) -> dict[str, Any]:
    return {"name": tensor.name, "type": tensor.dtype, "shape": list(tensor.shape)}


def _names(model: ModelShape) -> set[str]:
    return {tensor.name.lower() for tensor in model.outputs}


def _ranks(model: ModelShape) -> list[int]:
    return [len(tensor.shape) for tensor in model.outputs]


def _only(model: ModelShape, rank: int) -> tuple[int, ...]:
    """Give the shape of the one output if it has this rank, else nothing."""
    return model.outputs[0].shape if _ranks(model) == [rank] else ()


def _is_anomalib(model: ModelShape) -> bool:
    return {"pred_score", "anomaly_map"} <= _names(model)


def _is_maskrcnn(model: ModelShape) -> bool:
    return {"boxes", "labels", "scores", "masks"} <= _names(model)


def _is_yolo_seg(model: ModelShape) -> bool:
    shapes = {len(tensor.shape): tensor.shape for tensor in model.outputs}
    return sorted(_ranks(model)) == [3, 4] and shapes[4][1] == PROTOTYPES and shapes[3][1] > 4 + PROTOTYPES


def _is_end_to_end(model: ModelShape) -> bool:
    shape = _only(model, 3)
    return bool(shape) and shape[2] == 6 and shape[1] <= 1000 and shape[1] not in _all_cells(model)


def _is_nanodet(model: ModelShape) -> bool:
    shape = _only(model, 3)
    one = bool(shape) and shape[2] > DISTRIBUTION and shape[1] in _all_cells(model) and shape[1] > 0
    many = any("dis_pred" in name for name in _names(model))
    return many or (one and not _sigmoid_and_box(model))


def _sigmoid_and_box(model: ModelShape) -> bool:
    """Whether a one-anchor head over strides 8, 16, 32 has the 85 values of the 80 classes that YOLOX is trained on."""
    return model.outputs[0].shape[2] == 85


def _is_yolox(model: ModelShape) -> bool:
    shape = _only(model, 3)
    return bool(shape) and shape[2] > 5 and shape[1] > 0 and shape[1] == model.cells(STRIDES[0])


def _is_yolov5(model: ModelShape) -> bool:
    shape = _only(model, 3)
    return bool(shape) and shape[2] > 5 and shape[1] > 0 and shape[1] in {3 * count for count in _all_cells(model)}


def _is_yolov8(model: ModelShape) -> bool:
    shape = _only(model, 3)
    return bool(shape) and shape[1] > 4 and shape[2] > 0 and shape[2] == model.cells(STRIDES[0])


def _is_detr(model: ModelShape) -> bool:
    return {"logits", "pred_boxes"} <= _names(model) or {"pred_logits", "pred_boxes"} <= _names(model)


def _is_ssd(model: ModelShape) -> bool:
    if sorted(_ranks(model)) != [3, 3]:
        return False
    first, second = (tensor.shape for tensor in model.outputs)
    return first[1] == second[1] and 4 in (first[2], second[2])


def _is_unet(model: ModelShape) -> bool:
    shape = _only(model, 4)
    height, _width = model.sides
    return bool(shape) and (shape[2] == 0 or height == 0 or height // 4 <= shape[2] <= height)


def _is_classification(model: ModelShape) -> bool:
    shape = _only(model, 2)
    return bool(shape) and shape[0] in (0, 1) and 1 <= shape[1] <= MOST_CLASSES


def _all_cells(model: ModelShape) -> set[int]:
    return {model.cells(strides) for strides in STRIDES}


_MARKS: tuple[tuple[Family, Callable[[ModelShape], bool]], ...] = (
    ("anomalib", _is_anomalib),
    ("maskrcnn", _is_maskrcnn),
    ("yolo-seg", _is_yolo_seg),
    ("yolo-e2e", _is_end_to_end),
    ("nanodet", _is_nanodet),
    ("yolox", _is_yolox),
    ("yolov5", _is_yolov5),
    ("yolov8", _is_yolov8),
    ("detr", _is_detr),
    ("ssd", _is_ssd),
    ("unet", _is_unet),
    ("classification", _is_classification),
)
