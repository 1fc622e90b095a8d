"""Quantize any classifier to INT8 after training: activations unsigned, weights signed for each channel (U8S8), as QDQ.

S8S8 is several times slower on x86. Weights keep 7 bits: the processors of small industrial computers often have no VNNI,
and their 16-bit sums would saturate with 8. Softmax, sigmoid and the logits before them stay float32: thresholds are read
there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from models.toolkit.compression.judging import Array, distance
from models.toolkit.compression.ranges import RULES, Range, Spread, observe
from models.toolkit.graphs.session import one_thread
from models.toolkit.pictures.staged import Bytes, expose
from models.toolkit.progress import Say

WITH_WEIGHTS = ("Conv", "Gemm", "MatMul")
BESIDE = ("Relu", "Clip", "Add", "Mul", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool", "Resize")
_OPSET = 17
_LEAST_OPSET = 13
_UNUSUAL_LIGHT_SHARE = 0.2
_DARK, _BRIGHT = 0.5, 1.7
_PROBED = 12
_KEPT_IN_FLOAT = (1, 2, 4, 8)
_WORTH_KEEPING = 0.85
Score = Callable[[onnx.ModelProto, Bytes], Array]
Feed = Callable[[Bytes], Mapping[str, "np.ndarray[tuple[int, ...], np.dtype[np.generic]]"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """A quantized model and how it came to be: the rule for its ranges, the layers that stayed float32.

    `distance` is to the original's scores on pictures that gave no ranges (`models.toolkit.compression.judging.distance`).
    """

    model: onnx.ModelProto
    rule: str
    kept_in_float: tuple[str, ...]
    distance: float


def simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fold constants and normalisations into the convolutions before them, name every node, infer all shapes.

    Only standard operators come out, so that the result runs anywhere the original did.
    """
    if next((entry.version for entry in model.opset_import if not entry.domain), 1) < _LEAST_OPSET:
        model = onnx.version_converter.convert_version(model, _OPSET)
    options = one_thread()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "simplified.onnx"
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        result = onnx.load(path)
    for number, node in enumerate(result.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    return onnx.shape_inference.infer_shapes(result)


def with_unusual_light(staged: Bytes) -> Bytes:
    """Give the pictures, every tenth one under- and every tenth over-exposed: a lamp ages, a part shines.

    Ranges must hold such frames too; clipped activations would make the model blind just then.
    """
    result = staged.copy()
    step = round(2 / _UNUSUAL_LIGHT_SHARE)
    for first, gain in ((0, _DARK), (step // 2, _BRIGHT)):
        for number in range(first, len(result), step):
            result[number] = expose(result[number], gain)
    return result


def quantize(
    model: onnx.ModelProto, *, calibration: Bytes, check: Bytes, feed: Feed, score: Score, say: Say
) -> Quantized:
    """Quantize a float model; the rule and the layers left in float are those that measured best on `check`.

    `calibration` and `check` are different staged pictures; `score` gives a model's scores of staged pictures.
    """
    plain = simplified(model)
    spreads = observe(plain, [feed(picture) for picture in with_unusual_light(calibration)])
    reference = score(plain, check)

    def made(rule: str, kept: Sequence[str]) -> Quantized:
        ranges = {name: RULES[rule](spread) for name, spread in spreads.items()}
        candidate = to_int8(plain, ranges, kept=kept)
        return Quantized(
            model=candidate, rule=rule, kept_in_float=tuple(kept), distance=distance(score(candidate, check), reference)
        )

    tried = [made(rule, ()) for rule in RULES]
    for each in tried:
        say(f"ranges by {each.rule}: scores differ by a factor of {np.exp(each.distance):.3f}")
    best = min(tried, key=lambda each: each.distance)
    order = _most_sensitive(plain, spreads, best.rule, score, check[:_PROBED], say)
    for count in (count for count in _KEPT_IN_FLOAT if count < len(order)):
        # more in float is not always nearer: onnxruntime fuses other steps around each of them, so every count is tried
        each = made(best.rule, order[:count])
        say(f"with {count} layers in float: a factor of {np.exp(each.distance):.3f}")
        if each.distance < _WORTH_KEEPING * best.distance:
            best = each
    return best


def with_activation(plain: onnx.ModelProto, layer: str) -> list[str]:
    """Name a layer and the activation right behind it: the two are one step in INT8, and in float alike."""
    named = {node.name: node for node in plain.graph.node}
    made = named[layer].output[0]
    users = [node for node in plain.graph.node if made in node.input]
    return [layer, *(node.name for node in users if len(users) == 1 and node.op_type in ("Relu", "Clip"))]


def _most_sensitive(
    plain: onnx.ModelProto,
    spreads: Mapping[str, Spread],
    rule: str,
    score: Score,
    pictures: Bytes,
    say: Say,
) -> list[str]:
    """Order the layers with weights by what quantizing each alone does to the scores, worst first."""
    ranges = {name: RULES[rule](spread) for name, spread in spreads.items()}
    layers = [node.name for node in plain.graph.node if node.op_type in WITH_WEIGHTS]
    reference = score(plain, pictures)
    say(f"trying each of {len(layers)} layers by itself")
    harm = {layer: distance(score(to_int8(plain, ranges, only=layer), pictures), reference) for layer in layers}
    return sorted(layers, key=lambda layer: -harm[layer])


def to_int8(
    plain: onnx.ModelProto, ranges: Mapping[str, Range], *, kept: Sequence[str] = (), only: str | None = None
) -> onnx.ModelProto:
    """Quantize a simplified model by ranges: all layers but `kept`, or `only` one."""
    copy = onnx.ModelProto()
    copy.CopyFrom(plain)
    last = {name for node in plain.graph.node if node.op_type in ("Softmax", "Sigmoid") for name in node.input}
    # a Gemm's logits stay float32 by the option below; any other that makes logits stays float32 altogether
    logits = [
        node.name
        for node in plain.graph.node
        if last.intersection(node.output) and node.op_type not in ("Gemm", "MatMul")
    ]
    in_float = [name for layer in kept for name in with_activation(plain, layer)]
    quantizer = QDQQuantizer(
        copy,
        per_channel=True,
        reduce_range=True,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, dict(ranges)),
        nodes_to_quantize=[] if only is None else with_activation(plain, only),
        nodes_to_exclude=[*in_float, *logits],
        op_types_to_quantize=[*WITH_WEIGHTS, *BESIDE],
        extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"]},
    )
    quantizer.quantize_model()
    result: onnx.ModelProto = quantizer.model.model
    del result.graph.value_info[:]  # shapes that every run time infers: a share of a small model's size
    return result
