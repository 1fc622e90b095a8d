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
