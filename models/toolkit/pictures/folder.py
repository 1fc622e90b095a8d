"""A folder of labelled pictures: a sub-folder for each class, its pictures in it or in its `images/`, masks in its `masks/`.

Everything that would make a model of it worthless is found here, before any work: a picture that can't be read, one that
lies in two classes, a mask of another size, too few pictures, one class only.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from bridge.errors import BridgeError, CameraError
from bridge.inference.picture import Colour, Picture, decode, read_header

PICTURES = (".jpg", ".jpeg", ".png", ".bmp")
GOOD_NAMES = ("good", "ok", "pass", "free", "normal")
LABEL = re.compile(r"^[A-Za-z0-9][A-Za-z0-9 _.-]{0,63}$")
LEAST_FOR_CLASS = 5
_SHOWN = 3
_MASK_FROM = 128


class DataError(BridgeError):
    """Pictures that no model can be made or judged with: names the file or the folder and what is wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One labelled picture; `mask` shows where its defect is, `group` which others are nearly the same shot."""

    path: Path
    label: str
    mask: Path | None
    sha256: str
    width: int
    height: int
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledFolder:
    """All pictures of a folder in the order of their names; `good` is the label of good parts, None where none is."""

    path: Path
    labels: tuple[str, ...]
    good: str | None
    samples: tuple[Sample, ...]

    @property
    def defects(self) -> tuple[str, ...]:
        """Every label but the good one."""
        return tuple(label for label in self.labels if label != self.good)

    @property
    def counts(self) -> dict[str, int]:
        """Pictures of each label."""
        return {label: sum(sample.label == label for sample in self.samples) for label in self.labels}

    @property
    def has_masks(self) -> bool:
        """Whether most pictures with a defect say where it is."""
        defective = [sample for sample in self.samples if sample.label != self.good]
        return bool(defective) and sum(sample.mask is not None for sample in defective) > len(defective) / 2

    @property
    def sha256(self) -> str:
        """One hash over the hashes of all pictures and their labels: it names the set."""
        lines = sorted(f"{sample.sha256} {sample.label}" for sample in self.samples)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_folder(
    folder: Path,
    *,
    good: str | None = None,
    usual_good: str | None = None,
    defects: Sequence[str] = (),
    groups: str | None = None,
    least: int = LEAST_FOR_CLASS,
    classes: int = 2,
) -> LabelledFolder:
    """Read and check a folder of at least `classes` classes with `least` pictures each; raises DataError.

    `good` names the class of good parts; without it `usual_good` is taken, else the one with a usual name, else the only
    one beside known `defects`. `groups` is a
    regular expression searched in each file's name: pictures with the same captured text are of one place or one run and
    stay together.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; wanted is one with a sub-folder of pictures for each class")
    inner = folder / "images"
    classes_in = inner if inner.is_dir() and any(entry.is_dir() for entry in inner.iterdir()) else folder
    found = {entry.name: _pictures(entry) for entry in sorted(classes_in.iterdir()) if entry.is_dir()}
    labels = tuple(label for label, paths in found.items() if paths)
    _check_classes(folder, labels, found, least=least, classes=classes)
    chosen = _good_label(folder, labels, usual_good if good is None and usual_good in labels else good, defects)
    pattern = _pattern(groups)
    samples = [_sample(path, label, folder, pattern) for label in labels for path in found[label]]
    _check_contradictions(samples)
    return LabelledFolder(path=folder, labels=labels, good=chosen, samples=tuple(samples))


