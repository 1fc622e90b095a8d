"""Read a bundle's bytes from a folder or one zip file, so that what is hashed is what runs, and nothing lies outside."""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from pathlib import Path

from bridge.errors import BundleError
from bridge.inference.manifest import MANIFEST, SIGNATURE, check_inside

MAX_FILES = 1000
MAX_FILE_BYTES = 512 * 2**20
MAX_TOTAL_BYTES = 1024 * 2**20
ZIP_SUFFIX = ".lgb"
_CHUNK = 2**20


def read_files(path: Path) -> dict[str, bytes]:
    """Read every file of the bundle at `path` by its name below the bundle; raises BundleError.

    Links, names that lead outside, encrypted members, more than 1,000 files, 512 MiB in one or 1 GiB in all are refused;
    a zip's own words on its sizes are not believed.
    """
    try:
        files = _read_folder(path) if path.is_dir() else _read_zip(path)
    except FileNotFoundError as exc:
        raise BundleError(f"{path}: no such bundle") from exc
    except OSError as exc:
        raise BundleError(f"{path}: can't be read: {exc.strerror or exc}") from exc
    if MANIFEST not in files:
        raise BundleError(f"{path}: no {MANIFEST} in it, so it is no bundle")
    return files


def _read_folder(path: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    budget = MAX_TOTAL_BYTES
    for folder, subfolders, names in os.walk(path, onerror=_raise):
        for name in (*subfolders, *names):
            found = Path(folder, name)
            inner = found.relative_to(path).as_posix()
            mode = found.lstat().st_mode
            if stat.S_ISDIR(mode):
                continue
            if not stat.S_ISREG(mode):
                raise BundleError(f"{path}: {inner} is no plain file: links and devices are refused")
            _admit(path, inner, len(files))
            size = found.stat().st_size
            budget = _spend(path, inner, size, budget)
            with found.open("rb") as file:
                data = file.read(size + 1)
            if len(data) != size:
                raise BundleError(f"{path}: {inner} changed while it was read")
            files[inner] = data
    return files


def _read_zip(path: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    budget = MAX_TOTAL_BYTES
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            root = _root_of([member.filename for member in members])
            for member in members:
                inner = member.filename.removeprefix(root)
                kind = stat.S_IFMT(member.external_attr >> 16)
                if kind not in (0, stat.S_IFREG) or member.flag_bits & 0x1:
                    raise BundleError(f"{path}: {inner} is a link or encrypted: refused")
                if inner in files:
                    raise BundleError(f"{path}: {inner} is there twice")
                _admit(path, inner, len(files))
                _spend(path, inner, member.file_size, budget)
                files[inner] = _read_member(archive, member, path, inner)
                budget -= len(files[inner])
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError, RuntimeError) as exc:
        raise BundleError(f"{path}: no usable zip file: {exc}") from exc
    return files


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, inner: str) -> bytes:
    """Unpack one member and stop where it grows over the size that it claims."""
    data = bytearray()
    with archive.open(member) as file:
        while chunk := file.read(_CHUNK):
            data += chunk
            if len(data) > member.file_size:
                raise BundleError(f"{path}: {inner} is larger than it claims")
    return bytes(data)


def _root_of(names: list[str]) -> str:
    """Give the one folder that holds everything, with its slash, if the zip was made from outside the bundle."""
    first = names[0].partition("/")[0] + "/" if names else ""
    return first if MANIFEST not in names and all(name.startswith(first) for name in names) else ""


def _admit(path: Path, inner: str, count: int) -> None:
    if count >= MAX_FILES:
        raise BundleError(f"{path}: more than {MAX_FILES} files")
    if inner in (MANIFEST, SIGNATURE):
        return
    try:
        check_inside(inner)
    except ValueError as exc:
        raise BundleError(f"{path}: {exc}") from exc


def _spend(path: Path, inner: str, size: int, budget: int) -> int:
    if size > min(MAX_FILE_BYTES, budget):
        raise BundleError(
            f"{path}: {inner} has {size} bytes: allowed are {MAX_FILE_BYTES} a file, {MAX_TOTAL_BYTES} in all"
        )
    return budget - size


def _raise(error: OSError) -> None:
    raise error
