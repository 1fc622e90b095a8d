"""Pictures become tensors as the manifest says, and boxes find their way back."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from bridge.errors import CameraError
from bridge.inference.manifest import InputSpec
from bridge.inference.picture import Picture, decode
from bridge.inference.preprocess import Preprocessor
from tests.inference.build import encoded, picture


def _spec(**changes: Any) -> InputSpec:
    return InputSpec(**({"name": "image", "width": 64, "height": 48} | changes))


def _shown(colour: Any = "RGB", **options: Any) -> Picture:
    return decode(encoded(picture(seed=3, **options), ".png"), colour=colour)


@pytest.mark.parametrize("interpolation", ["linear", "area"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_tensor_is_the_naive_one(layout: str, dtype: str, interpolation: str) -> None:
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    norm = {"mean": mean, "std": std} if dtype == "float32" else {}
    maker = Preprocessor(_spec(layout=layout, dtype=dtype, interpolation=interpolation, **norm))
    shown = _shown()
    maker.fill(shown)
    method = {"linear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA}[interpolation]
    naive: Any = cv2.resize(shown.pixels, (64, 48), interpolation=method)
    if dtype == "float32":
        naive = ((naive.astype(np.float64) - mean) / std).astype(np.float32)
    if layout == "NCHW":
        naive = naive.transpose(2, 0, 1)
    assert maker.tensor.dtype == np.dtype(dtype)
    assert maker.tensor.flags["C_CONTIGUOUS"]
    assert np.array_equal(maker.tensor[0], naive)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_grey_pictures_have_one_channel(layout: str, dtype: str) -> None:
    maker = Preprocessor(_spec(channels=1, colour="GREY", layout=layout, dtype=dtype))
    shown = _shown("GREY")
    maker.fill(shown)
    naive = cv2.resize(shown.pixels, (64, 48))
    assert np.array_equal(maker.tensor.reshape(48, 64), naive.astype(dtype))


def test_letterbox_keeps_the_aspect_and_pads() -> None:
    maker = Preprocessor(_spec(resize="letterbox", width=100, height=100))
    placement = maker.fill(_shown(width=200, height=100))
    assert (placement.left, placement.top, placement.width, placement.height) == (0, 25, 100, 50)
    assert (maker.tensor[0, :25] == 114).all()
    assert (maker.tensor[0, 75:] == 114).all()
    narrow = maker.fill(_shown(width=100, height=200))
    assert (narrow.left, narrow.top, narrow.width, narrow.height) == (25, 0, 50, 100)
    assert (maker.tensor[0, :, :25] == 114).all()
    assert (maker.tensor[0, :, 75:] == 114).all()
    assert not (maker.tensor[0, :25, 25:75] == 114).all()


def test_a_box_comes_back_in_pixels_of_the_picture() -> None:
    placement = Preprocessor(_spec(resize="letterbox", width=100, height=100)).fill(_shown(width=200, height=100))
    assert placement.box(10, 35, 20, 45) == (20, 20, 20, 20)
    assert placement.box(-5, 0, 200, 100) == (0, 0, 200, 100)
    assert placement.box(0, 0, 100, 20) is None


@pytest.mark.parametrize("reduction", [1, 2, 4])
def test_the_region_of_interest_counts_in_pixels_of_the_original(reduction: int) -> None:
    pixels = picture(value=0)
    pixels[100:180, 200:280] = 255
    shown = decode(encoded(pixels), colour="RGB", reduction=reduction)
    maker = Preprocessor(_spec())
    placement = maker.fill(shown, (200, 100, 80, 80))
    assert maker.tensor.min() > 240
    assert placement.box(0, 0, 64, 48) == (200, 100, 80, 80)
    assert placement.box(32, 24, 64, 48) == (240, 140, 40, 40)


def test_odd_sizes_survive_a_reduced_decode() -> None:
    shown = decode(encoded(picture(width=321, height=235, seed=4)), colour="RGB", reduction=8)
    maker = Preprocessor(_spec())
    for roi in ((0, 0, 321, 235), (320, 234, 1, 1), (0, 0, 1, 1), (315, 0, 6, 235)):
        assert maker.fill(shown, roi).box(0, 0, 64, 48) == roi


@pytest.mark.parametrize("roi", [(-1, 0, 5, 5), (0, 0, 321, 10), (0, 0, 0, 5), (300, 0, 21, 5), (0, 239, 5, 2)])
def test_a_region_that_leaves_the_picture_is_refused(roi: tuple[int, int, int, int]) -> None:
    with pytest.raises(CameraError, match="does not lie in the picture of 320 x 240"):
        Preprocessor(_spec()).fill(_shown(), roi)


def test_the_next_picture_leaves_nothing_of_the_last() -> None:
    maker = Preprocessor(_spec(dtype="float32", layout="NCHW"))
    first, second = _shown(), _shown(width=100, height=90)
    maker.fill(second)
    alone = maker.tensor.copy()
    maker.fill(first)
    maker.fill(second)
    assert np.array_equal(maker.tensor, alone)
