"""Small pictures to teach with, drawn from a seed: grey plates, some with a dark spot or a bright scratch."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

SIDE = 96


def plate(order: np.random.Generator, kind: str) -> np.ndarray:
    """Draw one plate: `good`, with a dark `spot`, or with a bright `scratch`; uint8 96 x 96 x 3."""
    pixels = order.normal(130 + order.integers(-10, 10), 8, (SIDE, SIDE)).clip(0, 255).astype(np.uint8)
    x, y = (int(v) for v in order.integers(25, SIDE - 25, 2))
    if kind == "spot":
        cv2.circle(pixels, (x, y), 9, 30, -1)
    if kind == "scratch":
        cv2.line(pixels, (x - 22, y - 5), (x + 22, y + 5), 250, 3)
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)


def draw_folder(folder: Path, counts: dict[str, int], *, seed: int = 0, suffix: str = ".png") -> Path:
    """Write so many plates of each kind, a sub-folder each."""
    order = np.random.default_rng(seed)
    for kind, count in counts.items():
        (folder / kind).mkdir(parents=True)
        for number in range(count):
            cv2.imwrite(str(folder / kind / f"{kind}{number:03}{suffix}"), plate(order, kind))
    return folder


def draw_masks(folder: Path) -> Path:
    """Write a mask beside each plate that has a defect: all that is far from the plate's grey."""
    for picture in sorted(folder.glob("*/*.png")):
        if picture.parent.name != "good":
            grey = cv2.medianBlur(cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE), 3)
            place = picture.parent / "masks" / picture.name
            place.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(place), np.asarray(np.abs(grey.astype(int) - 130) > 50, np.uint8) * 255)
    return folder
