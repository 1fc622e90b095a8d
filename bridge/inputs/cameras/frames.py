"""The frames of a camera that streams by itself: which are fresh, and which of them is a part's own."""

from __future__ import annotations

import struct
import threading
from collections import deque
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from bridge.errors import CameraError

Pixels = NDArray[np.uint8]
KEPT_NS = 1_000_000_000
KEPT_BYTES = 64_000_000
SETTLE_NS = 500_000_000
RELEARN_NS = 2_000_000_000
QUICK, SLOW = 0.4, 3.0
_LEARNT = 15
_GREYS = b"".join(bytes((grey, grey, grey, 0)) for grey in range(256))


def bitmap(pixels: Pixels) -> bytes:
    """Encode pixels, [h, w, 3] as BGR or [h, w], as BMP: one copy, a third of the time that OpenCV takes.

    Little-endian: "BM" size(4) 0(4) offset(4), 40(4) width(4) -height(4, the top row first) 1(2) bits(2), no compression
    and defaults(24), the greys as a palette, then rows filled up to 4 bytes. Raises CameraError for another shape.
    """
    if pixels.dtype != np.uint8 or pixels.size == 0 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)):
        raise CameraError(f"the camera's frame of {pixels.shape} {pixels.dtype} can't be encoded")
    height, width = pixels.shape[:2]
    palette = b"" if pixels.ndim == 3 else _GREYS
    rows = pixels.reshape(height, -1)
    if rows.shape[1] % 4:
        rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4)))
    offset = 54 + len(palette)
    sizes = struct.pack("<2sIII", b"BM", offset + rows.size, 0, offset)
    header = struct.pack("<IiiHH24x", 40, width, -height, 1, 8 if palette else 24)
    return b"".join((sizes, header, palette, np.ascontiguousarray(rows).data))


@dataclass(frozen=True, slots=True, kw_only=True)
class RawFrame:
    """One decoded frame and when its exposure started, by both clocks."""

    pixels: Pixels
    exposed_ns: int
    exposed_utc_ns: int


class Cadence:
    """Tell frames that arrive as the camera takes them from those that had queued up on the way.

    A frame that follows in less than 0.4 of the usual time was waiting already; one that comes after three times as long
    was held up, and so may those behind it. They show a moment long past, so they count for no part until the pace is
    the usual one again; after 2 s of another pace that one is the usual. In the first 0.5 s of a connection, when
    servers send what they have stored, no frame counts.
    """

    def __init__(self) -> None:
        self._begun_ns: int | None = None
        self._before_ns = 0
        self._usual: deque[int] = deque(maxlen=_LEARNT)
        self._odd_since_ns: int | None = None

    def live(self, arrived_ns: int) -> bool:
        """Whether the frame that arrives now shows the present."""
        if self._begun_ns is None:
            self._begun_ns = self._before_ns = arrived_ns
            return False
        step, self._before_ns = arrived_ns - self._before_ns, arrived_ns
        if arrived_ns - self._begun_ns < SETTLE_NS:
            self._usual.append(step)
            return False
        usual = median(self._usual) if self._usual else step
        if QUICK * usual <= step <= SLOW * usual:
            self._usual.append(step)
            self._odd_since_ns = None
            return True
        if self._odd_since_ns is None:
            self._odd_since_ns = arrived_ns
        elif arrived_ns - self._odd_since_ns > RELEARN_NS:
            self._usual.clear()
        return False


class RecentFrames:
    """Hold the frames of the last second, at most 64 MB of them but always the newest; any thread may call.

    More than the newest one is held because parts are judged one after the other: when a part's turn comes late, the
    newest frame may show the part behind it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frames: deque[RawFrame] = deque()
        self._bytes = 0
        self._given_ns = -1

    def add(self, frame: RawFrame) -> None:
        """Take the newest frame."""
        with self._lock:
            self._frames.append(frame)
            self._bytes += frame.pixels.nbytes
            while len(self._frames) > 1 and (
                self._bytes > KEPT_BYTES or self._frames[0].exposed_ns < frame.exposed_ns - KEPT_NS
            ):
                self._bytes -= self._frames.popleft().pixels.nbytes

    def take(self, moment_ns: int, *, before_ns: int, after_ns: int) -> RawFrame | None:
        """Give the frame exposed nearest to a moment, from `before_ns` before it to `after_ns` after it.

        No frame is given twice, and none older than one that was given.
        """
        with self._lock:
            fitting = [
                frame
                for frame in self._frames
                if moment_ns - before_ns <= frame.exposed_ns <= moment_ns + after_ns
                and frame.exposed_ns > self._given_ns
            ]
            if not fitting:
                return None
            nearest = min(fitting, key=lambda frame: abs(frame.exposed_ns - moment_ns))
            self._given_ns = nearest.exposed_ns
            return nearest

    @property
    def newest_ns(self) -> int:
        """When the newest frame was exposed, -1 without one."""
        with self._lock:
            return self._frames[-1].exposed_ns if self._frames else -1

    def clear(self) -> None:
        """Let all frames go: their connection is lost."""
        with self._lock:
            self._frames.clear()
            self._bytes = 0
