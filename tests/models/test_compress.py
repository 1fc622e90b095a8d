"""INT8 and pruning without torch: what is kept is smaller and as good, what is slower or worse is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bridge.errors import BridgeError
from bridge.inference.bundle import read_bundle
from bridge.inference.pipeline import Pipeline
from bridge.inference.trust import Trust
from models.toolkit.compression import int8
from models.toolkit.compression.channels import ChannelGroups, cut, unshared, with_weights
from models.toolkit.compression.compress import compress, take_steps
from models.toolkit.compression.int8 import simplified, with_unusual_light
from models.toolkit.compression.judging import Accuracy, Latency, Timing
from models.toolkit.compression.ranges import RULES, Spread
from models.toolkit.compression.report import CompressReport, Step, why_refused
from models.toolkit.compression.steps import Candidate, Made, Material
from models.toolkit.evaluation.class_activation import ClassActivation
from models.toolkit.figures.metrics import Share
from models.toolkit.graphs.session import open_model
from models.toolkit.pictures.folder import DataError, read_folder
from models.toolkit.pictures.staged import Stage, split_off
from models.toolkit.pictures.variations import vary
from tests.models.tiny import CHANNELS, FAST, FASTER, SLOW, SPEC, timed, tiny_bundle, tiny_model

pytestmark = [pytest.mark.models, pytest.mark.timeout(120), pytest.mark.usefixtures("own_home")]


@pytest.fixture
def bundle(tmp_path: Path, pictures: Path) -> Path:
    return tiny_bundle(tmp_path / "tiny-1.0.0", pictures)


def quantized(bundle: Path, pictures: Path, out: Path, *, timing: Timing = FASTER) -> CompressReport:
    return compress(
        bundle,
        pictures,
        out,
        quantize=True,
        prune=None,
        distil=None,
        allowed_loss=1.0,
        seed=0,
        say=lambda _: None,
        timing=timing,
    )


def share(count: int, n: int = 100) -> Share:
    return Share(count=count, n=n)


def step(*, right: int = 90, escapes: int = 2, latency: Latency = FAST) -> Step:
    accuracy = Accuracy(right=share(right), escapes=share(escapes), false_rejects=share(0))
    return Step(
        name="x", size_bytes=1, latency=latency, original_latency=SLOW, previous_latency=SLOW, accuracy=accuracy, how={}
    )


def test_int8_is_kept_signed_and_judges_alike(bundle: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "small-1.0.1"
    report = quantized(bundle, pictures, out)
    assert [each.refused for each in report.steps] == ["", ""]
    made = read_bundle(out, Trust(require_signature=False))
    assert (out / "bundle.sig").is_file()
    Pipeline(made).check_golden(made)
    assert made.labels == ("good", "scratch", "spot")
    assert made.manifest.training["compressed_from"] == "tiny@1.0.0"
    assert report.steps[1].accuracy.right.value >= 0.97
    assert report.steps[1].accuracy.escapes is not None


def test_what_train_held_out_judges_groups_and_all(pictures: Path, tmp_path: Path) -> None:
    """The first ten pictures of each class are one group: they are held out all or none."""
    slower = timed(original=FAST, other=SLOW)
    groups = r"^([a-z]+00)\d"
    bundle = tiny_bundle(tmp_path / "tiny-1.0.0", pictures, training={"split_seed": 4, "groups_by": groups})
    held_out = split_off(read_folder(pictures, groups=groups).samples, seed=4).held_out
    assert len(held_out) != len(split_off(read_folder(pictures).samples, seed=4).held_out)
    report = quantized(bundle, pictures, tmp_path / "small-1.0.1", timing=slower)
    assert (report.pictures, report.unseen) == (len(held_out), True)
    assert "flattered" not in report.table()
    other = tiny_bundle(tmp_path / "other-1.0.0", pictures)
    unknown = quantized(other, pictures, tmp_path / "small-1.0.2", timing=slower)
    assert "its accuracy may be flattered" in unknown.table()


def test_weights_are_signed_for_each_channel_and_activations_unsigned(pictures: Path) -> None:
    stage = Stage(SPEC)
    staged = stage.read(read_folder(pictures).samples[::4])
    plain = simplified(tiny_model())
    spreads = int8.observe(plain, [{"image": stage.as_input(picture)} for picture in staged])
    model = int8.to_int8(plain, {name: RULES["min-max"](spread) for name, spread in spreads.items()})
    values = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    dequantized = {node.input[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    weight = next(name for name in dequantized if values.get(name, np.zeros(0)).shape == (CHANNELS, CHANNELS, 3, 3))
    assert values[weight].dtype == np.int8
    assert values[dequantized[weight].input[1]].shape == (CHANNELS,)
    assert np.abs(values[weight].astype(int)).max() <= 64, "7 bits"
    zeros = [values[node.input[2]].dtype for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert set(zeros) == {np.dtype(np.uint8)}
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    assert softmax.input[0] == "logits", "thresholds are read behind floats"


def test_class_activation_reads_a_linear_layer_in_int8(pictures: Path) -> None:
    stage = Stage(SPEC)
    inputs = [stage.as_input(picture) for picture in stage.read(read_folder(pictures).samples[::8])]
    plain = simplified(tiny_model())
    spreads = int8.observe(plain, [{"image": tensor} for tensor in inputs])
    model = int8.to_int8(plain, {name: RULES["min-max"](spread) for name, spread in spreads.items()})
    assert "DequantizeLinear" in {
        node.op_type for node in model.graph.node for user in model.graph.node
        if user.op_type == "Gemm" and user.input[1] in node.output
    }  # fmt: skip
    activation = ClassActivation(model, image="image", scores="scores")
    for tensor in inputs:
        told = activation.of(tensor, 2)
        assert told.places.sum() + told.bias == pytest.approx(told.logit, abs=0.25)


def test_a_layer_kept_in_float_stays_float() -> None:
    plain = simplified(tiny_model())
    ranges = {name: (np.float32(0), np.float32(1)) for node in plain.graph.node for name in node.output}
    model = int8.to_int8(plain, ranges, kept=["inner"])
    inner = next(node for node in model.graph.node if node.name == "inner")
    assert inner.input[1] == "inner"
    assert numpy_helper.to_array(next(w for w in model.graph.initializer if w.name == "inner")).dtype == np.float32


def test_a_slower_model_is_refused_and_nothing_is_written(bundle: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "small-1.0.1"
    report = quantized(bundle, pictures, out, timing=timed(original=FAST, other=SLOW))
    assert report.out is None
    assert not out.exists()
    assert "not faster: 2.00 ms, before it 1.00 ms" in report.table()


def test_a_worse_model_is_refused(bundle: Path, pictures: Path, tmp_path: Path) -> None:
    def mislabel(current: Candidate, _material: Material) -> Made:
        model = tiny_model(labels=("spot", "good", "scratch"))
        return Made(candidate=dataclasses.replace(current, model=model), how={})

    report = take_steps(
        bundle, pictures, tmp_path / "small-1.0.1", [("mislabelled", mislabel)], allowed_loss=1.0, seed=0,
        say=lambda _: None, timing=FASTER,
    )  # fmt: skip
    assert "points of accuracy, allowed are 1" in report.steps[1].refused
    assert report.out is None


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (step(), ""),
        (step(right=89), ""),
        (step(right=88), "loses 2.00 points of accuracy, allowed are 1"),
        (step(escapes=4), "lets 2.00 points more of the defective parts pass, allowed are 1"),
        (step(latency=SLOW), "not faster: 2.00 ms, before it 2.00 ms"),
    ],
)
def test_what_is_refused(made: Step, reason: str) -> None:
    original = Accuracy(right=share(90), escapes=share(2), false_rejects=share(0))
    assert why_refused(made, original, allowed_loss=1.0) == reason


def test_json_says_what_the_table_says(tmp_path: Path) -> None:
    original = dataclasses.replace(step(latency=SLOW), name="original", size_bytes=4_000_000)
    small = dataclasses.replace(step(), name="INT8", size_bytes=1_000_000)
    report = CompressReport(
        bundle="a@1.0.0",
        pictures=100,
        split_seed=0,
        unseen=True,
        allowed_loss=1.0,
        steps=(original, small),
        out=tmp_path,
    )
    report.write_json(tmp_path / "figures.json")
    told = json.loads((tmp_path / "figures.json").read_text())["steps"][1]
    assert (told["size_bytes"], told["speed_up"], told["accuracy"]["n"], told["kept"]) == (1_000_000, 2.0, 100, True)
    assert told["accuracy"]["interval"] == pytest.approx([0.8256, 0.9448], abs=1e-3)
    line = report.table().splitlines()[2]
    assert all(text in line for text in ("1.00 MB (-75 %)", "2.00x", "90 of 100 = 90.0 %"))


def test_int8_of_int8_is_refused(bundle: Path, pictures: Path, tmp_path: Path) -> None:
    quantized(bundle, pictures, tmp_path / "small-1.0.1")
    with pytest.raises(DataError, match="INT8 already"):
        quantized(tmp_path / "small-1.0.1", pictures, tmp_path / "smaller-1.0.2")


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ({"quantize": False, "prune": None, "distil": None}, "nothing to do"),
        ({"quantize": True, "prune": 0.3, "distil": None}, "torch"),
        ({"quantize": True, "prune": None, "distil": "resnet-narrow"}, "torch"),
    ],
)
def test_what_can_not_be_asked_for(
    bundle: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: dict, told: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(DataError, match=told):
        compress(bundle, pictures, tmp_path / "x-1.0.0", allowed_loss=1.0, seed=0, say=lambda _: None, **chosen)


def test_a_class_that_the_model_does_not_know_is_named(bundle: Path, pictures: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(pictures, other)
    (other / "spot").rename(other / "dent")
    with pytest.raises(DataError, match="knows no 'dent': allowed are good, scratch, spot"):
        quantized(bundle, other, tmp_path / "x-1.0.0")


def test_nothing_is_overwritten(bundle: Path, pictures: Path) -> None:
    with pytest.raises(BridgeError, match="nothing is overwritten"):
        quantized(bundle, pictures, bundle)


def test_a_fifth_of_the_calibration_is_badly_lit() -> None:
    staged = np.full((100, 4, 4, 3), 100, np.uint8)
    means = with_unusual_light(staged).mean((1, 2, 3))
    assert (means < 90).sum() == 10
    assert (means > 110).sum() == 10


def test_rules_for_ranges_differ_on_an_outlier() -> None:
    counts = np.zeros(2048)
    counts[:200] = 1000 * np.exp(-np.arange(200) / 60)
    counts[-1] = 1
    spread = Spread(lowest=-0.5, highest=10.0, counts=counts)
    assert RULES["min-max"](spread) == (-0.5, 10.0)
    assert RULES["percentile"](spread)[1] < 1.1
    assert RULES["entropy"](spread)[1] < 2.0


def test_held_out_pictures_do_not_depend_on_names_or_places(pictures: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(pictures, copy)
    for path in sorted(copy.rglob("*.png")):
        path.rename(path.with_name("z" + path.name[::-1].replace("gnp.", "") + ".png"))
    here, there = (split_off(read_folder(folder).samples, seed=3) for folder in (pictures, copy))
    assert {sample.sha256 for sample in here.held_out} == {sample.sha256 for sample in there.held_out}
    assert not {sample.sha256 for sample in here.held_out} & {sample.sha256 for sample in here.kept}
    counts = {label: sum(sample.label == label for sample in here.held_out) for label in ("good", "scratch", "spot")}
    assert counts == {"good": 12, "scratch": 9, "spot": 9}


def test_varied_pictures_keep_their_size_and_change() -> None:
    random = np.random.default_rng(0)
    picture = random.integers(0, 255, (24, 32, 3), dtype=np.uint8)
    varied = vary(picture, random)
    assert (varied.shape, varied.dtype) == (picture.shape, picture.dtype)
    assert (varied != picture).mean() > 0.5
    assert vary(picture[..., :1], random).shape == (24, 32, 1)


def test_channels_that_do_nothing_are_cut_without_a_trace(pictures: Path) -> None:
    """Silence half of the channels everywhere that they hang together: cutting just these changes no score."""
    plain = unshared(simplified(tiny_model()))
    groups = ChannelGroups(plain)
    assert sorted(group.width for group in groups.groups) == [CHANNELS, CHANNELS]
    for group in groups.groups:
        for place in group.slices:
            np.moveaxis(groups.weights[place.weight], place.axis, 0)[CHANNELS // 2 :] = 0
    silenced = with_weights(plain, groups.weights)
    smaller = with_weights(silenced, cut(groups, {k: v**2 for k, v in groups.weights.items()}, share=0.5))
    assert smaller.ByteSize() < 0.6 * silenced.ByteSize()
    stage = Stage(SPEC)
    inputs = [stage.as_input(picture) for picture in stage.read(read_folder(pictures).samples[::10])]
    before, after = (
        np.concatenate([open_model(model).run(None, {"image": each})[0] for each in inputs])
        for model in (silenced, smaller)
    )
    assert np.abs(before - after).max() < 1e-5


def test_channels_that_reach_an_unknown_operator_stay() -> None:
    model = tiny_model()
    for node in model.graph.node:
        if node.op_type == "Flatten":
            node.CopyFrom(onnx.helper.make_node("LpNormalization", ["pooled"], ["normal"], axis=1))
            break
    model.graph.node.insert(12, onnx.helper.make_node("Flatten", ["normal"], ["features"]))
    groups = ChannelGroups(simplified(model))
    assert [group.width for group in groups.groups] == [CHANNELS], "only the channels between the two convolutions"
