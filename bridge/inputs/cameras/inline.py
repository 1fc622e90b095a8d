"""The camera that takes what the trigger brought: the picture itself, or its name below the image folder."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bridge.domain.part import ImagePath, InlineImage, Part
from bridge.errors import CameraError
from bridge.inputs.cameras.picture_file import read_below
from bridge.inputs.cameras.picture_format import media_type_of
from bridge.ports import Camera, Frame

BLIND = 3
"""So many triggers in a row without a usable picture are a lost camera: it is at their source."""


class InlineCamera:
    """Gives a part the frame that came with its trigger; the exposure counts as taken at the trigger."""

    def __init__(self, *, image_folder: Path, max_bytes: int = 16_000_000) -> None:
        self._image_folder = image_folder
        self._max_bytes = max_bytes
        self._failures = 0
        self._reason = ""

    async def start(self) -> None:
        """Do nothing: the camera is elsewhere."""

    async def close(self) -> None:
        """Do nothing."""

    @property
    def trouble(self) -> str | None:
        """The reason of the last one, once three triggers in a row brought no usable picture."""
        if self._failures < BLIND:
            return None
        return f"{self._failures} triggers in a row without a usable picture, the last: {self._reason}"

    async def capture(self, part: Part, moment_ns: int) -> Frame:
        """Give the trigger's own frame; a file is read off the loop. Raises CameraError."""
        try:
            frame = await self._frame(part)
        except CameraError as exc:
            self._failures += 1
            self._reason = str(exc)
            raise
        self._failures = 0
        return frame

    async def _frame(self, part: Part) -> Frame:
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


class TriggerFirst:
    """Gives the picture that a trigger brought, and asks the station's own camera where it brought none."""

    def __init__(self, camera: Camera, inline: InlineCamera) -> None:
        self._camera = camera
        self._inline = inline

    async def start(self) -> None:
        """Start the station's own camera."""
        await self._camera.start()

    async def close(self) -> None:
        """Close the station's own camera."""
        await self._camera.close()

    @property
    def trouble(self) -> str | None:
        """What ails the station's own camera."""
        return self._camera.trouble

    async def capture(self, part: Part, moment_ns: int) -> Frame:
        """Give the part's frame; raises CameraError."""
        camera = self._camera if part.trigger.image is None else self._inline
        return await camera.capture(part, moment_ns)


def frame_of(data: bytes, part: Part, *, name: str) -> Frame:
    """Make a frame of encoded bytes, exposed at the part's trigger. Raises CameraError."""
    return Frame(data=data, media_type=media_type_of(data, name=name), captured_utc_ns=part.triggered_utc_ns)
