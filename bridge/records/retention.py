"""Keeps a folder of pictures below a size and an age, and room beside it: the oldest go first."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

import structlog

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_FREED_SHARE = 0.05  # room made at once, so that not every picture costs a look through a folder
_AGE_CHECK_S = 600.0

log = structlog.get_logger(__name__)


def free_bytes(folder: Path) -> int:
    """Give the free room on a folder's file system; raises OSError."""
    return shutil.disk_usage(folder).free


def pictures_in(folder: Path) -> Iterator[Path]:
    """Give the files `line/station/date/name` below `folder`, whole ones only."""
    for date in _dates(folder):
        yield from (path for path in date.iterdir() if _is_picture(path) and not path.name.startswith("."))


class Retention:
    """Bounds the pictures `line/station/date/name` below `folder`; other files there are nobody's business here.

    Not thread-safe: the thread that writes the pictures owns it. `None` is no limit. `free` tells the free room of the
    folder's file system, an argument so that a full disk can be had without one.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int | None,
        max_age_s: float | None,
        min_free_bytes: int = 0,
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._min_free_bytes = min_free_bytes
        self._free = free
        self._bytes: int | None = None
        self._aged_s: float | None = None

    def added(self, size: int, now_s: float) -> int:
        """Take one picture of `size` bytes more, at `now_s` by the clock of the files; gives how many old ones went."""
        if self._bytes is None:
            self._bytes = self._measure()
        else:
            self._bytes += size
        gone = 0
        if self._max_age_s is not None and (self._aged_s is None or now_s - self._aged_s >= _AGE_CHECK_S):
            self._aged_s = now_s
            gone += self._remove(older_than_s=now_s - self._max_age_s)
        if self._max_bytes is not None and self._bytes > self._max_bytes:
            gone += self._remove(down_to=round(self._max_bytes * (1.0 - _FREED_SHARE)))
        if gone:
            log.info("old_pictures_removed", pictures=gone, left_mb=round(self._bytes / 1e6))
        return gone

    def make_room(self, size: int) -> int | None:
        """See that a picture of `size` bytes leaves the least free room, by old pictures if need be.

        Gives None when it may be written, else the bytes that are free: the journal needs them more. Raises OSError.
        """
        if not self._min_free_bytes:
            return None
        needed = self._min_free_bytes + size
        free = self._free(self._folder)
        if free >= needed:
            return None
        if self._bytes is None:
            self._bytes = self._measure()
        gone = self._remove(down_to=self._bytes - (needed - free) - round(self._min_free_bytes * _FREED_SHARE))
        free = self._free(self._folder)
        if gone:
            log.warning(
                "old_pictures_removed", pictures=gone, text="the disk is nearly full", free_mb=round(free / 1e6)
            )
        return None if free >= needed else free

    def _measure(self) -> int:
        return sum(path.stat().st_size for date in _dates(self._folder) for path in date.iterdir() if _is_picture(path))

    def _remove(self, *, older_than_s: float | None = None, down_to: int | None = None) -> int:
        gone = 0
        for _name, same_day in groupby(_dates(self._folder), key=lambda path: path.name):
            folders = list(same_day)
            for written_s, size, path in _by_age(folders):
                young = older_than_s is not None and written_s >= older_than_s
                if young or (down_to is not None and (self._bytes or 0) <= down_to):
                    return gone
                path.unlink(missing_ok=True)
                self._bytes = (self._bytes or 0) - size
                gone += 1
            for folder in folders:
                if not any(folder.iterdir()):
                    folder.rmdir()
        return gone


def _dates(folder: Path) -> list[Path]:
    """Give the folders of one station's day, the oldest day first."""
    days = [path for path in folder.glob("*/*/*") if _DATE.fullmatch(path.name) and path.is_dir()]
    return sorted(days, key=lambda path: path.name)


def _by_age(folders: list[Path]) -> list[tuple[float, int, Path]]:
    stats = [(path, path.stat()) for folder in folders for path in folder.iterdir() if _is_picture(path)]
    return sorted((stat.st_mtime, stat.st_size, path) for path, stat in stats)


def _is_picture(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
