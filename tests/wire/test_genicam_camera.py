"""GenICam: a real GenTL producer with three simulated cameras, which comes with the `genicam` package ("Viky").

Viky's cameras run free and have no trigger feature, and can't be unplugged; so the triggers, the other pixel formats and
the loss of a device are tried on a hand-written twin of the few calls that the camera makes of `harvesters`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from bridge.domain.part import Part, Trigger
from bridge.domain.recipe import Recipe
from bridge.errors import CameraError
from bridge.inference.picture import decode
from bridge.inputs.cameras.genicam import GenicamStream, genicam_camera
from bridge.inputs.cameras.stream import StreamCamera
from tests.wire.genicam_twin import Device, Producer

pytestmark = pytest.mark.soak

PART = Part(
    line="l", station="s", trigger=Trigger(sequence=1, part_id="1", arrived_ns=0, image=None), epoch=1, triggered_ns=0,
    triggered_utc_ns=0, length_mm=100.0, recipe=Recipe(name="r", number=1, revision=1, bundle="b", labels=("x",)),
)  # fmt: skip


async def until(holds: Callable[[], bool], limit_s: float = 8.0) -> None:
    async with asyncio.timeout(limit_s):
        while not holds():
            await asyncio.sleep(0.01)


# ---- a real producer -----------------------------------------------------------------------------------------------

real = pytest.mark.skipif(
    importlib.util.find_spec("harvesters") is None,
    reason="the extra genicam is not installed (no wheel for this machine)",
)


def viky() -> Path:
    found = importlib.util.find_spec("genicam")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "viky.cti"


@asynccontextmanager
async def looking_at(producer: Path, **options: Any) -> AsyncIterator[StreamCamera]:
    settings = {"device": "", "trigger": "free", "trigger_source": "Line0", "timeout_ms": 1000.0, "max_age_ms": 20.0}
    camera = genicam_camera(producer, **({"latency_ms": 0.0, "max_late_ms": 1000.0} | settings | options))
    await camera.start()
    try:
        yield camera
    finally:
        await camera.close()


@real
async def test_a_free_running_camera_gives_each_part_a_frame_of_its_own() -> None:
    async with looking_at(viky(), device="VikyTL_DEV_green") as camera:
        assert camera.trouble is None
        stamps = []
        for _ in range(8):
            frame = await camera.capture(PART, time.monotonic_ns())
            shown = decode(frame.data, colour="BGR", ours=True)
            assert (shown.width, shown.height, shown.pixels.shape) == (400, 400, (400, 400, 3))
            stamps.append(frame.captured_utc_ns)
        assert stamps == sorted(set(stamps))
        assert 4 < (stamps[-1] - stamps[0]) / 50e6 < 30, "it sends 20 frames a second"
        # a camera is opened by one alone
        async with looking_at(viky(), device="VikyTL_DEV_green") as second:
            assert "genicam VikyTL_DEV_green: " in str(second.trouble)
        assert camera.trouble is None
    async with looking_at(viky(), device="1") as camera:
        assert camera.trouble is None, "the same camera by its serial number, free again"


@real
def test_a_process_that_used_a_producer_ends_cleanly() -> None:
    script = (
        "import asyncio, pathlib, sys, time\n"
        "from bridge.inputs.cameras.genicam import genicam_camera\n"
        "async def main():\n"
        "    camera = genicam_camera(pathlib.Path(sys.argv[1]), device='0', trigger='free', trigger_source='Line0',\n"
        "                            timeout_ms=1000, max_age_ms=20, max_late_ms=1000, latency_ms=0)\n"
        "    await camera.start()\n"
        "    frame = await camera.capture(None, time.monotonic_ns())\n"
        "    print(len(frame.data))\n"
        "    await camera.close()\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", script, str(viky())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=25, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{400 * 400 * 3 + 54}\n", "")


@real
@pytest.mark.parametrize(
    ("producer", "options", "reason"),
    [
        (None, {"device": "nobody"}, "device = 'nobody' is not one of them"),
        (None, {}, "VikyTL_DEV_red (serial 0), VikyTL_DEV_green (serial 1), VikyTL_DEV_blue (serial 2)"),
        (None, {"device": "2", "trigger": "software"}, 'has no TriggerMode: set trigger = "free"'),
        (Path("/nowhere/maker.cti"), {}, "the GenTL producer /nowhere/maker.cti can't be loaded"),
        (Path(__file__), {}, "can't be loaded"),
    ],
)
async def test_a_camera_that_can_not_be_opened_says_why(
    producer: Path | None, options: dict[str, Any], reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async with looking_at(producer or viky(), **options) as camera:
        assert reason in str(camera.trouble)
        with pytest.raises(CameraError, match="camera lost"):
            await camera.capture(PART, time.monotonic_ns())
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("command", ["check-config", "run"])
def test_without_the_extra_the_error_names_it(tmp_path: Path, command: str) -> None:
    """None among the loaded modules is Python's own way to say that a package is not there."""
    (tmp_path / "linegate.toml").write_text('[[stations]]\ncamera = {kind = "genicam", producer = "maker.cti"}\n')
    script = "import sys; sys.modules['harvesters'] = None; from bridge.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, command], cwd=tmp_path, capture_output=True, text=True, timeout=25, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        'linegate: camera kind "genicam" needs the extra genicam: pip install "linegate[genicam]"'
    ]


