"""Keeps a folder of pictures below a size and an age: the oldest go first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import structlog

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_FREED_SHARE = 0.05  # room made at once, so that not every picture costs a look through a folder
_AGE_CHECK_S = 600.0

log = structlog.get_logger(__name__)


class Retention:
    """Bounds the pictures `line/station/date/name` below `folder`; other files there are nobody's business here.

    Not thread-safe: the thread that writes the pictures owns it. `None` is no limit.
    """

    def __init__(self, folder: Path, *, max_bytes: int | None, max_age_s: float | None) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._bytes: int | None = None
        self._aged_s: float | None = None

    def added(self, size: int, now_s: float) -> int:
        """Take one picture of `size` bytes more, at `now_s` by the clock of the files; gives how many old ones went."""
        if self._bytes is None:
            self._bytes = sum(_size(path) for date in self._dates() for path in date.iterdir())
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

    def _dates(self) -> list[Path]:
        """Folders of one station's day, the oldest first."""
        days = [path for path in self._folder.glob("*/*/*") if _DATE.fullmatch(path.name) and path.is_dir()]
        return sorted(days, key=lambda path: path.name)

    def _remove(self, *, older_than_s: float | None = None, down_to: int | None = None) -> int:
        gone = 0
        for date in self._dates():
            for written_s, size, path in _by_age(date):
                young = older_than_s is not None and written_s >= older_than_s
                if young or (down_to is not None and (self._bytes or 0) <= down_to):
                    return gone
                path.unlink(missing_ok=True)
                self._bytes = (self._bytes or 0) - size
                gone += 1
            if not any(date.iterdir()):
                date.rmdir()
        return gone


def _by_age(folder: Path) -> Iterator[tuple[float, int, Path]]:
    stats = [(path, path.stat()) for path in folder.iterdir() if path.is_file() and not path.is_symlink()]
    yield from sorted((stat.st_mtime, stat.st_size, path) for path, stat in stats)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() and not path.is_symlink() else 0
