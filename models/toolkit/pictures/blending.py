"""Defects cut out by their masks and blended into good pictures, where a class has too few pictures to learn from.

Poisson image editing (Perez, Gangnet, Blake 2003; OpenCV's `seamlessClone`): the defect's gradients are kept, and what lies
around it in the good picture tells its brightness, so that no edge shows where it was pasted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from models.toolkit.pictures.folder import DataError, LabelledFolder, Sample, read_mask, read_picture

Bytes = npt.NDArray[np.uint8]
BORDER_PX = 6
"""How far the blended area reaches beyond the mask: OpenCV takes 3 pixels off it, and the defect's own edge must stay."""
LEAST_SIDE_PX = 32
_FREE_PX = 2
_MIRROR_CHANCE = 0.5
_SCALE = (0.9, 1.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blended:
    """A good picture (H x W x 3 bytes) with a defect in it; `area` (H x W, 0 or 1) is all that was changed."""

    pixels: Bytes
    area: Bytes


def missing_pictures(folder: LabelledFolder, samples: Sequence[Sample], *, wanted: int) -> dict[str, int]:
    """Give how many of `samples` each rare class lacks to have `wanted`; raises DataError where none can be blended.

    Needed are a class of good parts, and in each rare class at least one picture with a mask.
    """
    counts = {label: sum(sample.label == label for sample in samples) for label in folder.defects}
    missing = {label: wanted - count for label, count in counts.items() if count < wanted}
    if missing and folder.good is None:
        raise DataError(
            f"--blend {wanted}: {folder.path} has no class of good parts to blend into; --good CLASS names it"
        )
    for label in missing:
        if not any(sample.label == label and sample.mask for sample in samples):
            raise DataError(
                f"--blend {wanted}: none of the {counts[label]} pictures of {label!r} to learn from has a mask; wanted are "
                f"masks in {folder.path / label / 'masks'}, named as the pictures"
            )
    return missing


def blend_missing(
    folder: LabelledFolder, samples: Sequence[Sample], missing: Mapping[str, int], *, seed: int
) -> Iterator[tuple[str, Blended]]:
    """Give for each class so many pictures, made of `samples` alone.

    Raises DataError for a mask that is empty or can't be read, and for a good picture that is too small.
    """
    random = np.random.default_rng(seed)
    good = [sample for sample in samples if sample.label == folder.good]
    for label, count in missing.items():
        masked = [sample for sample in samples if sample.label == label and sample.mask]
        for number in range(count):
            # each defect as often as any other, each time in another place
            source, target = masked[number % len(masked)], good[int(random.integers(len(good)))]
            mask = read_mask(source)
            if not mask.any():
                raise DataError(f"{source.mask}: an empty mask: wanted is white where the defect is")
            if min(target.width, target.height) < LEAST_SIDE_PX:
                raise DataError(
                    f"{target.path}: {target.width} x {target.height} pixels: a defect can be blended into "
                    f"{LEAST_SIDE_PX} x {LEAST_SIDE_PX} and more"
                )
            yield label, blend_defect(read_picture(target.path).pixels, read_picture(source.path).pixels, mask, random)


def blend_defect(good: Bytes, defective: Bytes, mask: Bytes, random: np.random.Generator) -> Blended:
    """Blend what `mask` (1 where the defect is) shows of `defective` into `good`, at a random place and orientation.

    Both are H x W x 3 bytes, `good` at least 32 x 32. A defect too large for the good picture is made smaller until it fits.
    """
    patch, area = _turned(defective, mask, random, room=(good.shape[0], good.shape[1]))
    height, width = area.shape
    top = int(random.integers(_FREE_PX, good.shape[0] - height - _FREE_PX + 1))
    left = int(random.integers(_FREE_PX, good.shape[1] - width - _FREE_PX + 1))
    changed = np.zeros(good.shape[:2], np.uint8)
    changed[top : top + height, left : left + width] = area
    whole = np.array(good)
    whole[top : top + height, left : left + width] = patch
    # as large as the good picture, with the mask in place: its centre is then where it is already
    x, y, box_width, box_height = cv2.boundingRect(changed)
    centre = (x + box_width // 2, y + box_height // 2)
    cloned = cv2.seamlessClone(whole, good, changed * np.uint8(255), centre, cv2.NORMAL_CLONE)
    # the solution strays by a grey level or two over the mask's box: what lies outside the mask stays as it was
    return Blended(pixels=np.where(changed[:, :, None] > 0, cloned, good), area=changed)


def _turned(picture: Bytes, mask: Bytes, random: np.random.Generator, *, room: tuple[int, int]) -> tuple[Bytes, Bytes]:
    """Cut out the defect with its border, turned by any angle, mirrored or not, and scaled; `room` is height and width."""
    if random.random() < _MIRROR_CHANCE:
        picture, mask = np.ascontiguousarray(picture[:, ::-1]), np.ascontiguousarray(mask[:, ::-1])
    x, y, width, height = cv2.boundingRect(mask)
    angle, scale = random.uniform(0, 360), random.uniform(*_SCALE)
    cosine, sine = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
    across, down = width * cosine + height * sine, height * cosine + width * sine
    taken = 2 * (BORDER_PX + _FREE_PX) + 1
    scale = min(scale, (room[1] - taken) / across, (room[0] - taken) / down)
    size = (math.ceil(across * scale) + 2 * BORDER_PX, math.ceil(down * scale) + 2 * BORDER_PX)
    middle = (x + (width - 1) / 2, y + (height - 1) / 2)
    turn = np.asarray(cv2.getRotationMatrix2D(middle, angle, scale), np.float64)
    turn[:, 2] += ((size[0] - 1) / 2 - middle[0], (size[1] - 1) / 2 - middle[1])
    # what lies beyond the picture's edge is its own, mirrored
    patch = cv2.warpAffine(picture, turn, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    # made smaller, a thin scratch must not fall between two pixels
    turned = cv2.warpAffine(cv2.dilate(mask, _disc(math.ceil(1 / scale) - 1)), turn, size, flags=cv2.INTER_NEAREST)
    turned[size[1] // 2, size[0] // 2] |= not turned.any()
    return np.asarray(patch, np.uint8), np.asarray(cv2.dilate(turned, _disc(BORDER_PX)), np.uint8)


def _disc(radius: int) -> npt.NDArray[np.uint8]:
    side = 2 * radius + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)
