import asyncio
import os
from pathlib import Path

import pytest

from bridge.domain.part import ImagePath, InlineImage, Part, Trigger
from bridge.domain.recipe import Recipe
from bridge.errors import CameraError
from bridge.inputs.cameras.folder import FolderCamera
from bridge.inputs.cameras.inline import InlineCamera, TriggerFirst

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\xff\xda scan \xff\xd9"
PNG = b"\x89PNG\r\n\x1a\n....IHDR....IEND\xae\x42\x60\x82"


def part(image: InlineImage | ImagePath | None, sequence: int = 1) -> Part:
    recipe = Recipe(name="r", number=1, revision=1, bundle="b", labels=("x",))
    return Part(
        line="l", station="s", trigger=Trigger(sequence=sequence, part_id="1", arrived_ns=0, image=image), epoch=1,
        triggered_ns=0, triggered_utc_ns=1_795_248_000_000_000_000, length_mm=100.0, recipe=recipe,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret.jpg").write_bytes(JPEG)
    images = tmp_path / "images"
    (images / "day").mkdir(parents=True)
    (images / "day" / "1.jpg").write_bytes(JPEG)
    (images / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    (images / "in.jpg").symlink_to(images / "day" / "1.jpg")
    (images / "up").symlink_to(tmp_path)
    (images / "big.jpg").write_bytes(JPEG + b"\0" * 2000 + b"\xff\xd9")
    os.mkfifo(images / "pipe.jpg")
    return images


async def test_pictures_of_the_trigger(folder: Path) -> None:
    camera = InlineCamera(image_folder=folder, max_bytes=1000)
    for data, media_type in ((JPEG, "image/jpeg"), (PNG, "image/png")):
        frame = await camera.capture(part(InlineImage(media_type="image/jpeg", data=data)), 0)
        assert (frame.data, frame.media_type) == (data, media_type)
        assert frame.captured_utc_ns == 1_795_248_000_000_000_000
    frame = await camera.capture(part(ImagePath(path="./day/1.jpg")), 0)
    assert frame.data == JPEG


@pytest.mark.parametrize("data", [b"", b"GIF89a", JPEG[:-2], PNG[:20], b"\xff\xd8\xff", b"\xff\xd9" + JPEG[:-2]])
async def test_no_picture_no_frame(folder: Path, data: bytes) -> None:
    with pytest.raises(CameraError):
        await InlineCamera(image_folder=folder).capture(part(InlineImage(media_type="image/jpeg", data=data)), 0)


async def test_a_thumbnail_does_not_hide_a_cut(folder: Path) -> None:
    cut = b"\xff\xd8\xff\xe1" + JPEG + b"\xff\xda more"
    with pytest.raises(CameraError, match="truncated"):
        await InlineCamera(image_folder=folder).capture(part(InlineImage(media_type="image/jpeg", data=cut)), 0)


@pytest.mark.parametrize(
    "path",
    [
        "../secret.jpg", "day/../../secret.jpg", "/etc/passwd", "out.jpg", "in.jpg", "up/secret.jpg", "big.jpg", "day",
        "pipe.jpg", "absent.jpg", "", ".", "a\x00b", "\ud800.jpg", "..\\secret.jpg", "day/1.jpg/x", "x" * 5000,
    ],
)  # fmt: skip
async def test_nothing_outside_the_folder_is_opened(folder: Path, path: str) -> None:
    camera = InlineCamera(image_folder=folder, max_bytes=1000)
    with pytest.raises(CameraError):
        await camera.capture(part(ImagePath(path=path)), 0)


async def test_an_inline_camera_without_an_image_says_what_to_do(folder: Path) -> None:
    with pytest.raises(CameraError, match=r"send image\.data or image\.path"):
        await InlineCamera(image_folder=folder).capture(part(None), 0)


async def test_no_descriptor_stays_open(folder: Path) -> None:
    camera = InlineCamera(image_folder=folder, max_bytes=1000)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in ("day/1.jpg", "up/secret.jpg", "big.jpg", "pipe.jpg") * 5:
        try:
            await camera.capture(part(ImagePath(path=path)), 0)
        except CameraError:
            continue
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1


async def test_the_folder_camera_goes_round(tmp_path: Path) -> None:
    names = ["b.png", "a.jpg", "c.JPEG"]
    for name in names:
        (tmp_path / name).write_bytes((PNG if name.endswith("png") else JPEG) + name.encode())
    (tmp_path / "notes.txt").write_text("no picture")
    camera = TriggerFirst(FolderCamera(folder=tmp_path), InlineCamera(image_folder=tmp_path))
    seen = [(await camera.capture(part(None, sequence), 0)).data[-5:] for sequence in (1, 2, 3, 4, 6, 0)]
    assert seen == [b"a.jpg", b"b.png", b".JPEG", b"a.jpg", b".JPEG", b".JPEG"], "a part without one shifts no other"
    own = await camera.capture(part(InlineImage(media_type="image/png", data=PNG)), 0)
    assert own.data == PNG


async def test_an_empty_or_absent_folder_is_no_camera(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(CameraError, match="folder"):
            await FolderCamera(folder=folder).capture(part(None), 0)


async def test_three_triggers_without_a_picture_are_a_lost_camera(folder: Path) -> None:
    camera = InlineCamera(image_folder=folder)
    for seen in range(3):
        assert camera.trouble is None, f"after {seen}"
        with pytest.raises(CameraError):
            await camera.capture(part(InlineImage(media_type="image/jpeg", data=JPEG[:-2])), 0)
    assert "3 triggers in a row without a usable picture" in str(camera.trouble)
    assert "truncated JPEG" in str(camera.trouble)
    await camera.capture(part(ImagePath(path="day/1.jpg")), 0)
    assert camera.trouble is None


async def test_a_folder_that_goes_is_missed_without_a_part(tmp_path: Path) -> None:
    (tmp_path / "shots").mkdir()
    (tmp_path / "shots" / "1.jpg").write_bytes(JPEG)
    camera = FolderCamera(folder=tmp_path / "shots")
    await camera.start()
    assert camera.trouble is None
    (tmp_path / "shots").rename(tmp_path / "elsewhere")
    async with asyncio.timeout(3.0):
        while camera.trouble is None:
            await asyncio.sleep(0.01)
    assert "can't be listed: No such file" in camera.trouble
    (tmp_path / "elsewhere").rename(tmp_path / "shots")
    async with asyncio.timeout(3.0):
        while camera.trouble is not None:
            await asyncio.sleep(0.01)
    await camera.close()
