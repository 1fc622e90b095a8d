"""Pictures on disk stay below a size and an age, and nothing else is touched."""

from __future__ import annotations

import os
from pathlib import Path

from bridge.records.retention import Retention

DAY_S = 86_400.0
NOW_S = 1_795_219_200.0


def put(folder: Path, name: str, *, size: int = 100, age_s: float = 0.0) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (NOW_S - age_s, NOW_S - age_s))
    return path


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_oldest_go_first_until_there_is_room(tmp_path: Path) -> None:
    for n in range(10):
        put(tmp_path, f"line1/station1/2026-11-{10 + n // 5}/{n}.jpg", age_s=1000.0 - n)
    keeper = Retention(tmp_path, max_bytes=1000, max_age_s=None)
    assert keeper.added(100, NOW_S) == 0
    put(tmp_path, "line1/station1/2026-11-11/10.jpg")
    assert keeper.added(100, NOW_S) == 2
    assert names(tmp_path) == {f"line1/station1/2026-11-{10 + n // 5}/{n}.jpg" for n in range(2, 10)} | {
        "line1/station1/2026-11-11/10.jpg"
    }


def test_what_is_too_old_goes_with_its_empty_folder(tmp_path: Path) -> None:
    put(tmp_path, "line1/station1/2026-10-01/1.jpg", age_s=40 * DAY_S)
    put(tmp_path, "line1/station2/2026-11-20/1.jpg", age_s=DAY_S)
    assert Retention(tmp_path, max_bytes=None, max_age_s=30 * DAY_S).added(100, NOW_S) == 1
    assert names(tmp_path) == {"line1/station2/2026-11-20/1.jpg"}
    assert not (tmp_path / "line1/station1/2026-10-01").exists()


def test_other_files_and_linked_ones_stay(tmp_path: Path) -> None:
    elsewhere = put(tmp_path, "mine.jpg", size=5000, age_s=99 * DAY_S)
    put(tmp_path, "line1/station1/notes/1.jpg", size=5000, age_s=99 * DAY_S)
    day = put(tmp_path, "line1/station1/2026-10-01/1.jpg", age_s=99 * DAY_S).parent
    (day / "2.jpg").symlink_to(elsewhere)
    assert Retention(tmp_path, max_bytes=50, max_age_s=DAY_S).added(100, NOW_S) == 1
    assert names(tmp_path) == {"mine.jpg", "line1/station1/notes/1.jpg", "line1/station1/2026-10-01/2.jpg"}


class SmallDisk:
    """A disk of 10,000 bytes, of which the pictures take what they take and others what they say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.others = 0

    def __call__(self, _folder: Path) -> int:
        return 10_000 - self.others - sum(path.stat().st_size for path in self.folder.rglob("*.jpg"))


def test_old_pictures_go_before_the_disk_is_full(tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path)
    for n in range(8):
        put(tmp_path, f"line1/station{n % 2}/2026-11-{10 + n // 4}/{n}.jpg", size=1000, age_s=1000.0 - n)
    keeper = Retention(tmp_path, max_bytes=None, max_age_s=None, min_free_bytes=2000, free=disk)
    assert keeper.make_room(0) is None
    assert len(names(tmp_path)) == 8, "there is just room enough"
    assert keeper.make_room(1000) is None
    assert names(tmp_path) == {f"line1/station{n % 2}/2026-11-{10 + n // 4}/{n}.jpg" for n in range(2, 8)}
    disk.others = 9500
    assert keeper.make_room(1000) == 500, "others fill the disk: all pictures went, and the new one has no place"
    assert names(tmp_path) == set()
    disk.others = 0
    assert keeper.make_room(1000) is None


def test_the_oldest_of_a_day_goes_first_whatever_its_station(tmp_path: Path) -> None:
    for n in range(6):
        put(tmp_path, f"line1/station{n % 2}/2026-11-10/{n}.jpg", age_s=1000.0 - n)
    assert Retention(tmp_path, max_bytes=350, max_age_s=None).added(0, NOW_S) == 3
    assert {Path(name).name for name in names(tmp_path)} == {"3.jpg", "4.jpg", "5.jpg"}
