"""A streaming camera over a hand-written stream: what a part gets, what a hang or a loss does, and what is said of it."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest

from bridge.domain.part import Part, Trigger
from bridge.domain.recipe import Recipe
from bridge.errors import CameraError
from bridge.inference.picture import decode
from bridge.inputs.cameras import stream
from bridge.inputs.cameras.stream import FrameStream, StreamCamera

PART = Part(
    line="l", station="s", trigger=Trigger(sequence=1, part_id="1", arrived_ns=0, image=None), epoch=1, triggered_ns=0,
    triggered_utc_ns=0, length_mm=100.0, recipe=Recipe(name="r", number=1, revision=1, bundle="b", labels=("x",)),
)  # fmt: skip


class FakeStream:
    """Gives the numbers that are put into it as frames; an exception is raised, and a lock is waited for."""

    def __init__(self) -> None:
        self.feed: queue.SimpleQueue[int | CameraError | threading.Event] = queue.SimpleQueue()
        self.asked = 0
        self.fired_ns: int | None = None
        self.closed = threading.Event()
        self.answer_asking = False

    def read(self) -> np.ndarray | None:
        try:
            item = self.feed.get(timeout=0.05)
        except queue.Empty:
            return None
        if isinstance(item, CameraError):
            raise item
        if isinstance(item, threading.Event):
            item.wait(20)
            return None
        return np.full((4, 4, 3), item, np.uint8)

    def ask(self) -> int | None:
        self.asked += 1
        if not self.answer_asking:
            return None
        self.fired_ns = time.monotonic_ns()
        self.feed.put(100 + self.asked)
        return self.fired_ns

    def close(self) -> None:
        self.closed.set()


class Connections:
    """Hands out one stream after the other, or the reason why there is none."""

    def __init__(self, *items: FakeStream | CameraError) -> None:
        self.items = list(items)
        self.tries = 0

    def __call__(self) -> FrameStream:
        self.tries += 1
        item = self.items.pop(0) if len(self.items) > 1 else self.items[0]
        if isinstance(item, CameraError):
            raise item
        return item


@asynccontextmanager
async def running(
    connect: Callable[[], FrameStream],
    *,
    timeout_ms: float = 250.0,
    max_age_ms: float = 20.0,
    max_late_ms: float = 2000.0,
    latency_ms: float = 0.0,
) -> AsyncIterator[StreamCamera]:
    camera = StreamCamera(
        connect,
        name="cam",
        timeout_ms=timeout_ms,
        max_age_ms=max_age_ms,
        max_late_ms=max_late_ms,
        latency_ms=latency_ms,
        free=False,
    )
    await camera.start()
    try:
        yield camera
    finally:
        await camera.close()


async def until(holds: Callable[[], bool], limit_s: float = 5.0) -> None:
    async with asyncio.timeout(limit_s):
        while not holds():
            await asyncio.sleep(0.005)


async def number(camera: StreamCamera, moment_ns: int | None = None) -> int:
    frame = await camera.capture(PART, time.monotonic_ns() if moment_ns is None else moment_ns)
    assert frame.media_type == "image/bmp"
    return int(decode(frame.data, colour="BGR", ours=True).pixels[0, 0, 0])


async def test_a_part_waits_for_the_first_frame_of_its_moment() -> None:
    source = FakeStream()
    async with running(Connections(source), max_age_ms=0.0, timeout_ms=2000.0) as camera:
        source.feed.put(1)
        await asyncio.sleep(0.15)
        waiting = asyncio.create_task(number(camera))
        await asyncio.sleep(0.05)
        assert not waiting.done(), "the frame from before the part must not do"
        source.feed.put(2)
        assert await waiting == 2


async def test_without_a_frame_in_time_the_reason_is_said() -> None:
    source = FakeStream()
    async with running(Connections(source), timeout_ms=100.0) as camera:
        source.feed.put(1)
        await asyncio.sleep(0.15)
        begun_s = time.monotonic()
        with pytest.raises(
            CameraError, match=r"cam: no frame of the part's moment within 100 ms; the newest came \d+ ms"
        ):
            await number(camera)
        assert time.monotonic() - begun_s < 2.0


async def test_a_frame_from_too_long_after_the_part_is_not_its_own() -> None:
    """It would show the next part; so the part is not kept waiting for longer either."""
    source = FakeStream()
    async with running(Connections(source), timeout_ms=5000.0, max_late_ms=60.0) as camera:
        waiting = asyncio.create_task(number(camera))
        await asyncio.sleep(0.15)
        source.feed.put(1)
        with pytest.raises(
            CameraError, match=r"the newest is from 1\d\d ms after it, allowed is max_late_ms|from [2-9]\d\d ms"
        ):
            await waiting


async def test_a_part_whose_turn_came_too_late_takes_no_frame_of_a_software_trigger() -> None:
    source = FakeStream()
    source.answer_asking = True
    async with running(Connections(source), timeout_ms=1000.0, max_late_ms=60.0) as camera:
        with pytest.raises(CameraError, match="allowed is max_late_ms"):
            await number(camera, time.monotonic_ns() - 120_000_000)


async def test_the_latency_is_taken_off_the_arrival() -> None:
    source = FakeStream()
    async with running(Connections(source), latency_ms=300.0, max_age_ms=0.0, timeout_ms=2000.0) as camera:
        moment_ns, utc_ns = time.monotonic_ns(), time.time_ns()
        source.feed.put(1)
        waiting = asyncio.create_task(camera.capture(PART, moment_ns))
        await asyncio.sleep(0.4)
        assert not waiting.done(), "a frame that arrives within its latency was exposed before"
        source.feed.put(2)
        frame = await waiting
        assert utc_ns <= frame.captured_utc_ns <= time.time_ns() - 300_000_000


async def test_a_software_trigger_is_asked_for_at_each_part() -> None:
    source = FakeStream()
    source.answer_asking = True
    async with running(Connections(source), timeout_ms=2000.0) as camera:
        assert [await number(camera) for _ in range(3)] == [101, 102, 103]
        assert source.asked == 3


async def test_a_lost_camera_says_why_at_once_and_comes_back_by_itself() -> None:
    first, second = FakeStream(), FakeStream()
    connect = Connections(first, CameraError("cam: unreachable: refused"), second)
    async with running(connect) as camera:
        assert camera.trouble is None
        waiting = asyncio.create_task(number(camera))
        await asyncio.sleep(0.02)
        first.feed.put(CameraError("cam: the stream ended"))
        with pytest.raises(CameraError, match="camera lost: cam: the stream ended"):
            await waiting
        assert first.closed.wait(1)
        await until(lambda: camera.trouble == "cam: unreachable: refused")
        begun_s = time.monotonic()
        with pytest.raises(CameraError, match="camera lost: cam: unreachable: refused"):
            await number(camera)
        assert time.monotonic() - begun_s < 0.2, "a part must not wait for a camera that is known to be gone"
        await until(lambda: camera.trouble is None)
        assert connect.tries == 3
        second.feed.put(7)
        assert await number(camera) == 7


async def test_a_camera_that_is_not_there_at_the_start_is_in_trouble() -> None:
    connect = Connections(CameraError("cam: /dev/video9 is not there"))
    async with running(connect) as camera:
        assert camera.trouble == "cam: /dev/video9 is not there"
        await until(lambda: connect.tries >= 3)


async def test_a_driver_that_never_answers_holds_up_nobody() -> None:
    """The first stream's read never returns: parts get their reason, a new connection is made, the end isn't delayed."""
    first, second = FakeStream(), FakeStream()
    lock = threading.Event()
    camera = StreamCamera(
        Connections(first, second),
        name="cam",
        timeout_ms=100.0,
        max_age_ms=20.0,
        max_late_ms=100.0,
        latency_ms=0.0,
        free=False,
        hung_s=0.5,
    )
    await camera.start()
    first.feed.put(lock)
    await asyncio.sleep(0.1)
    with pytest.raises(CameraError, match="no frame of the part's moment"):
        await number(camera)
    await until(lambda: camera.trouble is not None)
    assert "the driver has not answered" in str(camera.trouble)
    await until(lambda: camera.trouble is None)
    second.feed.put(5)
    assert await number(camera) == 5
    second.feed.put(lock)
    await asyncio.sleep(0.1)
    begun_s = time.monotonic()
    await camera.close()
    assert time.monotonic() - begun_s < stream.CLOSE_LIMIT_S + 1.0
    lock.set()


async def test_a_free_running_camera_that_falls_silent_is_lost_within_three_seconds() -> None:
    source, pace = FakeStream(), threading.Event()

    def send() -> None:
        while not pace.wait(0.04):
            source.feed.put(3)

    threading.Thread(target=send, daemon=True).start()
    camera = StreamCamera(
        Connections(source), name="cam", timeout_ms=250.0, max_age_ms=20.0, max_late_ms=250.0, latency_ms=0.0
    )
    await camera.start()
    assert camera.trouble is None
    assert await number(camera) == 3
    pace.set()
    begun_s = time.monotonic()
    await until(lambda: camera.trouble is not None)
    assert 1.5 < time.monotonic() - begun_s < 3.0
    assert "cam: no frame for 20" in str(camera.trouble)
    await camera.close()