# ---- a twin of what is used of harvesters --------------------------------------------------------------------------


@asynccontextmanager
async def twin(device: Device, trigger: Any, *, wait_s: float = 1.0) -> AsyncIterator[StreamCamera]:
    def connect() -> GenicamStream:
        return GenicamStream(
            Producer(device), name="twin", device="", trigger=trigger, trigger_source="Line2", wait_s=wait_s
        )

    camera = StreamCamera(
        connect,
        name="twin",
        timeout_ms=wait_s * 1e3,
        max_age_ms=20.0,
        max_late_ms=wait_s * 1e3,
        latency_ms=0.0,
        free=trigger == "free",
    )
    await camera.start()
    try:
        yield camera
    finally:
        await camera.close()


async def grey(camera: StreamCamera) -> int:
    frame = await camera.capture(PART, time.monotonic_ns())
    return int(decode(frame.data, colour="GREY", ours=True).pixels[3, 3])


async def test_a_software_trigger_takes_one_frame_for_each_part() -> None:
    device = Device()
    async with twin(device, "software") as camera:
        assert camera.trouble is None
        values = {name: device.nodes[name].value for name in ("TriggerSelector", "TriggerMode", "TriggerSource")}
        assert values == {"TriggerSelector": "FrameStart", "TriggerMode": "On", "TriggerSource": "Software"}
        await asyncio.sleep(0.1)
        assert [await grey(camera) for _ in range(12)] == list(range(1, 13))
        assert device.taken == 12, "between the parts it takes none"
        assert device.queued == 12, "more frames than there are buffers: each was given back"
    assert device.ended == ["stop", "destroy", "reset"]


async def test_a_frame_that_a_software_trigger_owes_is_never_given_to_the_next_part() -> None:
    device = Device()
    async with twin(device, "software", wait_s=0.15) as camera:
        device.mute = True
        with pytest.raises(CameraError, match=r"no frame"):
            await grey(camera)
        await until(lambda: "no frame within 150 ms of its software trigger" in str(camera.trouble))
        device.mute = False
        await until(lambda: camera.trouble is None)
        assert await grey(camera) == device.taken == 2


async def test_a_frame_that_comes_late_is_never_the_next_parts() -> None:
    """The first part gives up before its frame comes; it comes while the second part waits."""
    device = Device()
    device.delay_s = 0.2
    async with twin(device, "software") as camera:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(grey(camera), 0.05)
        assert device.taken == 1
        with pytest.raises(CameraError, match="no frame of the part's moment"):
            await grey(camera)
        assert await grey(camera) == 2


async def test_a_hardware_trigger_brings_its_frame_by_itself() -> None:
    device = Device()
    async with twin(device, "hardware") as camera:
        assert device.nodes["TriggerSource"].value == "Line2"
        device.expose()
        await asyncio.sleep(0.005)
        assert await grey(camera) == 1, "it was there a few ms before the trigger message"
        waiting = asyncio.create_task(grey(camera))
        await asyncio.sleep(0.05)
        device.expose()
        assert await waiting == 2
        await asyncio.sleep(2.5)
        assert camera.trouble is None, "silence is no loss for a camera that waits for its trigger"


