"""Messages that are wrong in every way we know of, each with the words that the answer must have."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

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
    turned_jpeg,
)
from tests.line.tiny_bundle import brightness_picture

MAX_PAYLOAD = 300_000
DARK, BRIGHT = brightness_picture(40, seed=1), brightness_picture(215, seed=2)
PNG = bytes(cv2.imencode(".png", np.random.default_rng(3).integers(20, 60, (120, 160, 3)).astype(np.uint8))[1])
PNG_END = PNG[-12:]
PIXELS = np.random.default_rng(4).integers(20, 60, (120, 160, 3)).astype(np.uint8)
GREY_PIXELS = PIXELS[..., 0]
SCANNED = bytes(cv2.imencode(".jpg", PIXELS, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1])


@dataclass(frozen=True, kw_only=True)
class Message:
    payload: bytes
    content_type: str | None = None
    user_properties: tuple[tuple[str, str], ...] = ()


Build = Callable[[int], Message]


def raw(picture: bytes, *properties: tuple[str, str], media_type: str = "image/jpeg") -> Build:
    """The picture itself; its sequence and other fields are user properties."""
    return lambda sequence: Message(
        payload=picture, content_type=media_type, user_properties=(("sequence", str(sequence)), *properties)
    )


def bare(picture: bytes, *properties: tuple[str, str]) -> Build:
    """The picture itself with these user properties and no others."""
    return lambda _: Message(payload=picture, content_type="image/jpeg", user_properties=properties)


def text(payload: str | bytes, *properties: str) -> Build:
    """Bytes without a content type; SEQ in them is the sequence, as are the user properties of these names."""

    def build(sequence: int) -> Message:
        data = payload.encode() if isinstance(payload, str) else payload
        return Message(
            payload=data.replace(b"SEQ", str(sequence).encode()),
            user_properties=tuple((name, str(sequence)) for name in properties),
        )

    return build


def image(**members: object) -> Build:
    return text(json.dumps({"sequence": 0, "image": members}).replace('"sequence": 0', '"sequence": SEQ'))


def path(name: str) -> Build:
    return image(path=name)


def resized(picture: bytes, side: int) -> bytes:
    """Let a JPEG's frame header claim another size."""
    at = picture.index(b"\xff\xc0")
    return picture[: at + 5] + side.to_bytes(2, "big") * 2 + picture[at + 9 :]


def cut(picture: bytes, share: float) -> bytes:
    return picture[: int(len(picture) * share)]


NESTED = b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b', "sequence": SEQ}'
INLINE = base64.b64encode(DARK).decode()

PICTURES: dict[str, tuple[str, Build]] = {
    "10 % of a JPEG": ("truncated", raw(cut(DARK, 0.10))),
    "half a JPEG": ("truncated", raw(cut(DARK, 0.50))),
    "99 % of a JPEG": ("truncated", raw(cut(DARK, 0.99))),
    "a JPEG without its last two bytes": ("truncated", raw(DARK[:-2])),
    "half a JPEG with an end mark": ("truncated", raw(cut(DARK, 0.50) + b"\xff\xd9")),
    "half a PNG": ("truncated", raw(cut(PNG, 0.50), media_type="image/png")),
    "half a PNG with an end mark": ("truncated|unreadable", raw(cut(PNG, 0.50) + PNG_END, media_type="image/png")),
    "text labelled as JPEG": ("neither JPEG nor PNG", raw(b"this is no picture")),
    "one byte labelled as JPEG": ("neither JPEG nor PNG", raw(b"\xff")),
    "a JPEG of 4 gigapixels": ("too large", raw(resized(DARK, 65_500))),
    "a PNG of 4 gigapixels": (
        "too large",
        raw(png_of(GREY_PIXELS, GREY, size=(65_500, 65_500)), media_type="image/png"),
    ),
    "a JPEG damaged in its middle": ("damaged", raw(DARK[:2000] + bytes(512) + DARK[2512:])),
    "a JPEG with a piece lost": ("damaged", raw(DARK[:2000] + DARK[2512:])),
    "a progressive JPEG without its last scan": ("last scan", raw(SCANNED[: SCANNED.rfind(b"\xff\xda")] + b"\xff\xd9")),
    "a PNG with a changed byte": ("checksum", raw(PNG[:5000] + b"?" + PNG[5001:], media_type="image/png")),
    "a CMYK JPEG": ("4 colour components", raw(four_inks(PIXELS, transformed=False))),
    "a YCCK JPEG": ("4 colour components", raw(four_inks(PIXELS, transformed=True))),
    **{
        f"a {kind} labelled as JPEG": ("neither JPEG nor PNG", raw(data))
        for kind, data in other_formats(PIXELS).items()
    },
    "a JPEG of no pixels": ("0 x 0 pixels", raw(resized(DARK, 0))),
    "base64 of text": ("neither JPEG nor PNG", image(media_type="image/jpeg", data="dGV4dA==")),
    "base64 of half a JPEG": (
        "truncated",
        image(media_type="image/jpeg", data=base64.b64encode(cut(DARK, 0.5)).decode()),
    ),
    "no picture and no camera": ("no image", text('{"sequence": SEQ}')),
    "a path above": ("relative path below", path("../outside.jpg")),
    "a path down and up": ("relative path below", path("below/../../outside.jpg")),
    "an absolute path": ("relative path below", path("/etc/passwd")),
    "a Windows path": ("relative path below", path("below\\good.jpg")),
    "a link outside": ("can't be opened", path("link.jpg")),
    "a link inside": ("can't be opened", path("within.jpg")),
    "a link in the path": ("can't be opened", path("away/outside.jpg")),
    "no such file": ("No such file", path("absent.jpg")),
    "a folder": ("no regular file|directory", path("below")),
    "a named pipe": ("no regular file", path("pipe.jpg")),
    "a file cut off": ("truncated", path("short.jpg")),
    "a file too long": (f"more than {MAX_PAYLOAD}", path("big.jpg")),
}
"""Messages that can be read, with pictures that can't."""

