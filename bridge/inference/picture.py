"""Decode a JPEG or PNG picture, or the BMP of a camera of ours, whole or not at all.

JPEG: FF D8, then segments `FF marker length(2, with itself) ...`; a frame header (C0 to CF, not C4, C8, CC) holds
precision(1) height(2) width(2) components(1); after start-of-scan (DA) come the coded pixels up to FF D9. In them FF is
always stuffed, so FF D9 can only be the end. PNG: 8 bytes of signature, IHDR with width(4) and height(4), chunks, IEND.
BMP, little-endian: "BM" size(4) 0(4) offset(4), then header size(4) width(4) height(4, negative = top row first) 1(2) bits(2).
EXIF orientation is ignored: a fixed camera has none, and boxes are in pixels as stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from bridge.errors import CameraError
from bridge.inference.settings import MAX_PIXELS

Colour = Literal["RGB", "BGR", "GREY"]
Pixels = NDArray[np.uint8]

_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG\r\n\x1a\n"
_BMP = b"BM"
_PNG_END = b"IEND\xaeB`\x82"
_START_OF_SCAN, _PROGRESSIVE = 0xDA, 0xC2
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})
_FILLER_GREY = 128
_MAX_SEGMENTS = 2000
# each scan of a progressive JPEG costs a pass over all pixels: a small file could keep the decoder busy for minutes
_MAX_SCANS = 64
_PROBE = bytes(7 + 37 * n % 240 for n in range(256))
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
class Header:
    """What the picture says of itself before it is decoded; `scan` is the offset of a JPEG's coded pixels."""

    kind: Literal["jpeg", "png", "bmp"]
    width: int
    height: int
    progressive: bool = False
    scan: int = 0


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

    A picture that is cut off anywhere is refused, even where somebody has set an end marker behind the cut. `ours` lets
    in BMP, which only the bridge's own cameras make: a trigger may bring JPEG and PNG alone.
    """
    header = read_header(data, ours=ours)
    if header.width * header.height > max_pixels:
        size = f"{header.width} x {header.height}"
        raise CameraError(f"picture of {size} pixels is too large: allowed are {max_pixels}")
    flags = _FLAGS[colour, reduction] | cv2.IMREAD_IGNORE_ORIENTATION
    end = _end_of(data, header)
    pixels = _decode(data, flags)
    suspicious = header.progressive or bool((pixels[-1, -1] == _FILLER_GREY).all())
    if header.kind == "jpeg" and suspicious:
        _prove_complete(data, end, _FLAGS[colour, 1] | cv2.IMREAD_IGNORE_ORIENTATION)
    return Picture(pixels=pixels, width=header.width, height=header.height)


def read_header(data: bytes, *, ours: bool = False) -> Header:
    """Read kind and size from the first bytes, decoding nothing; raises CameraError."""
    if ours and data.startswith(_BMP):
        return _bmp_header(data)
    if data.startswith(_JPEG):
        return _jpeg_header(data)
    if data.startswith(_PNG):
        if len(data) < 33 or data[12:16] != b"IHDR":
            raise CameraError("truncated picture: the PNG ends in its header")
        width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
        return _sized(Header(kind="png", width=width, height=height))
    if not data:
        raise CameraError("the picture is empty")
    raise CameraError(f"unreadable picture: neither JPEG nor PNG, it begins with {data[:4].hex()}")


def _jpeg_header(data: bytes) -> Header:
    at, size, progressive = 2, (0, 0), False
    for _ in range(_MAX_SEGMENTS):
        if at + 4 > len(data):
            raise CameraError("truncated picture: the JPEG ends in its header")
        if data[at] != 0xFF:
            raise CameraError("unreadable picture: the JPEG's header is damaged")
        marker = data[at + 1]
        if marker == 0xFF or marker in _BARE_MARKERS:
            at += 1 if marker == 0xFF else 2
            continue
        if marker in _FRAME_HEADERS:
            size = (int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big"))
            progressive = marker == _PROGRESSIVE
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _START_OF_SCAN:
            return _sized(Header(kind="jpeg", width=size[0], height=size[1], progressive=progressive, scan=at))
    raise CameraError("unreadable picture: the JPEG's header has no end")


def _bmp_header(data: bytes) -> Header:
    if len(data) < 30 or len(data) != int.from_bytes(data[2:6], "little"):
        raise CameraError("truncated picture: the BMP is not as long as it says")
    width, height = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (18, 22))
    row = (width * int.from_bytes(data[28:30], "little") + 31) // 32 * 4
    if int.from_bytes(data[10:14], "little") + row * abs(height) > len(data):
        raise CameraError("truncated picture: the BMP lacks rows")
    return _sized(Header(kind="bmp", width=width, height=abs(height)))


def _sized(header: Header) -> Header:
    if header.width < 1 or header.height < 1:
        raise CameraError(f"unreadable picture: it says it has {header.width} x {header.height} pixels")
    return header


def _end_of(data: bytes, header: Header) -> int:
    """Give the offset of the end marker; raises CameraError where there is none."""
    if header.kind == "bmp":
        end = len(data)
    elif header.kind == "png":
        end = data.rfind(_PNG_END)
    elif header.progressive:
        if data.count(b"\xff\xda") > _MAX_SCANS:
            raise CameraError(f"unreadable picture: the JPEG has more than {_MAX_SCANS} scans")
        end = data.rfind(b"\xff\xd9")
    else:
        end = data.find(b"\xff\xd9", header.scan)
    if end < header.scan:
        raise CameraError(f"truncated picture: the {header.kind.upper()} has no end marker")
    return end


def _prove_complete(data: bytes, end: int, flags: int) -> None:
    """Raise CameraError where the coded pixels before the marker at `end` do not suffice.

    A decoder that runs out of them fills up with grey 128, which a whole picture may hold, too. Then bytes put before
    the end marker are left over, while a cut picture reads them as pixels. It costs two decodes, hence the suspicion:
    grey in the last corner, or a progressive picture, whose cut blurs it instead.
    """
    if not np.array_equal(_decode(data[:end] + _PROBE + data[end:], flags), _decode(data, flags)):
        raise CameraError("truncated picture: the JPEG ends before its last pixel")


def _decode(data: bytes, flags: int) -> Pixels:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as exc:
        raise CameraError(f"unreadable picture: {str(exc).strip().splitlines()[0]}") from exc
    if pixels is None:
        raise CameraError("unreadable or truncated picture: it can't be decoded")
    return pixels.astype(np.uint8, copy=False)
