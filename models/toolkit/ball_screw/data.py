"""Read pictures with masks from a class-per-folder layout and split them by the place they show.

Layout: `FOLDER/no_pitting/images/*.jpg`, `FOLDER/pitting/images/*.jpg`, `FOLDER/pitting/masks/*.png`.
File names are `RUN_TIME_POSITION_ANGLE_crop_N.jpg`; position and angle name a place on the spindle, which the
same camera visits again and again while the wear grows. A random split would put near-identical shots of one
pit on both sides, so pictures of one place always stay together.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

GOOD_FOLDER = "no_pitting"
PITTING_FOLDER = "pitting"

# Kept out of training and validation: chosen for their number of pictures before any model saw them.
HELD_OUT_PLACES = ("430000_180", "635000_270")

# Validation folds. 395000_270 and 397500_315 are 2.5 mm and 45 degrees apart and show one stretch of thread: one fold.
FOLDS: tuple[tuple[str, ...], ...] = (
    ("395000_270", "397500_315"),
    ("305000_090", "585000_090"),
    ("462500_045", "477500_315"),
    ("490000_180", "517500_315"),
    ("597500_315",),
)

_PLACE = re.compile(r"^\d+_\d+_(\d+)_(\d+)_crop_\d+\.jpg$")

Image = npt.NDArray[np.uint8]
Cells = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One labelled photograph; `place` is empty where the file name tells none."""

    path: Path
    mask: Path | None
    place: str

    @property
    def pitting(self) -> bool:
        """Tell whether the picture shows pitting: exactly those have a mask."""
        return self.mask is not None


def place_of(file_name: str) -> str:
    """Return `POSITION_ANGLE` of a file name, or an empty string where it has none."""
    found = _PLACE.match(file_name)
    return f"{found[1]}_{found[2]}" if found else ""


def read_pictures(folder: Path) -> list[Picture]:
    """List all pictures of both classes in the order of their names; a pitting picture without a mask is an error."""
    pictures = [
        Picture(path=path, mask=None, place=place_of(path.name))
        for path in sorted((folder / GOOD_FOLDER / "images").glob("*.jpg"))
    ]
    for path in sorted((folder / PITTING_FOLDER / "images").glob("*.jpg")):
        mask = folder / PITTING_FOLDER / "masks" / f"{path.stem}.png"
        if not mask.is_file():
            raise FileNotFoundError(f"no mask for {path.name}: expected {mask}")
        pictures.append(Picture(path=path, mask=mask, place=place_of(path.name)))
    if not pictures:
        raise FileNotFoundError(f"no pictures in {folder}")
    return pictures


def in_places(pictures: Iterable[Picture], places: Sequence[str]) -> list[Picture]:
    """Keep the pictures that show one of the given places."""
    return [picture for picture in pictures if picture.place in places]


def load_rgb(path: Path, *, width: int, height: int) -> Image:
    """Decode and stretch a picture exactly as the bridge does; uint8, height x width x 3, RGB."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    bgr = cv2.imdecode(np.fromfile(path, dtype=np.uint8), flags)
    if bgr is None:
        raise ValueError(f"not a picture: {path}")
    small = cv2.resize(bgr, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def load_mask_cells(path: Path | None, *, grid_width: int, grid_height: int) -> Cells:
    """Return the masked share 0..1 of each cell; float32, grid_height x grid_width, all zero without a mask."""
    if path is None:
        return np.zeros((grid_height, grid_width), dtype=np.float32)
    mask = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise ValueError(f"not a mask: {path}")
    binary = (mask > 127).astype(np.float32)
    # INTER_AREA is the exact mean over a cell: a pit of 19 pixels must not fall between two samples.
    return np.asarray(cv2.resize(binary, (grid_width, grid_height), interpolation=cv2.INTER_AREA), dtype=np.float32)


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def hash_pictures(pictures: Iterable[Picture]) -> str:
    """Return one SHA-256 over the sorted hashes of all pictures and masks, one a line: it names the training set."""
    paths = [path for picture in pictures for path in (picture.path, picture.mask) if path is not None]
    lines = sorted(hash_file(path) for path in paths)
    return hashlib.sha256("\n".join(lines).encode("ascii")).hexdigest()