def read_pictures(
    folder: Path, *, label: str = "good", least: int = LEAST_FOR_CLASS, groups: str | None = None
) -> LabelledFolder:
    """Read a folder with at least so many pictures of good parts only, in it or in its `images/`; raises DataError.

    `groups` is as for `read_folder`; here it must tell at least two groups apart, or nothing could be held back.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; wanted is one with pictures of good parts")
    paths = _pictures(folder)
    inner = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and _pictures(entry))
    if not paths and inner:
        like = next((name for name in inner if _sounds_good(name)), inner[0])
        raise DataError(
            f"{folder}: no pictures in it, but in its sub-folders {', '.join(inner[:_SHOWN])}: "
            f"name the one of good parts, such as {folder / like}"
        )
    if len(paths) < least:
        raise DataError(
            f"{folder}: {len(paths)} pictures (JPEG, PNG or BMP) in it or its images/: wanted are at least {least}"
        )
    pattern = _pattern(groups)
    samples = tuple(_sample(path, label, folder, pattern) for path in paths)
    if groups is not None:
        _check_groups(groups, samples)
    return LabelledFolder(path=folder, labels=(label,), good=label, samples=samples)


def _check_groups(groups: str, samples: Sequence[Sample]) -> None:
    names = {sample.group for sample in samples}
    if names == {""}:
        raise DataError(f"--groups {groups}: found in no file's name; the first is {samples[0].path.name}")
    if len(names) == 1:
        raise DataError(
            f"--groups {groups}: all {len(samples)} pictures are of one group, {names.pop()!r}: wanted are at least 2"
        )


def read_picture(path: Path, *, colour: Colour = "RGB") -> Picture:
    """Decode a picture as the bridge does; raises DataError naming the file."""
    try:
        return decode(path.read_bytes(), colour=colour, ours=True)
    except (CameraError, OSError) as exc:
        raise DataError(f"{path}: {exc}") from exc


def read_mask(sample: Sample) -> npt.NDArray[np.uint8]:
    """Give a sample's mask, 1 where the defect is, uint8 of the picture's size; zeros without a mask; raises DataError."""
    if sample.mask is None:
        return np.zeros((sample.height, sample.width), np.uint8)
    mask = cv2.imdecode(np.fromfile(sample.mask, np.uint8), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise DataError(f"{sample.mask}: no picture that can be read")
    if mask.shape != (sample.height, sample.width):
        has, wanted = f"{mask.shape[1]} x {mask.shape[0]}", f"{sample.width} x {sample.height}"
        raise DataError(f"{sample.mask}: a mask of {has} pixels, its picture {sample.path.name} has {wanted}")
    return np.asarray(mask >= _MASK_FROM, np.uint8)


def _pictures(folder: Path) -> list[Path]:
    places = [folder / "images"] if (folder / "images").is_dir() else [folder]
    return sorted(
        path
        for place in places
        for path in place.iterdir()
        if path.suffix.lower() in PICTURES and path.is_file() and not path.name.startswith(".")
    )


def _check_classes(
    folder: Path, labels: Sequence[str], found: dict[str, list[Path]], *, least: int, classes: int
) -> None:
    if not labels:
        raise DataError(
            f"{folder}: no pictures (JPEG, PNG or BMP) in any sub-folder: wanted is a sub-folder for each class"
        )
    if len(labels) < classes:
        raise DataError(
            f"{folder}: one class only, {labels[0]!r}: wanted are {classes} sub-folders with pictures; "
            "for good parts alone there is `linegate model anomaly`"
        )
    for label in labels:
        if not LABEL.match(label):
            raise DataError(
                f"{folder / label}: {label!r} can't name a class: allowed are letters, digits, _ . - and spaces"
            )
        if len(found[label]) < least:
            raise DataError(
                f"{folder / label}: {len(found[label])} pictures: wanted are at least {least} of each class"
            )


def _good_label(folder: Path, labels: Sequence[str], good: str | None, defects: Sequence[str]) -> str | None:
    if good is not None:
        if good not in labels:
            raise DataError(f"--good {good}: no such class in {folder}; there are {', '.join(labels)}")
        return good
    usual = [label for label in labels if _sounds_good(label)]
    if len(usual) == 1:
        return usual[0]
    others = [label for label in labels if label not in defects]
    return others[0] if len(others) == 1 and len(labels) > 1 else None


def _sounds_good(label: str) -> bool:
    """Whether a name is one that good parts usually have: `good`, `MT_Free`, `no_pitting`."""
    words = re.split(r"[_\-. ]+", label.lower())
    return words[0] in ("no", "not", "without") or any(word in GOOD_NAMES for word in words)


def _pattern(groups: str | None) -> re.Pattern[str] | None:
    if groups is None:
        return None
    try:
        pattern = re.compile(groups)
    except re.error as exc:
        raise DataError(f"--groups {groups}: no regular expression: {exc}") from exc
    return pattern


def _sample(path: Path, label: str, folder: Path, pattern: re.Pattern[str] | None) -> Sample:
    try:
        data = path.read_bytes()
        header = read_header(data, ours=True)
    except (CameraError, OSError) as exc:
        raise DataError(f"{path}: {exc}") from exc
    group = ""
    if pattern is not None and (match := pattern.search(path.name)):
        group = "/".join(match.groups() or (match.group(),))
    return Sample(
        path=path, label=label, mask=_mask_of(path), sha256=hashlib.sha256(data).hexdigest(), width=header.width,
        height=header.height, group=group,
    )  # fmt: skip


def _mask_of(path: Path) -> Path | None:
    """Find the mask beside a picture: the same name in `masks/` of its class."""
    base = path.parent.parent if path.parent.name == "images" else path.parent
    candidates = [base / "masks" / f"{path.stem}{suffix}" for suffix in (".png", ".bmp", ".jpg")]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _check_contradictions(samples: Sequence[Sample]) -> None:
    first: dict[str, Sample] = {}
    twice = []
    for sample in samples:
        other = first.setdefault(sample.sha256, sample)
        if other.label != sample.label:
            twice.append((other, sample))
    if twice:
        shown = "; ".join(f"{a.label}/{a.path.name} = {b.label}/{b.path.name}" for a, b in twice[:_SHOWN])
        more = f" and {len(twice) - _SHOWN} more" if len(twice) > _SHOWN else ""
        raise DataError(f"{len(twice)} pictures lie in two classes: {shown}{more}; a picture has one label")
