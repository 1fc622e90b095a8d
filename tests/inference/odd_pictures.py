"""Pictures as other software writes them, and as somebody would who means harm; made without the decoders under test."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
# Adam7: first column and row of each pass, and its steps
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def chunk(kind: bytes, body: bytes, *, crc: int | None = None) -> bytes:
    sum_ = zlib.crc32(kind + body) if crc is None else crc
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", sum_)


def _rows(pixels: NDArray[Any]) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in pixels)


def png_of(
    pixels: NDArray[Any],
    kind: int,
    *,
    depth: int = 8,
    interlaced: bool = False,
    before: bytes = b"",
    coded: bytes | None = None,
    size: tuple[int, int] | None = None,
) -> bytes:
    """Write a PNG; `before` are chunks between header and pixels, `coded` and `size` replace what is true."""
    height, width = pixels.shape[:2]
    head = struct.pack(">IIBBBBB", *(size or (width, height)), depth, kind, 0, 0, int(interlaced))
    data = pixels.astype(">u2") if depth == 16 else pixels
    if coded is None:
        parts = [data[y::down, x::across] for x, y, across, down in PASSES] if interlaced else [data]
        coded = zlib.compress(b"".join(_rows(part) for part in parts if part.size))
    return SIGNATURE + chunk(b"IHDR", head) + before + chunk(b"IDAT", coded) + chunk(b"IEND", b"")


def palette_png(index: NDArray[np.uint8], colours: list[tuple[int, int, int]], *, transparent: bool = False) -> bytes:
    before = chunk(b"PLTE", bytes(value for colour in colours for value in colour))
    before += chunk(b"tRNS", bytes(len(colours))) if transparent else b""
    return png_of(index, PALETTE, before=before)


def exif(orientation: int) -> bytes:
    """Give a TIFF structure that holds the orientation alone."""
    return b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0" + bytes([orientation]) + b"\0\0\0\0\0\0"


def turned_jpeg(data: bytes, orientation: int) -> bytes:
    body = b"Exif\0\0" + exif(orientation)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


def turned_png(data: bytes, orientation: int) -> bytes:
    return data[:33] + chunk(b"eXIf", exif(orientation)) + data[33:]


def four_inks(pixels: NDArray[np.uint8], *, transformed: bool) -> bytes:
    """Give a CMYK JPEG, or a YCCK one."""
    inks = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    return bytes(
        simplejpeg.encode_jpeg(np.ascontiguousarray(inks), colorspace="CMYK", colorsubsampling="444")
        if not transformed
        else simplejpeg.encode_jpeg(np.ascontiguousarray(inks), colorspace="CMYK", colorsubsampling="420")
    )


def resized(data: bytes, width: int, height: int) -> bytes:
    """Let a JPEG's frame header claim another size."""
    at = next(data.find(mark) for mark in (b"\xff\xc0", b"\xff\xc2") if mark in data)
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def other_formats(pixels: NDArray[np.uint8]) -> dict[str, bytes]:
    found = {suffix[1:]: bytes(cv2.imencode(suffix, pixels)[1]) for suffix in (".bmp", ".webp", ".tiff", ".gif")}
    assert found["gif"].startswith(b"GIF8")
    return found
