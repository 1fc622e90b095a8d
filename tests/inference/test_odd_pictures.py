"""Pictures of every legal kind are read as they are stored; damaged, huge and foreign ones are refused at once."""

from __future__ import annotations

import resource
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from bridge.errors import CameraError
from bridge.inference.picture import decode, read_header
from tests.inference.build import encoded, picture
from tests.inference.odd_pictures import (
    GREY,
    GREY_ALPHA,
    RGB,
    RGB_ALPHA,
    chunk,
    four_inks,
    other_formats,
    palette_png,
    png_of,
    resized,
    turned_jpeg,
    turned_png,
)

NOISE = picture(seed=5, width=200, height=120)  # blue, green, red
RGB_NOISE = NOISE[..., ::-1]
LUMA = NOISE[..., 1]
ALPHA = np.random.default_rng(6).integers(0, 256, LUMA.shape, np.uint8)
DEEP = NOISE[..., ::-1].astype(np.uint16) * 256 + 129
SHIPPED = sorted((Path(__file__).parents[2] / "simulators" / "pictures" / "ball-screw").rglob("*.jpg"))[0]
JPEG, PROGRESSIVE = encoded(NOISE), encoded(NOISE, ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)

PNGS = {
    "grey": (png_of(LUMA, GREY), np.dstack([LUMA] * 3)),
    "grey of 16 bits": (png_of(LUMA.astype(np.uint16) * 256 + 200, GREY, depth=16), np.dstack([LUMA] * 3)),
    "grey and alpha": (png_of(np.dstack([LUMA, ALPHA]), GREY_ALPHA), np.dstack([LUMA] * 3)),
    "colour": (png_of(RGB_NOISE, RGB), RGB_NOISE),
    "colour of 16 bits": (png_of(DEEP, RGB, depth=16), RGB_NOISE),
    "colour and alpha": (png_of(np.dstack([RGB_NOISE, ALPHA]), RGB_ALPHA), RGB_NOISE),
    "interlaced": (png_of(RGB_NOISE, RGB, interlaced=True), RGB_NOISE),
    "interlaced and deep": (png_of(DEEP, RGB, depth=16, interlaced=True), RGB_NOISE),
    "palette": (
        palette_png(LUMA % 3, [(1, 2, 3), (40, 50, 60), (250, 0, 9)]),
        np.array([(1, 2, 3), (40, 50, 60), (250, 0, 9)], np.uint8)[LUMA % 3],
    ),
    "palette of transparent colours": (
        palette_png(LUMA % 2, [(9, 80, 7), (200, 5, 6)], transparent=True),
        np.array([(9, 80, 7), (200, 5, 6)], np.uint8)[LUMA % 2],
    ),
}


@pytest.mark.parametrize("kind", PNGS)
def test_every_kind_of_png_is_read_to_the_byte(kind: str) -> None:
    data, expected = PNGS[kind]
    shown = decode(data, colour="RGB")
    assert (shown.width, shown.height, shown.pixels.dtype) == (200, 120, np.uint8)
    assert np.array_equal(shown.pixels, expected)
    assert np.array_equal(decode(data, colour="BGR").pixels, expected[..., ::-1])
    assert decode(data, colour="GREY").pixels.shape == (120, 200)


