"""Pictures on disk: which are kept, where, and what happens when they can't be."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from bridge.domain.part import Part
from bridge.domain.recipe import Recipe
from bridge.domain.verdict import VerdictCode
from bridge.errors import StartError
from bridge.ports import Frame
from bridge.records.pictures import PictureStore, write_whole
from tests.cli.processes import eventually

Parts = Callable[..., Part]
JPEG = Frame(data=b"\xff\xd8 a picture", media_type="image/jpeg", captured_utc_ns=0)
PNG = Frame(data=b"\x89PNG a picture", media_type="image/png", captured_utc_ns=0)


class Losses:
    """Counts what the store reports."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture
def losses() -> Losses:
    return Losses()


@pytest.fixture
def store(tmp_path: Path, losses: Losses) -> Iterator[PictureStore]:
    opened = PictureStore(tmp_path / "pictures", keep="all", on_loss=losses)
    yield opened
    opened.close()


def recipe(keep: str | None) -> Recipe:
    return Recipe(name="r", number=1, revision=1, bundle="b", labels=(), keep=keep)  # type: ignore[arg-type]


def test_picture_lies_where_its_name_says(store: PictureStore, tmp_path: Path, make_part: Parts) -> None:
    part = make_part(123, triggered_utc_ns=1_795_219_200_000_000_000 - 1)  # the last nanosecond before midnight
    name = store.name_for(part, JPEG, VerdictCode.PASS)
    assert name == "line1/station1/2026-11-20/123.jpg"
    store.keep(name, JPEG)
    store.close()
    assert (tmp_path / "pictures" / name).read_bytes() == JPEG.data
    assert [path.name for path in (tmp_path / "pictures").rglob("*") if path.is_file()] == ["123.jpg"]


def test_a_raw_frame_is_encoded_by_the_stores_own_thread(
    store: PictureStore, losses: Losses, tmp_path: Path, make_part: Parts
) -> None:
    pixels = np.full((40, 60, 3), (30, 90, 200), np.uint8)
    raw = Frame(data=cv2.imencode(".bmp", pixels)[1].tobytes(), media_type="image/bmp", captured_utc_ns=0)
    names = [store.name_for(make_part(number), raw, VerdictCode.PASS) for number in (1, 2)]
    assert [str(name)[-6:] for name in names] == ["/1.jpg", "/2.jpg"]
    store.keep(str(names[0]), raw)
    store.keep(str(names[1]), Frame(data=b"BM, cut off", media_type="image/bmp", captured_utc_ns=0))
    store.close()
    kept = (tmp_path / "pictures" / str(names[0])).read_bytes()
    assert kept.startswith(b"\xff\xd8\xff")
    shown = cv2.imdecode(np.frombuffer(kept, np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    assert np.abs(shown.astype(int) - pixels).max() < 4
    assert not (tmp_path / "pictures" / str(names[1])).exists()
    assert len(losses.texts) == 1
    assert "2.jpg can't be written" in losses.texts[0]


def test_png_and_a_later_epoch_have_names_of_their_own(store: PictureStore, make_part: Parts) -> None:
    day = 1_795_219_200_000_000_000
    assert (
        store.name_for(make_part(123, triggered_utc_ns=day, epoch=2), PNG, VerdictCode.FAIL)
        == "line1/station1/2026-11-21/123-2.png"
    )


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        ("all", {"PASS", "FAIL", "UNCERTAIN", "ERROR", "LATE"}),
        ("doubtful", {"FAIL", "UNCERTAIN", "ERROR", "LATE"}),
        ("every_nth", set()),
    ],
)
def test_recipe_says_what_is_kept_by_verdict(store: PictureStore, make_part: Parts, keep: str, kept: set[str]) -> None:
    part = make_part(7, recipe=recipe(keep))
    codes = [code for code in VerdictCode if code is not VerdictCode.NONE]
    assert {code.name for code in codes if store.name_for(part, JPEG, code)} == kept


def test_every_nth_goes_by_the_sequence(tmp_path: Path, make_part: Parts) -> None:
    store = PictureStore(tmp_path, keep="every_nth", every=5)
    named = [n for n in range(20) if store.name_for(make_part(n, recipe=recipe(None)), JPEG, VerdictCode.PASS)]
    store.close()
    assert named == [0, 5, 10, 15]


