"""Pictures are decoded whole or not at all."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from bridge.errors import CameraError
from bridge.inference.picture import decode, read_header
from tests.inference.build import encoded, picture

PROGRESSIVE = (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
NOISE = picture(seed=1)
WHOLE = {
    "jpeg": encoded(NOISE),
    "progressive": encoded(NOISE, ".jpg", *PROGRESSIVE),
    "restarts": encoded(NOISE, ".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 20),
    "flat jpeg": encoded(picture(value=90)),
    "grey jpeg": encoded(cv2.cvtColor(NOISE, cv2.COLOR_BGR2GRAY)),
    "png": encoded(NOISE, ".png"),
}


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_a_whole_picture_is_decoded(kind: str, reduction: int) -> None:
    shown = decode(WHOLE[kind], colour="RGB", reduction=reduction)
    assert (shown.width, shown.height) == (320, 240)
    assert shown.pixels.shape == (240 // reduction, 320 // reduction, 3)


@pytest.mark.parametrize("kind", WHOLE)
def test_a_picture_cut_anywhere_is_refused(kind: str) -> None:
    data = WHOLE[kind]
    cuts = {1, 2, 3, 4, 5, 8, 12, 13, 16, 20, 50, len(data) - 1, len(data) - 2, len(data) - 20, len(data) - 40}
    cuts |= {round(len(data) * share) for share in np.linspace(0.01, 0.99, 40)}
    for cut in sorted(cuts):
        with pytest.raises(CameraError):
            decode(data[:-cut], colour="RGB")


@pytest.mark.parametrize("kind", ["jpeg", "progressive", "grey jpeg"])
@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_an_end_marker_behind_the_cut_does_not_help(kind: str, reduction: int) -> None:
    data = WHOLE[kind]
    scan = read_header(data).scan
    for share in (0.02, 0.2, 0.5, 0.8, 0.95, 0.98):
        cut = scan + round((len(data) - scan) * share)
        with pytest.raises(CameraError, match="truncated"):
            decode(data[:cut].rstrip(b"\xff") + b"\xff\xd9", colour="RGB", reduction=reduction)


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_a_cut_file_filled_up_with_zeros_is_refused(kind: str) -> None:
    data = WHOLE[kind]
    for cut in (len(data) // 3, len(data) - 30):
        with pytest.raises(CameraError):
            decode(data[:cut] + bytes(len(data) - cut), colour="RGB")


def test_a_whole_picture_of_the_fillers_own_grey_is_decoded() -> None:
    for flags in ((), PROGRESSIVE):
        shown = decode(encoded(picture(value=128), ".jpg", *flags), colour="BGR")
        assert (shown.pixels == 128).all()


def test_bytes_behind_the_end_are_allowed() -> None:
    for kind in ("jpeg", "png"):
        assert np.array_equal(
            decode(WHOLE[kind] + b"camera's own trailer", colour="BGR").pixels,
            decode(WHOLE[kind], colour="BGR").pixels,
        )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"hello", "neither JPEG nor PNG"),
        (b"BM" + bytes(100), "neither JPEG nor PNG"),
        (b"\xff\xd8\xff", "header"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(200), "damaged"),
        (b"\x89PNG\r\n\x1a\n", "header"),
        (b"\xff\xd8\xff" + b"\xff" * 16_000_000, "no end"),
        (b"\xff\xd8" + b"\xff\xe0\0\x02" * 4_000_000, "no end"),
    ],
)
def test_what_is_no_picture_is_refused_with_the_reason(data: bytes, words: str) -> None:
    with pytest.raises(CameraError, match=words):
        decode(data, colour="RGB")


def _png_of(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


def test_a_header_that_claims_65500_by_65500_is_refused_before_decoding() -> None:
    jpeg = bytearray(WHOLE["jpeg"])
    at = jpeg.find(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 65500, 65500)
    for data in (bytes(jpeg), _png_of(65500, 65500), _png_of(2**31 - 1, 2**31 - 1)):
        with pytest.raises(CameraError, match="too large"):
            decode(data, colour="RGB")


def test_a_progressive_picture_with_scans_without_end_is_refused() -> None:
    data = WHOLE["progressive"]
    last = data.rfind(b"\xff\xda")
    with pytest.raises(CameraError, match="more than 64 scans"):
        decode(data[:last] + data[last:-2] * 5000 + b"\xff\xd9", colour="RGB")


def test_a_size_of_nothing_is_refused() -> None:
    with pytest.raises(CameraError, match="0 x 5"):
        read_header(_png_of(0, 5))


def test_colours_come_in_the_order_asked_for() -> None:
    pixels = picture()
    pixels[:] = (10, 120, 240)  # blue, green, red
    data = encoded(pixels, ".png")
    assert decode(data, colour="BGR").pixels[0, 0].tolist() == [10, 120, 240]
    assert decode(data, colour="RGB").pixels[0, 0].tolist() == [240, 120, 10]
    assert decode(data, colour="GREY").pixels.ndim == 2


def test_orientation_in_the_file_is_ignored() -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    data = WHOLE["jpeg"]
    turned = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (320, 240, 3)
    assert decode(turned, colour="RGB").pixels.shape == (240, 320, 3)


def test_deep_alpha_and_palette_pictures_become_eight_bits_a_colour() -> None:
    deep = encoded((picture(seed=2).astype(np.uint16) * 257), ".png")  # type: ignore[arg-type]
    alpha = encoded(cv2.cvtColor(picture(seed=2), cv2.COLOR_BGR2BGRA), ".png")  # type: ignore[arg-type]
    for data in (deep, alpha):
        shown = decode(data, colour="RGB").pixels
        assert (shown.dtype, shown.shape) == (np.uint8, (240, 320, 3))