@pytest.mark.parametrize("colour", ["RGB", "BGR", "GREY"])
@pytest.mark.parametrize("data", [JPEG, PROGRESSIVE, encoded(LUMA)], ids=["baseline", "progressive", "grey"])
def test_a_jpeg_is_read_as_the_library_that_trained_the_models_reads_it(data: bytes, colour: str) -> None:
    flags = {
        "RGB": {1: cv2.IMREAD_COLOR_RGB},
        "BGR": {1: 1, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8},
        "GREY": {1: 0, 2: cv2.IMREAD_REDUCED_GRAYSCALE_2, 8: cv2.IMREAD_REDUCED_GRAYSCALE_8},
    }[colour]
    for reduction, flag in flags.items():
        shown = decode(data, colour=colour, reduction=reduction)  # type: ignore[arg-type]
        assert np.array_equal(shown.pixels, cv2.imdecode(np.frombuffer(data, np.uint8), flag))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_orientation_changes_nothing_in_any_format_at_any_reduction(orientation: int, reduction: int) -> None:
    for plain, turned in (
        (JPEG, turned_jpeg(JPEG, orientation)),
        (PROGRESSIVE, turned_jpeg(PROGRESSIVE, orientation)),
        (PNGS["colour"][0], turned_png(PNGS["colour"][0], orientation)),
    ):
        assert turned != plain
        shown, expected = (decode(data, colour="RGB", reduction=reduction) for data in (turned, plain))
        assert np.array_equal(shown.pixels, expected.pixels)
        assert (shown.width, shown.height) == (200, 120)


@pytest.mark.parametrize("side", [(1, 1), (1, 40), (3, 5)])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_tiny_pictures_are_read_at_every_reduction(side: tuple[int, int], suffix: str) -> None:
    data = encoded(np.full((*side, 3), 77, np.uint8), suffix)
    for reduction in (1, 2, 4, 8):
        shown = decode(data, colour="RGB", reduction=reduction)
        assert (shown.height, shown.width) == side
        assert abs(int(shown.pixels[0, 0, 0]) - 77) <= 2


@pytest.mark.parametrize("transformed", [False, True], ids=["CMYK", "YCCK"])
def test_a_jpeg_of_four_inks_is_refused_rather_than_judged_in_false_colours(transformed: bool) -> None:
    with pytest.raises(CameraError, match="4 colour components; allowed are grey and RGB"):
        decode(four_inks(NOISE, transformed=transformed), colour="RGB")


@pytest.mark.parametrize(("kind", "data"), other_formats(NOISE).items())
def test_another_format_is_refused_whatever_it_is_called(kind: str, data: bytes) -> None:
    with pytest.raises(CameraError, match=f"neither JPEG nor PNG, it begins with {data[:4].hex()}"):
        decode(data, colour="RGB")


def damaged(data: bytes, at: int, patch: bytes) -> bytes:
    return data[:at] + patch + data[at + len(patch) :]


def refused(data: bytes, *, reduction: int = 1) -> bool:
    try:
        decode(data, colour="RGB", reduction=reduction)
    except CameraError as exc:
        return "damaged picture" in str(exc)
    return False


@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_damage_in_the_middle_of_a_jpeg_is_refused(reduction: int, capfd: pytest.CaptureFixture[str]) -> None:
    """A JPEG has no checksum: a piece that is lost or zeroed breaks the code, but for a rare chance."""
    part = SHIPPED.read_bytes()
    scan, found = read_header(part).scan, []  # type: ignore[union-attr]
    for at in range(scan, len(part) - 600, 1500):
        found += [
            refused(bad, reduction=reduction) for bad in (damaged(part, at, bytes(512)), part[:at] + part[at + 512 :])
        ]
    assert len(found) > 40
    assert sum(found) >= len(found) - 1
    assert capfd.readouterr() == ("", "")


