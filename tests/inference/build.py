"""Make small bundles for tests: graphs whose scores are known functions of the picture."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bridge.inference.trust import Trust

WIDTH, HEIGHT, ROWS, COLUMNS = 64, 48, 6, 8
OPEN = Trust(require_signature=False)


def picture(*, width: int = 320, height: int = 240, value: int = 60, seed: int | None = None) -> NDArray[np.uint8]:
    if seed is None:
        return np.full((height, width, 3), value, np.uint8)
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (5, 5), 0).astype(np.uint8)


def encoded(pixels: NDArray[np.uint8], suffix: str = ".jpg", *flags: int) -> bytes:
    done, data = cv2.imencode(suffix, pixels, list(flags))
    assert done
    return bytes(data.tobytes())


def _constant(name: str, value: Any, dtype: Any) -> Any:
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def graph(
    *,
    head: str = "classifier",
    layout: str = "NHWC",
    dtype: str = "uint8",
    scale: float = 1 / 255,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    labels: int = 2,
    kind: str = "brightness",
) -> bytes:
    """`kind` brightness: score of label 0 = mean of the input x `scale`, label 1 = 1 - that; cells = mean in each cell.

    Other kinds: nan, high (scores over 1), narrow (one label too few), slow.
    """
    width, height = size
    shape = [1, height, width, 3] if layout == "NHWC" else [1, 3, height, width]
    elem = TensorProto.UINT8 if dtype == "uint8" else TensorProto.FLOAT
    nodes = [helper.make_node("Cast", ["image"], ["f"], to=TensorProto.FLOAT)]
    if layout == "NHWC":
        nodes.append(helper.make_node("Transpose", ["f"], ["chw"], perm=[0, 3, 1, 2]))
    else:
        nodes.append(helper.make_node("Identity", ["f"], ["chw"]))
    nodes += [
        helper.make_node("Mul", ["chw", "scale"], ["scaled"]),
        helper.make_node("ReduceMean", ["scaled"], ["grey"], axes=[1], keepdims=1),
        helper.make_node("GlobalAveragePool", ["grey"], ["mean4"]),
        helper.make_node("Reshape", ["mean4", "flat"], ["mean"]),
        helper.make_node("Sub", ["one", "mean"], ["rest"]),
    ]
    names = ["mean", "rest"][:labels]
    initializers = [_constant("scale", scale, np.float32), _constant("one", [[1.0]], np.float32)]
    initializers.append(_constant("flat", [1, 1], np.int64))
    if kind == "nan":
        nodes += [helper.make_node("Sub", ["mean", "mean"], ["z"]), helper.make_node("Div", ["z", "z"], ["bad"])]
        names[0] = "bad"
    elif kind == "high":
        nodes.append(helper.make_node("Add", ["mean", "one"], ["bad"]))
        names[0] = "bad"
    elif kind == "narrow":
        names = names[:1]
    nodes.append(helper.make_node("Concat", names, ["scores"], axis=1))
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, len(names)])]
    if head == "cells":
        kernel = [height // ROWS, width // COLUMNS]
        nodes += [
            helper.make_node("AveragePool", ["grey"], ["pooled"], kernel_shape=kernel, strides=kernel),
            helper.make_node("Sub", ["one4", "pooled"], ["dark"]),
            helper.make_node("Concat", ["pooled", "dark"][:labels], ["cells"], axis=1),
        ]
        initializers.append(_constant("one4", [[[[1.0]]]], np.float32))
        outputs.append(helper.make_tensor_value_info("cells", TensorProto.FLOAT, [1, labels, ROWS, COLUMNS]))
    made = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("image", elem, shape)], outputs, initializer=initializers
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def slow_graph(rounds: int) -> bytes:
    """The brightness classifier behind `rounds` large matrix products, some ms each."""
    model = onnx.load_from_string(graph())
    side = 384
    nodes = [helper.make_node("Expand", ["first", "square"], ["m0"])]
    nodes += [helper.make_node("MatMul", [f"m{n}", f"m{n}"], [f"m{n + 1}"]) for n in range(rounds)]
    nodes += [
        helper.make_node("ReduceMin", [f"m{rounds}"], ["low"], keepdims=0),
        helper.make_node("Mul", ["low", "zero"], ["nothing"]),
        helper.make_node("Add", ["scores_before", "nothing"], ["scores"]),
    ]
    for node in model.graph.node:
        for index, name in enumerate(node.output):
            if name == "scores":
                node.output[index] = "scores_before"
    model.graph.node.append(helper.make_node("Mul", ["mean", "zero"], ["first"]))
    model.graph.node.extend(nodes)
    model.graph.initializer.append(_constant("square", [side, side], np.int64))
    model.graph.initializer.append(_constant("zero", 0.0, np.float32))
    return bytes(model.SerializeToString())


def manifest_text(files: dict[str, bytes], **changes: Any) -> str:
    """A valid manifest for `graph()`; `changes` replace lines by key: `head="cells"`, `width=32`, `extra="..."`."""
    values: dict[str, Any] = {
        "schema": 1,
        "name": "probe",
        "version": "1.0.0",
        "task": "classification",
        "head": "classifier",
        "labels": ["bright", "dark"],
        "good_labels": ["dark"],
        "width": WIDTH,
        "height": HEIGHT,
        "channels": 3,
        "colour": "RGB",
        "layout": "NHWC",
        "dtype": "uint8",
        "resize": "stretch",
        "interpolation": "linear",
        "extra": "",
        "input_extra": "",
    } | changes
    top = ("schema", "name", "version", "task", "head", "labels", "good_labels")
    inner = ("width", "height", "channels", "colour", "layout", "dtype", "resize", "interpolation")
    lines = [f"{key} = {values[key]!r}" for key in top]
    lines += ["[input]", "name = 'image'", *(f"{key} = {values[key]!r}" for key in inner), values["input_extra"]]
    lines += ["[output]", "scores = 'scores'"]
    if values["head"] == "cells":
        lines.append("cells = 'cells'")
    lines += [values["extra"], "[files]"]
    lines += [f"'{name}' = '{hashlib.sha256(data).hexdigest()}'" for name, data in files.items()]
    return "\n".join(lines) + "\n"


def bundle_files(
    *,
    model: bytes | None = None,
    golden: str | None = None,
    frames: dict[str, bytes] | None = None,
    more: dict[str, bytes] | None = None,
    **changes: Any,
) -> dict[str, bytes]:
    """All files of a bundle by name. The golden frame is flat grey 60: bright 60/255, dark 195/255."""
    pictures = frames or {"grey.png": encoded(picture(), ".png")}
    if golden is None:
        golden = "tolerance = 0.02\n[[frame]]\nfile = 'grey.png'\nscores = { bright = 0.2353, dark = 0.7647 }\n"
    files = {"model.onnx": model or graph(), "golden/golden.toml": golden.encode(), "card.md": b"# A probe\n"}
    files |= {f"golden/{name}": data for name, data in pictures.items()} | (more or {})
    return {"bundle.toml": manifest_text(files, **changes).encode(), **files}


def write_bundle(folder: Path, files: dict[str, bytes] | None = None, **options: Any) -> Path:
    """Write a bundle into `folder` and give it back."""
    for name, data in (files or bundle_files(**options)).items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder
