"""The three payloads: shipped pictures brought to a camera's sizes, inline or as a path on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SHIPPED = Path(__file__).parent.parent / "simulators" / "pictures" / "ball-screw"
PICTURES = 4
NOISE = 6.0
"""Standard deviation of a camera's noise in grey levels: an enlarged picture without any is unnaturally small."""
_QUALITIES = range(30, 99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """One size of picture and how many parts a round are measured with it."""

    name: str
    width: int
    height: int
    jpeg_bytes: int
    parts: int
    interval_ms: float
    flat_out: int


SMALL = Size(name="0.3 MP", width=640, height=480, jpeg_bytes=100_000, parts=30, interval_ms=80.0, flat_out=30)
LARGE = Size(name="5 MP", width=2592, height=1944, jpeg_bytes=800_000, parts=20, interval_ms=90.0, flat_out=12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """What a trigger brings: a picture's bytes, or, with `paths`, JSON that names a file below the image folder."""

    name: str
    size: Size
    pictures: tuple[bytes, ...]
    paths: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """Size and form for a reader."""
        mean_kb = sum(len(picture) for picture in self.pictures) / len(self.pictures) / 1e3
        form = "named by a path" if self.paths else "in the message"
        return f"{self.size.width} x {self.size.height} JPEG, {mean_kb:.0f} kB, {form}"

    def message(self, sequence: int) -> tuple[bytes, str | None]:
        """Give a trigger's body, and its content type where it is the picture itself."""
        if not self.paths:
            return self.pictures[sequence % len(self.pictures)], "image/jpeg"
        path = self.paths[sequence % len(self.paths)]
        document = {"sequence": sequence, "part_id": f"P-{sequence}", "image": {"path": path}}
        return json.dumps(document).encode(), None


def make_payloads(source: Path, folder: Path) -> tuple[Payload, Payload, Payload]:
    """Make the pictures from those below `source` and write the large ones to `folder`; raises ValueError."""
    originals = _originals(source)
    small, large = (tuple(_resized(originals, size)) for size in (SMALL, LARGE))
    paths = tuple(f"{number}.jpg" for number in range(len(large)))
    for path, data in zip(paths, large, strict=True):
        (folder / path).write_bytes(data)
    return (
        Payload(name=SMALL.name, size=SMALL, pictures=small),
        Payload(name=LARGE.name, size=LARGE, pictures=large),
        Payload(name=f"{LARGE.name}, path", size=LARGE, pictures=large, paths=paths),
    )


def _originals(source: Path) -> list[Any]:
    """Read pictures spread evenly over all there are, so that no label is left out."""
    found = sorted(source.rglob("*.jpg"))
    if not found:
        raise ValueError(f"no JPEG pictures below {source}")
    chosen = found[:: max(1, len(found) // PICTURES)][:PICTURES]
    pictures = {path: cv2.imread(str(path), cv2.IMREAD_COLOR) for path in chosen}
    for path, picture in pictures.items():
        if picture is None:
            raise ValueError(f"{path} can't be decoded")
    return list(pictures.values())


def _resized(originals: Sequence[Any], size: Size) -> list[bytes]:
    made = []
    for seed, original in enumerate(originals):
        picture = cv2.resize(original, (size.width, size.height), interpolation=cv2.INTER_CUBIC)
        noise = np.random.default_rng(seed).normal(0.0, NOISE, picture.shape[:2])
        noisy = np.clip(picture + noise[..., None], 0, 255).astype(np.uint8)
        made.append(_encoded(noisy, size.jpeg_bytes))
    return made


def _encoded(picture: Any, target: int) -> bytes:
    """Encode with the quality whose JPEG comes nearest to `target` bytes."""

    def encode(quality: int) -> bytes:
        return bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])

    low, high = _QUALITIES.start, _QUALITIES.stop - 1
    while high - low > 1:  # a better quality is a larger file
        middle = (low + high) // 2
        low, high = (middle, high) if len(encode(middle)) < target else (low, middle)
    return min((encode(low), encode(high)), key=lambda data: abs(len(data) - target))
