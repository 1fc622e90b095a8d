"""Write a bundle's files beside its model: golden frames, card, manifest with the hash of each."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.toolkit.bundles.files import GOLDEN_TOLERANCE


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenFrame:
    """A picture file and the score that the model must give for it."""

    picture: Path
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What `bundle.toml` says of a cell model. `training` and `measured` hold lines of TOML."""

    name: str
    version: str
    label: str
    width: int
    height: int
    reject: float
    doubt: float
    licence: str
    training: Sequence[str]
    measured: Sequence[str]


def write_golden(folder: Path, label: str, frames: Sequence[GoldenFrame]) -> None:
    """Copy the golden pictures below `folder/golden` and note their scores."""
    golden = folder / "golden"
    golden.mkdir(parents=True, exist_ok=True)
    lines = [f"tolerance = {GOLDEN_TOLERANCE}"]
    for number, frame in enumerate(frames, start=1):
        name = f"{number}.jpg"
        shutil.copyfile(frame.picture, golden / name)
        lines += ["", "[[frame]]", f'file = "{name}"', f"scores = {{{label} = {frame.score:.4f}}}"]
    (golden / "golden.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_manifest(folder: Path, manifest: Manifest) -> str:
    """Write `bundle.toml` over all files now in `folder`; gives its SHA-256."""
    text = _MANIFEST.format(
        **{
            name: getattr(manifest, name) for name in ("name", "version", "label", "width", "height", "reject", "doubt")
        },
        licence=manifest.licence,
        training="\n".join(manifest.training),
        measured="\n".join(manifest.measured),
        files="\n".join(f'"{name}" = "{digest}"' for name, digest in _hashes(folder).items()),
    )
    (folder / "bundle.toml").write_text(text, encoding="utf-8")
    return hashlib.sha256(text.encode()).hexdigest()


def _hashes(folder: Path) -> Mapping[str, str]:
    files = sorted(
        path for path in folder.rglob("*") if path.is_file() and path.name not in ("bundle.toml", "bundle.sig")
    )
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


_MANIFEST = """\
schema = 1
name = "{name}"
version = "{version}"
task = "segmentation"
head = "cells"
labels = ["{label}"]
good_labels = []
licence = "{licence}"

[input]
name = "image"
width = {width}
height = {height}
channels = 3
colour = "RGB"
layout = "NHWC"
dtype = "uint8"
resize = "stretch"
interpolation = "linear"

[output]
scores = "scores"
cells = "cells"

[thresholds.{label}]
reject = {reject}
doubt = {doubt}
region = {reject}

[training]
{training}

[measured]
{measured}

[files]
{files}
"""
