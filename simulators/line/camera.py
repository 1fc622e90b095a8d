"""The camera: replays a folder of labelled pictures, one for each part, in an order that a seed fixes."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

SUFFIXES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}
GOOD_LABELS = frozenset({"good"})


class PictureFolderError(Exception):
    """A folder that can't be replayed; the text names it and says what is expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One labelled picture. `name` is its path below the folder, with forward slashes."""

    path: Path
    name: str
    label: str

    @property
    def media_type(self) -> str:
        """`image/jpeg` or `image/png`, by the suffix."""
        return SUFFIXES[self.path.suffix.lower()]


class ReplayCamera:
    """Give the n-th part its picture, beginning again at the end of the list."""

    def __init__(self, pictures: Iterable[Picture], *, good_labels: Iterable[str] = GOOD_LABELS) -> None:
        self.pictures = tuple(pictures)
        self.good_labels = frozenset(good_labels)

    def picture_for(self, number: int) -> Picture:
        """Give the picture of part `number`, counted from 0."""
        return self.pictures[number % len(self.pictures)]

    def is_good(self, picture: Picture) -> bool:
        """Tell whether a picture's label stands for a good part."""
        return picture.label in self.good_labels

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Every label there is, in alphabetical order."""
        return tuple(sorted({picture.label for picture in self.pictures}))


def find_pictures(folder: Path, *, seed: int | None = None) -> tuple[Picture, ...]:
    """List the JPEG and PNG pictures in the sub-folders of `folder`, the sub-folder's name being the label.

    Pictures may lie in the sub-folder itself or in an `images` folder inside it. Sorted by name, or shuffled when
    there is a `seed`. Raises PictureFolderError.
    """
    if not folder.is_dir():
        raise PictureFolderError(f"image folder {folder} does not exist")
    pictures: list[Picture] = []
    for label_folder in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
        if label_folder.name.startswith((".", "_")):
            continue
        inner = label_folder / "images"
        for path in sorted((inner if inner.is_dir() else label_folder).iterdir()):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                name = path.relative_to(folder).as_posix()
                pictures.append(Picture(path=path, name=name, label=label_folder.name))
    if not pictures:
        raise PictureFolderError(
            f"image folder {folder} has no pictures: expected a sub-folder for each label (`good` and others) "
            "with .jpg or .png files in it"
        )
    if seed is not None:
        random.Random(seed).shuffle(pictures)
    return tuple(pictures)
