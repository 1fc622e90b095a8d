"""Compares the pictures that records name with those in the folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bridge.records.retention import pictures_in
from bridge.records.row_check import moment_ns

BEING_WRITTEN_NS = 10_000_000_000


@dataclass
class PictureCheck:
    """The pictures of one folder, taken before the records are read: a record is committed before its picture is written.

    Lines that share a database may each have a folder of their own: one that has no part in this folder is passed over.
    A picture that is gone was removed by age or size when everything of its station that is left is newer; the oldest
    go first. Else it is missing.
    """

    folder: Path
    line: str
    max_age_s: float
    now_utc_ns: int
    present: int = 0
    removed: int = 0
    elsewhere: int = 0
    _lines: set[str] = field(default_factory=set)
    _left: set[str] = field(default_factory=set)
    _oldest: dict[str, tuple[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lines.add(self.line)
        for path in pictures_in(self.folder):
            name = path.relative_to(self.folder).as_posix()
            station, date = name.rsplit("/", 2)[:2]
            self._lines.add(name.partition("/")[0])
            try:
                age = (date, path.stat().st_mtime_ns)
            except FileNotFoundError:
                continue  # removed just now
            self._left.add(name)
            self._oldest[station] = min(age, self._oldest.get(station, age))

    def is_missing(self, name: str, decided_utc: str) -> bool:
        """Take the picture that one record names, and say whether it should be there and is not."""
        if name.partition("/")[0] not in self._lines:
            self.elsewhere += 1
            return False
        if name in self._left or (self.folder / name).is_file():
            self._left.discard(name)
            self.present += 1
            return False
        decided_utc_ns = moment_ns(decided_utc) or 0
        if self.now_utc_ns - decided_utc_ns < BEING_WRITTEN_NS:
            return False
        station, _, rest = name.rpartition("/")[0].rpartition("/")
        oldest = self._oldest.get(station)
        too_old = self.now_utc_ns - decided_utc_ns > self.max_age_s * 1e9
        if too_old or (oldest is not None and (rest, decided_utc_ns) < oldest):
            self.removed += 1
            return False
        return True

    @property
    def unnamed(self) -> list[str]:
        """The pictures that no record taken so far has named."""
        return sorted(self._left)
