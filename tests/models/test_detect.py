"""Nets that find boxes: with torch, and so only where the extra `train` is installed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="torch is in the extra `train`")
pytest.importorskip("efficientnet_lite_pytorch", reason="it is in the extra `train`")

from typer.testing import CliRunner  # noqa: E402 - nothing below works without torch

from bridge.cli import app  # noqa: E402
from bridge.domain.verdict import VerdictCode, decide  # noqa: E402
from bridge.inference.bundle import Bundle, read_bundle  # noqa: E402
from bridge.inference.family import ModelShape, family_of, shape_of  # noqa: E402
from bridge.inference.manifest import InputSpec  # noqa: E402
from bridge.inference.pipeline import Pipeline  # noqa: E402
from bridge.inference.trust import Trust  # noqa: E402
from models.toolkit.bundles.recipe import own_recipe  # noqa: E402
from models.toolkit.compression.compress import compress  # noqa: E402
from models.toolkit.figures.boxes import TrueBoxes, overlaps  # noqa: E402
from models.toolkit.figures.calibration import Calibration  # noqa: E402
from models.toolkit.graphs.session import open_model  # noqa: E402
from models.toolkit.pictures.boxes import boxes_of, read_all_boxes  # noqa: E402
from models.toolkit.pictures.folder import DataError, read_folder, read_mask  # noqa: E402
from models.toolkit.pictures.staged import Stage  # noqa: E402
from models.toolkit.training.boxed import BoxedPictures, as_targets, boxed_labels, read_boxed, varied_boxes  # noqa: E402
from models.toolkit.training.detect_bundle import CELL_PX, difference, export_boxes  # noqa: E402
from models.toolkit.training.detect_net import DETECTORS, STRIDE, LiteDetector, Maps, decode  # noqa: E402
from models.toolkit.training.detect_report import DetectionReport  # noqa: E402
from models.toolkit.training.detect_train import train_boxes  # noqa: E402
from models.toolkit.training.detection import BOXES, box_loss, find, focal_loss  # noqa: E402
from models.toolkit.training.settings import TrainSettings  # noqa: E402
from tests.models.pictures import SIDE, draw_masked_folder, masks_to_annotations, voc  # noqa: E402

pytestmark = [pytest.mark.models, pytest.mark.timeout(240)]
KINDS = {"good": 20, "scratch": 24, "spot": 24}
EPOCHS = 12
SPEC = InputSpec(name="image", width=96, height=64)
NOTHING = TrueBoxes(corners=np.zeros((0, 4)), labels=np.zeros(0, np.int64))


def boxes(*given: tuple[int, tuple[float, float, float, float]]) -> TrueBoxes:
    return TrueBoxes(
        corners=np.asarray([box for _, box in given], np.float64), labels=np.asarray([n for n, _ in given], np.int64)
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_masked_folder(tmp_path_factory.mktemp("plates") / "seen", KINDS, unmarked=2)


@pytest.fixture(scope="module")
def trained(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[DetectionReport, list[str]]:
    home, said = tmp_path_factory.mktemp("home"), list[str]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(home))
        report = train_boxes(
            pictures, home / "plates-2.1.0", TrainSettings(architecture="detect-lite0", epochs=EPOCHS, side=SIDE),
            say=said.append,
        )  # fmt: skip
    return report, said


@pytest.fixture(scope="module")
def bundle(trained: tuple[DetectionReport, list[str]]) -> Bundle:
    return read_bundle(trained[0].out, Trust(require_signature=False))


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_training_writes_a_bundle_with_boxes(trained: tuple[DetectionReport, list[str]], bundle: Bundle) -> None:
    report, said = trained
    assert sum("epoch" in line for line in said) == EPOCHS
    assert (report.labels, report.input_size) == (("scratch", "spot"), (SIDE, SIDE))
    assert (bundle.reference, bundle.labels, bundle.good_labels) == ("plates@2.1.0", ("scratch", "spot"), ())
    assert (bundle.manifest.task, bundle.manifest.head) == ("detection", "cells")
    assert Pipeline(bundle).check_golden(bundle) < 0.001
    shapes = {
        tensor.name: tensor.shape for tensor in open_model(onnx.load_model_from_string(bundle.model)).get_outputs()
    }
    cells = [1, 2, SIDE // CELL_PX, SIDE // CELL_PX]
    assert shapes == {"scores": [1, 2], "cells": cells, "detections": [1, BOXES, 6]}


def test_it_finds_drawn_defects_and_says_so(trained: tuple[DetectionReport, list[str]]) -> None:
    report = trained[0]
    told = json.loads(json.dumps(report.as_json()))
    assert told["n"] == 20
    assert told["auroc"] > 0.95
    assert told["ap50"] > 0.7
    assert set(told["per_label"]) == {"scratch", "spot"}
    assert report.trained_on + report.left_out + report.validated_on + report.n == sum(KINDS.values())
    page = report.out.with_name("plates-2.1.0-report.html").read_text()
    assert "<td>scratch</td>" in page
    assert "The worst mistakes" in page
    shown = report.in_terminal()
    assert "AP at overlap 0.5, mean" in shown
    assert "escapes at its thresholds" in shown


def test_a_net_that_could_learn_more_says_so(trained: tuple[DetectionReport, list[str]]) -> None:
    report = trained[0]
    for best, expected in ((EPOCHS, True), (7, False)):
        fitted = replace(report.fitted, best=best)
        assert ("more --epochs" in replace(report, fitted=fitted).in_terminal()) is expected


def test_the_line_shows_the_box_around_the_defect(bundle: Bundle, tmp_path: Path) -> None:
    folder = read_folder(draw_masked_folder(tmp_path / "unseen", {"good": 5, "spot": 6}, seed=7))
    pipeline, shared = Pipeline(bundle), list[float]()
    for sample in (sample for sample in folder.samples if sample.label == "spot"):
        scores = pipeline.score(sample.path.read_bytes(), thresholds=bundle.thresholds, roi=None, reduction=1).scores
        assert decide(scores, own_recipe(bundle.manifest)).label == "spot"
        x, y, width, height = next(region for region in scores.regions if region.label == "spot").box
        shown = np.asarray([(x, y, x + width, y + height)], np.float64)
        shared.append(float(overlaps(shown, np.asarray(boxes_of(read_mask(sample))))[0, 0]))
    assert min(shared) > 0.5, shared


def test_detections_alone_are_an_end_to_end_detector(bundle: Bundle) -> None:
    shape = shape_of(bundle.model, where="bundle")
    alone = [output for output in shape.outputs if output.name == "detections"]
    assert family_of(ModelShape(inputs=shape.inputs, outputs=tuple(alone))) == "yolo-e2e"


def test_detections_are_boxes_of_the_input_the_highest_score_first(bundle: Bundle, tmp_path: Path) -> None:
    folder = read_folder(draw_masked_folder(tmp_path / "unseen", {"good": 5, "scratch": 5}, seed=8))
    session, stage = open_model(onnx.load_model_from_string(bundle.model)), Stage(bundle.manifest.input)
    for sample in folder.samples[5:]:
        staged = stage.read([sample])
        scores, cells, (told,) = session.run(["scores", "cells", "detections"], {"image": staged})
        assert (np.diff(told[:, 4]) <= 0).all()
        assert told[0, 4] == pytest.approx(scores.max()) == pytest.approx(cells.max())
        assert set(told[:, 5]) <= {0.0, 1.0}
        assert (told[:, :4] >= 0).all()
        assert (told[:, :4] <= SIDE).all()
        assert overlaps(told[:1, :4].astype(np.float64), np.asarray(boxes_of(read_mask(sample))))[0, 0] > 0.5


def test_annotations_say_the_same_as_masks(pictures: Path, tmp_path: Path) -> None:
    copy = draw_masked_folder(tmp_path / "seen", KINDS, unmarked=2)
    by_mask, by_voc = read_folder(pictures), read_folder(masks_to_annotations(copy))
    for one, other in zip(
        read_all_boxes(by_mask.samples, by_mask), read_all_boxes(by_voc.samples, by_voc), strict=True
    ):
        assert one.labels == other.labels
        np.testing.assert_array_equal(one.corners, other.corners)


def test_without_good_parts_nothing_passes(tmp_path: Path) -> None:
    folder = masks_to_annotations(draw_masked_folder(tmp_path / "plates", {"scratch": 8, "spot": 8}))
    out = tmp_path / "plates-1.0.0"
    report = train_boxes(folder, out, TrainSettings(architecture="detect-lite0", epochs=1, side=64), say=lambda _: None)
    assert report.good_or_not is None
    assert "auroc" not in report.as_json()
    assert "so no part passes" in report.in_terminal()
    assert "missed" in (tmp_path / "plates-1.0.0-report.html").read_text()
    bundle = read_bundle(out, Trust(require_signature=False))
    assert {limit.doubt for limit in bundle.thresholds.values()} == {0}
    blank = cv2.imencode(".png", np.full((SIDE, SIDE, 3), 130, np.uint8))[1].tobytes()
    scores = Pipeline(bundle).score(blank, thresholds=bundle.thresholds, roi=None, reduction=1).scores
    nothing = replace(scores, by_label=dict.fromkeys(scores.by_label, 0.0))
    for each in (scores, nothing):
        assert decide(each, own_recipe(bundle.manifest)).code in (VerdictCode.UNCERTAIN, VerdictCode.FAIL)


def test_what_the_maps_are_taught_is_what_is_read_from_them() -> None:
    there = boxes((1, (10.0, 20.0, 41.0, 30.0)), (0, (70.0, 5.0, 96.0, 64.0)), (1, (50.5, 50.0, 53.5, 52.0)))
    targets = as_targets([NOTHING, there], labels=2, height=64, width=96)
    assert targets.heat.shape == (2, 2, 64 // STRIDE, 96 // STRIDE)
    assert not targets.heat[0].any()
    assert (targets.heat[1] == 1).sum((1, 2)).tolist() == [1, 2]
    sides, offsets = torch.zeros(2, 2, 16, 24), torch.zeros(2, 2, 16, 24)
    picture, row, column = targets.cells.unbind(1)
    sides[picture, :, row, column], offsets[picture, :, row, column] = targets.sides, targets.offsets
    maps = Maps(20 * targets.heat - 10, sides, offsets)
    assert float(box_loss(maps, targets)) < 0.05
    logits, labels, corners = decode(maps, 5)
    for label, box in zip(there.labels, there.corners, strict=True):
        nearest = (corners[1] - torch.from_numpy(box).float()).abs().sum(1).argmin()
        np.testing.assert_allclose(corners[1, nearest], box, atol=1e-3)
        assert (int(labels[1, nearest]), float(logits[1, nearest])) == (label, 10)
    assert (logits[1, 3:] < 0).all()


def test_a_wide_peak_is_one_box() -> None:
    heat = -((torch.arange(16.0)[:, None] - 7) ** 2 + (torch.arange(16.0)[None] - 9) ** 2)[None, None]
    logits, _, corners = decode(Maps(heat, torch.zeros(1, 2, 16, 16), torch.full((1, 2, 16, 16), 0.5)), 3)
    assert float(logits[0, 0]) == 0
    assert corners[0, 0].tolist() == [36, 28, 40, 32]
    assert float(logits[0, 1]) < -1000, "there is no second one"


def test_focal_loss_by_hand() -> None:
    heat = torch.tensor([[[[1.0, 0.5, 0.0]]]])
    logits = torch.zeros(1, 1, 1, 3)
    expected = np.log(2) * 0.25 * (1 + 0.5**4 + 1)
    assert float(focal_loss(logits, heat)) == pytest.approx(expected)
    assert float(focal_loss(logits[..., 2:], heat[..., 2:])) == pytest.approx(0.25 * np.log(2)), (
        "no middle: not divided"
    )


def test_a_picture_and_its_boxes_are_moved_alike() -> None:
    picture = np.zeros((1, 64, 96, 3), np.uint8)
    cv2.ellipse(picture[0], (60, 25), (20, 10), 0, 0, 360, (200, 200, 200), -1)
    whole = boxes((0, boxes_of((picture[0, ..., 0] > 0).astype(np.uint8))[0]))
    none = np.zeros(1, np.bool_)
    data = BoxedPictures(pictures=picture, boxes=(whole,), defective=~none, known=~none)
    pictures, moved = varied_boxes(data, np.zeros(30, np.int64), np.random.default_rng(3))
    for shown, own in zip(pictures, moved, strict=True):
        there = boxes_of((cv2.medianBlur(shown[..., 0], 5) > 80).astype(np.uint8))
        assert overlaps(own.corners, np.asarray(there)).max() > 0.85


def test_what_has_left_the_picture_has_no_box() -> None:
    picture = np.zeros((1, 64, 96, 3), np.uint8)
    yes = np.ones(1, np.bool_)
    data = BoxedPictures(pictures=picture, boxes=(boxes((0, (0.0, 0.0, 3.0, 3.0))),), defective=yes, known=yes)
    _, moved = varied_boxes(data, np.zeros(40, np.int64), np.random.default_rng(0))
    assert {len(own.labels) for own in moved} == {0, 1}


def test_unmarked_defects_are_left_out_of_learning(pictures: Path) -> None:
    folder = read_folder(pictures)
    there = dict(zip((sample.path for sample in folder.samples), read_all_boxes(folder.samples, folder), strict=True))
    assert boxed_labels(folder.samples, there, folder) == ("scratch", "spot")
    data = read_boxed(Stage(SPEC), folder.samples, there, ("spot",), "good")
    assert int((~data.known).sum()) == 2
    assert len(data.only_known()) == sum(KINDS.values()) - 2
    assert sum(len(own.labels) for own in data.boxes) == KINDS["spot"], "scratches have no number here"
    across, along = data.usual_sides()
    assert (across, along) == pytest.approx((19, 19 * 64 / SIDE), rel=0.05)


def test_the_graph_says_what_the_net_says() -> None:
    torch.manual_seed(0)
    net = LiteDetector(2).eval()
    net.begin_at((20.0, 12.0))
    staged = np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), np.uint8)
    calibration = Calibration(gain=0.5, shift=1.0, reject=0.5, doubt=0.4)
    session = open_model(export_boxes(net, calibration, SPEC, staged))
    scores, cells, told = session.run(["scores", "cells", "detections"], {"image": staged[:1]})
    none = np.zeros(3, np.bool_)
    found = find(net, BoxedPictures(pictures=staged, boxes=(NOTHING,) * 3, defective=none, known=~none), batch=2)
    np.testing.assert_allclose(scores[0], calibration.apply(found.highest[0]), atol=1e-4)
    np.testing.assert_allclose(told[0, :5, :4], found.boxes[0].corners[:5], atol=0.01)
    x0, y0, x1, y1 = (told[0, 0, :4] / CELL_PX).round().astype(int)
    inside = cells[0, int(told[0, 0, 5]), y0:y1, x0:x1]
    np.testing.assert_allclose(inside, told[0, 0, 4])


def test_boxes_that_score_alike_may_change_places_and_no_more() -> None:
    scores, cells = np.full((1, 2), 0.5, np.float32), np.zeros((1, 2, 32, 48), np.float32)
    told = np.asarray([[(0, 0, 9, 9, 0.5, 0), (20, 20, 40, 30, 0.5, 1), (1, 1, 2, 2, 0.0, 0)]], np.float32)
    same = (scores, cells, told)
    assert difference((scores, cells, told[:, [1, 0, 2]]), same) == 0
    for place, value in (((0, 0, 2), 19.0), ((0, 1, 4), 0.4), ((0, 1, 5), 0.0)):
        other = told.copy()
        other[place] = value
        assert difference((scores, cells, other), same) > 0.09
    edge, far = cells.copy(), cells.copy()
    edge[0, 0, 4:9, 4:9], far[0, 0, 4:9, 4:10] = 0.5, 0.5
    assert difference((scores, far, told), (scores, edge, told)) == 0, "a rounding at the edge of a box"
    assert difference((scores, far, told), same) == 0.5


def test_the_command_trains_and_tells(pictures: Path, tmp_path: Path) -> None:
    out, figures = tmp_path / "plates-1.0.0.lgb", tmp_path / "figures.json"
    done = CliRunner().invoke(
        app,
        ["model", "train", str(pictures), "--out", str(out), "--architecture", "detect-lite0", "--epochs", "1",
         "--side", "64", "--groups", r"(\d)\.png$", "--json", str(figures)],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "AP at overlap 0.5" in done.output
    assert f"wrote {out} and {tmp_path / 'plates-1.0.0-report.html'}" in done.output
    assert json.loads(figures.read_text())["architecture"] == "detect-lite0"
    assert read_bundle(out, Trust(require_signature=False)).manifest.task == "detection"


def test_compress_refuses_what_it_can_not_judge(
    trained: tuple[DetectionReport, list[str]], pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"plates@2\.1\.0: task = 'detection': compress judges scores"):
        compress(
            trained[0].out, pictures, tmp_path / "x-1.0.0", quantize=True, prune=None, distil=None, allowed_loss=1.0,
            seed=0, say=lambda _: None,
        )  # fmt: skip


def refused(folder: Path, out: Path, **wishes: Any) -> str:
    with pytest.raises(DataError) as told:
        train_boxes(
            folder, out, TrainSettings(architecture="detect-lite0", epochs=1, side=64, **wishes), say=lambda _: None
        )
    return str(told.value)


def test_a_folder_without_boxes_is_refused(tmp_path: Path) -> None:
    folder = draw_masked_folder(tmp_path / "plates", {"good": 8, "spot": 8}, unmarked=8)
    assert "no box among the" in refused(folder, tmp_path / "x-1.0.0")


def test_a_wrong_annotation_stops_it_before_any_work(tmp_path: Path) -> None:
    folder = masks_to_annotations(draw_masked_folder(tmp_path / "plates", {"good": 8, "spot": 8}))
    path = folder / "annotations" / "spot003.xml"
    path.write_text(voc([("spot", (9, 9, 99, 12))]))
    assert refused(folder, tmp_path / "x-1.0.0") == (
        f"{path}: object 1: xmin = 9, xmax = 99: outside its picture, allowed is 1 to 96"
    )


def test_what_only_classifiers_can_have_is_refused(pictures: Path, tmp_path: Path) -> None:
    expected = "--attention cbam: detect-lite0 doesn't take it, classifiers do"
    assert refused(pictures, tmp_path / "x-1.0.0", attention="cbam") == expected


def test_every_detector_can_be_built() -> None:
    for detector in DETECTORS.values():
        assert isinstance(detector.build(3), LiteDetector)
