"""The camera that replays a folder of pictures, for a line without a camera: commissioning, training, demonstrations."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

from bridge.domain.part import Part
from bridge.errors import CameraError
from bridge.inputs.cameras.picture_file import read_below
from bridge.inputs.cameras.picture_format import media_type_of
from bridge.ports import Frame

SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
LOOK_S = 1.0
SILENT_S = 2.5


class FolderCamera:
    """Gives the part with sequence 1 the first picture of `folder` by name, and so on round and round.

    By the sequence, because a part that got its verdict without a picture, or a restart, must not shift all others. The
    folder is listed anew at each round, so pictures may be added. A thread looks each second whether it is still
    there: a file server that hangs must not hold up the station.
    """

    def __init__(self, *, folder: Path, max_bytes: int = 16_000_000) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._names: list[str] = []
        self._closing = threading.Event()
        self._looked: tuple[float, str | None] = (time.monotonic(), None)
        self._thread = threading.Thread(target=self._look_after, name="linegate-folder", daemon=True)

    async def start(self) -> None:
        """Look at the folder for the first time, then again and again."""
        self._thread.start()

    async def close(self) -> None:
        """End the watch."""
        self._closing.set()

    @property
    def trouble(self) -> str | None:
        """Why no picture can be had just now."""
        looked_s, trouble = self._looked
        silent_s = time.monotonic() - looked_s
        if self._thread.is_alive() and silent_s > SILENT_S:
            return f"the camera's folder {self._folder} has not answered for {silent_s:.0f} s"
        return trouble

    async def capture(self, part: Part, moment_ns: int) -> Frame:
        """Give the part's picture, read off the loop. Raises CameraError."""
        before = part.sequence - 1
        if not self._names or before % len(self._names) == 0:
            self._names = await asyncio.to_thread(_list_pictures, self._folder)
        name = self._names[before % len(self._names)]
        captured_utc_ns = time.time_ns()
        data = await asyncio.to_thread(read_below, self._folder, name, max_bytes=self._max_bytes)
        media_type = media_type_of(data, name=f"picture {name!r}")
        return Frame(data=data, media_type=media_type, captured_utc_ns=captured_utc_ns)

    def _look_after(self) -> None:
        while True:
            try:
                _list_pictures(self._folder)
            except CameraError as exc:
                self._looked = (time.monotonic(), str(exc))
            else:
                self._looked = (time.monotonic(), None)
            if self._closing.wait(LOOK_S):
                return


def _list_pictures(folder: Path) -> list[str]:
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.suffix.lower() in SUFFIXES)
    except OSError as exc:
        raise CameraError(f"the camera's folder {folder} can't be listed: {exc.strerror}") from exc
    if not names:
        raise CameraError(f"the camera's folder {folder} holds no picture (.jpg, .jpeg, .png)")
    return names
