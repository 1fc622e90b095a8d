"""Video through OpenCV: an RTSP or other stream, a USB device, or a file that is played again and again."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from urllib.parse import quote, urlsplit

import cv2
import numpy as np

from bridge.errors import CameraError, first_line
from bridge.inputs.cameras.frames import Pixels
from bridge.inputs.cameras.stream import StreamCamera

OPEN_MS = 2500
READ_MS = 2000
_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "rtmp": 1935}
_USUAL_FPS = 25.0


def video_camera(
    source: str,
    *,
    username: str,
    password: str,
    timeout_ms: float,
    max_age_ms: float,
    max_late_ms: float,
    latency_ms: float,
) -> StreamCamera:
    """Make a camera of a stream's address, a device or a file."""
    return StreamCamera(
        lambda: VideoStream(source, username=username, password=password),
        name=f"video {source}",
        timeout_ms=timeout_ms,
        max_age_ms=max_age_ms,
        max_late_ms=max_late_ms,
        latency_ms=latency_ms,
    )


class VideoStream:
    """One opened video; `source` holds no log-in, so it may stand in a message."""

    fired_ns: int | None = None

    def __init__(self, source: str, *, username: str = "", password: str = "") -> None:
        """Open it, for 2.5 s at most; raises CameraError."""
        self._source = source
        self._file = "://" not in source and Path(source).is_file()
        # FFmpeg writes to stderr at each attempt, with the log-in in the address
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        self._capture = _open(source, username, password)
        if not self._capture.isOpened():
            self._capture.release()
            raise CameraError(f"video {source}: {_why_closed(source)}")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self._pause_s = 1.0 / (fps if 0 < fps <= 1000 else _USUAL_FPS)
        self._due_s = time.monotonic()
        self._seen = False

    def read(self) -> Pixels | None:
        """Give the next frame, waiting for it up to 2 s; a file's at its own pace. Raises CameraError."""
        begun_s = time.monotonic()
        try:
            done, pixels = self._capture.read()
            if not done and self._file and self._seen:
                self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
                done, pixels = self._capture.read()
        except cv2.error as exc:
            raise CameraError(f"video {self._source}: {first_line(exc)}") from exc
        if not done:
            waited_ms = (time.monotonic() - begun_s) * 1e3
            gone = f"no frame for {waited_ms:.0f} ms" if waited_ms > READ_MS * 0.9 else "the stream ended"
            raise CameraError(f"video {self._source}: {gone}")
        self._seen = True
        if self._file:
            self._due_s = max(self._due_s + self._pause_s, time.monotonic() - self._pause_s)
            time.sleep(max(0.0, self._due_s - time.monotonic()))
        return np.asarray(pixels, dtype=np.uint8)

    def ask(self) -> int | None:
        """Do nothing: a video runs by itself."""
        return None

    def close(self) -> None:
        """Release the device or the connection."""
        self._capture.release()


def _open(source: str, username: str, password: str) -> cv2.VideoCapture:
    if source.isdecimal() or source.startswith("/dev/"):
        capture = cv2.VideoCapture(int(source) if source.isdecimal() else source, cv2.CAP_V4L2)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        return capture
    scheme, mark, rest = source.partition("://")
    login = f"{quote(username, safe='')}:{quote(password, safe='')}@" if mark and username else ""
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_MS]
    return cv2.VideoCapture(f"{scheme}{mark}{login}{rest}" if mark else source, cv2.CAP_FFMPEG, limits)


def _why_closed(source: str) -> str:
    """Find out why a video could not be opened, which OpenCV does not tell."""
    if "://" not in source:
        path = Path("/dev/video" + source if source.isdecimal() else source)
        return "can't be opened as video: in use, no right to, or no video" if path.exists() else f"{path} is not there"
    try:
        parts = urlsplit(source)
        port = parts.port or _PORTS.get(parts.scheme)
        if not parts.hostname or port is None:
            return "can't be opened"
        socket.create_connection((parts.hostname, port), timeout=1.0).close()
    except (OSError, ValueError) as exc:
        return f"unreachable: {getattr(exc, 'strerror', None) or exc}"
    return "reached, but it gives no video: a wrong path, a wrong log-in, or a format that can't be decoded"
