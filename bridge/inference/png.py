"""A PNG picture, cut down to what its pixels need and checked before the decoder sees it.

8 bytes of signature, then chunks `length(4) kind(4) body crc(4)`: IHDR with width(4) height(4) depth(1) colour(1) ...,
PLTE and tRNS for palettes, IDAT with the coded pixels, IEND. Everything else (texts, profiles, orientation, animation)
is left out: it can hold a decompression bomb, and none of it is to change what is judged. PNG specification, 5 and 11.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from bridge.errors import CameraError

START = b"\x89PNG\r\n\x1a\n"
_HEADER_END = 33
_NEEDED = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT"})
_MAX_CHUNKS = 20_000
_ANCILLARY = 0x20  # the lower-case bit of a kind's first letter: may be ignored
_SAMPLES: Mapping[int, int] = MappingProxyType({0: 1, 2: 3, 3: 1, 4: 2, 6: 4})


@dataclass(frozen=True, slots=True, kw_only=True)
class PngHeader:
    """What a PNG says of itself before it is decoded; `raw_bytes` is what its pixels take unpacked."""

    width: int
    height: int
    raw_bytes: int


def read_png_header(data: bytes) -> PngHeader:
    """Read the first chunk; raises CameraError."""
    if len(data) < _HEADER_END or data[12:16] != b"IHDR":
        raise CameraError("truncated picture: the PNG ends in its header")
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    samples = _SAMPLES.get(colour)
    if samples is None or depth not in {1, 2, 4, 8, 16}:
        raise CameraError(f"unreadable picture: a PNG of colour type {colour} with {depth} bits")
    return PngHeader(width=width, height=height, raw_bytes=height * (2 + width * samples * depth // 8))


def pixels_alone(data: bytes, header: PngHeader) -> bytes:
    """Give the PNG with nothing but its pixels, each chunk's checksum compared; raises CameraError."""
    view, kept, coded, at = memoryview(data), [START], 0, len(START)
    for _ in range(_MAX_CHUNKS):
        if at + 12 > len(data):
            raise CameraError("truncated picture: the PNG has no end marker")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise CameraError("truncated picture: the PNG ends within a chunk")
        if kind in _NEEDED or kind == b"IEND":
            if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
                raise CameraError(f"damaged picture: the checksum of the PNG's {kind.decode('ascii')} is wrong")
            coded += length if kind == b"IDAT" else 0
            kept.append(bytes(view[at:end]))
        elif not kind[0] & _ANCILLARY:
            raise CameraError(f"unreadable picture: the PNG has a chunk {kind!r} that nobody knows")
        if kind == b"IEND":
            # what doesn't compress is stored with 5 bytes on every 16 kB or more
            if coded > header.raw_bytes * 1.01 + 65_536:
                raise CameraError("unreadable picture: the PNG holds more than its pixels")
            return b"".join(kept)
        at = end
    raise CameraError(f"unreadable picture: the PNG has more than {_MAX_CHUNKS} chunks")
