"""Nets that mark defects: with torch, and so only where the extra `train` is installed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="torch is in the extra `train`")

from typer.testing import CliRunner  # noqa: E402 - nothing below works without torch

from bridge.cli import app  # noqa: E402
from bridge.inference.bundle import Bundle, read_bundle  # noqa: E402
from bridge.inference.manifest import InputSpec  # noqa: E402
from bridge.inference.pipeline import Pipeline  # noqa: E402
from bridge.inference.trust import Trust  # noqa: E402
from models.toolkit.figures.calibration import Calibration  # noqa: E402
from models.toolkit.graphs.session import open_model  # noqa: E402
from models.toolkit.pictures.folder import DataError, read_folder, read_mask  # noqa: E402
from models.toolkit.pictures.staged import Stage  # noqa: E402
from models.toolkit.training.masked import NO_LABEL, MaskedPictures, as_targets, marked_labels, read_masked, varied  # noqa: E402
from models.toolkit.training.segmentation import Marked, MaskLoss, dice_loss, kind_loss, mark, pixel_weight  # noqa: E402
from models.toolkit.training.settings import TrainSettings  # noqa: E402
from models.toolkit.training.unet import SEGMENTERS  # noqa: E402
from models.toolkit.training.unet_bundle import CELL_PX, export_masks  # noqa: E402
from models.toolkit.training.unet_train import MarkingReport, train_masks  # noqa: E402
from tests.models.pictures import SIDE, draw_masked_folder  # noqa: E402

pytestmark = [pytest.mark.models, pytest.mark.timeout(240)]
KINDS = {"good": 18, "scratch": 12, "spot": 12}
INPUT = 64
SPEC = InputSpec(name="image", width=64, height=64)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_masked_folder(tmp_path_factory.mktemp("plates") / "seen", KINDS, unmarked=2)


@pytest.fixture(scope="module")
def trained(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[MarkingReport, list[str]]:
    home, said = tmp_path_factory.mktemp("home"), list[str]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(home))
        report = train_masks(
            pictures, home / "plates-2.1.0", TrainSettings(architecture="unet", epochs=12, side=INPUT), say=said.append
        )
    return report, said


@pytest.fixture(scope="module")
def bundle(trained: tuple[MarkingReport, list[str]]) -> Bundle:
    return read_bundle(trained[0].out, Trust(require_signature=False))


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_training_writes_a_bundle_with_a_channel_for_each_defect(
    trained: tuple[MarkingReport, list[str]], bundle: Bundle
) -> None:
    report, said = trained
    assert sum("epoch" in line for line in said) == 12
    assert (report.labels, report.input_size) == (("scratch", "spot"), (INPUT, INPUT))
    assert (bundle.reference, bundle.labels, bundle.good_labels) == ("plates@2.1.0", ("scratch", "spot"), ())
    assert bundle.manifest.head == "cells"
    assert Pipeline(bundle).check_golden(bundle) < 0.001
    cells = next(
        tensor
        for tensor in open_model(onnx.load_model_from_string(bundle.model)).get_outputs()
        if tensor.name == "cells"
    )
    assert cells.shape == [1, 2, INPUT // CELL_PX, INPUT // CELL_PX]


def test_it_tells_drawn_defects_and_says_so(trained: tuple[MarkingReport, list[str]]) -> None:
    report = trained[0]
    told = json.loads(json.dumps(report.as_json()))
    assert told["n"] == 13
    assert told["auroc"] > 0.95
    assert told["dice"] > 0.5
    assert set(told["per_label"]) == {"scratch", "spot"}
    assert "AUROC, good or not" in report.in_terminal()
    assert "Dice over defect pixels" in report.in_terminal()


def test_a_net_that_could_learn_more_says_so(trained: tuple[MarkingReport, list[str]]) -> None:
    report = trained[0]
    for best, expected in ((12, True), (7, False)):
        fitted = replace(report.fitted, best=best)
        assert ("more --epochs" in replace(report, fitted=fitted).in_terminal()) is expected


def test_the_line_shows_the_spot_at_its_place(bundle: Bundle, tmp_path: Path) -> None:
    folder = read_folder(draw_masked_folder(tmp_path / "unseen", {"good": 5, "spot": 5}, seed=7))
    pipeline = Pipeline(bundle)
    for sample in (sample for sample in folder.samples if sample.label == "spot"):
        scores = pipeline.score(sample.path.read_bytes(), thresholds=bundle.thresholds, roi=None, reduction=1).scores
        assert scores.by_label["spot"] > bundle.thresholds["spot"].reject
        region = next(region for region in scores.regions if region.label == "spot")
        rows, columns = read_mask(sample).nonzero()
        x, y, width, height = region.box
        assert x <= columns.mean() <= x + width
        assert y <= rows.mean() <= y + height
        assert width < SIDE / 2


def test_a_picture_and_its_mask_are_turned_alike() -> None:
    picture, mask = np.zeros((1, 48, 64, 3), np.uint8), np.zeros((1, 48, 64), np.uint8)
    picture[0, 10:20, 30:45], mask[0, 10:20, 30:45] = 200, 1
    none = np.zeros(1, np.bool_)
    data = MaskedPictures(pictures=picture, masks=mask, defective=~none, known=~none, labels=np.zeros(1, np.int64))
    pictures, masks = varied(data, np.zeros(20, np.int64), np.random.default_rng(3))
    assert len(np.unique(masks, axis=0)) == 20
    assert np.mean((pictures[..., 0] > 80) == (masks > 0)) > 0.99, "but for what noise and blur do at the edge"


def test_a_defect_smaller_than_a_pixel_of_the_input_stays_marked(tmp_path: Path) -> None:
    folder = read_folder(draw_masked_folder(tmp_path / "pits", {"good": 5, "pit": 5}))
    data = read_masked(
        Stage(InputSpec(name="image", width=32, height=32)), folder.samples, labels=("pit",), good="good"
    )
    assert (data.masks.sum((1, 2)) > 0).tolist() == [False] * 5 + [True] * 5
    assert data.known.all()


def test_unmarked_defects_are_left_out_of_learning_and_judged(
    pictures: Path, trained: tuple[MarkingReport, list[str]]
) -> None:
    folder = read_folder(pictures)
    data = read_masked(Stage(SPEC), folder.samples, labels=("scratch",), good="good")
    assert int((~data.known).sum()) == 2 + KINDS["spot"]  # two scratches without a mask, and spots have no channel
    assert set(data.labels[data.defective & ~data.known]) == {0, NO_LABEL}
    assert len(data.only_known()) == KINDS["good"] + KINDS["scratch"] - 2
    report = trained[0]
    assert report.trained_on + report.left_out + report.validated_on + report.n == sum(KINDS.values())


def test_the_targets_are_the_mask_in_the_label_s_channel(pictures: Path) -> None:
    folder = read_folder(pictures)
    labels = marked_labels(folder.samples, folder)
    data = read_masked(Stage(SPEC), folder.samples, labels=labels, good="good")
    rows = np.array([0, len(data) - 1])
    shown, masks = varied(data, rows, np.random.default_rng(0))
    targets = as_targets(masks, data.labels[rows], len(labels))
    assert shown.shape == (2, 64, 64, 3)
    assert targets.shape == (2, 2, 64, 64)
    assert not targets[0].any()
    assert not targets[1, 0].any()
    assert targets[1, 1].sum() == masks[1].sum() > 0


def test_dice_counts_what_both_mark_and_only_pictures_with_a_defect() -> None:
    targets = torch.zeros((2, 8, 8))
    targets[0, :4] = 1
    assert float(dice_loss(targets, targets)) == pytest.approx(0)
    halves = targets.clone()
    halves[0, :2] = 0
    assert float(dice_loss(halves, targets)) == pytest.approx(1 - (2 * 16 + 1) / (16 + 32 + 1))
    assert float(dice_loss(torch.rand(1, 8, 8), torch.zeros((1, 8, 8)))) == 0


def test_the_kind_of_a_defect_counts_in_its_pixels_alone() -> None:
    targets = torch.zeros((2, 2, 8, 8))
    targets[0, 1, 3, 3] = 1
    logits = torch.randn((2, 2, 8, 8), generator=torch.Generator().manual_seed(0))
    logits[0, :, 3, 3] = torch.tensor([1.0, 3.0])
    assert float(kind_loss(logits, targets)) == pytest.approx(math.log1p(math.exp(-2)))
    assert float(kind_loss(logits[:, :1], targets[:, 1:])) == 0
    assert float(MaskLoss(3.0)(100 * (targets - 0.5), targets)) < 0.02


def test_dice_over_pixels_is_none_where_there_are_none() -> None:
    counts = np.array([[4, 0], [0, 0]])
    told = Marked(highest=np.zeros((2, 2)), both=counts, told=2 * counts, true=counts)
    assert told.dice(np.array([True, True])) == pytest.approx(8 / 12)
    assert told.dice(np.array([True, True]), 1) is None


def test_rare_defects_weigh_more_but_not_without_end(tmp_path: Path) -> None:
    stage = Stage(InputSpec(name="image", width=SIDE, height=SIDE))
    weights = []
    for kind in ("spot", "pit"):
        folder = read_folder(draw_masked_folder(tmp_path / kind, {"good": 5, kind: 5}))
        weights.append(pixel_weight(read_masked(stage, folder.samples, labels=(kind,), good="good")))
    assert 1 < weights[0] < weights[1] == 10


@pytest.mark.parametrize("name", list(SEGMENTERS))
def test_the_graph_says_what_the_net_says(name: str) -> None:
    if name == "unet-lite0":
        pytest.importorskip("efficientnet_lite_pytorch")
    torch.manual_seed(0)
    staged = np.random.default_rng(0).integers(0, 256, (3, 32, 64, 3), np.uint8)
    net = SEGMENTERS[name].build(2).eval()
    calibration = Calibration(gain=0.5, shift=1.0, reject=0.5, doubt=0.4)
    spec = InputSpec(name="image", width=64, height=32)
    session = open_model(export_masks(net, calibration, spec, staged))
    scores, cells = session.run(["scores", "cells"], {"image": staged[:1]})
    assert scores.shape == (1, 2)
    assert cells.shape == (1, 2, 8, 16)
    np.testing.assert_allclose(scores, cells.max((2, 3)))
    with torch.inference_mode():
        logits = net(torch.from_numpy(staged[:1]))
    wanted = torch.sigmoid(0.5 * logits[0, 1, 4:8, 8:12].max() + 1.0)
    assert cells[0, 1, 1, 2] == pytest.approx(float(wanted), abs=1e-4)
    assert logits.shape == (1, 2, 32, 64)


def test_the_command_trains_and_tells(pictures: Path, tmp_path: Path) -> None:
    out, figures = tmp_path / "plates-1.0.0.lgb", tmp_path / "figures.json"
    done = CliRunner().invoke(
        app,
        ["model", "train", str(pictures), "--out", str(out), "--architecture", "unet", "--epochs", "1", "--side", "64",
         "--groups", r"(\d)\.png$", "--json", str(figures)],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "Dice over defect pixels" in done.output
    assert json.loads(figures.read_text())["architecture"] == "unet"
    assert read_bundle(out, Trust(require_signature=False)).manifest.task == "segmentation"


def test_one_seed_gives_one_net(pictures: Path, tmp_path: Path) -> None:
    told = [
        train_masks(
            pictures,
            tmp_path / f"plates-1.0.{number}",
            TrainSettings(architecture="unet", epochs=1, side=32, seed=5),
            say=lambda _: None,
        )
        for number in range(2)
    ]
    assert told[0].fitted == told[1].fitted
    models = [read_bundle(each.out, Trust(require_signature=False)).model for each in told]
    assert models[0] == models[1]


def refused(folder: Path, out: Path, **wishes: Any) -> str:
    with pytest.raises(DataError) as told:
        train_masks(folder, out, TrainSettings(architecture="unet", epochs=1, side=32, **wishes), say=lambda _: None)
    return str(told.value)


def test_a_folder_without_masks_is_refused(tmp_path: Path) -> None:
    folder = draw_masked_folder(tmp_path / "plates", {"good": 8, "spot": 8}, unmarked=8)
    assert "no mask with a defect among the" in refused(folder, tmp_path / "x-1.0.0")


def test_a_folder_without_good_parts_is_refused(tmp_path: Path) -> None:
    folder = draw_masked_folder(tmp_path / "plates", {"scratch": 6, "spot": 6})
    assert "no class of good parts among scratch, spot: name it with --good" in refused(folder, tmp_path / "x-1.0.0")


def test_groups_that_can_not_be_split_are_refused(tmp_path: Path) -> None:
    folder = draw_masked_folder(tmp_path / "plates", {"good": 8, "spot": 8})
    assert "part: wanted are more pictures, or groups" in refused(folder, tmp_path / "x-1.0.0", groups="good|spot")


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    folder = draw_masked_folder(tmp_path / "plates", {"good": 8, "spot": 8})
    for path in (folder / "spot" / "masks").iterdir():
        cv2.imwrite(str(path), np.zeros((10, 12), np.uint8))
    assert "a mask of 12 x 10 pixels" in refused(folder, tmp_path / "x-1.0.0")


@pytest.mark.parametrize(("wish", "value"), [("weights", "random"), ("attention", "cbam"), ("folds", 3), ("blend", 9)])
def test_what_only_classifiers_can_have_is_refused(pictures: Path, tmp_path: Path, wish: str, value: object) -> None:
    expected = f"--{wish} {value}: unet doesn't take it, classifiers do"
    assert refused(pictures, tmp_path / "x-1.0.0", **{wish: value}) == expected


def test_marking_takes_any_number_of_pictures(pictures: Path) -> None:
    folder = read_folder(pictures)
    data = read_masked(Stage(SPEC), folder.samples[:3], labels=("scratch", "spot"), good="good")
    told = mark(SEGMENTERS["unet"].build(2).eval(), data, count=2, batch=2)
    assert told.highest.shape == (3, 2)
    assert not told.true.any()
