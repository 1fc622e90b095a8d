"""A model bundle: found, read whole, and believed only when every hash and its signature hold."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bridge.domain.recipe import Threshold
from bridge.errors import BundleError
from bridge.inference.archive import ZIP_SUFFIX, read_files
from bridge.inference.manifest import (
    GOLDEN,
    MANIFEST,
    MODEL,
    SEMANTIC_VERSION,
    SIGNATURE,
    Golden,
    Manifest,
    read_golden,
    read_manifest,
)
from bridge.inference.trust import Trust, shipped_folder

_NOT_WEIGHTS = ("golden/", "card.md")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A verified bundle, wholly in memory. `sha256` is that of its manifest, `vouched_by` who is trusted for it."""

    path: Path
    manifest: Manifest
    golden: Golden
    files: Mapping[str, bytes]
    sha256: str
    vouched_by: str

    @property
    def reference(self) -> str:
        """`name@version`."""
        return self.manifest.reference

    @property
    def labels(self) -> tuple[str, ...]:
        """The model's labels, in the order of its outputs."""
        return self.manifest.labels

    @property
    def good_labels(self) -> tuple[str, ...]:
        """The labels of good parts; empty where every label is a defect."""
        return self.manifest.good_labels

    @property
    def thresholds(self) -> Mapping[str, Threshold]:
        """Suggested limits for every label."""
        return self.manifest.full_thresholds

    @property
    def model(self) -> bytes:
        """The ONNX model."""
        return self.files[MODEL]

    @property
    def external_data(self) -> Mapping[str, bytes]:
        """Listed files that the model may name as external data."""
        return {name: data for name, data in self.files.items() if name != MODEL and not name.startswith(_NOT_WEIGHTS)}


def read_bundle(path: Path, trust: Trust) -> Bundle:
    """Read and verify the bundle at `path`, a folder or a zip file; raises BundleError with the reason.

    Refused are: a mistake in the manifest, a file that is missing, changed or not listed, and what nobody trusted signed.
    """
    files = read_files(path)
    where = str(path)
    raw = files.pop(MANIFEST)
    signature = files.pop(SIGNATURE, None)
    manifest = read_manifest(raw, where=where)
    vouched_by = trust.check(raw, signature, name=f"{manifest.name}-{manifest.version}", where=where)
    for name, expected in manifest.files.items():
        if name not in files:
            raise BundleError(f"{where}: {name} is missing, though {MANIFEST} lists it")
        if hashlib.sha256(files[name]).hexdigest() != expected:
            raise BundleError(f"{where}: {name} has been changed: its SHA-256 is not the one in {MANIFEST}")
    if strangers := sorted(set(files) - set(manifest.files)):
        raise BundleError(f"{where}: {strangers[0]} is not listed in {MANIFEST}: remove it")
    return Bundle(
        path=path,
        manifest=manifest,
        golden=read_golden(files[GOLDEN], where=where, manifest=manifest),
        files=files,
        sha256=hashlib.sha256(raw).hexdigest(),
        vouched_by=vouched_by,
    )


def open_bundle(reference: str, *, base: Path, folder: Path | None, trust: Trust) -> Bundle:
    """Find and verify a bundle; raises BundleError, also when what lies under a name is another bundle."""
    path = find_bundle(reference, base=base, folder=folder)
    bundle = read_bundle(path, trust)
    if not _is_path(reference) and bundle.reference not in (_at(reference), f"{reference}@{bundle.manifest.version}"):
        raise BundleError(f"{path}: holds {bundle.reference}, not {reference}")
    return bundle


def find_bundle(reference: str, *, base: Path, folder: Path | None) -> Path:
    """Find a bundle: by path (from `base`), then in `folder`, then among the shipped ones; raises BundleError.

    A reference is a path (it has a slash or ends with `.lgb`), `name-version`, `name@version`, or a bare name, which
    stands for the highest version.
    """
    if _is_path(reference):
        path = base / reference
        if path.exists():
            return path
        raise BundleError(f"bundle {reference!r}: nothing at {path}")
    places = [place for place in (folder, shipped_folder()) if place is not None]
    for place in places:
        if found := _in_folder(place, reference.replace("@", "-")):
            return found
    raise BundleError(f"bundle {reference!r}: not in {' or '.join(str(place) for place in places)}")


def version_key(version: str) -> tuple[int, int, int, int, tuple[tuple[int, int, str], ...]]:
    """Give the order of a semantic version: a pre-release lies before its release, numbers count as numbers."""
    match = SEMANTIC_VERSION.match(version)
    if match is None:
        raise BundleError(f"version {version!r}: allowed is MAJOR.MINOR.PATCH, as 1.2.0")
    major, minor, patch, pre = match.groups()
    parts = tuple((0, int(word), "") if word.isdigit() else (1, 0, word) for word in (pre or "").split(".") if word)
    return int(major), int(minor), int(patch), 0 if pre else 1, parts


def _is_path(reference: str) -> bool:
    return "/" in reference or reference.endswith(ZIP_SUFFIX)


def _at(reference: str) -> str:
    """Write `name-version` as `name@version`: the first hyphen before a digit's version divides them."""
    for index, sign in enumerate(reference):
        if sign in "-@" and SEMANTIC_VERSION.match(reference[index + 1 :]):
            return f"{reference[:index]}@{reference[index + 1 :]}"
    return reference


def _in_folder(folder: Path, stem: str) -> Path | None:
    for exact in (folder / stem, folder / f"{stem}{ZIP_SUFFIX}"):
        if exact.exists():
            return exact
    if not folder.is_dir():
        return None
    versions = {
        path: path.name.removesuffix(ZIP_SUFFIX).removeprefix(f"{stem}-")
        for path in folder.iterdir()
        if path.name.startswith(f"{stem}-") and (path.is_dir() or path.suffix == ZIP_SUFFIX)
    }
    known = {path: version for path, version in versions.items() if SEMANTIC_VERSION.match(version)}
    return max(known, key=lambda path: version_key(known[path]), default=None)
