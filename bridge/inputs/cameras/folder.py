"""The camera that replays a folder of pictures, for a line without a camera: commissioning, training, demonstrations."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from pathlib import Path

from bridge.domain.part import Part
from bridge.errors import CameraError
from bridge.inputs.cameras.inline import InlineCamera
from bridge.inputs.cameras.picture_file import read_below
from bridge.inputs.cameras.picture_format import media_type_of
from bridge.ports import Frame

SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})


class FolderCamera:
    """Gives each part without an image the next picture of `folder`, by name, and begins again after the last.

    The folder is listed anew at each round, so pictures may be added. A trigger that brings its own image keeps it.
    """

    def __init__(self, *, folder: Path, image_folder: Path, max_bytes: int = 16_000_000) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._inline = InlineCamera(image_folder=image_folder, max_bytes=max_bytes)
        self._round: deque[str] = deque()

    async def capture(self, part: Part) -> Frame:
        """Give the next picture, read off the loop. Raises CameraError."""
        if part.trigger.image is not None:
            return await self._inline.capture(part)
        if not self._round:
            self._round.extend(await asyncio.to_thread(_list_pictures, self._folder))
        name = self._round.popleft()
        captured_utc_ns = time.time_ns()
        data = await asyncio.to_thread(read_below, self._folder, name, max_bytes=self._max_bytes)
        media_type = media_type_of(data, name=f"picture {name!r}")
        return Frame(data=data, media_type=media_type, captured_utc_ns=captured_utc_ns)


def _list_pictures(folder: Path) -> list[str]:
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.suffix.lower() in SUFFIXES)
    except OSError as exc:
        raise CameraError(f"the camera's folder {folder} can't be listed: {exc.strerror}") from exc
    if not names:
        raise CameraError(f"the camera's folder {folder} holds no picture (.jpg, .jpeg, .png)")
    return names
