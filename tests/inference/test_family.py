"""What kind of model a file holds: by the shapes that each exporter gives, and on real files made elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import BundleError
from bridge.inference.family import ModelShape, TensorShape, family_of, inspect_model

SHARED = Path(__file__).parents[3] / "shared" / "onnx"
SHIPPED = Path(__file__).parents[2] / "models" / "bundles" / "ball-screw-1.0.0" / "model.onnx"


def shape(side: int, **outputs: tuple[int, ...]) -> ModelShape:
    image = TensorShape(name="images", dtype="float32", shape=(1, 3, side, side))
    told = tuple(TensorShape(name=name, dtype="float32", shape=given) for name, given in outputs.items())
    return ModelShape(inputs=(image,), outputs=told)


@pytest.mark.parametrize(
    ("model", "family"),
    [
        (shape(224, output=(1, 1000)), "classification"),
        (shape(640, output0=(1, 25200, 85)), "yolov5"),
        (shape(640, output0=(1, 84, 8400)), "yolov8"),
        (shape(320, output0=(1, 6, 2100)), "yolov8"),
        (shape(640, output0=(1, 300, 6)), "yolo-e2e"),
        (shape(640, output0=(1, 116, 8400), output1=(1, 32, 160, 160)), "yolo-seg"),
        (shape(416, output=(1, 3549, 85)), "yolox"),
        (shape(416, output=(1, 3598, 112)), "nanodet"),
        (shape(320, scores=(1, 3234, 2), boxes=(1, 3234, 4)), "ssd"),
        (shape(800, logits=(1, 100, 92), pred_boxes=(1, 100, 4)), "detr"),
        (shape(256, mask=(1, 2, 256, 256)), "unet"),
        (shape(800, boxes=(0, 4), labels=(0,), scores=(0,), masks=(0, 1, 28, 28)), "maskrcnn"),
        (
            shape(256, pred_score=(1,), pred_label=(1,), anomaly_map=(1, 1, 256, 256), pred_mask=(1, 1, 256, 256)),
            "anomalib",
        ),
        (shape(256, a=(1, 2, 3, 4, 5)), "unknown"),
    ],
)
def test_each_family_has_its_mark(model: ModelShape, family: str) -> None:
    assert family_of(model) == family


@pytest.mark.parametrize(
    ("file", "family"),
    [("yolox_nano.onnx", "yolox"), ("nanodet_m_320.onnx", "nanodet"), ("ultraface_rfb_320.onnx", "ssd")],
)
def test_models_made_elsewhere_are_known(file: str, family: str) -> None:
    if not (SHARED / file).is_file():
        pytest.skip(f"no {file} here: it is not part of the project")
    told = inspect_model(SHARED / file)
    assert (told["family"], told["task"]) == (family, "detection")
    assert told["inputs"][0]["shape"][:2] == [1, 3]


def test_what_is_no_model_is_refused_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    with pytest.raises(BundleError, match=r"model\.onnx: can't be read"):
        inspect_model(file)
    file.write_bytes(b"not a model")
    with pytest.raises(BundleError, match=r"model\.onnx"):
        inspect_model(file)
    assert inspect_model(SHIPPED)["outputs"][0] == {"name": "scores", "type": "float32", "shape": [1, 1]}
