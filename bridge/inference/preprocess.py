"""Turn decoded pixels into the model's input tensor, and boxes of the input back into pixels of the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bridge.errors import CameraError
from bridge.inference.manifest import InputSpec
from bridge.inference.picture import Picture, Pixels

Roi = tuple[int, int, int, int]
Box = tuple[int, int, int, int]
_INTERPOLATION = {"linear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA}


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where the region of interest lies in the input: at (`left`, `top`), `width` x `height` input pixels.

    `roi` is (x, y, w, h) in pixels of the original picture.
    """

    left: int
    top: int
    width: int
    height: int
    roi: Roi

    def box(self, x0: float, y0: float, x1: float, y1: float) -> Box | None:
        """Map a box of the input to (x, y, w, h) in the original picture, clipped; None where it lies in the padding."""
        x, y, width, height = self.roi
        across, down = width / self.width, height / self.height
        left = min(max((x0 - self.left) * across, 0.0), width)
        right = min(max((x1 - self.left) * across, 0.0), width)
        upper = min(max((y0 - self.top) * down, 0.0), height)
        lower = min(max((y1 - self.top) * down, 0.0), height)
        w, h = round(right) - round(left), round(lower) - round(upper)
        return (x + round(left), y + round(upper), w, h) if w > 0 and h > 0 else None


class Preprocessor:
    """Fills one input tensor, allocated once; the caller must be done with it before the next `fill`."""

    def __init__(self, spec: InputSpec) -> None:
        self._spec = spec
        self.tensor: NDArray[Any] = np.zeros(spec.shape, np.dtype(spec.dtype))
        plane = self.tensor[0]
        direct = spec.dtype == "uint8" and spec.layout == "NHWC"
        self._direct = direct
        # Resizing writes straight into a uint8 NHWC tensor; any other is filled from this buffer.
        self._staging: Pixels = plane if direct else np.zeros((spec.height, spec.width, spec.channels), np.uint8)
        self._tables = _tables(spec)
        if spec.resize == "letterbox":
            self._staging.fill(spec.pad)
        self._last: Placement | None = None

    def fill(self, picture: Picture, roi: Roi | None = None) -> Placement:
        """Crop, resize, order and normalise `picture` into `tensor`; raises CameraError where `roi` is not inside it.

        `roi` is in pixels of the original picture, also after a reduced decode.
        """
        spec = self._spec
        x, y, w, h = roi or (0, 0, picture.width, picture.height)
        if x < 0 or y < 0 or w < 1 or h < 1 or x + w > picture.width or y + h > picture.height:
            size = f"{picture.width} x {picture.height}"
            raise CameraError(f"the region of interest {[x, y, w, h]} does not lie in the picture of {size} pixels")
        placement = _place(spec, (x, y, w, h))
        if spec.resize == "letterbox" and placement != self._last:
            self._staging.fill(spec.pad)
        self._last = placement
        target = self._staging[placement.top : placement.top + placement.height, placement.left :][:, : placement.width]
        source = picture.pixels if roi is None else _crop(picture, (x, y, w, h))
        resized = cv2.resize(
            source, (placement.width, placement.height), dst=target, interpolation=_INTERPOLATION[spec.interpolation]
        )
        if not np.shares_memory(resized, target):
            target[...] = resized.reshape(target.shape)
        if not self._direct:
            self._convert()
        return placement

    def _convert(self) -> None:
        """Move the staged bytes into a tensor of another layout or type: a table look-up for each byte and channel."""
        plane = self.tensor[0]
        for channel in range(self._spec.channels):
            out = plane[channel] if self._spec.layout == "NCHW" else plane[..., channel]
            layer = cv2.extractChannel(self._staging, channel)
            out[...] = layer if self._tables is None else cv2.LUT(layer, self._tables[channel])


def _tables(spec: InputSpec) -> list[NDArray[np.float32]] | None:
    """Compute (byte - mean) / std once for every byte and channel."""
    if spec.dtype == "uint8":
        return None
    levels = np.arange(256, dtype=np.float64)
    means, stds = spec.mean or (0.0,) * spec.channels, spec.std or (1.0,) * spec.channels
    return [((levels - mean) / std).astype(np.float32) for mean, std in zip(means, stds, strict=True)]


def _place(spec: InputSpec, roi: Roi) -> Placement:
    if spec.resize == "stretch":
        return Placement(left=0, top=0, width=spec.width, height=spec.height, roi=roi)
    scale = min(spec.width / roi[2], spec.height / roi[3])
    width, height = max(1, round(roi[2] * scale)), max(1, round(roi[3] * scale))
    return Placement(
        left=(spec.width - width) // 2, top=(spec.height - height) // 2, width=width, height=height, roi=roi
    )


def _crop(picture: Picture, roi: Roi) -> Pixels:
    rows, columns = picture.pixels.shape[:2]
    across, down = columns / picture.width, rows / picture.height
    left, upper = round(roi[0] * across), round(roi[1] * down)
    right, lower = round((roi[0] + roi[2]) * across), round((roi[1] + roi[3]) * down)
    left, upper = min(left, columns - 1), min(upper, rows - 1)
    return picture.pixels[upper : max(lower, upper + 1), left : max(right, left + 1)]
