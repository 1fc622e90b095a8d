"""The cell model without torch: what teaches, what is kept back, and one graph that says the same in all its forms."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from bridge.inference.manifest import InputSpec
from models.toolkit.graphs.backbone import load_backbone
from models.toolkit.graphs.session import open_model
from models.toolkit.pictures.folder import DataError, LabelledFolder, read_folder
from models.toolkit.pictures.prepared import Preparer
from models.toolkit.teaching.cell_graph import (
    FAR,
    MAP_TAPS,
    NEAR,
    SIZES,
    WHOLE,
    CellHead,
    context_model,
    judge_model,
    whole_model,
)
from models.toolkit.teaching.cell_maps import (
    LARGEST_AREA_PX,
    SMALLEST_AREA_PX,
    background_cells,
    cell_input,
    defect_cells,
    map_backbone,
    read_maps,
)
from models.toolkit.teaching.cells import DEFECT, CellFit, CellSettings, cell_model, fit_cells

pytestmark = [pytest.mark.models, pytest.mark.timeout(120)]

SPEC = InputSpec(name="image", width=96, height=64)
QUICK = CellSettings(hidden=8, networks=2, epochs=6, scouting_epochs=2, rounds=2)


def test_one_small_pit_still_has_a_cell_and_its_neighbours_teach_nothing() -> None:
    share = np.zeros((6, 8), np.float32)
    share[2, 3], share[2, 4] = 0.01, 0.02
    assert np.argwhere(defect_cells(share)).tolist() == [[2, 4]]
    background = background_cells(share)
    assert not background[1:4, 2:6].any()
    assert background.sum() == 6 * 8 - 3 * 4


def test_a_picture_without_a_defect_is_all_background() -> None:
    share = np.zeros((4, 4), np.float32)
    assert not defect_cells(share).any()
    assert background_cells(share).all()


def test_the_context_is_what_it_says() -> None:
    draw = np.random.default_rng(0)
    early, deep = draw.random((1, 40, 8, 12), np.float32), draw.random((1, 112, 4, 6), np.float32)
    near, far, whole = open_model(context_model(SPEC)).run([NEAR, FAR, WHOLE], {"early": early, "deep": deep})
    assert near.shape[1] == SIZES[NEAR]
    np.testing.assert_allclose(near[0, 40:80, 3, 3], early[0, :, 2:5, 2:5].mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(near[0, 40:80, 0, 0], early[0, :, :2, :2].mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(near[0, 80:, 7, 11], early[0, :, 6:, 10:].max((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(far[0, 224:, 0, 0], deep[0, :, :3, :3].mean((1, 2)), rtol=1e-5)
    wanted = [part for tap in (early[0], deep[0]) for part in (tap.mean((1, 2)), tap.std((1, 2)))]
    np.testing.assert_allclose(whole[0, :, 0, 0], np.concatenate(wanted), rtol=1e-4)


def test_the_head_weighs_each_part_at_its_place() -> None:
    head = random_head()
    draw = np.random.default_rng(1)
    taps = {"early": draw.random((1, 40, 8, 12), np.float32), "deep": draw.random((1, 112, 4, 6), np.float32)}
    near, far, whole = open_model(context_model(SPEC)).run([NEAR, FAR, WHOLE], taps)
    logits = open_model(judge_model(SPEC, head)).run(None, taps)[0]
    row, column = 5, 8
    hidden = head.near @ near[0, :, row, column] + head.far @ far[0, :, row // 2, column // 2]
    hidden = np.maximum(hidden + head.whole @ whole[0, :, 0, 0] + head.bias, 0)
    assert logits[0, 0, row, column] == pytest.approx(float(head.out @ hidden + head.out_bias), abs=1e-3)


def test_the_score_is_the_highest_cell_from_0_to_1() -> None:
    backbone = load_backbone(MAP_TAPS, width=SPEC.width, height=SPEC.height)
    model = whole_model(backbone, SPEC, random_head(), gain=0.5, shift=-0.25)
    picture = np.random.default_rng(2).integers(0, 256, (1, 64, 96, 3), np.uint8)
    scores, cells = open_model(model).run(["scores", "cells"], {"image": picture})
    assert scores.shape == (1, 1)
    assert cells.shape == (1, 1, 8, 12)
    assert scores[0, 0] == cells.max()
    assert 0 <= cells.min() <= cells.max() <= 1


@pytest.fixture(scope="module")
def plates(tmp_path_factory: pytest.TempPathFactory) -> LabelledFolder:
    return read_folder(make_plates(tmp_path_factory.mktemp("plates")))


@pytest.fixture(scope="module")
def fitted(plates: LabelledFolder) -> CellFit:
    return fit_cells(plates, seed=0, settings=QUICK, spec=InputSpec(name="image", width=128, height=128))


@pytest.mark.timeout(120)
def test_it_finds_spots_on_plates_it_has_not_seen(plates: LabelledFolder, fitted: CellFit) -> None:
    assert fitted.label == DEFECT  # dark and bright spots are two classes
    assert fitted.defective.tolist() == [sample.label != "good" for sample in plates.samples]
    bad, good = fitted.scores[fitted.defective], fitted.scores[~fitted.defective]
    assert np.median(bad) > np.median(good)
    assert (bad[:, None] > good[None]).mean() > 0.9
    assert fitted.calibration.reject == 0.5
    assert fitted.calibration.doubt <= 0.5
    assert (good >= 0.5).sum() == 0  # 1 % of 12 good pictures is none


@pytest.mark.timeout(120)
def test_the_whole_graph_marks_the_spot(plates: LabelledFolder, fitted: CellFit) -> None:
    session, preparer = open_model(cell_model(fitted)), Preparer(fitted.spec)
    hits = 0
    spots = [sample for sample in plates.samples if sample.mask is not None]
    for sample in spots:
        cells = session.run(["cells"], {"image": preparer.tensor(sample)})[0][0, 0]
        share = preparer.cells(sample, stride=8)
        row, column = np.unravel_index(int(cells.argmax()), cells.shape)
        hits += bool(share[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].any())
    assert hits > 0.9 * len(spots)


@pytest.mark.timeout(120)
def test_the_head_learned_from_the_integers_that_ship(plates: LabelledFolder, fitted: CellFit) -> None:
    model = cell_model(fitted)
    kinds = [node.op_type for node in model.graph.node]
    assert "QuantizeLinear" in kinds
    constants = {weight.name: weight.data_type for weight in model.graph.initializer}
    assert constants["head_near_weight"] == constants["head_out"] == 1  # float32
    maps = read_maps(fitted.backbone, plates.samples[:3], fitted.spec, good="good", seed=0, progress=lambda *_: None)
    judge = open_model(judge_model(fitted.spec, fitted.head))
    logits = np.asarray([judge.run(None, each.taps(0))[0].max() for each in maps])
    session, preparer = open_model(model), Preparer(fitted.spec)
    scores = [session.run(["scores"], {"image": preparer.tensor(each)})[0][0, 0] for each in plates.samples[:3]]
    np.testing.assert_allclose(scores, fitted.calibration.apply(logits), atol=1e-2)


@pytest.mark.timeout(120)
def test_the_same_seed_gives_the_same_model(plates: LabelledFolder, fitted: CellFit) -> None:
    again = fit_cells(plates, seed=0, settings=QUICK, spec=fitted.spec)
    np.testing.assert_allclose(again.scores, fitted.scores, atol=1e-6)
    np.testing.assert_allclose(again.head.near, fitted.head.near, atol=1e-6)


def test_maps_follow_the_mirrored_masks(plates: LabelledFolder) -> None:
    sample = next(sample for sample in plates.samples if sample.mask is not None)
    backbone = map_backbone([sample], SPEC, int8=False, seed=0)
    maps = read_maps(backbone, [sample], SPEC, good="good", seed=0, progress=lambda _done, _of: None)[0]
    assert maps.early.shape == (4, 40, 8, 12)
    assert maps.deep.shape == (4, 112, 4, 6)
    np.testing.assert_array_equal(maps.share[1], maps.share[0][:, ::-1])
    np.testing.assert_array_equal(maps.share[2], maps.share[0][::-1])


def test_small_defects_get_a_larger_input(plates: LabelledFolder, tmp_path: Path) -> None:
    large = cell_input(plates)
    assert large.width * large.height == pytest.approx(SMALLEST_AREA_PX, rel=0.1)
    tiny = cell_input(read_folder(make_plates(tmp_path, radius=1, side=640)))
    assert tiny.width * tiny.height == pytest.approx(LARGEST_AREA_PX, rel=0.1)


def test_groups_that_cannot_be_split_are_told(plates: LabelledFolder) -> None:
    folder = read_folder(plates.path, groups="plate")
    with pytest.raises(DataError, match="of one group"):
        fit_cells(folder, seed=0, settings=QUICK, spec=SPEC)


def test_masks_that_show_nothing_are_told(tmp_path: Path) -> None:
    folder = read_folder(make_plates(tmp_path, masks=False))
    with pytest.raises(DataError, match="no mask with a defect"):
        fit_cells(folder, seed=0, settings=QUICK, spec=SPEC)


def random_head() -> CellHead:
    draw, hidden = np.random.default_rng(9), 6
    near, far, whole = (draw.normal(0, 0.05, (hidden, SIZES[name])) for name in (NEAR, FAR, WHOLE))
    return CellHead(
        near=near, far=far, whole=whole, bias=draw.normal(size=hidden), out=draw.normal(size=hidden), out_bias=0.1
    )


def make_plates(folder: Path, *, radius: int = 7, side: int = 128, masks: bool = True) -> Path:
    """Draw noisy grey plates: 12 good ones, 8 with a dark spot, 8 with a bright one."""
    draw = np.random.default_rng(5)
    for label, count, colour in (("good", 12, None), ("dark", 8, 30), ("bright", 8, 230)):
        for name in ("images", "masks"):
            (folder / label / name).mkdir(parents=True)
        for number in range(count):
            plate = draw.normal(128, 8, (side, side, 3)).clip(0, 255).astype(np.uint8)
            mask = np.zeros((side, side), np.uint8)
            if colour is not None:
                x, y = (int(value) for value in draw.integers(2 * radius, side - 2 * radius, 2))
                cv2.circle(plate, (x, y), radius, (colour,) * 3, -1)
                cv2.circle(mask, (x, y), radius, 255, -1)
                cv2.imwrite(str(folder / label / "masks" / f"plate{number}.png"), mask if masks else mask * 0)
            cv2.imwrite(str(folder / label / "images" / f"plate{number}.png"), plate)
    return folder
