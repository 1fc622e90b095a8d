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
