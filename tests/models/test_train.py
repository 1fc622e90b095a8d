"""Training, pruning and distilling: with torch, and so only where the extra `train` is installed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="torch is in the extra `train`")

from bridge.inference.bundle import read_bundle  # noqa: E402 - nothing below works without torch
from bridge.inference.manifest import InputSpec  # noqa: E402
from bridge.inference.pipeline import Pipeline  # noqa: E402
from bridge.inference.trust import Trust  # noqa: E402
from models.toolkit.compression.compress import compress, take_steps  # noqa: E402
from models.toolkit.compression.distil import distiller  # noqa: E402
from models.toolkit.compression.int8 import simplified  # noqa: E402
from models.toolkit.compression.torch_graph import GraphModule  # noqa: E402
from models.toolkit.evaluation.class_activation import ClassActivation  # noqa: E402
from models.toolkit.graphs.pooled_head import NotPooledError  # noqa: E402
from models.toolkit.graphs.session import open_model  # noqa: E402
from models.toolkit.pictures.folder import DataError, read_folder  # noqa: E402
from models.toolkit.pictures.staged import Stage  # noqa: E402
from models.toolkit.training.export import export_classifier  # noqa: E402
from models.toolkit.training.fine_tuning import class_weights  # noqa: E402
from models.toolkit.training.nets import build_net  # noqa: E402
from models.toolkit.training.train import train  # noqa: E402
from tests.models.tiny import FASTER, LABELS, SPEC, tiny_bundle, tiny_model  # noqa: E402

pytestmark = [pytest.mark.models, pytest.mark.timeout(240), pytest.mark.usefixtures("own_home")]


def test_the_graph_rebuilt_in_torch_says_the_same(pictures: Path) -> None:
    model = simplified(tiny_model())
    staged = Stage(SPEC).read(read_folder(pictures).samples[::10])
    session = open_model(model)
    wanted = np.concatenate([session.run(None, {"image": picture[None]})[0] for picture in staged])
    with torch.inference_mode():
        module = GraphModule(model, scores="scores", where="tiny")
        given = torch.softmax(module(torch.from_numpy(staged)), dim=1).numpy()
    assert np.abs(given - wanted).max() < 1e-5


def test_a_graph_that_can_not_be_fitted_names_its_operator() -> None:
    model = tiny_model()
    for node in model.graph.node:
        node.op_type = "Softplus" if node.op_type == "Relu" else node.op_type
    with pytest.raises(DataError, match="tiny: the operator Softplus can't be fitted"):
        GraphModule(simplified(model), scores="scores", where="tiny")


@pytest.mark.parametrize("name", ["resnet-narrow", "mobilenetv3-small"])
def test_nets_export_and_rebuild(name: str) -> None:
    torch.manual_seed(0)
    spec = InputSpec(name="image", width=64, height=32)
    staged = np.random.default_rng(0).integers(0, 255, (2, 32, 64, 3), dtype=np.uint8)
    model = simplified(export_classifier(build_net(name, labels=3, option="--architecture").eval(), spec, staged))
    assert not [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    with torch.inference_mode():
        given = GraphModule(model, scores="scores", where=name)(torch.from_numpy(staged)).softmax(1).numpy()
    wanted = np.concatenate([open_model(model).run(None, {"image": picture[None]})[0] for picture in staged])
    assert np.abs(given - wanted).max() < 1e-5


def exported(name: str) -> onnx.ModelProto:
    """Give a net of random weights as `train` would write it, 64 x 32 pixels."""
    torch.manual_seed(0)
    spec = InputSpec(name="image", width=64, height=32)
    staged = np.random.default_rng(0).integers(0, 255, (1, 32, 64, 3), dtype=np.uint8)
    return export_classifier(build_net(name, labels=3, option="--architecture").eval(), spec, staged)


def test_the_class_activation_of_an_exported_net_adds_up_to_its_logits() -> None:
    staged = np.random.default_rng(1).integers(0, 255, (1, 32, 64, 3), dtype=np.uint8)
    activation = ClassActivation(exported("resnet-narrow"), image="image", scores="scores")
    for label in range(3):
        told = activation.of(staged, label)
        assert told.places.shape == (1, 2)
        assert told.places.sum() + told.bias == pytest.approx(told.logit, abs=1e-4)


def test_a_net_with_a_hidden_layer_has_no_class_activation() -> None:
    with pytest.raises(NotPooledError, match=r"the linear layer reads .*, not a pooled feature map"):
        ClassActivation(exported("mobilenetv3-small"), image="image", scores="scores")


def test_rare_classes_weigh_by_the_root_of_their_frequency() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    weights = class_weights(labels, 2).numpy()
    assert weights[1] / weights[0] == pytest.approx(math.sqrt(9))
    assert weights[labels].mean() == pytest.approx(1)


def test_train_writes_a_bundle_that_runs(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "plates-2.1.0"
    said: list[str] = []
    report = train(pictures, out, architecture="resnet-narrow", good=None, seed=0, epochs=3, say=said.append, side=64)
    assert (report.labels, report.accuracy.n, report.input_size) == (LABELS, 30, (64, 64))
    assert sum(map(sum, report.confusion)) == 30
    assert sum("epoch" in line for line in said) == 3
    bundle = read_bundle(out, Trust(require_signature=False))
    assert (bundle.reference, bundle.good_labels) == ("plates@2.1.0", ("good",))
    assert bundle.manifest.training["split_seed"] == 0
    assert Pipeline(bundle).check_golden(bundle) < 0.001


def test_an_unknown_architecture_is_named(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--architecture vgg: allowed are resnet50, resnet-narrow"):
        train(pictures, tmp_path / "x-1.0.0", architecture="vgg", good=None, seed=0, epochs=1, say=lambda _: None)


def test_pruning_halves_a_model_and_keeps_its_verdicts(pictures: Path, tmp_path: Path) -> None:
    bundle, out = tiny_bundle(tmp_path / "tiny-1.0.0", pictures), tmp_path / "small-1.0.1"
    report = compress(
        bundle, pictures, out, quantize=False, prune=0.5, distil=None, allowed_loss=1.0, seed=0, say=lambda _: None,
        timing=FASTER,
    )  # fmt: skip
    assert report.steps[1].refused == ""
    assert report.steps[1].size_bytes < 0.6 * report.steps[0].size_bytes
    made = read_bundle(out, Trust(require_signature=False))
    assert made.manifest.training["steps"] == ["pruned by 50 %"]


def test_distilling_makes_a_student_that_takes_the_same_pictures(pictures: Path, tmp_path: Path) -> None:
    bundle, out = tiny_bundle(tmp_path / "tiny-1.0.0", pictures), tmp_path / "student-1.0.1"
    steps = [("distilled", distiller("mobilenetv3-small", epochs=2))]
    report = take_steps(bundle, pictures, out, steps, allowed_loss=100, seed=0, say=lambda _: None, timing=FASTER)
    assert report.steps[1].how["student"] == "mobilenetv3-small"
    made = read_bundle(out, Trust(require_signature=False))
    assert (made.manifest.input.width, made.manifest.input.height) == (32, 32)
    assert made.labels == LABELS


def test_an_unknown_student_is_named(pictures: Path, tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny-1.0.0", pictures)
    with pytest.raises(DataError, match="--distil vgg: allowed are"):
        compress(
            bundle, pictures, tmp_path / "x-1.0.0", quantize=False, prune=None, distil="vgg", allowed_loss=1.0, seed=0,
            say=lambda _: None,
        )  # fmt: skip
