"""The camera that takes what the trigger brought: the picture itself, or its name below the image folder."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bridge.domain.part import ImagePath, InlineImage, Part
from bridge.errors import CameraError
from bridge.inputs.cameras.picture_file import read_below
from bridge.inputs.cameras.picture_format import media_type_of
from bridge.ports import Frame


class InlineCamera:
    """Gives a part the frame that came with its trigger; the exposure counts as taken at the trigger."""

    def __init__(self, *, image_folder: Path, max_bytes: int = 16_000_000) -> None:
        self._image_folder = image_folder
        self._max_bytes = max_bytes

    async def capture(self, part: Part) -> Frame:
        """Give the trigger's own frame; a file is read off the loop. Raises CameraError."""
        image = part.trigger.image
        if isinstance(image, InlineImage):
            return frame_of(image.data, part, name="the trigger's picture")
        if isinstance(image, ImagePath):
            data = await asyncio.to_thread(read_below, self._image_folder, image.path, max_bytes=self._max_bytes)
            return frame_of(data, part, name=f"picture {image.path!r}")
        raise CameraError(
            "the trigger brought no image and the station's camera is inline: send image.data or image.path, "
            "or set another camera"
        )


def frame_of(data: bytes, part: Part, *, name: str) -> Frame:
    """Make a frame of encoded bytes, exposed at the part's trigger. Raises CameraError."""
    return Frame(data=data, media_type=media_type_of(data, name=name), captured_utc_ns=part.triggered_utc_ns)