ODD: dict[str, tuple[bytes, str]] = {
    "grey JPEG": (bytes(cv2.imencode(".jpg", GREY_PIXELS)[1]), "image/jpeg"),
    "progressive JPEG": (SCANNED, "image/jpeg"),
    "JPEG with a trailer": (DARK + bytes(5000), "image/jpeg"),
    "JPEG of another orientation": (turned_jpeg(DARK, 6), "image/jpeg"),
    "JPEG of one pixel": (bytes(cv2.imencode(".jpg", PIXELS[:1, :1])[1]), "image/jpeg"),
    "PNG labelled as JPEG": (PNG, "image/jpeg"),
    "grey PNG": (png_of(GREY_PIXELS, GREY), "image/png"),
    "grey PNG of 16 bits": (png_of(GREY_PIXELS.astype(np.uint16) * 256, GREY, depth=16), "image/png"),
    "grey PNG with alpha": (png_of(np.dstack([GREY_PIXELS, GREY_PIXELS]), GREY_ALPHA), "image/png"),
    "PNG with alpha": (png_of(np.dstack([PIXELS, GREY_PIXELS]), RGB_ALPHA), "image/png"),
    "palette PNG": (palette_png(GREY_PIXELS % 2, [(20, 30, 40), (50, 40, 30)]), "image/png"),
    "interlaced PNG": (png_of(PIXELS, RGB, interlaced=True), "image/png"),
    "PNG with a bomb beside its pixels": (
        PNG[:33] + chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(100_000_000))) + PNG[33:],
        "image/png",
    ),
}
"""Unusual pictures of a good, dark part."""

