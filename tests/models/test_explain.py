"""`linegate model explain`: the places of a picture add up to the logit, and stand out where the flaw was drawn."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bridge.inference.bundle import read_bundle
from bridge.inference.manifest import InputSpec
from bridge.inference.trust import Trust
from models.toolkit.evaluation.class_activation import ClassActivation
from models.toolkit.evaluation.explain import Explained, Explainer
from models.toolkit.graphs.backbone import load_backbone
from models.toolkit.graphs.extract import extract
from models.toolkit.graphs.heads import add_classifier, add_pooling
from models.toolkit.graphs.pooled_head import NotPooledError, with_outputs
from models.toolkit.graphs.quantize import quantize_u8s8
from models.toolkit.graphs.session import open_model
from models.toolkit.pictures.folder import DataError, read_folder
from models.toolkit.pictures.prepared import Preparer
from models.toolkit.pictures.staged import Stage
from models.toolkit.teaching.classifier import fit_classifier, group_numbers, label_numbers
from tests.models.bench import Bench
from tests.models.pictures import draw_folder
from tests.models.tiny import LABELS, SPEC, tiny_bundle, tiny_model

pytestmark = [pytest.mark.models, pytest.mark.timeout(240)]
TAPS = ("early", "deep", "last")
LARGE = InputSpec(name="image", width=96, height=96)
SPOT = LABELS.index("spot")


@dataclass(frozen=True, kw_only=True)
class Taught:
    """A classifier of plates as `teach` makes them, in float32 and in INT8."""

    pictures: Path
    whole: onnx.ModelProto
    int8: onnx.ModelProto


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("plates") / "seen", {"good": 20, "scratch": 14, "spot": 14})


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def taught(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Taught:
    place, folder = tmp_path_factory.mktemp("taught"), read_folder(pictures)
    backbone = add_pooling(load_backbone(TAPS, width=LARGE.width, height=LARGE.height), TAPS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(place))
        features = extract(backbone, folder.samples, LARGE)
    labels = label_numbers(folder)
    fit = fit_classifier(features, labels, group_numbers(folder, features[:, 0]), [TAPS], seed=0)
    pooling = [node.name for node in backbone.graph.node if node.op_type == "Concat"]
    whole = add_classifier(backbone, fit.head)
    onnx.save(whole, place / "whole.onnx")
    preparer = Preparer(LARGE)
    shown = [preparer.tensor(sample)[0] for sample in folder.samples[::4]]
    quantize_u8s8(place / "whole.onnx", place / "int8.onnx", shown, in_float=pooling)
    return Taught(pictures=pictures, whole=whole, int8=onnx.load(place / "int8.onnx"))


def plate_with_spot(file: Path, *, x: int, y: int, width: int = 96, radius: int = 9) -> Path:
    pixels = np.random.default_rng(5).normal(130, 8, (96, width)).clip(0, 255).astype(np.uint8)
    cv2.circle(pixels, (x, y), radius, 30, -1)
    cv2.imwrite(str(file), pixels)
    return file


def explained(bundle: Path, picture: Path, how: str = "auto", *, evaluations: int = 500) -> Explained:
    explainer = Explainer(read_bundle(bundle, Trust(require_signature=False)))
    return explainer.explain(picture, how=how, evaluations=evaluations)


def with_features(kind: str, **settings: int) -> onnx.ModelProto:
    """Give the tiny model with one more step between its pooled features and its linear layer."""
    model = tiny_model()
    place = next(number for number, node in enumerate(model.graph.node) if node.op_type == "Gemm")
    model.graph.node[place].input[0] = "stepped"
    model.graph.node.insert(place, helper.make_node(kind, ["features"], ["stepped"], name="step", **settings))
    return model


def test_of_averaged_maps_the_places_and_the_bias_are_the_logit(pictures: Path) -> None:
    model = tiny_model()
    activation = ClassActivation(model, image="image", scores="scores")
    session, stage = open_model(with_outputs(model, ["logits"])), Stage(SPEC)
    for picture in stage.read(read_folder(pictures).samples[::6]):
        tensor = stage.as_input(picture)
        logits = session.run(None, {"image": tensor})[0][0]
        for label, logit in enumerate(logits):
            told = activation.of(tensor, label)
            assert told.places.shape == (32, 32)
            assert told.logit == pytest.approx(logit)
            assert told.places.sum() + told.bias == pytest.approx(float(logit), abs=1e-3)


def test_a_matrix_product_and_an_addition_are_a_linear_layer_too(pictures: Path) -> None:
    model = tiny_model()
    place = next(number for number, node in enumerate(model.graph.node) if node.op_type == "Gemm")
    del model.graph.node[place]
    model.graph.node.insert(place, helper.make_node("MatMul", ["features", "head"], ["product"]))
    model.graph.node.insert(place + 1, helper.make_node("Add", ["head_bias", "product"], ["logits"]))
    stage = Stage(SPEC)
    tensor = stage.as_input(stage.read(read_folder(pictures).samples[-1:])[0])
    ways = [ClassActivation(each, image="image", scores="scores").of(tensor, SPOT) for each in (model, tiny_model())]
    assert np.allclose(ways[0].places, ways[1].places, atol=1e-6)
    assert ways[0].bias == ways[1].bias


@pytest.mark.parametrize("kind", ["whole", "int8"])
def test_of_a_taught_model_too_and_it_is_hottest_at_the_flaw(taught: Taught, tmp_path: Path, kind: str) -> None:
    model = getattr(taught, kind)
    activation = ClassActivation(model, image="image", scores="scores")
    bundle = tiny_bundle(tmp_path / "plates-1.0.0", taught.pictures, model=model, spec=LARGE)
    explainer = Explainer(read_bundle(bundle, Trust(require_signature=False)))
    stage = Stage(LARGE)
    for number, (x, y) in enumerate([(70, 28), (24, 60), (48, 48), (70, 70)]):
        picture = plate_with_spot(tmp_path / f"{number}.png", x=x, y=y)
        told = explainer.explain(picture)
        assert (told.label, told.how) == ("spot", "cam")
        assert told.peak is not None
        assert np.hypot(told.peak[0] - x, told.peak[1] - y) < 16
        parts = activation.of(stage.as_input(stage.staged(picture.read_bytes(), where="")), SPOT)
        assert parts.places.sum() + parts.bias == pytest.approx(parts.logit, abs=0.02)


@pytest.mark.parametrize("how", ["cam", "occlusion"])
def test_the_peak_is_told_in_pixels_of_the_picture_also_behind_a_letterbox(
    pictures: Path, tmp_path: Path, how: str
) -> None:
    spec = SPEC.model_copy(update={"resize": "letterbox", "pad": 130})
    bundle = tiny_bundle(tmp_path / "tiny-1.0.0", pictures, spec=spec)
    told = explained(bundle, plate_with_spot(tmp_path / "wide.png", x=150, y=30, width=192, radius=20), how)
    assert (told.label, told.width, told.height) == ("spot", 192, 96)
    assert told.peak is not None
    assert np.hypot(told.peak[0] - 150, told.peak[1] - 30) < 24


def test_a_model_of_another_kind_is_covered_place_by_place(pictures: Path, tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny-1.0.0", pictures, model=with_features("Sigmoid"))
    picture = plate_with_spot(tmp_path / "part.png", x=70, y=28)
    with pytest.raises(
        DataError, match=r"--how cam: tiny@1.0.0: the linear layer reads step \(Sigmoid\), not a pooled"
    ):
        explained(bundle, picture, "cam")
    assert explained(bundle, picture).how == "occlusion"


def test_a_step_that_changes_the_features_unseen_is_noticed_by_the_sum(pictures: Path) -> None:
    model = with_features("Cast", to=TensorProto.BOOL)
    place = next(number for number, node in enumerate(model.graph.node) if node.op_type == "Gemm")
    model.graph.node[place].input[0] = "back"
    model.graph.node.insert(place, helper.make_node("Cast", ["stepped"], ["back"], to=TensorProto.FLOAT))
    stage = Stage(SPEC)
    tensor = stage.as_input(stage.read(read_folder(pictures).samples[:1])[0])
    with pytest.raises(NotPooledError, match="the places and the bias add up to"):
        ClassActivation(model, image="image", scores="scores").of(tensor, SPOT)


def test_a_picture_of_nothing_has_no_peak(pictures: Path, tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny-1.0.0", pictures)
    cv2.imwrite(str(tmp_path / "even.png"), np.full((96, 96), 130, np.uint8))
    told = explained(bundle, tmp_path / "even.png", "occlusion")
    assert (told.peak, told.as_json()["peak"]) == (None, None)


def test_the_command_tells_the_peak_and_names_what_is_allowed(pictures: Path, tmp_path: Path) -> None:
    bench = Bench(folder=tmp_path)
    tiny_bundle(tmp_path / "tiny-1.0.0", pictures)
    plate_with_spot(tmp_path / "part.png", x=70, y=28)
    told = bench.json("explain", "tiny-1.0.0", "part.png", "--out", "heat.png")
    assert (told["label"], told["how"], told["picture"]) == ("spot", "cam", [96, 96])
    assert (told["bias"], told["logit"] > 4) == (0.0, True)
    assert np.hypot(told["peak"][0] - 70, told["peak"][1] - 28) < 16
    assert cv2.imread(str(tmp_path / "heat.png")).shape == (96, 96, 3)
    arguments = ("explain", "tiny-1.0.0", "part.png", "--out", "heat.png", "--how")
    assert "--how lime: allowed is auto, cells, cam, occlusion or shap" in bench.refusal(*arguments, "lime")
    assert "--how cells: tiny@1.0.0 has no cells" in bench.refusal(*arguments, "cells")
    if importlib.util.find_spec("shap") is None:
        assert "shap is not installed: pip install 'linegate[explain]'" in bench.refusal(*arguments, "shap")


def test_shapley_values_stand_out_at_the_flaw(pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("shap", reason="shap is in the extra `explain`")
    bundle = tiny_bundle(tmp_path / "tiny-1.0.0", pictures)
    told = explained(bundle, plate_with_spot(tmp_path / "part.png", x=70, y=28), "shap", evaluations=200)
    assert (told.label, told.how) == ("spot", "shap")
    assert told.peak is not None
    assert np.hypot(told.peak[0] - 70, told.peak[1] - 28) < 16
    assert json.loads(json.dumps(told.as_json()))["how"] == "shap"
