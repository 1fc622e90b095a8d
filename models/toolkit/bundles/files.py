"""Write a bundle whole or not at all: files, manifest with the hash of each, signature; then read it as the bridge will."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2

from bridge.errors import BundleError
from bridge.inference.archive import ZIP_SUFFIX
from bridge.inference.bundle import Bundle, read_bundle
from bridge.inference.keys import own_key
from bridge.inference.manifest import GOLDEN, MANIFEST, MODEL, SEMANTIC_VERSION, SIGNATURE, InputSpec
from bridge.inference.pipeline import Pipeline
from bridge.inference.trust import Trust, sign_manifest
from models.toolkit.pictures.folder import Sample, read_picture

LICENCE = "Apache-2.0 (ImageNet weights of EfficientNet-Lite0); the pictures are their owner's"
"""Of a bundle with the shipped backbone inside."""
GOLDEN_TOLERANCE = 0.05  # INT8 kernels of another processor may round otherwise
CARD_END = """\

It knows the light, the camera and the parts of these pictures and no others. Judge it on pictures of another day with
`linegate model evaluate` before it drives a gate.
"""
"""The last words of the card of each model that learned from pictures: it knows no more than it was shown."""
_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """All that a bundle says of itself but its hashes; `thresholds` by label: reject, doubt, accept, region."""

    task: str
    head: str
    labels: Sequence[str]
    good_labels: Sequence[str] = ()
    input: InputSpec
    thresholds: Mapping[str, Mapping[str, float]]
    cells: bool = False
    licence: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenPicture:
    """A picture that comes with the bundle, and the scores that the model gives for it."""

    sample: Sample
    scores: Mapping[str, float]


def check_target(out: Path) -> tuple[str, str]:
    """Give the name and the version that `out` (`NAME`, `NAME-VERSION`, with or without `.lgb`) stands for.

    Raises BundleError for a name that can't be one, where something lies already, and where nothing can be written.
    """
    stem = out.name.removesuffix(ZIP_SUFFIX)
    name, version = stem, "1.0.0"
    for place, sign in enumerate(stem):
        if sign == "-" and SEMANTIC_VERSION.match(stem[place + 1 :]):
            name, version = stem[:place], stem[place + 1 :]
            break
    if not _NAME.match(name):
        raise BundleError(f"--out {out}: {stem!r}: allowed is NAME or NAME-1.2.0, the name of letters, digits, _ and -")
    if out.exists():
        raise BundleError(f"--out {out}: something lies there already; nothing is overwritten")
    nearest = next(folder for folder in out.absolute().parents if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):  # tried, for rights alone don't tell of a full or read-only disk
            pass
    except OSError as exc:
        raise BundleError(f"--out {out}: nothing can be written in {nearest}: {exc.strerror or exc}") from exc
    return name, version


def write_bundle(
    out: Path,
    draft: Draft,
    *,
    model: bytes,
    golden: Sequence[GoldenPicture],
    card: str,
    extra: Mapping[str, bytes] | None = None,
) -> Bundle:
    """Write, sign and read back a bundle: a folder, or one file where `out` ends with `.lgb`; raises BundleError.

    It is made beside its place and moved there when all of it is on the disk and its golden frames score as they should.
    """
    name, version = check_target(out)
    partial = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _sweep(out)
        shutil.rmtree(partial, ignore_errors=True)
        (partial / "golden").mkdir(parents=True)
        (partial / MODEL).write_bytes(model)
        (partial / "card.md").write_text(card, encoding="utf-8")
        for inner, data in (extra or {}).items():
            (partial / inner).write_bytes(data)
        _write_golden(partial, golden)
        manifest = _manifest(draft, name=name, version=version, files=_hashes(partial)).encode()
        (partial / MANIFEST).write_bytes(manifest)
        (partial / SIGNATURE).write_bytes(sign_manifest(manifest, own_key()))
        bundle = read_bundle(partial, Trust(require_signature=False))
        Pipeline(bundle).check_golden(bundle)
        _move(partial, out)
    except OSError as exc:
        raise BundleError(f"--out {out}: can't be written: {exc.strerror or exc}; nothing was left there") from exc
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return bundle


def write_whole(path: Path, data: bytes) -> None:
    """Write one file whole or not at all, a device or a pipe as it comes; raises OSError."""
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _sweep(out: Path) -> None:
    """Remove what runs that were killed left beside the place: of those whose process lives no more."""
    for left in out.parent.glob(f".{glob.escape(out.name)}.*"):
        found = re.fullmatch(r"([0-9]+)\.(part|zip)", left.name.removeprefix(f".{out.name}."))
        if found is None or _lives(int(found[1])):
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError as exc:
        return not isinstance(exc, ProcessLookupError)
    return True


def _write_golden(folder: Path, golden: Sequence[GoldenPicture]) -> None:
    lines = [f"tolerance = {GOLDEN_TOLERANCE}"]
    for number, frame in enumerate(golden, start=1):
        path = frame.sample.path
        suffix = path.suffix.lower()
        data = path.read_bytes()
        if suffix == ".bmp":  # the bridge takes BMP from its own cameras alone
            suffix, pixels = ".png", read_picture(path).pixels
            data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()
        (folder / "golden" / f"{number}{suffix}").write_bytes(data)
        scores = ", ".join(f"{_toml(label)} = {score:.5f}" for label, score in frame.scores.items())
        lines += ["", "[[frame]]", f'file = "{number}{suffix}"', f"scores = {{{scores}}}"]
    (folder / GOLDEN).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _manifest(draft: Draft, *, name: str, version: str, files: Mapping[str, str]) -> str:
    spec = draft.input.model_dump(exclude_defaults=True, mode="json")
    tables: dict[str, Mapping[str, Any]] = {
        "input": spec,
        "output": {"scores": "scores", **({"cells": "cells"} if draft.cells else {})},
        **{f"thresholds.{_toml(label)}": limits for label, limits in draft.thresholds.items()},
        "training": draft.training,
        "measured": draft.measured,
        "files": files,
    }
    head = {
        "schema": 1, "name": name, "version": version, "task": draft.task, "head": draft.head,
        "labels": list(draft.labels), "good_labels": list(draft.good_labels), "licence": draft.licence,
    }  # fmt: skip
    lines = [f"{key} = {_toml(value)}" for key, value in head.items()]
    for table, values in tables.items():
        lines += ["", f"[{table}]", *(f"{_key(key)} = {_toml(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml(key)


def _toml(value: Any) -> str:
    """Write one value as TOML; a table becomes an inline one."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(str(key))} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(inner) for inner in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def _move(partial: Path, out: Path) -> None:
    if not out.name.endswith(ZIP_SUFFIX):
        partial.replace(out)
        return
    packed = partial.with_suffix(".zip")
    try:
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(partial.rglob("*")):
                if path.is_file():
                    archive.write(path, path.relative_to(partial).as_posix())
        packed.replace(out)
    finally:
        packed.unlink(missing_ok=True)
