"""What kind of picture some bytes are, by their own marks: a sender's label may be wrong, and a file may be cut off."""

from __future__ import annotations

from bridge.errors import CameraError

_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"


def media_type_of(data: bytes, *, name: str) -> str:
    """Give `image/jpeg` or `image/png` for a whole picture; `name` is what an error calls it.

    Raises CameraError for anything else and for a picture that is cut off: decoders fill the missing part with grey,
    and grey could be judged as good. ITU-T T.81 B.1, PNG specification 11.2.5.
    """
    if not data:
        raise CameraError(f"{name} is empty")
    if data.startswith(_JPEG_START):
        # an embedded thumbnail has an end mark too, but before the picture's own scan
        if data.rfind(_JPEG_END) <= data.rfind(_JPEG_SCAN):
            raise CameraError(f"{name} is a truncated JPEG: its end mark is missing")
        return "image/jpeg"
    if data.startswith(_PNG_START):
        if data.rfind(_PNG_END) < 0:
            raise CameraError(f"{name} is a truncated PNG: its end mark is missing")
        return "image/png"
    raise CameraError(f"{name} is neither JPEG nor PNG: it begins with {data[:4].hex(' ')}")
