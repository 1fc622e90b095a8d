"""Locally aware patch features of a picture as one ONNX graph: the backbone at three depths, on one grid of cells.

After PatchCore (Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022, section 3.1): a mean over
3 x 3 neighbours at each depth, then all of them at one resolution. Here that is 1/16 of the side, and a third depth (the
15th block, 192 channels at 1/32) sees what is wrong with a larger area. Before it all, the picture's own brightness and
contrast are taken out: under another exposure the same part would otherwise be a strange one.
"""

from __future__ import annotations

import onnx

from bridge.inference.manifest import InputSpec
from models.toolkit.graphs.backbone import TAPS, keep_what_leads_to, load_backbone
from models.toolkit.graphs.writer import GraphWriter, set_outputs
from models.toolkit.pictures.prepared import IMAGE

STRIDE = 16
LATE, LATE_CHANNELS = "/blocks.14/Add_output_0", 192
CHANNELS = TAPS["early"] + TAPS["deep"] + LATE_CHANNELS
LOCAL, INSIDE, PATCHES = "local", "inside", "patches"
_MIDDLE, _CONTRAST, _LEAST_DEVIATION = 127.0, 45.0, 4.0
"""Mean and deviation, of 255, that every picture is brought to; one that hardly varies is not blown up further."""


def grid_of(spec: InputSpec) -> tuple[int, int]:
    """Give rows and columns of the grid of cells."""
    return spec.height // STRIDE, spec.width // STRIDE


def local_features(spec: InputSpec) -> onnx.ModelProto:
    """Give a graph with tensors LOCAL, 1 x CHANNELS x rows x columns, and INSIDE, 1 x 1 x rows x columns.

    INSIDE is the share of a cell that the picture covers: less than 1 where a letterbox was filled up with black. The two are
    the graph's outputs until a detector is put on.
    """
    model = load_backbone(("early", "deep", "last"), width=spec.width, height=spec.height)
    keep_what_leads_to(model.graph, (LATE, "deep", "early"))
    _even_out(model.graph, letterbox=spec.resize == "letterbox")
    rows, columns = grid_of(spec)
    writer = GraphWriter()
    parts = [
        writer.node("AveragePool", [_neighbours(writer, "early")], "early_cells", kernel_shape=[2, 2], strides=[2, 2]),
        _neighbours(writer, "deep"),
        _twice_as_fine(writer, _neighbours(writer, LATE, "late")),
    ]
    writer.node("Concat", parts, LOCAL, axis=1)
    if spec.resize == "letterbox":
        writer.node("AveragePool", ["covered"], INSIDE, kernel_shape=[STRIDE, STRIDE], strides=[STRIDE, STRIDE])
    else:
        writer.node("Identity", [writer.constant("whole", [[[[1.0] * columns] * rows]])], INSIDE)
    writer.into(model.graph)
    return set_outputs(model, {LOCAL: [1, CHANNELS, rows, columns], INSIDE: [1, 1, rows, columns]})


def patch_model(features: onnx.ModelProto) -> onnx.ModelProto:
    """Give a copy of a graph of LOCAL and INSIDE with one output instead, `patches`: LOCAL, and INSIDE as the last channel."""
    model = onnx.ModelProto()
    model.CopyFrom(features)
    _, channels, rows, columns = (dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim)
    writer = GraphWriter()
    writer.node("Concat", [LOCAL, INSIDE], PATCHES, axis=1)
    writer.into(model.graph)
    return set_outputs(model, {PATCHES: [1, channels + 1, rows, columns]})


def _even_out(graph: onnx.GraphProto, *, letterbox: bool) -> None:
    """Bring the picture's mean and deviation, over all its pixels and colours, to fixed values; padding to the mean.

    Padding is recognised as rows and columns that are wholly 0, so a black spot on a part is none.
    """
    transposed = next(node.output[0] for node in graph.node if IMAGE in node.input)
    place, cast = next((n, node) for n, node in enumerate(graph.node) if transposed in node.input)
    even, cast.output[0] = cast.output[0], "pixels"
    writer = GraphWriter()
    pixels = "pixels"
    if letterbox:
        zero = writer.constant("black", 0.0)
        for name, axes in (("rows", [1, 3]), ("columns", [1, 2])):
            brightest = writer.node("ReduceMax", [pixels], f"brightest_{name}", axes=axes, keepdims=1)
            lit = writer.node("Greater", [brightest, zero], f"lit_{name}")
            writer.node("Cast", [lit], f"covered_{name}", to=onnx.TensorProto.FLOAT)
        writer.node("Mul", ["covered_rows", "covered_columns"], "covered")
        # an all-black picture has no covered pixel: the share must not be 0 where it divides
        writer.node("ReduceMean", ["covered"], "covered_share", keepdims=1)
        writer.node("Max", ["covered_share", writer.constant("least_share", 1e-6)], "share")
        mean = writer.node("Div", [writer.node("ReduceMean", [pixels], "mean_of_all", keepdims=1), "share"], "mean")
        difference = writer.node("Mul", [writer.node("Sub", [pixels, mean], "from_mean"), "covered"], "difference")
    else:
        mean = writer.node("ReduceMean", [pixels], "mean", keepdims=1)
        difference = writer.node("Sub", [pixels, mean], "difference")
    squared = writer.node("Mul", [difference, difference], "squared")
    variance = writer.node("ReduceMean", [squared], "variance", keepdims=1)
    if letterbox:
        variance = writer.node("Div", [variance, "share"], "covered_variance")
    deviation = writer.node("Sqrt", [variance], "deviation")
    divisor = writer.node("Max", [deviation, writer.constant("least_deviation", _LEAST_DEVIATION)], "divisor")
    gain = writer.node("Div", [writer.constant("contrast", _CONTRAST), divisor], "gain")
    scaled = writer.node("Mul", [difference, gain], "scaled")
    shifted = writer.node("Add", [scaled, writer.constant("middle", _MIDDLE)], "shifted")
    writer.node("Clip", [shifted, writer.constant("lowest", 0.0), writer.constant("highest", 255.0)], even)
    writer.into(graph, at=place + 1)


def _neighbours(writer: GraphWriter, tap: str, name: str = "") -> str:
    """Average each place with its 8 neighbours, those outside the map left out."""
    return writer.node("AveragePool", [tap], f"{name or tap}_neighbours", kernel_shape=[3, 3], pads=[1, 1, 1, 1])


def _twice_as_fine(writer: GraphWriter, tensor: str) -> str:
    scales = writer.constant("twice", [1, 1, 2, 2])
    return writer.node("Resize", [tensor, "", scales], f"{tensor}_cells", mode="linear")
