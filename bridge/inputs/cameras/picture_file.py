"""Pictures below one folder, and nothing else: a trigger may name a file, so its sender must not reach any other."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from bridge.errors import CameraError


def read_below(folder: Path, name: str, *, max_bytes: int) -> bytes:
    """Read the regular file `name`, a relative path below `folder`, of at most `max_bytes`; blocks on the disk.

    Every step is opened from the one before and no symbolic link is followed, so nothing that changes in between can
    lead outside. Raises CameraError.
    """
    steps = _steps(name)
    try:
        with contextlib.ExitStack() as stack:
            place = stack.enter_context(_opened(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)))
            for step in steps[:-1]:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                place = stack.enter_context(_opened(os.open(step, flags, dir_fd=place)))
            # without NONBLOCK the open of a named pipe would wait for its writer
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            file = stack.enter_context(_opened(os.open(steps[-1], flags, dir_fd=place)))
            return _read_whole(file, name, max_bytes)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "no name for a file"
        raise CameraError(f"picture {name[:200]!r} below {folder} can't be opened: {reason}") from exc


def _steps(name: str) -> tuple[str, ...]:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\x00" in name or not path.parts:
        raise CameraError(f"picture {name[:200]!r} is refused: a relative path below the image folder is needed")
    return path.parts


@contextlib.contextmanager
def _opened(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read_whole(descriptor: int, name: str, max_bytes: int) -> bytes:
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        raise CameraError(f"picture {name[:200]!r} is no regular file")
    if facts.st_size > max_bytes:
        raise CameraError(f"picture {name[:200]!r} has {facts.st_size} bytes, more than {max_bytes}")
    with os.fdopen(os.dup(descriptor), "rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise CameraError(f"picture {name[:200]!r} grew beyond {max_bytes} bytes")
    return data