@pytest.mark.parametrize("trigger", ["free", "software", "hardware"])
async def test_an_unplugged_camera_is_missed_without_a_part_and_found_again(trigger: str) -> None:
    device = Device()
    async with twin(device, trigger) as camera:
        if trigger == "free":
            await feed(device, camera)
        assert camera.trouble is None
        device.lost = True
        begun_s = time.monotonic()
        await until(lambda: camera.trouble is not None)
        assert time.monotonic() - begun_s < 3.0
        assert "twin: lost: GenTL exception: the device is gone (ID: -1010)" in str(camera.trouble)
        await until(lambda: "can't be opened" in str(camera.trouble))
        device.lost = False
        if trigger == "free":
            await feed(device, camera)
        await until(lambda: camera.trouble is None)


async def feed(device: Device, camera: StreamCamera) -> None:
    """Let the device send at 50 frames a second until the camera trusts them."""
    async with asyncio.timeout(8.0):
        while camera.trouble is not None:
            device.expose()
            await asyncio.sleep(0.02)


BGR = np.random.default_rng(3).integers(0, 255, (6, 8, 3), dtype=np.uint8)
FLAT = np.full((6, 8, 3), (30, 90, 200), np.uint8)


def mosaic(pattern: str) -> np.ndarray:
    """Take from the flat colour what each pixel of a Bayer sensor sees; the pattern names the first 2 x 2, row by row."""
    order = {"B": 0, "G": 1, "R": 2}
    seen = np.empty((6, 8), np.uint8)
    for place, colour in enumerate(pattern):
        seen[place // 2 :: 2, place % 2 :: 2] = FLAT[0, 0, order[colour]]
    return seen


GREY = np.arange(48, dtype=np.uint8).reshape(6, 8)


@pytest.mark.parametrize(
    ("data_format", "samples", "shown"),
    [
        ("BGR8", BGR, BGR),
        ("RGB8", BGR[:, :, ::-1], BGR),
        ("BGRa8", np.dstack([BGR, GREY]), BGR),
        ("RGBa8", np.dstack([BGR[:, :, ::-1], GREY]), BGR),
        ("BayerRG8", mosaic("RGGB"), FLAT),
        ("BayerBG8", mosaic("BGGR"), FLAT),
        ("BayerGR8", mosaic("GRBG"), FLAT),
        ("BayerGB8", mosaic("GBRG"), FLAT),
        ("Mono8", GREY, cv2.cvtColor(GREY, cv2.COLOR_GRAY2BGR)),
        ("Mono10", GREY.astype(np.uint16) * 4 + 3, cv2.cvtColor(GREY, cv2.COLOR_GRAY2BGR)),
        ("Mono12", GREY.astype(np.uint16) * 16 + 15, cv2.cvtColor(GREY, cv2.COLOR_GRAY2BGR)),
        ("Mono16", GREY.astype(np.uint16) * 256 + 255, cv2.cvtColor(GREY, cv2.COLOR_GRAY2BGR)),
    ],
)
async def test_pixel_formats_come_out_in_their_colours(
    data_format: str, samples: np.ndarray, shown: np.ndarray
) -> None:
    device = Device()
    async with twin(device, "hardware") as camera:
        moment_ns = time.monotonic_ns()
        device.send(data_format, samples.ravel())
        frame = await camera.capture(PART, moment_ns)
        assert np.array_equal(decode(frame.data, colour="BGR", ours=True).pixels, shown)


@pytest.mark.parametrize(
    ("data_format", "size", "reason"),
    [("YUV422_8", 96, "PixelFormat YUV422_8 can't be used: allowed are Mono8"), ("Mono8", 40, "a frame of 40 samples")],
)
async def test_a_frame_that_can_not_be_read_is_refused(data_format: str, size: int, reason: str) -> None:
    device = Device()
    async with twin(device, "hardware") as camera:
        device.send(data_format, np.zeros(size, np.uint8))
        await until(lambda: camera.trouble is not None)
        assert reason in str(camera.trouble)
        assert device.queued == 1
