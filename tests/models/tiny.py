"""A classifier for drawn plates, small enough to be written by hand, and a bundle of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bridge.inference.manifest import InputSpec
from models.toolkit.bundles.files import Draft, GoldenPicture, write_bundle
from models.toolkit.compression.judging import Latency, Timing
from models.toolkit.graphs.session import open_model
from models.toolkit.pictures.folder import read_folder
from models.toolkit.pictures.staged import Stage

LABELS = ("good", "scratch", "spot")
SPEC = InputSpec(name="image", width=32, height=32)
CHANNELS = 16
DARK, BRIGHT = 90 / 255, 180 / 255
FAST, SLOW = Latency(p50_ms=1.0, p99_ms=1.5), Latency(p50_ms=2.0, p99_ms=3.0)


def timed(*, original: Latency, other: Latency) -> Timing:
    """Let every comparison come out as given: how long so small a model takes says nothing."""
    return lambda _runners, _pictures: [original, other]


FASTER = timed(original=SLOW, other=FAST)


def tiny_model(*, labels: tuple[str, ...] = LABELS) -> onnx.ModelProto:
    """Build a residual net of which channel 0 sees what is dark and channel 1 what is bright; the other channels see noise.

    `labels` is the order of the outputs: any but LABELS makes a model that is wrong.
    """
    random = np.random.default_rng(0)
    first = random.normal(0, 0.01, (CHANNELS, 3, 1, 1))
    first[0], first[1] = -1 / 3, 1 / 3
    inner = random.normal(0, 0.001, (CHANNELS, CHANNELS, 3, 3))
    last = random.normal(0, 0.001, (CHANNELS, CHANNELS, 1, 1))
    depthwise = np.zeros((CHANNELS, 1, 3, 3))
    depthwise[:, 0, 1, 1] = 1.0
    head = np.zeros((CHANNELS, 3))
    for column, label in enumerate(labels):
        if label == "spot":
            head[0, column] = 1500.0
        elif label == "scratch":
            head[1, column] = 1500.0
    weights = {
        "scale": np.array(1 / 255), "first": first, "first_bias": np.array([DARK, -BRIGHT, *[0.0] * (CHANNELS - 2)]),
        "depthwise": depthwise, "inner": inner, "last": last, "head": head,
        "head_bias": np.array([4.0 if label == "good" else 0.0 for label in labels]),
    }  # fmt: skip
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "first", "first_bias"], ["c1"], name="stem"),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "depthwise"], ["c2"], name="depthwise", group=CHANNELS, pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c2", "inner"], ["c3"], name="inner", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c3"], ["r3"]),
        helper.make_node("Conv", ["r3", "last"], ["c4"], name="last"),
        helper.make_node("Add", ["c4", "r1"], ["sum"]),
        helper.make_node("GlobalAveragePool", ["sum"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Gemm", ["features", "head", "head_bias"], ["logits"], name="head"),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
    ]
    graph = helper.make_graph(
        nodes, "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, list(SPEC.shape))],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, len(labels)])],
        [numpy_helper.from_array(np.asarray(values, np.float32), name) for name, values in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def tiny_bundle(
    out: Path,
    pictures: Path,
    *,
    model: onnx.ModelProto | None = None,
    spec: InputSpec = SPEC,
    training: Mapping[str, Any] | None = None,
) -> Path:
    """Write a bundle of a model for the plates in `pictures`, one of each kind golden."""
    graph = model or tiny_model()
    session, stage = open_model(graph), Stage(spec)
    folder = read_folder(pictures)
    firsts = [next(sample for sample in folder.samples if sample.label == label) for label in LABELS]
    golden = [
        GoldenPicture(sample=sample, scores=dict(zip(LABELS, map(float, row), strict=True)))
        for sample in firsts
        for row in session.run(["scores"], {"image": stage.as_input(stage.read([sample])[0])})[0]
    ]
    thresholds = {"good": {"accept": 0.5}, "scratch": {"reject": 0.5}, "spot": {"reject": 0.5}}
    draft = Draft(
        task="classification",
        head="classifier",
        labels=LABELS,
        good_labels=("good",),
        input=spec,
        thresholds=thresholds,
        training=training or {},
    )
    write_bundle(out, draft, model=graph.SerializeToString(), golden=golden, card="# Tiny\n")
    return out
