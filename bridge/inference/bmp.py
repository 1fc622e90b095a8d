"""A BMP picture, which only the bridge's own cameras make: raw pixels with a header of their size.

Little-endian: "BM" size(4) 0(4) offset(4), then header size(4) width(4) height(4, negative = top row first) planes(2) bits(2).
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.errors import CameraError

START = b"BM"
_HEADER_END = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class BmpHeader:
    """What a BMP says of itself before it is decoded."""

    width: int
    height: int


def read_bmp_header(data: bytes) -> BmpHeader:
    """Read the size, and see that every row is there; raises CameraError."""
    if len(data) < _HEADER_END or len(data) != int.from_bytes(data[2:6], "little"):
        raise CameraError("truncated picture: the BMP is not as long as it says")
    width, height = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (18, 22))
    row = (width * int.from_bytes(data[28:30], "little") + 31) // 32 * 4
    if int.from_bytes(data[10:14], "little") + row * abs(height) > len(data):
        raise CameraError("truncated picture: the BMP lacks rows")
    return BmpHeader(width=width, height=abs(height))