def test_full_queue_drops_the_newest_at_once_and_says_so(tmp_path: Path, losses: Losses) -> None:
    released = threading.Event()
    first = threading.Event()

    def write(path: Path, data: bytes) -> None:
        first.set()
        released.wait(20)
        write_whole(path, data)

    store = PictureStore(tmp_path, keep="all", on_loss=losses, most=2, write=write)
    store.keep("line1/s/d/0.jpg", JPEG)
    first.wait(20)
    for number in range(1, 6):
        store.keep(f"line1/s/d/{number}.jpg", JPEG)
    assert store.lost == 3
    assert len(losses.texts) == 3
    released.set()
    store.close()
    assert sorted(path.name for path in tmp_path.rglob("*.jpg")) == ["0.jpg", "1.jpg", "2.jpg"]


def test_disk_that_takes_no_picture_is_reported_and_the_next_is_tried(
    store: PictureStore, tmp_path: Path, losses: Losses
) -> None:
    folder = tmp_path / "pictures" / "line1"
    folder.write_text("a file in the way")
    store.keep("line1/station1/2026-11-21/1.jpg", JPEG)
    store.keep("line2/station1/2026-11-21/2.jpg", JPEG)
    store.close()
    assert store.lost == 1
    assert len(losses.texts) == 1
    assert "1.jpg" in losses.texts[0]
    assert (tmp_path / "pictures" / "line2/station1/2026-11-21/2.jpg").exists()


@pytest.mark.parametrize("name", ["../out.jpg", "/etc/out.jpg", "line1/../../out.jpg", "line1/station1/nul\0.jpg"])
def test_name_outside_the_folder_is_never_written_nor_found(
    store: PictureStore, tmp_path: Path, losses: Losses, name: str
) -> None:
    store.keep(name, JPEG)
    store.close()
    assert store.lost == 1
    assert not list(tmp_path.rglob("out.jpg"))
    assert store.path_of(name) is None


def test_picture_is_found_by_the_name_in_the_record(tmp_path: Path) -> None:
    names = {("line1", "station1", 1): "a/1.jpg", ("line1", "station1", 2): "../../2.jpg"}
    store = PictureStore(tmp_path, keep="all", find=lambda *key: names.get(key))
    store.keep("a/1.jpg", JPEG)
    store.close()
    assert store.path_for("line1", "station1", 1) == tmp_path.resolve() / "a/1.jpg"
    assert store.path_for("line1", "station1", 2) is None
    assert store.path_for("line1", "station1", 3) is None


def test_link_that_leads_outside_is_not_followed(store: PictureStore, tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (tmp_path / "pictures" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    assert store.path_of("link.jpg") is None


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StartError, match="file"):
        PictureStore(tmp_path / "file" / "pictures", keep="all")


def test_picture_is_lost_rather_than_the_last_room_on_the_disk(tmp_path: Path, losses: Losses) -> None:
    free = [400_000_000]
    store = PictureStore(tmp_path, keep="all", on_loss=losses, min_free_bytes=500_000_000, free=lambda _folder: free[0])
    store.keep("line1/station1/2026-11-21/1.jpg", JPEG)
    eventually(lambda: store.lost == 1)
    assert "400 MB are free" in losses.texts[0]
    assert "records.pictures_min_free_mb" in losses.texts[0]
    free[0] = 600_000_000
    store.keep("line1/station1/2026-11-21/2.jpg", JPEG)
    store.close()
    assert [path.name for path in tmp_path.rglob("*.jpg")] == ["2.jpg"]


def test_half_a_picture_is_not_left_behind(tmp_path: Path) -> None:
    script = (
        "import resource, sys; from pathlib import Path; from bridge.records.pictures import write_whole\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try: write_whole(Path(sys.argv[1]) / 'a.jpg', b'x' * 1000)\n"
        "except OSError as exc: print(exc.strerror)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.stdout == "File too large\n", done.stderr
    assert list(tmp_path.iterdir()) == []
