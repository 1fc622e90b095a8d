"""A JPEG picture: what its header says, whether its coded pixels are whole, and its pixels.

FF D8, then segments `FF marker length(2, with itself) ...`; a frame header (C0 to CF, not C4, C8, CC) holds
precision(1) height(2) width(2) components(1); after start-of-scan (DA) come the coded pixels up to FF D9. In them FF is
always stuffed, so FF D9 can only be the end. ITU-T T.81, B.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from bridge.errors import CameraError

START = b"\xff\xd8\xff"
_END, _SCAN = b"\xff\xd9", b"\xff\xda"
_START_OF_SCAN, _PROGRESSIVE = 0xDA, frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})
_MAX_SEGMENTS = 2000
# each scan of a progressive JPEG costs a pass over all pixels: a small file could keep the decoder busy for minutes
_MAX_SCANS = 64
_COMPONENTS = frozenset({1, 3})
_COLOURS: Mapping[str, str] = MappingProxyType({"RGB": "RGB", "BGR": "BGR", "GREY": "GRAY"})


@dataclass(frozen=True, slots=True, kw_only=True)
class JpegHeader:
    """What a JPEG says of itself before it is decoded; `scan` is the offset of its coded pixels."""

    width: int
    height: int
    components: int
    progressive: bool
    scan: int


def read_jpeg_header(data: bytes) -> JpegHeader:
    """Read the segments before the coded pixels; raises CameraError."""
    at, width, height, components, progressive = 2, 0, 0, 0, False
    for _ in range(_MAX_SEGMENTS):
        if at + 4 > len(data):
            raise CameraError("truncated picture: the JPEG ends in its header")
        if data[at] != 0xFF:
            raise CameraError("unreadable picture: the JPEG's header is damaged")
        marker = data[at + 1]
        if marker == 0xFF or marker in _BARE_MARKERS:
            at += 1 if marker == 0xFF else 2
            continue
        if marker in _FRAME_HEADERS and at + 10 <= len(data):
            height, width = int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
            components, progressive = data[at + 9], marker in _PROGRESSIVE
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _START_OF_SCAN:
            return JpegHeader(width=width, height=height, components=components, progressive=progressive, scan=at)
    raise CameraError("unreadable picture: the JPEG's header has no end")


def decode_jpeg(data: bytes, header: JpegHeader, *, colour: str, reduction: int) -> NDArray[np.uint8]:
    """Decode at 1/`reduction` of the size, refusing whatever the decoder only warns of; raises CameraError.

    libjpeg fills up what is missing with grey and goes on after damage; strictly read, both are errors.
    """
    if header.components not in _COMPONENTS:
        # CMYK is stored upright or inverted, and no mark says surely which: it would be judged in false colours
        raise CameraError(
            f"unreadable picture: a JPEG of {header.components} colour components; allowed are grey and RGB"
        )
    _check_end(data, header)
    try:
        # the smallest size that is not below these, so the reduction asked for and no other
        pixels: NDArray[Any] = simplejpeg.decode_jpeg(
            data,
            _COLOURS[colour],
            min_height=-(-header.height // reduction),
            min_width=-(-header.width // reduction),
            strict=True,
        )
    except ValueError as exc:
        kind = "truncated or damaged" if "premature end" in str(exc).lower() else "damaged"
        raise CameraError(f"{kind} picture: {str(exc)[:120]}") from exc
    return pixels[:, :, 0] if colour == "GREY" else pixels


def _check_end(data: bytes, header: JpegHeader) -> None:
    """Raise CameraError where the end marker, or a part of a progressive picture, is missing."""
    if not header.progressive:
        if data.find(_END, header.scan) < 0:
            raise CameraError("truncated picture: the JPEG has no end marker")
        return
    if data.count(_SCAN) > _MAX_SCANS:
        raise CameraError(f"unreadable picture: the JPEG has more than {_MAX_SCANS} scans")
    end = data.rfind(_END)
    if end < header.scan:
        raise CameraError("truncated picture: the JPEG has no end marker")
    if not _all_scans_came(data, header, end):
        raise CameraError("truncated picture: the progressive JPEG ends before its last scan")


def _all_scans_came(data: bytes, header: JpegHeader, end: int) -> bool:
    """Tell whether every coefficient of every component came down to its last bit; a cut between scans only blurs.

    A scan's header: count(1), then component(1) tables(1) each, then first and last coefficient and the bits still to
    come in the low half of the last byte.
    """
    exact: dict[int, set[int]] = {}
    at = data.rfind(_SCAN, 0, header.scan)
    while 0 <= at < end:
        count = data[at + 4]
        tail = data[at + 5 + 2 * count : at + 8 + 2 * count]
        if len(tail) == 3 and not tail[2] & 0x0F:
            for component in data[at + 5 : at + 5 + 2 * count : 2]:
                exact.setdefault(component, set()).update(range(tail[0], min(tail[1], 63) + 1))
        at = data.find(_SCAN, at + 2)
    return len(exact) == header.components and all(len(each) == 64 for each in exact.values())
