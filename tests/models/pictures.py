"""Small pictures to teach with, drawn from a seed: grey plates, some with a dark spot or a bright scratch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

SIDE = 96


def plate(order: np.random.Generator, kind: str) -> np.ndarray:
    """Draw one plate: `good`, with a dark `spot`, or with a bright `scratch`; uint8 96 x 96 x 3."""
    return masked_plate(order, kind)[0]


def masked_plate(order: np.random.Generator, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Draw one plate, also with a `pit` of one pixel, and the mask of its defect, uint8 96 x 96 of 0 and 255."""
    pixels = order.normal(130 + order.integers(-10, 10), 8, (SIDE, SIDE)).clip(0, 255).astype(np.uint8)
    x, y = (int(v) for v in order.integers(25, SIDE - 25, 2))
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for drawn, dark, bright in ((pixels, 30, 250), (mask, 255, 255)):
        if kind == "spot":
            cv2.circle(drawn, (x, y), 9, dark, -1)
        if kind == "scratch":
            cv2.line(drawn, (x - 22, y - 5), (x + 22, y + 5), bright, 3)
        if kind == "pit":
            drawn[y, x] = dark
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR), mask


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


def draw_masked_folder(folder: Path, counts: dict[str, int], *, seed: int = 0, unmarked: int = 0) -> Path:
    """Write so many plates of each kind into its `images/`, and masks of defects into its `masks/`.

    The first `unmarked` plates of the first kind of defect get no mask.
    """
    order = np.random.default_rng(seed)
    first = next(kind for kind in counts if kind != "good")
    for kind, count in counts.items():
        for inner in ("images", "masks"):
            (folder / kind / inner).mkdir(parents=True)
        for number in range(count):
            pixels, mask = masked_plate(order, kind)
            cv2.imwrite(str(folder / kind / "images" / f"{kind}{number:03}.png"), pixels)
            if kind != "good" and (kind != first or number >= unmarked):
                cv2.imwrite(str(folder / kind / "masks" / f"{kind}{number:03}.png"), mask)
    return folder


def voc(objects: Sequence[tuple[str, tuple[object, object, object, object]]], *, width: int = SIDE) -> str:
    """Write a Pascal VOC annotation of objects: name, and xmin, ymin, xmax, ymax."""
    corners = ("xmin", "ymin", "xmax", "ymax")
    inner = "".join(
        f"<object><name>{name}</name><bndbox>"
        + "".join(f"<{key}>{value}</{key}>" for key, value in zip(corners, box, strict=True))
        + "</bndbox></object>"
        for name, box in objects
    )
    size = f"<size><width>{width}</width><height>{SIDE}</height><depth>3</depth></size>"
    return f"<annotation>{size}{inner}</annotation>"


def masks_to_annotations(folder: Path) -> Path:
    """Put `annotations/` beside the classes in place of their masks."""
    (folder / "annotations").mkdir()
    for mask in sorted(folder.glob("*/masks/*.png")):
        x, y, width, height = cv2.boundingRect(cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE))
        text = voc([(mask.parent.parent.name, (x + 1, y + 1, x + width, y + height))])
        (folder / "annotations" / f"{mask.stem}.xml").write_text(text)
        mask.unlink()
    return folder