PARTS: dict[str, tuple[str, Build]] = {
    "no bytes labelled as JPEG": ("empty", raw(b"")),
    "too many bytes": ("max_payload_bytes", raw(DARK + bytes(MAX_PAYLOAD))),
    "a GIF": ("content type is 'image/gif'", raw(DARK, media_type="image/gif")),
    "a duplicate part id": ("part_id is there twice", raw(DARK, ("part_id", "A"), ("part_id", "B"))),
    "a part id of 10 kB": (r"part_id is .* \(10000 characters\)", raw(DARK, ("part_id", "x" * 10_000))),
    "a part id of 10 kB in JSON": (r"\(10000 characters\)", text(f'{{"sequence": SEQ, "part_id": "{"x" * 10_000}"}}')),
    "an empty part id": ("part_id is ''", raw(DARK, ("part_id", ""))),
    "a part id with a bell": ("printable", text('{"sequence": SEQ, "part_id": "A\\u0007"}')),
    "a part id with a line break": ("printable", text('{"sequence": SEQ, "part_id": "A\\nPASS"}')),
    "a part id with a zero byte": ("printable", text('{"sequence": SEQ, "part_id": "A\\u0000"}')),
    "a part id that turns the text round": ("printable", raw(DARK, ("part_id", "A\u202eB"))),
    "half a surrogate in a part id": ("printable", text('{"sequence": SEQ, "part_id": "A\\ud800"}')),
    "a part id that is a number": ("part_id is 7: text", text('{"sequence": SEQ, "part_id": 7}')),
    "NaN": ("NaN is no JSON number", text('{"sequence": SEQ, "length_mm": NaN}')),
    "Infinity": ("Infinity is no JSON number", text('{"sequence": SEQ, "length_mm": -Infinity}')),
    "a length of nothing": ("length_mm is 0", text('{"sequence": SEQ, "length_mm": 0}')),
    "a length that is no number": ("length_mm is 'nan'", raw(DARK, ("length_mm", "nan"))),
    "an encoder count beyond 32 bits": ("encoder is 4294967296", raw(DARK, ("encoder", "4294967296"))),
    "a time that is none": ("ts", raw(DARK, ("ts", "yesterday"))),
    "base64 rubbish": ("no base64", image(media_type="image/jpeg", data=INLINE[:-1] + "!")),
    "base64 with line breaks": ("no base64", image(media_type="image/jpeg", data=INLINE[:76] + "\n" + INLINE[76:])),
    "no media type": ("image.media_type", image(data=INLINE)),
    "data and a path": ("both data and path", image(media_type="image/jpeg", data=INLINE, path="good.jpg")),
    "an image that is text": ("image is 'x'", text('{"sequence": SEQ, "image": "x"}')),
    "a path with a zero byte": ("printable", path("good.jpg\0")),
    "a path of 10 kB": ("printable", path("a/" * 5_000)),
    "an image twice": ("image is there twice", text('{"sequence": SEQ, "image": {"path": "a"}, "image": {"path": "b"}}')),
    "JSON cut off, its sequence beside it": ("not JSON", text('{"sequence": SEQ, "im', "sequence")),
    "endless nesting, its sequence beside it": ("brackets", text(NESTED, "sequence")),
    "a JPEG without its content type": ("a picture without a content type", text(DARK, "sequence")),
}  # fmt: skip
"""Messages that can't be read but for their sequence."""

REFUSED: dict[str, tuple[str, Build]] = {
    "no bytes": ("the payload is empty", text(b"")),
    "one byte": ("not JSON", text(b"{")),
    "one digit": ("a JSON number", text(b"7")),
    "bad JSON": ("not JSON", text('{"sequence": SEQ,}')),
    "a list": ("a JSON list", text('[{"sequence": SEQ}]')),
    "not UTF-8": ("not UTF-8 at byte 13", text(b'{"part_id": "\xff", "sequence": SEQ}')),
    "endless nesting": ("brackets", text(NESTED)),
    "a million zeros": ("members", text(b'{"x": [' + b"0," * 100_000 + b'0], "sequence": SEQ}')),
    "too many bytes of JSON": ("max_payload_bytes", text(b'{"sequence": SEQ}' + b" " * MAX_PAYLOAD)),
    "a sequence of 5,000 digits": ("too many digits", text('{"sequence": ' + "9" * 5_000 + "}")),
    "no sequence": ("sequence is missing", text('{"part_id": "A-1"}')),
    "user property sequence of 10 kB": (r"sequence is '9+\.\.\.", bare(DARK, ("sequence", "9" * 10_000))),
    "no user properties": ("sequence is missing", bare(DARK)),
    "sequence twice": ("sequence is there twice", bare(DARK, ("sequence", "1"), ("sequence", "2"))),
    "sequence twice in JSON": ("sequence is there twice", text('{"sequence": SEQ, "sequence": SEQ}')),
    "sequence NaN": ("NaN", text('{"sequence": NaN}')),
    "sequence null": ("sequence is missing", text('{"sequence": null}')),
    **{
        f"sequence {value}": ("sequence is .*allowed are whole numbers from 0 to 4294967295", text(f'{{"sequence": {value}}}'))
        for value in ("-1", "1e99", "4294967296", '"abc"', "true", "0.5", '"12"', "[1]", "{}", "1e400")
    },
    **{
        f"user property sequence {value}": ("sequence is .*allowed", bare(DARK, ("sequence", value)))
        for value in ("-1", "1e99", "4294967296", "abc", "true", "", " 1", "1_0", "\u0661")
    },
}  # fmt: skip
"""Messages that nobody can tie to a part."""
