"""Boxes without torch: read from annotations and masks, and what found ones are worth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.toolkit.figures.boxes import (
    FoundBoxes,
    TrueBoxes,
    area_under_envelope,
    best_cut,
    hits_of,
    mean_precision,
    overlaps,
)
from models.toolkit.pictures.boxes import boxes_of, read_all_boxes
from models.toolkit.pictures.folder import DataError, LabelledFolder, Sample, read_folder
from tests.models.pictures import SIDE, draw_folder, voc

pytestmark = pytest.mark.models
PLACE = Path("plate.png")


def true(*boxes: tuple[int, tuple[float, float, float, float]]) -> TrueBoxes:
    corners = np.asarray([box for _, box in boxes], np.float64).reshape(-1, 4)
    return TrueBoxes(corners=corners, labels=np.asarray([label for label, _ in boxes], np.int64))


def found(*boxes: tuple[int, float, tuple[float, float, float, float]]) -> FoundBoxes:
    there = true(*((label, box) for label, _, box in boxes))
    scores = np.asarray([score for _, score, _ in boxes], np.float64)
    return FoundBoxes(corners=there.corners, labels=there.labels, scores=scores)


def test_overlap_is_what_both_share_of_what_either_has() -> None:
    boxes = np.asarray([(0, 0, 10, 10)], np.float64)
    others = np.asarray([(0, 0, 10, 10), (5, 0, 15, 10), (10, 10, 20, 20), (0, 0, 10, 5)], np.float64)
    np.testing.assert_allclose(overlaps(boxes, others), [[1, 1 / 3, 0, 0.5]])


def test_average_precision_by_hand() -> None:
    """Ranked right, wrong, right, wrong, right of four: envelope 1, 2/3, 3/5, and nothing for the fourth."""
    right = np.asarray([True, False, True, False, True])
    assert area_under_envelope(right, 4) == pytest.approx((1 + 2 / 3 + 3 / 5) / 4)
    assert area_under_envelope(np.asarray([False, True, True]), 2) == pytest.approx(2 / 3), "the envelope lifts 1/2"
    assert area_under_envelope(np.zeros(0, np.bool_), 3) == 0


def test_boxes_of_two_pictures_are_ranked_together() -> None:
    there = [true((0, (0, 0, 10, 10)), (0, (20, 20, 30, 30))), true((0, (0, 0, 10, 10)), (1, (5, 5, 9, 9)))]
    told = [
        found((0, 0.9, (0, 0, 10, 10)), (0, 0.8, (1, 0, 11, 10)), (1, 0.7, (20, 20, 30, 30))),
        found((0, 0.5, (0, 0, 10, 6)), (0, 0.6, (0, 0, 10, 4))),
    ]
    spots = hits_of(told, there, 0)
    assert spots.scores.tolist() == [0.9, 0.8, 0.6, 0.5]
    assert spots.right.tolist() == [True, False, False, True], "a second box for one, and one with too little overlap"
    assert (spots.pictures.tolist(), spots.total) == ([0, 0, 1, 1], 3)
    assert spots.precision == pytest.approx((1 + 1 / 2) / 3)
    scratches = hits_of(told, there, 1)
    assert scratches.precision == 0, "the box of another label is wrong"
    assert mean_precision([spots.precision, scratches.precision, None]) == pytest.approx(0.25)
    assert hits_of(told, there, 2).precision is None
    assert mean_precision([None]) is None


def test_the_best_limit_lies_between_right_and_wrong_boxes() -> None:
    there = [true((0, (0, 0, 10, 10)))]
    told = [found((0, 2.0, (0, 0, 10, 10)), (0, -1.0, (20, 20, 30, 30)))]
    assert best_cut(hits_of(told, there, 0)) == pytest.approx(0.5)
    assert best_cut(hits_of(told, [true()], 0)) is None


def test_each_part_of_a_mask_has_a_box() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[2:5, 4:10] = mask[10, 20] = mask[11, 21] = 1
    assert boxes_of(mask) == [(4, 2, 10, 5), (20, 10, 22, 12)]


@pytest.fixture
def plates(tmp_path: Path) -> LabelledFolder:
    return read_folder(draw_folder(tmp_path / "plates", {"good": 5, "scratch": 5, "spot": 5}))


def annotated(folder: LabelledFolder, text: str | bytes, *, place: str = "annotations") -> Path:
    path = folder.path / place / "spot000.xml"
    path.parent.mkdir()
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def spot(folder: LabelledFolder) -> Sample:
    return next(sample for sample in folder.samples if sample.path.stem == "spot000")


@pytest.mark.parametrize("place", ["annotations", "spot/annotations"])
def test_corners_count_from_1_and_belong_to_the_box(plates: LabelledFolder, place: str) -> None:
    annotated(plates, voc([("spot", (1, 1, 10, 20)), ("scratch", (0, 5, SIDE, 5))]), place=place)
    boxes = read_all_boxes(plates.samples, plates)
    own = boxes[plates.samples.index(spot(plates))]
    assert own.labels == ("spot", "scratch")
    assert own.corners.tolist() == [[0, 0, 10, 20], [0, 4, SIDE, 5]]
    assert sum(map(len, boxes)) == 2


def test_good_pictures_have_no_boxes_whatever_lies_beside_them(plates: LabelledFolder) -> None:
    annotated(plates, "no XML at all").rename(plates.path / "annotations" / "good000.xml")
    assert not any(map(len, read_all_boxes(plates.samples, plates)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (voc([("spot", (5, 5, 97, 9))]), "object 1: xmin = 5, xmax = 97: outside its picture, allowed is 1 to 96"),
        (voc([("spot", (-1, 5, 8, 9))]), "object 1: xmin = -1, xmax = 8: outside its picture, allowed is 1 to 96"),
        (voc([("spot", (5, 5, 9, 9)), ("spot", (5, 9, 8, 5))]), "object 2: ymin = 9, ymax = 5: wanted is ymin up to"),
        (voc([("spot", ("nan", 5, 8, 9))]), "object 1: xmin = nan, xmax = 8: wanted is xmin up to xmax"),
        (voc([("spot", ("left", 5, 8, 9))]), "object 1: bndbox/xmin = 'left': wanted is a number of pixels"),
        (voc([("dent", (5, 5, 8, 9))]), "object 1: name = 'dent': allowed are the classes of defects scratch, spot"),
        (voc([("good", (5, 5, 8, 9))]), "object 1: name = 'good': allowed are the classes of defects scratch, spot"),
        (voc([], width=200), "size/width = 200: its picture spot000.png has 96 pixels"),
        ("<annotation><object></annotation>", "no XML that can be read: mismatched tag"),
        ("<boxes/>", "<boxes>: wanted is a Pascal VOC <annotation>"),
        (b'<?xml version="1.0" encoding="far"?><annotation/>', "no XML that can be read: unknown encoding"),
        ("<annotation/>" + " " * (1 << 20), "1048589 bytes: allowed are 1048576"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', "<!DOCTYPE a>: allowed is a file without a DOC"),
        ('<!DOCTYPE a SYSTEM "b"><annotation/>'.encode("utf-16"), "<!DOCTYPE a>: allowed is a file without a DOCTYPE"),
    ],
)  # fmt: skip
def test_a_wrong_annotation_is_told_in_one_sentence(plates: LabelledFolder, text: str | bytes, expected: str) -> None:
    path = annotated(plates, text)
    with pytest.raises(DataError) as told:
        read_all_boxes(plates.samples, plates)
    assert str(told.value).startswith(f"{path}: ")
    assert expected in str(told.value)
    assert "\n" not in str(told.value)


def test_one_annotation_for_two_pictures_is_refused(plates: LabelledFolder) -> None:
    (plates.path / "scratch" / "scratch000.png").rename(plates.path / "scratch" / "spot000.png")
    folder = read_folder(plates.path)
    annotated(folder, voc([]))
    with pytest.raises(
        DataError, match=r"of two pictures, scratch/spot000\.png and spot/spot000\.png: wanted is CLASS/"
    ):
        read_all_boxes(folder.samples, folder)
