"""Pictures as the camera might have seen them: each change keeps the shape, stays in its range, and comes from the seed."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from models.toolkit.pictures import variations
from models.toolkit.pictures.variations import Bytes

SHAPE = (48, 64, 3)
Change = Callable[[Bytes, np.random.Generator], Bytes]


def tilt(picture: Bytes, random: np.random.Generator) -> Bytes:
    return variations.move(picture, random, tilted=True)


CHANGES: tuple[Change, ...] = (
    variations.vary, variations.mirror, variations.move, tilt, variations.brighten, variations.shade, variations.blur,
    variations.add_noise,
)  # fmt: skip


@pytest.fixture
def picture() -> Bytes:
    """Give a smooth picture, bright to the right, with a dark square and a bright one off its centre."""
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[:] = np.linspace(80, 160, SHAPE[1], dtype=np.uint8)[None, :, None]
    drawn[10:18, 12:20], drawn[30:38, 40:48] = 20, 230
    return drawn


@pytest.mark.parametrize("change", CHANGES)
def test_each_keeps_shape_and_type_and_the_picture_itself(change: Change, picture: Bytes) -> None:
    before = picture.copy()
    for seed in range(20):
        made = change(picture, np.random.default_rng(seed))
        assert (made.shape, made.dtype, made.flags.c_contiguous) == (SHAPE, np.uint8, True)
    assert np.array_equal(picture, before)


@pytest.mark.parametrize("change", CHANGES)
def test_each_is_the_same_for_the_same_seed_and_another_for_others(change: Change, picture: Bytes) -> None:
    def drawn(seed: int) -> bytes:
        return change(picture, np.random.default_rng(seed)).tobytes()

    assert drawn(3) == drawn(3)
    assert len({drawn(seed) for seed in range(20)}) > 3


@pytest.mark.parametrize("change", CHANGES)
def test_each_takes_one_channel_too(change: Change, picture: Bytes) -> None:
    assert change(picture[:, :, :1].copy(), np.random.default_rng(0)).shape == (*SHAPE[:2], 1)


def test_mirroring_gives_the_four_mirror_images_alone(picture: Bytes) -> None:
    images = {picture[::down, ::across].tobytes() for down in (1, -1) for across in (1, -1)}
    assert {variations.mirror(picture, np.random.default_rng(seed)).tobytes() for seed in range(40)} == images


@pytest.mark.parametrize("change", [variations.move, tilt])
def test_moving_leaves_every_point_near_its_place(change: Change) -> None:
    """Turned by 10 degrees, scaled by a tenth, shifted by a twentieth and tilted, a square 20 from the centre moves so far."""
    places = []
    for seed in range(60):
        drawn = np.zeros((101, 101, 1), np.uint8)
        drawn[48:53, 68:73] = 255
        moments = cv2.moments(change(drawn, np.random.default_rng(seed)))
        places.append((moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]))
    across, down = np.array(places).T
    assert np.abs(across - 70).max() < 13
    assert np.abs(down - 50).max() < 14
    assert across.std() > 1
    assert down.std() > 1


def test_a_tilt_makes_parallel_edges_meet() -> None:
    """The edges of a bar stay parallel in an affine warp, and don't in a tilted one."""

    def widths(change: Change) -> float:
        worst = 0.0
        for seed in range(20):
            drawn = np.zeros((101, 101, 1), np.uint8)
            drawn[:, 40:61] = 255
            made = change(drawn, np.random.default_rng(seed))[:, :, 0].astype(float).sum(axis=1) / 255
            worst = max(worst, abs(float(made[15:20].mean() - made[-20:-15].mean())))
        return worst

    assert widths(variations.move) < 0.5
    assert widths(tilt) > 0.8


def test_brightness_stays_between_its_gains() -> None:
    grey = np.full(SHAPE, 100, np.uint8)
    means = [variations.brighten(grey, np.random.default_rng(seed)).mean() for seed in range(50)]
    assert 80 <= min(means) < 90
    assert 115 < max(means) <= 125
    white = np.full(SHAPE, 250, np.uint8)
    assert max(variations.brighten(white, np.random.default_rng(seed)).max() for seed in range(50)) == 255


def test_shade_darkens_one_side_as_much_as_it_brightens_the_other() -> None:
    grey = np.full((65, 65, 3), 100, np.uint8)
    for seed in range(20):
        made = variations.shade(grey, np.random.default_rng(seed)).astype(int)
        assert 79 <= made.min() <= made.max() <= 121
        assert abs(made.mean() - 100) < 1
        assert np.abs(made + made[::-1, ::-1] - 200).max() <= 1


def test_blur_takes_from_the_edges_and_leaves_the_mean(picture: Bytes) -> None:
    def sharpness(pixels: Bytes) -> float:
        return float(cv2.Laplacian(pixels[:, :, 0], cv2.CV_64F).var())

    for seed in range(10):
        made = variations.blur(picture, np.random.default_rng(seed))
        assert sharpness(made) < sharpness(picture)
        assert abs(float(made.mean()) - float(picture.mean())) < 1


def test_noise_is_of_its_strength_and_shifts_nothing() -> None:
    grey = np.full((100, 100, 3), 128, np.uint8)
    for seed in range(10):
        made = variations.add_noise(grey, np.random.default_rng(seed)).astype(float)
        assert 0.9 < made.std() < 6.3
        assert abs(made.mean() - 128) < 0.3
