"""A camera that streams: a thread reads its frames, reconnects and is given up when it hangs; the loop only looks."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Callable
from typing import Protocol

from bridge.domain.part import Part
from bridge.errors import CameraError
from bridge.inputs.cameras.frames import Cadence, Pixels, RawFrame, RecentFrames, bitmap
from bridge.ports import BITMAP, Frame

SILENT_NS = 2_000_000_000
STALE_NS = 5_000_000_000
HUNG_S = 10.0
START_LIMIT_S = 3.0
CLOSE_LIMIT_S = 3.0
LONGEST_PAUSE_S = 5.0
_FIRST_PAUSE_S = 0.25
_LOOK_S = 0.1
_MOST_HUNG = 3


class FrameStream(Protocol):
    """One connection to a camera; `ask` apart, one thread alone calls it.

    `fired_ns` is when the frame just read was exposed, for a camera that the bridge itself triggers; else None.
    """

    fired_ns: int | None

    def read(self) -> Pixels | None:
        """Give the next frame, None when none came for a while and that is no fault; raises CameraError when lost."""

    def ask(self) -> int | None:
        """Take note that a part is at the camera: one with a software trigger exposes now. Never blocks.

        Gives the moment before which no frame is this part's, None for a camera that exposes by itself.
        """

    def close(self) -> None:
        """End the connection."""


class _Reader(threading.Thread):
    """One attempt at a connection. A daemon: native code that never returns must not hold up the process's end."""

    def __init__(self, connect: Callable[[], FrameStream], take: Callable[[_Reader, Pixels, int], None]) -> None:
        super().__init__(name="linegate-camera-reader", daemon=True)
        self._connect = connect
        self._take = take
        self.stopped = threading.Event()
        self.ended = threading.Event()
        self.stream: FrameStream | None = None
        self.cadence = Cadence()
        self.sign_ns = time.monotonic_ns()
        self.frames = 0
        self.reason = "the camera's thread broke off"

    def run(self) -> None:
        """Read frames until stopped or lost."""
        try:
            with contextlib.closing(self._connect()) as stream:
                self.stream = stream
                while not self.stopped.is_set():
                    pixels = stream.read()
                    self.sign_ns = time.monotonic_ns()
                    if pixels is not None and not self.stopped.is_set():
                        self.frames += 1
                        self._take(self, pixels, self.sign_ns)
        except CameraError as exc:
            self.reason = str(exc)
        finally:
            self.stream = None
            self.ended.set()


