"""Decode a JPEG or PNG picture, or the BMP of a camera of ours, whole or not at all.

Pixels stay as they are stored: the orientation that a file may name in its EXIF data is ignored, for JPEG and PNG, at
every reduction. A camera that is fixed above a belt is never turned, the region of interest and the boxes of a verdict
are in pixels as stored, and a model must not see another picture because a camera's setting changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from bridge.errors import CameraError, first_line
from bridge.inference import bmp, jpeg, png
from bridge.inference.bmp import BmpHeader, read_bmp_header
from bridge.inference.jpeg import JpegHeader, decode_jpeg, read_jpeg_header
from bridge.inference.png import PngHeader, pixels_alone, read_png_header
from bridge.inference.settings import MAX_PIXELS

Colour = Literal["RGB", "BGR", "GREY"]
Pixels = NDArray[np.uint8]
Header = JpegHeader | PngHeader | BmpHeader

_FLAGS: Mapping[tuple[str, int], int] = MappingProxyType(
    {
        ("RGB", 1): cv2.IMREAD_COLOR_RGB,
        ("BGR", 1): cv2.IMREAD_COLOR,
        ("GREY", 1): cv2.IMREAD_GRAYSCALE,
        # the reduced flags hold IMREAD_COLOR's bit, which rules RGB out: take it off
        **{
            ("RGB", n): _flag & ~cv2.IMREAD_COLOR | cv2.IMREAD_COLOR_RGB
            for n, _flag in (
                (2, cv2.IMREAD_REDUCED_COLOR_2),
                (4, cv2.IMREAD_REDUCED_COLOR_4),
                (8, cv2.IMREAD_REDUCED_COLOR_8),
            )
        },
        ("BGR", 2): cv2.IMREAD_REDUCED_COLOR_2,
        ("BGR", 4): cv2.IMREAD_REDUCED_COLOR_4,
        ("BGR", 8): cv2.IMREAD_REDUCED_COLOR_8,
        ("GREY", 2): cv2.IMREAD_REDUCED_GRAYSCALE_2,
        ("GREY", 4): cv2.IMREAD_REDUCED_GRAYSCALE_4,
        ("GREY", 8): cv2.IMREAD_REDUCED_GRAYSCALE_8,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Decoded pixels, uint8 [h, w, 3] or [h, w], and the original's size, from which a reduced decode differs."""

    pixels: Pixels
    width: int
    height: int


def decode(
    data: bytes, *, colour: Colour, reduction: int = 1, max_pixels: int = MAX_PIXELS, ours: bool = False
) -> Picture:
    """Decode a whole picture at 1/`reduction` (1, 2, 4 or 8) of its size; raises CameraError.

    A picture that is cut off anywhere is refused, even where somebody has set an end marker behind the cut, and so is
    one whose damage the decoder notices. 16 bits a colour become their upper 8, and transparency is dropped. `ours`
    lets in BMP, which only the bridge's own cameras make.
    """
    header = read_header(data, ours=ours)
    if header.width * header.height > max_pixels:
        claim = f"{header.width} x {header.height}"
        raise CameraError(f"picture of {claim} pixels is too large: allowed are {max_pixels}")
    if isinstance(header, JpegHeader):
        pixels = decode_jpeg(data, header, colour=colour, reduction=reduction)
    else:
        # what is smaller than the reduction would vanish
        size = reduction if min(header.width, header.height) >= reduction else 1
        plain = pixels_alone(data, header) if isinstance(header, PngHeader) else data
        pixels = _decode(plain, _FLAGS[colour, size])
    return Picture(pixels=pixels, width=header.width, height=header.height)


def read_header(data: bytes, *, ours: bool = False) -> Header:
    """Read kind and size from the first bytes, decoding nothing; raises CameraError."""
    if data.startswith(jpeg.START):
        header: Header = read_jpeg_header(data)
    elif data.startswith(png.START):
        header = read_png_header(data)
    elif ours and data.startswith(bmp.START):
        header = read_bmp_header(data)
    elif not data:
        raise CameraError("the picture is empty")
    else:
        raise CameraError(f"unreadable picture: neither JPEG nor PNG, it begins with {data[:4].hex()}")
    if header.width < 1 or header.height < 1:
        raise CameraError(f"unreadable picture: it says it has {header.width} x {header.height} pixels")
    return header


def _decode(data: bytes, flags: int) -> Pixels:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as exc:
        raise CameraError(f"unreadable picture: {first_line(exc)}") from exc
    if pixels is None:
        raise CameraError("unreadable or truncated picture: it can't be decoded")
    return pixels.astype(np.uint8, copy=False)