def test_damage_in_a_progressive_jpeg_is_refused() -> None:
    pixels = cv2.imdecode(np.frombuffer(SHIPPED.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    part = encoded(pixels, ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)  # type: ignore[arg-type]
    scan = read_header(part).scan  # type: ignore[union-attr]
    found = [refused(damaged(part, at, bytes(512))) for at in range(scan, len(part) - 600, 1500)]
    assert len(found) > 20
    assert sum(found) >= 0.9 * len(found)


def test_a_progressive_jpeg_cut_between_its_scans_is_refused() -> None:
    at, cuts = PROGRESSIVE.find(b"\xff\xda") + 2, 0
    while (at := PROGRESSIVE.find(b"\xff\xda", at + 2)) > 0:
        cuts += 1
        with pytest.raises(CameraError, match="before its last scan"):
            decode(PROGRESSIVE[:at] + b"\xff\xd9", colour="RGB")
    assert cuts >= 5


@pytest.mark.parametrize("position", np.linspace(0.02, 0.98, 12))
def test_one_changed_byte_of_a_png_is_refused(position: float, capfd: pytest.CaptureFixture[str]) -> None:
    data = PNGS["colour"][0]
    at = int(33 + (len(data) - 45) * position)
    with pytest.raises(CameraError, match=r"damaged|truncated|unreadable"):
        decode(damaged(data, at, bytes([data[at] ^ 0x10])), colour="RGB")
    assert capfd.readouterr() == ("", "")


def test_a_png_with_too_few_pixels_is_refused() -> None:
    for coded in (zlib.compress(bytes(500)), zlib.compress(bytes(120 * 601))[:-6], b""):
        with pytest.raises(CameraError, match="can't be decoded"):
            decode(png_of(RGB_NOISE, RGB, coded=coded), colour="RGB")


def bombs() -> dict[str, bytes]:
    much = zlib.compress(bytes(100_000_000))
    good = PNGS["colour"][0]
    return {
        "text": good[:33] + chunk(b"zTXt", b"Comment\0\0" + much) + good[33:],
        "profile": good[:33] + chunk(b"iCCP", b"x\0\0" + much) + good[33:],
        "animation": good[:33]
        + chunk(b"acTL", b"\0\0\xff\xff\0\0\0\0")
        + chunk(b"fdAT", b"\0\0\0\1" + much)
        + good[33:],
    }


@pytest.mark.parametrize("kind", ["text", "profile", "animation"])
def test_what_is_packed_beside_the_pixels_is_never_unpacked(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = bombs()[kind]
    begun = time.process_time()
    assert np.array_equal(decode(data, colour="RGB").pixels, RGB_NOISE)
    assert time.process_time() - begun < 0.2
    assert capfd.readouterr() == ("", "")


def test_more_coded_pixels_than_the_picture_has_are_refused() -> None:
    with pytest.raises(CameraError, match="more than its pixels"):
        decode(png_of(RGB_NOISE, RGB, coded=zlib.compress(bytes(300_000_000))), colour="RGB")


@pytest.mark.parametrize(
    "data",
    [
        resized(JPEG, 65_500, 65_500),
        resized(PROGRESSIVE, 65_500, 65_500),
        resized(JPEG, 65_535, 763),
        png_of(RGB_NOISE, RGB, size=(65_500, 65_500)),
        png_of(RGB_NOISE, RGB, size=(2**31 - 1, 1)),
    ],
)
def test_a_huge_claim_costs_neither_time_nor_memory(data: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(200):
        with pytest.raises(CameraError, match="too large: allowed are 50000000"):
            decode(data, colour="RGB")
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime - before.ru_utime < 1.0
    assert after.ru_maxrss - before.ru_maxrss < 20_000  # kB


def test_trailing_garbage_of_any_kind_is_ignored() -> None:
    for tail in (bytes(4096), b"\xff" * 4096, JPEG[:500], b"\xff\xd8\xff\xe0", b"\r\n--frame\r\n"):
        assert np.array_equal(decode(JPEG + tail, colour="RGB").pixels, decode(JPEG, colour="RGB").pixels)


@pytest.mark.parametrize("kind", [b"ABCD", b"IDAX"])
def test_a_png_with_a_needful_chunk_that_nobody_knows_is_refused(kind: bytes) -> None:
    data = PNGS["colour"][0]
    with pytest.raises(CameraError, match="nobody knows"):
        decode(data[:33] + chunk(kind, b"x") + data[33:], colour="RGB")


def test_a_png_of_chunks_without_end_is_refused_in_time() -> None:
    data = PNGS["colour"][0]
    begun = time.process_time()
    with pytest.raises(CameraError, match="more than 20000 chunks"):
        decode(data[:33] + chunk(b"tEXt", b"") * 1_000_000 + data[33:], colour="RGB")
    assert time.process_time() - begun < 1.0