class StreamCamera:
    """Give each part the frame of its own moment out of a stream that `connect` opens.

    `free` is false for a camera that exposes on a trigger alone: then silence is no loss, and no pace is expected.
    `latency_ms` is taken off a frame's arrival. A part's frame may be exposed from `max_age_ms` before the part's moment to
    `max_late_ms` after it, and is waited for until `timeout_ms` and the latency after it. A driver that hasn't answered for
    `hung_s` is given up, with its thread.
    """

    def __init__(
        self,
        connect: Callable[[], FrameStream],
        *,
        name: str,
        timeout_ms: float,
        max_age_ms: float,
        max_late_ms: float,
        latency_ms: float,
        free: bool = True,
        hung_s: float = HUNG_S,
    ) -> None:
        self._connect = connect
        self._name = name
        self._timeout_ns = round(timeout_ms * 1e6)
        self._max_age_ns = round(max_age_ms * 1e6)
        self._max_late_ns = round(max_late_ms * 1e6)
        self._latency_ns = round(latency_ms * 1e6)
        self._free = free
        self._hung_s = hung_s
        self._recent = RecentFrames()
        self._lost: str | None = f"{name}: not connected yet"
        self._arrived_ns = self._live_ns = time.monotonic_ns()
        self._reader: _Reader | None = None
        self._hung: list[_Reader] = []
        self._closing = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()
        self._thread = threading.Thread(target=self._stay_connected, name="linegate-camera", daemon=True)

    async def start(self) -> None:
        """Connect; returns once frames come or the first attempt has failed, after 3 s at most."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_LIMIT_S):
                await self._news.wait()

    async def close(self) -> None:
        """End the connection; a thread that hangs in native code is left behind."""
        self._closing.set()
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join, CLOSE_LIMIT_S)

    @property
    def trouble(self) -> str | None:
        """Why no frame can be had just now."""
        if self._lost is not None or not self._free:
            return self._lost
        now_ns = time.monotonic_ns()
        if now_ns - self._arrived_ns > SILENT_NS:
            return f"{self._name}: no frame for {(now_ns - self._arrived_ns) / 1e6:.0f} ms"
        if now_ns - self._live_ns > STALE_NS:
            return f"{self._name}: its frames come late or irregularly, or faster than they can be decoded"
        return None

    async def capture(self, part: Part, moment_ns: int) -> Frame:
        """Give the frame exposed nearest to `moment_ns`, waiting for it if it is still to come. Raises CameraError."""
        if (trouble := self.trouble) is not None:
            raise CameraError(f"camera lost: {trouble}")
        stream = self._reader.stream if self._reader is not None else None
        asked_ns = None if stream is None else stream.ask()
        self._news.clear()
        while (raw := self._take(moment_ns, asked_ns)) is None:
            left_ns = moment_ns + self._timeout_ns + self._latency_ns - time.monotonic_ns()
            if self._lost is not None:
                raise CameraError(f"camera lost: {self._lost}")
            if left_ns <= 0 or self._recent.newest_ns > moment_ns + self._max_late_ns:
                raise CameraError(f"{self._name}: {self._why_none(moment_ns)}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), left_ns / 1e9)
            self._news.clear()
        return Frame(data=bitmap(raw.pixels), media_type=BITMAP, captured_utc_ns=raw.exposed_utc_ns)

    def _take(self, moment_ns: int, asked_ns: int | None) -> RawFrame | None:
        if asked_ns is not None:
            return self._recent.take(asked_ns, before_ns=0, after_ns=moment_ns + self._max_late_ns - asked_ns)
        return self._recent.take(moment_ns, before_ns=self._max_age_ns, after_ns=self._max_late_ns)

    def _why_none(self, moment_ns: int) -> str:
        late_ms = (self._recent.newest_ns - moment_ns) / 1e6
        if late_ms * 1e6 > self._max_late_ns:
            return (
                f"no frame of the part's moment; the newest is from {late_ms:.0f} ms after it, allowed is max_late_ms"
            )
        ms = (time.monotonic_ns() - self._arrived_ns) / 1e6
        limit_ms = self._timeout_ns / 1e6
        return f"no frame of the part's moment within {limit_ms:g} ms; the newest came {ms:.0f} ms ago"

    # -- the camera's own threads ----------------------------------------------------------------------------------

    def _arrived(self, reader: _Reader, pixels: Pixels, now_ns: int) -> None:
        if reader is not self._reader:
            return  # it hung, was given up, and came back
        live = not self._free or reader.cadence.live(now_ns)
        self._arrived_ns = now_ns
        if live:
            self._live_ns = now_ns
            fired_ns = reader.stream.fired_ns if reader.stream is not None else None
            exposed_ns = now_ns - self._latency_ns if fired_ns is None else fired_ns
            utc_ns = time.time_ns() - (now_ns - exposed_ns)
            self._recent.add(RawFrame(pixels=pixels, exposed_ns=exposed_ns, exposed_utc_ns=utc_ns))
            self._set(None)

    def _set(self, lost: str | None) -> None:
        self._lost = lost
        with contextlib.suppress(RuntimeError):  # the loop has ended a moment ago
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._news.set)

    def _stay_connected(self) -> None:
        failures = 0
        while not self._closing.is_set():
            self._hung = [reader for reader in self._hung if reader.is_alive()]
            if len(self._hung) < _MOST_HUNG:
                reader = self._reader = _Reader(self._connect, self._arrived)
                reader.start()
                self._watch(reader)
                failures = 0 if reader.frames else failures + 1
            pause_s = min(LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(failures, 6)) * random.uniform(0.7, 1.0)
            self._closing.wait(pause_s)

    def _watch(self, reader: _Reader) -> None:
        """Return when a connection has ended, was told to, or hangs."""
        while not reader.ended.wait(_LOOK_S):
            if self._closing.is_set():
                reader.stopped.set()
                reader.ended.wait(CLOSE_LIMIT_S - 2 * _LOOK_S)
                return
            if not self._free and reader.stream is not None and self._lost is not None:
                self._set(None)
            if time.monotonic_ns() - reader.sign_ns > self._hung_s * 1e9:
                reader.stopped.set()
                reader.reason = f"{self._name}: the driver has not answered for {self._hung_s:g} s"
                self._hung.append(reader)
                break
        self._recent.clear()
        self._set(reader.reason)
