"""A model bundle that any machine can make in a moment: bright pictures are pitted, dark ones are good."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write_bundle(folder: Path) -> Path:
    """Write the bundle; its score for `pitting` is the picture's mean brightness."""
    (folder / "golden").mkdir(parents=True)
    picture = brightness_picture(215, seed=0)
    (folder / "golden" / "bright.jpg").write_bytes(picture)
    score = float(cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR).mean() / 255)
    (folder / "golden" / "golden.toml").write_text(
        f'tolerance = 0.02\n[[frame]]\nfile = "bright.jpg"\nscores = {{ pitting = {score:.4f} }}\n'
    )
    onnx.save(_model(), folder / "model.onnx")
    names = ("model.onnx", "golden/golden.toml", "golden/bright.jpg")
    files = "\n".join(f'"{name}" = "{hashlib.sha256((folder / name).read_bytes()).hexdigest()}"' for name in names)
    (folder / "bundle.toml").write_text(
        'schema = 1\nname = "brightness"\nversion = "1.0.0"\ntask = "classification"\nhead = "classifier"\n'
        'labels = ["good", "pitting"]\ngood_labels = ["good"]\n[input]\nname = "image"\nwidth = 64\nheight = 64\n'
        f"[files]\n{files}\n"
    )
    return folder


def write_pictures(folder: Path, *, each: int = 6) -> Path:
    """Write a folder of labelled pictures: `good` dark, `pitting` bright."""
    for label, level in (("good", 40), ("pitting", 215)):
        (folder / label).mkdir(parents=True)
        for number in range(each):
            (folder / label / f"{number}.jpg").write_bytes(brightness_picture(level, seed=number))
    return folder


def brightness_picture(level: int, *, seed: int) -> bytes:
    """Give a noisy picture of one brightness as JPEG."""
    noise = np.random.default_rng(seed).normal(level, 12, (120, 160, 3))
    done, data = cv2.imencode(".jpg", np.clip(noise, 0, 255).astype(np.uint8))
    assert done
    return bytes(data)


def _model() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["mean"], keepdims=0, axes=[1, 2, 3]),
        helper.make_node("Div", ["mean", "full"], ["bright"]),
        helper.make_node("Sub", ["one", "bright"], ["dark"]),
        helper.make_node("Unsqueeze", ["bright", "axis"], ["bright1"]),
        helper.make_node("Unsqueeze", ["dark", "axis"], ["dark1"]),
        helper.make_node("Concat", ["dark1", "bright1"], ["scores"], axis=1),
    ]
    constants = [
        numpy_helper.from_array(np.array([255.0], dtype=np.float32), "full"),
        numpy_helper.from_array(np.array([1.0], dtype=np.float32), "one"),
        numpy_helper.from_array(np.array([1], dtype=np.int64), "axis"),
    ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 64, 64, 3])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 2])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model
