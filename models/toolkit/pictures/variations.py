"""Pictures as the camera might have seen them, drawn from a seed: what a mounted camera and a guided part leave open.

Each function takes H x W x channels bytes and a generator, and gives bytes of the same shape: the same seed, the same picture.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Matrix = npt.NDArray[np.float64]
_FLIP_CHANCE = 0.5
_TILT_CHANCE = 0.5
_SHADE_CHANCE = 0.3
_BLUR_CHANCE = 0.2
_NOISE_CHANCE = 0.3
TURN_DEGREES = 10.0
"""A part lies as its guides let it."""
SCALE_LOG = 0.1
"""The camera is as far away as it was mounted: 0.9 to 1.1 times."""
SHIFT_SHARE = 0.05
TILT_SHARE = 0.04
"""How far each corner moves, of the side: a camera that is up to about 5 degrees out of the perpendicular."""
GAIN = (0.8, 1.25)
SHADE_SHARE = 0.2
BLUR_PX = (0.3, 1.0)
NOISE_LEVELS = (1.0, 6.0)


def vary(staged: Bytes, random: np.random.Generator) -> Bytes:
    """Give a picture mirrored, moved and tilted, lit otherwise, blurred and noisy, each by its chance."""
    return relight(pose(staged, random), random)


def pose(picture: Bytes, random: np.random.Generator) -> Bytes:
    """Give the picture mirrored, moved and tilted, each by its chance; a mask as a further channel is moved with it."""
    return posed(picture, random)[0]


def posed(picture: Bytes, random: np.random.Generator) -> tuple[Bytes, Matrix]:
    """Give the picture as `pose` does, with the 3 x 3 matrix that takes a place (x, y, 1) to where it lies now.

    Whole numbers are the middles of pixels; what comes out is to be divided by its third value.
    """
    height, width = picture.shape[:2]
    flips = _flips(random)
    motion = _motion(width, height, random, tilted=random.random() < _TILT_CHANCE)
    return _warped(_flipped(picture, flips), motion), motion @ _flip_matrix(width, height, flips)


def relight(staged: Bytes, random: np.random.Generator) -> Bytes:
    """Give the picture lit otherwise, blurred and noisy, each by its chance."""
    picture = brighten(staged, random)
    if random.random() < _SHADE_CHANCE:
        picture = shade(picture, random)
    if random.random() < _BLUR_CHANCE:
        picture = blur(picture, random)
    return add_noise(picture, random) if random.random() < _NOISE_CHANCE else picture


def mirror(picture: Bytes, random: np.random.Generator) -> Bytes:
    """Give the picture, its mirror image to the side, upside down, or both: each as likely."""
    return _flipped(picture, _flips(random))


def _flips(random: np.random.Generator) -> tuple[bool, bool]:
    """Draw whether to mirror to the side, and upside down."""
    return random.random() < _FLIP_CHANCE, random.random() < _FLIP_CHANCE


def _flipped(picture: Bytes, flips: tuple[bool, bool]) -> Bytes:
    aside = picture[:, ::-1] if flips[0] else picture
    return np.ascontiguousarray(aside[::-1] if flips[1] else aside)


def _flip_matrix(width: int, height: int, flips: tuple[bool, bool]) -> Matrix:
    matrix = np.eye(3)
    for axis, (flip, side) in enumerate(zip(flips, (width, height), strict=True)):
        if flip:
            matrix[axis, axis], matrix[axis, 2] = -1, side - 1
    return matrix


def move(picture: Bytes, random: np.random.Generator, *, tilted: bool = False) -> Bytes:
    """Give the picture turned, nearer or farther and shifted; `tilted` moves each corner by itself too (perspective).

    All in one warp, for each interpolation blurs; what comes in at the edge is the picture's own, mirrored.
    """
    height, width = picture.shape[:2]
    return _warped(picture, _motion(width, height, random, tilted=tilted))


def _motion(width: int, height: int, random: np.random.Generator, *, tilted: bool) -> Matrix:
    angle, scale = random.uniform(-TURN_DEGREES, TURN_DEGREES), math.exp(random.uniform(-SCALE_LOG, SCALE_LOG))
    turn = np.eye(3)
    turn[:2] = cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale)
    turn[:2, 2] += random.uniform(-SHIFT_SHARE, SHIFT_SHARE, 2) * (width, height)
    return _tilt(width, height, random) @ turn if tilted else turn


def _warped(picture: Bytes, motion: Matrix) -> Bytes:
    height, width = picture.shape[:2]
    warped = cv2.warpPerspective(
        picture, motion, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(warped, np.uint8).reshape(picture.shape)


def _tilt(width: int, height: int, random: np.random.Generator) -> Matrix:
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    moved = corners + random.uniform(-TILT_SHARE, TILT_SHARE, (4, 2)).astype(np.float32) * (width, height)
    return np.asarray(cv2.getPerspectiveTransform(corners, moved.astype(np.float32)), np.float64)


def brighten(picture: Bytes, random: np.random.Generator) -> Bytes:
    """Give the picture with 0.8 to 1.25 times the light, clipped where the sensor would be."""
    return np.asarray(cv2.convertScaleAbs(picture, alpha=random.uniform(*GAIN)), np.uint8).reshape(picture.shape)


def shade(picture: Bytes, random: np.random.Generator) -> Bytes:
    """Give the picture lit from one side: up to a fifth more light at one edge and as much less at the other."""
    height, width = picture.shape[:2]
    angle = random.uniform(0, 2 * math.pi)
    across, down = np.linspace(-1, 1, width)[None, :], np.linspace(-1, 1, height)[:, None]
    slope = across * math.cos(angle) + down * math.sin(angle)
    gain = 1 + random.uniform(0, SHADE_SHARE) * slope / max(np.abs(slope).max(), 1e-6)
    return np.asarray(np.clip(np.rint(picture * gain[:, :, None]), 0, 255), np.uint8)


def blur(picture: Bytes, random: np.random.Generator) -> Bytes:
    """Give the picture a little out of focus."""
    return np.asarray(cv2.GaussianBlur(picture, (3, 3), random.uniform(*BLUR_PX)), np.uint8).reshape(picture.shape)


def add_noise(picture: Bytes, random: np.random.Generator) -> Bytes:
    """Give the picture with a sensor's noise, 1 to 6 grey levels of standard deviation."""
    noise = random.normal(0, random.uniform(*NOISE_LEVELS), picture.shape)
    return np.asarray(np.clip(np.rint(picture + noise), 0, 255), np.uint8)
