"""Video through OpenCV and FFmpeg: a file, and a stream over HTTP from a server that is stopped, held and killed."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import cv2
import pytest

from bridge.domain.part import Part, Trigger
from bridge.domain.recipe import Recipe
from bridge.errors import CameraError
from bridge.inference.picture import decode
from bridge.inputs.cameras.stream import StreamCamera
from bridge.inputs.cameras.video import video_camera
from tests.ports import free_ports
from tests.wire.camera_servers import MjpegCamera, number_of, numbered
from tests.wire.rtsp_camera import RtspCamera

pytestmark = pytest.mark.soak

PART = Part(
    line="l", station="s", trigger=Trigger(sequence=1, part_id="1", arrived_ns=0, image=None), epoch=1, triggered_ns=0,
    triggered_utc_ns=0, length_mm=100.0, recipe=Recipe(name="r", number=1, revision=1, bundle="b", labels=("x",)),
)  # fmt: skip
MS = 1_000_000


@pytest.fixture
def server() -> Iterator[MjpegCamera]:
    camera = MjpegCamera()
    with camera.running():
        yield camera


@asynccontextmanager
async def looking_at(source: str, **options: Any) -> AsyncIterator[StreamCamera]:
    settings = {
        "username": "",
        "password": "",
        "timeout_ms": 1000.0,
        "max_age_ms": 20.0,
        "max_late_ms": 1000.0,
        "latency_ms": 0.0,
    }
    camera = video_camera(source, **(settings | options))
    await camera.start()
    try:
        yield camera
    finally:
        await camera.close()


async def until(holds: Callable[[], bool], limit_s: float = 8.0) -> float:
    begun_s = time.monotonic()
    async with asyncio.timeout(limit_s):
        while not holds():
            await asyncio.sleep(0.01)
    return time.monotonic() - begun_s


async def shot(camera: StreamCamera, moment_ns: int) -> int:
    frame = await camera.capture(PART, moment_ns)
    return number_of(decode(frame.data, colour="BGR", ours=True).pixels)


async def test_a_part_gets_the_frame_of_its_moment(server: MjpegCamera) -> None:
    async with looking_at(server.url("/video")) as camera:
        assert camera.trouble is None
        seen = []
        for wait_s in (0.0, 0.11, 0.07, 0.2):
            await asyncio.sleep(wait_s)
            moment_ns = time.monotonic_ns()
            seen.append(await shot(camera, moment_ns))
            off_ms = (server.taken_ns(seen[-1]) - moment_ns) / MS
            assert -120 < off_ms < 1000, "a frame is 40 ms, and it may be 20 ms old; the rest is this machine's load"
        assert seen == sorted(set(seen)), "each part has a frame of its own"
        late_ns = time.monotonic_ns()
        await asyncio.sleep(0.4)
        assert abs(server.taken_ns(await shot(camera, late_ns)) - late_ns) < 120 * MS, "not the newest: the part's own"


async def test_what_queued_up_in_a_stall_is_no_parts_picture(server: MjpegCamera) -> None:
    """The network stops for 1 s and then delivers all at once: those frames arrive now and show the past."""
    async with looking_at(server.url("/video"), timeout_ms=3000.0) as camera:
        await asyncio.sleep(0.5)
        server.held.set()
        await asyncio.sleep(1.0)
        moment_ns = time.monotonic_ns()
        server.held.clear()
        number = await shot(camera, moment_ns)
        assert (server.taken_ns(number) - moment_ns) / MS > -120


async def test_a_killed_stream_is_missed_without_a_part_and_found_again(server: MjpegCamera) -> None:
    async with looking_at(server.url("/video")) as camera:
        server.stop()
        assert await until(lambda: camera.trouble is not None) < 3.0
        assert await until(lambda: "unreachable: Connection refused" in str(camera.trouble)) < 3.0
        begun_s = time.monotonic()
        with pytest.raises(CameraError, match=r"camera lost: video http://.*unreachable"):
            await shot(camera, time.monotonic_ns())
        assert time.monotonic() - begun_s < 0.5
        await asyncio.sleep(1.0)
        server.start()
        assert await until(lambda: camera.trouble is None) < 6.0
        moment_ns = time.monotonic_ns()
        assert (server.taken_ns(await shot(camera, moment_ns)) - moment_ns) / MS > -120


async def test_a_stream_that_falls_silent_is_missed_without_a_part(server: MjpegCamera) -> None:
    async with looking_at(server.url("/video"), timeout_ms=300.0) as camera:
        server.held.set()
        await asyncio.sleep(0.1)
        begun_s = time.monotonic()
        with pytest.raises(CameraError, match=r"no frame of the part's moment within 300 ms"):
            await shot(camera, time.monotonic_ns())
        assert time.monotonic() - begun_s < 1.0
        assert await until(lambda: camera.trouble is not None) < 3.0
        assert "no frame for 2" in str(camera.trouble)
        server.held.clear()
        assert await until(lambda: camera.trouble is None) < 6.0


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("/dev/video99", "/dev/video99 is not there"),
        ("98", "/dev/video98 is not there"),
        ("/nowhere/video.avi", "/nowhere/video.avi is not there"),
        ("rtsp://127.0.0.1:PORT/stream", "unreachable: Connection refused"),
        ("http://127.0.0.1:PORT/video", "unreachable: Connection refused"),
        (__file__, "can't be opened as video: in use, no right to, or no video"),
    ],
)
async def test_a_video_that_is_not_there_says_why(source: str, reason: str) -> None:
    source = source.replace("PORT", str(free_ports(1)[0]))
    async with looking_at(source, username="cam", password="s3cret") as camera:
        assert reason in str(camera.trouble)
        assert "s3cret" not in str(camera.trouble)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.avi"
    height, width = numbered(0).shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (width, height))
    for number in range(30):
        writer.write(numbered(number))
    writer.release()
    return path


async def test_a_file_plays_at_its_own_pace_again_and_again(clip: Path) -> None:
    async with looking_at(str(clip)) as camera:
        numbers, begun_s = [], time.monotonic()
        while time.monotonic() - begun_s < 2.0:
            assert camera.trouble is None
            numbers.append(await shot(camera, time.monotonic_ns()))
        steps = [(after - before) % 30 for before, after in itertools.pairwise(numbers)]
        assert sum(steps) in range(35, 56), "2 s are 50 frames of 40 ms"
        assert min(steps) >= 1
        assert any(after < before for before, after in itertools.pairwise(numbers)), "it began again"


def test_a_driver_that_hangs_does_not_hold_up_the_end_of_the_process(tmp_path: Path) -> None:
    """A process whose stream has fallen silent inside FFmpeg ends by itself, cleanly and soon."""
    server = MjpegCamera()
    script = (
        "import asyncio, sys\n"
        "from bridge.inputs.cameras.video import video_camera\n"
        "async def main():\n"
        "    times = {'timeout_ms': 250, 'max_age_ms': 20, 'max_late_ms': 60, 'latency_ms': 0}\n"
        "    camera = video_camera(sys.argv[1], username='', password='', **times)\n"
        "    await camera.start()\n"
        "    print(camera.trouble, flush=True)\n"
        "    await asyncio.to_thread(sys.stdin.readline)\n"
        "    if sys.argv[2] == 'close':\n"
        "        await camera.close()\n"
        "asyncio.run(main())\n"
    )
    with server.running():
        for ending in ("close", "leave"):
            child = subprocess.Popen(
                [sys.executable, "-c", script, server.url("/video"), ending],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            assert child.stdout is not None
            assert child.stdout.readline() == "None\n"
            server.held.set()
            time.sleep(0.1)
            begun_s = time.monotonic()
            _, errors = child.communicate("\n", timeout=15)
            assert (child.returncode, errors) == (0, "")
            assert time.monotonic() - begun_s < 5.0
            server.held.clear()


# ---- RTSP ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def rtsp() -> Iterator[RtspCamera]:
    camera = RtspCamera()
    camera.start()
    yield camera
    camera.stop()


async def test_an_rtsp_camera_with_a_log_in_is_seen_lost_and_found_again(
    rtsp: RtspCamera, capfd: pytest.CaptureFixture[str]
) -> None:
    async with looking_at(rtsp.url, username="cam", password="pa:ss", timeout_ms=2000.0) as camera:
        assert camera.trouble is None
        moment_ns = time.monotonic_ns()
        assert -120 < (rtsp.taken_ns(await shot(camera, moment_ns)) - moment_ns) / MS < 1000
        rtsp.stop()
        assert await until(lambda: "unreachable" in str(camera.trouble)) < 3.0
        rtsp.start()
        assert await until(lambda: camera.trouble is None) < 6.0
        assert await shot(camera, time.monotonic_ns()) > 0
    assert capfd.readouterr().err == "", "FFmpeg would write the address with its log-in at each attempt"


async def test_an_rtsp_camera_that_refuses_the_log_in_says_so(rtsp: RtspCamera) -> None:
    async with looking_at(rtsp.url, username="cam", password="wr0ng") as camera:
        assert "reached, but it gives no video: a wrong path, a wrong log-in" in str(camera.trouble)
        assert "wr0ng" not in str(camera.trouble)
