"""Defects blended into good pictures: only where the mask is, only of what may be learnt from, only as many as are missing."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from models.toolkit.pictures.blending import BORDER_PX, blend_defect, blend_missing, missing_pictures
from models.toolkit.pictures.folder import DataError, LabelledFolder, read_folder, read_mask, read_picture
from tests.models.pictures import draw_folder, draw_masks

pytestmark = pytest.mark.models
COUNTS = {"good": 12, "scratch": 6, "spot": 8}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_masks(draw_folder(tmp_path_factory.mktemp("plates") / "seen", COUNTS))


@pytest.fixture(scope="module")
def folder(drawn: Path) -> LabelledFolder:
    return read_folder(drawn)


def test_the_pixels_differ_inside_the_mask_and_nowhere_else(folder: LabelledFolder) -> None:
    good = read_picture(next(each for each in folder.samples if each.label == "good").path).pixels
    random = np.random.default_rng(0)
    places = set()
    for sample in folder.samples:
        if sample.label == "good":
            continue
        mask, pixels = read_mask(sample), read_picture(sample.path).pixels
        made = blend_defect(good, pixels, mask, random)
        assert (made.pixels.shape, made.pixels.dtype) == (good.shape, np.uint8)
        assert np.array_equal(made.pixels[made.area == 0], good[made.area == 0])
        # the defect itself, without the border of plain surface around it
        side = 2 * BORDER_PX + 1
        inner = cv2.erode(made.area, np.ones((side, side), np.uint8)) if sample.label == "spot" else made.area
        change = np.abs(made.pixels.astype(int) - good).max(axis=2)
        assert change[inner > 0].mean() > (60 if sample.label == "spot" else 10)
        assert 0.5 < made.area.sum() / cv2.dilate(mask, np.ones((side, side), np.uint8)).sum() < 1.5
        places.add(cv2.boundingRect(made.area))
    assert len(places) > 10


def test_a_dark_spot_stays_as_dark_beside_its_surroundings_in_another_light(folder: LabelledFolder) -> None:
    spot = next(each for each in folder.samples if each.label == "spot")
    bright = np.full((96, 96, 3), 210, np.uint8)
    made = blend_defect(bright, read_picture(spot.path).pixels, read_mask(spot), np.random.default_rng(1))
    assert 85 < made.pixels.min() < 140, "100 grey levels under its surroundings, as it was"


def test_a_defect_larger_than_the_good_picture_is_made_smaller() -> None:
    mask = np.zeros((200, 300), np.uint8)
    mask[20:180, 20:280] = 1
    defective = np.full((200, 300, 3), 120, np.uint8)
    defective[mask > 0] = 40
    for seed in range(10):
        made = blend_defect(np.full((64, 64, 3), 120, np.uint8), defective, mask, np.random.default_rng(seed))
        assert made.pixels.shape == (64, 64, 3)
        assert 500 < made.area.sum() < 60 * 60
        assert made.pixels.min() < 80


@pytest.mark.parametrize(("side", "width"), [(32, 1), (96, 1), (33, 30)])
def test_masks_at_the_edge_and_tiny_pictures_are_no_trouble(side: int, width: int) -> None:
    defective = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    mask = np.zeros((side, side), np.uint8)
    mask[:width, :width] = 1
    for seed in range(30):
        made = blend_defect(defective[::-1].copy(), defective, mask, np.random.default_rng(seed))
        assert made.pixels.shape == defective.shape


def test_each_rare_class_gets_what_it_lacks_and_the_same_from_the_same_seed(folder: LabelledFolder) -> None:
    missing = missing_pictures(folder, folder.samples, wanted=8)
    assert missing == {"scratch": 2}
    missing = missing_pictures(folder, folder.samples, wanted=11)
    made = list(blend_missing(folder, folder.samples, missing, seed=4))
    assert Counter(label for label, _ in made) == {"scratch": 5, "spot": 3}
    again = list(blend_missing(folder, folder.samples, missing, seed=4))
    assert all(np.array_equal(a.pixels, b.pixels) for (_, a), (_, b) in zip(made, again, strict=True))
    other = list(blend_missing(folder, folder.samples, missing, seed=5))
    assert not all(np.array_equal(a.pixels, b.pixels) for (_, a), (_, b) in zip(made, other, strict=True))


def test_only_what_may_be_learnt_from_is_blended(folder: LabelledFolder) -> None:
    """One good picture and one spot are left: every pixel outside the area is that picture's."""
    kept = [next(each for each in folder.samples if each.label == label) for label in COUNTS]
    good = read_picture(kept[0].path).pixels
    for _, made in blend_missing(folder, kept, missing_pictures(folder, kept, wanted=4), seed=0):
        assert np.array_equal(made.pixels[made.area == 0], good[made.area == 0])


def test_without_masks_or_good_parts_it_says_what_is_wanted(drawn: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(drawn, bare)
    shutil.rmtree(bare / "scratch" / "masks")
    folder = read_folder(bare)
    with pytest.raises(
        DataError, match=r"--blend 20: none of the 6 pictures of 'scratch' .* has a mask.*scratch.masks"
    ):
        missing_pictures(folder, folder.samples, wanted=20)
    assert missing_pictures(folder, folder.samples, wanted=6) == {}
    shutil.rmtree(bare / "good")
    folder = read_folder(bare)
    with pytest.raises(DataError, match=r"--blend 20: .*bare has no class of good parts"):
        missing_pictures(folder, folder.samples, wanted=20)


def test_an_empty_mask_is_named(drawn: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(drawn, bare)
    for mask in (bare / "spot" / "masks").iterdir():
        cv2.imwrite(str(mask), np.zeros((96, 96), np.uint8))
    folder = read_folder(bare)
    with pytest.raises(DataError, match=r"spot000.png: an empty mask"):
        list(blend_missing(folder, folder.samples, {"spot": 1}, seed=0))
