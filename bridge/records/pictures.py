"""Keeps pictures off the critical path: a bounded queue, and a thread that writes them whole or not at all."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import structlog

from bridge.domain.part import Part
from bridge.domain.recipe import Keep
from bridge.domain.verdict import VerdictCode
from bridge.errors import StartError, first_line
from bridge.ports import BITMAP, Frame
from bridge.records.retention import Retention, free_bytes
from bridge.records.schema import utc_text

MOST_WAITING = 256
MOST_WAITING_BYTES = 128_000_000
SUFFIXES = {"image/jpeg": "jpg", "image/png": "png", BITMAP: "jpg"}
JPEG_QUALITY = 95
"""A raw frame is stored as JPEG: 13 ms for 5 megapixels, where PNG takes 300 ms; the decoder saw it without loss."""
DOUBTFUL = frozenset({VerdictCode.FAIL, VerdictCode.UNCERTAIN, VerdictCode.ERROR, VerdictCode.LATE})

log = structlog.get_logger(__name__)


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` under another name and rename it: a reader finds the whole picture or none. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            unfinished.unlink()  # half a picture on a full disk
        raise


def encode_raw(data: bytes) -> bytes:
    """Encode a BMP as JPEG. Raises ValueError for one that can't be."""
    # a bridge whose triggers bring their pictures, and every other command, needs none of it
    import cv2  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None:
            raise ValueError("it can't be decoded")
        done, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    except cv2.error as exc:
        raise ValueError(first_line(exc)) from exc
    if not done:
        raise ValueError("the encoder refused it")
    return encoded.tobytes()


class PictureStore:
    """Pictures below `folder`, named `line/station/date/sequence.jpg`; a later epoch than the first adds `-epoch`.

    `keep` and `every` (the n of `every_nth`, counted by the sequence) hold where a recipe doesn't say. When 256 pictures
    or 128 MB wait, the newest is dropped: `on_loss` gets one line for each picture lost, from any thread. A power cut may
    lose the pictures of the last seconds: they are not synced, so as not to hold up the records. `find` asks the records
    for the name of one of the last 1,000 pictures (`Journal.picture_of`). Above `max_bytes` and `max_age_s` the oldest go,
    and where less than `min_free_bytes` would be left on the disk: the journal needs that room. When old ones are not
    enough, the new one is lost.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: Keep,
        every: int = 10,
        find: Callable[[str, str, int], str | None] = lambda _line, _station, _sequence: None,
        on_loss: Callable[[str], None] = lambda _text: None,
        most: int = MOST_WAITING,
        write: Callable[[Path, bytes], None] = write_whole,
        max_bytes: int | None = None,
        max_age_s: float | None = None,
        min_free_bytes: int = 0,
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise StartError(f"records.pictures: can't make the folder {folder}: {exc.strerror}") from exc
        self._folder = folder.resolve()
        self._keep = keep
        self._every = every
        self._find = find
        self._on_loss = on_loss
        self._most = most
        self._write = write
        self._retention = Retention(
            self._folder, max_bytes=max_bytes, max_age_s=max_age_s, min_free_bytes=min_free_bytes, free=free
        )
        self._changed = threading.Condition()
        self._queue: deque[tuple[str, Frame]] = deque()
        self._bytes = 0
        self._closing = False
        self._failing = False
        self._old_stay = False
        self.lost = 0
        self._thread = threading.Thread(target=self._run, name="linegate-pictures", daemon=True)
        self._thread.start()

    def name_for(self, part: Part, frame: Frame, code: int) -> str | None:
        """Give the relative name the picture will have, None when it isn't kept; touches no disk."""
        keep = part.recipe.keep or self._keep
        if keep == "doubtful" and code not in DOUBTFUL:
            return None
        if keep == "every_nth" and part.sequence % self._every:
            return None
        date = utc_text(part.triggered_utc_ns)[:10]
        epoch = "" if part.epoch == 1 else f"-{part.epoch}"
        suffix = SUFFIXES.get(frame.media_type, "bin")
        return f"{part.line}/{part.station}/{date}/{part.sequence}{epoch}.{suffix}"

    def keep(self, name: str, frame: Frame) -> None:
        """Queue the picture for writing; returns at once, and drops it when too many wait."""
        with self._changed:
            full = len(self._queue) >= self._most or self._bytes + len(frame.data) > MOST_WAITING_BYTES
            if not full and not self._closing:
                self._queue.append((name, frame))
                self._bytes += len(frame.data)
                self._changed.notify()
                return
        self._lose(f"picture {name} was dropped: {len(self._queue)} others wait to be written")

    def path_for(self, line: str, station: str, sequence: int) -> Path | None:
        """Give the file of the newest part with that sequence, None without one; any thread may ask."""
        name = self._find(line, station, sequence)
        return None if name is None else self.path_of(name)

    def path_of(self, name: str) -> Path | None:
        """Give the file that a record's relative name means, None when there is none inside the folder."""
        path = self._inside(name)
        return path if path is not None and path.is_file() else None

    def close(self, *, within_s: float = 3.0) -> None:
        """Write what waits, for `within_s` at most, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(within_s)
        if left := len(self._queue):
            log.error("pictures_closed_with_loss", pictures=left)

    def _inside(self, name: str) -> Path | None:
        # resolve() follows links, so one that leads out of the folder is found out too.
        with contextlib.suppress(ValueError, OSError):  # a name that no file can have
            path = (self._folder / name).resolve()
            if path.is_relative_to(self._folder):
                return path
        return None

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._closing:
                    self._changed.wait()
                if not self._queue:
                    return
                name, frame = self._queue.popleft()
                self._bytes -= len(frame.data)
            self._write_one(name, frame)

    def _write_one(self, name: str, frame: Frame) -> None:
        path = self._inside(name)
        if path is None:
            self._lose(f"picture {name!r} would lie outside {self._folder}")
            return
        try:
            data = encode_raw(frame.data) if frame.media_type == BITMAP else frame.data
            left = self._retention.make_room(len(data))
            if left is not None:
                self._lose(
                    f"picture {name} was not written: {left / 1e6:.0f} MB are free on its disk, less than"
                    " records.pictures_min_free_mb allows"
                )
                return
            self._write(path, data)
        except (OSError, ValueError) as exc:
            self._lose(f"picture {name} can't be written: {getattr(exc, 'strerror', None) or exc}")
            return
        if self._failing:
            self._failing = False
            log.info("pictures_back", folder=str(self._folder))
        try:
            self._retention.added(len(data), time.time())
            self._old_stay = False
        except OSError as exc:
            if not self._old_stay:
                self._old_stay = True
                log.warning("old_pictures_stay", folder=str(self._folder), cause=str(exc))

    def _lose(self, text: str) -> None:
        with self._changed:
            self.lost += 1
            first = not self._failing
            self._failing = True
        if first:
            log.error("pictures_lost", folder=str(self._folder), cause=text)
        self._on_loss(text)
