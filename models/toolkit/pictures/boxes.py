"""Boxes around the defects of a picture: those of its Pascal VOC annotation, else those around the parts of its mask.

An annotation is `annotations/NAME.xml` in the folder of the class or beside the folders of the classes. Its corners are pixels
counted from 1, both within the box (Everingham, Winn, "The PASCAL Visual Object Classes Challenge 2012 Development Kit").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree

import cv2
import numpy as np
import numpy.typing as npt

from models.toolkit.pictures.folder import DataError, LabelledFolder, Sample, read_mask

_ANNOTATIONS = "annotations"
_MOST_BYTES = 1 << 20
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledBoxes:
    """Boxes of one picture: corners K x 4 (x0, y0, x1, y1 in its pixels, a box of one pixel is 1 wide) and their K labels."""

    corners: npt.NDArray[np.float64]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


class _NoDoctype(ElementTree.TreeBuilder):
    """Builds a tree of a file that declares nothing: what is declared, such as an entity in an entity, may be endless."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        raise DataError(f"{self._path}: <!DOCTYPE {name}>: allowed is a file without a DOCTYPE and entities")


def read_all_boxes(samples: Sequence[Sample], folder: LabelledFolder) -> list[LabelledBoxes]:
    """Give the boxes of each picture; none for good ones, whatever lies beside them; raises DataError."""
    owners: dict[Path, Sample] = {}
    for sample in samples:
        path = None if sample.label == folder.good else annotation_of(sample, folder)
        other = sample if path is None else owners.setdefault(path, sample)
        if other.path != sample.path:
            both = f"{other.label}/{other.path.name} and {sample.label}/{sample.path.name}"
            raise DataError(f"{path}: of two pictures, {both}: wanted is CLASS/annotations/ where names are alike")
    return [read_boxes(sample, folder) for sample in samples]


def read_boxes(sample: Sample, folder: LabelledFolder) -> LabelledBoxes:
    """Give the boxes of one picture: of its annotation where it has one, else of its mask; raises DataError."""
    if sample.label == folder.good:
        return _boxes([])
    path = annotation_of(sample, folder)
    if path is not None:
        return read_voc(path, sample, allowed=folder.defects)
    return _boxes([(sample.label, box) for box in boxes_of(read_mask(sample))])


def annotation_of(sample: Sample, folder: LabelledFolder) -> Path | None:
    """Find the annotation with a picture's stem, that of its class first."""
    own = sample.path.parent.parent if sample.path.parent.name == "images" else sample.path.parent
    places = dict.fromkeys((own, own.parent, folder.path))
    candidates = (place / _ANNOTATIONS / f"{sample.path.stem}.xml" for place in places)
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def boxes_of(mask: npt.NDArray[np.uint8]) -> list[tuple[float, float, float, float]]:
    """Give a box around each set of pixels over 0 that touch, also at corners."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    return [(x, y, x + width, y + height) for x, y, width, height, _area in stats[1:].astype(float).tolist()]


def read_voc(path: Path, sample: Sample, *, allowed: Sequence[str]) -> LabelledBoxes:
    """Read an annotation against its picture; raises DataError naming the file, the value and what is allowed."""
    root = _parsed(path)
    size = (sample.width, sample.height)
    for key, pixels in zip(("width", "height"), size, strict=True):
        told = root.findtext(f"size/{key}", "").strip()
        if told not in ("", "0", str(pixels)):
            raise DataError(f"{path}: size/{key} = {told}: its picture {sample.path.name} has {pixels} pixels")
    found = []
    for number, item in enumerate(root.findall("object"), start=1):
        where, name = f"{path}: object {number}", (item.findtext("name") or "").strip()
        if name not in allowed:
            raise DataError(f"{where}: name = {name!r}: allowed are the classes of defects {', '.join(allowed)}")
        found.append((name, _corners(item, size, where)))
    return _boxes(found)


def _parsed(path: Path) -> ElementTree.Element:
    try:
        _check_size(path)
        parser = ElementTree.XMLParser(target=_NoDoctype(path))
        parser.feed(path.read_bytes())
        root: ElementTree.Element = parser.close()
    except OSError as exc:
        raise DataError(f"{path}: can't be read: {exc.strerror or exc}") from exc
    except (ElementTree.ParseError, LookupError, ValueError) as exc:
        raise DataError(f"{path}: no XML that can be read: {exc}") from exc
    if root.tag != "annotation":
        raise DataError(f"{path}: <{root.tag}>: wanted is a Pascal VOC <annotation>")
    return root


def _check_size(path: Path) -> None:
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise DataError(f"{path}: {size} bytes: allowed are {_MOST_BYTES}")


def _corners(item: ElementTree.Element, size: tuple[int, int], where: str) -> tuple[float, float, float, float]:
    values = []
    for key in _CORNERS:
        told = item.findtext(f"bndbox/{key}", "").strip()
        try:
            values.append(float(told))
        except ValueError as exc:
            raise DataError(f"{where}: bndbox/{key} = {told!r}: wanted is a number of pixels") from exc
    x0, y0, x1, y1 = values
    for low, high, side, (first, second) in ((x0, x1, size[0], _CORNERS[::2]), (y0, y1, size[1], _CORNERS[1::2])):
        shown = f"{where}: {first} = {low:g}, {second} = {high:g}"
        if not low <= high:  # so written that NaN fails it
            raise DataError(f"{shown}: wanted is {first} up to {second}")
        if low < 0 or high > side:
            raise DataError(f"{shown}: outside its picture, allowed is 1 to {side}")
    # some programs count from 0: the first pixel is then the edge
    return max(0.0, x0 - 1), max(0.0, y0 - 1), max(1.0, x1), max(1.0, y1)


def _boxes(found: Sequence[tuple[str, tuple[float, float, float, float]]]) -> LabelledBoxes:
    corners = np.asarray([box for _, box in found], np.float64).reshape(-1, 4)
    return LabelledBoxes(corners=corners, labels=tuple(label for label, _ in found))
