"""What the bridge and the worker that holds a model say to each other, and how it crosses the socket between them.

A message is `length (4) object`: a pickled object of this page. The bridge first sends OnnxSettings, then Job or Ping, one
at a time; the worker answers each with one message: Ready, Inference, Pong, or the error. Whoever closes the socket ends
the worker. The picture of a Job lies in a file in memory that both have open: a socket takes 200 KB at a time, and each
further piece would cost two changes of process.
"""

from __future__ import annotations

import mmap
import os
import pickle
import socket
import struct
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.domain.recipe import Threshold

_LENGTH = struct.Struct(">I")
_ROOM = 16_777_216  # pages that nothing was written to take no memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Score the picture in the shared file, `length` bytes; `ours` says that a camera of the station's own made it."""

    thresholds: Mapping[str, Threshold]
    roi: tuple[int, int, int, int] | None
    reduction: int
    length: int
    ours: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """Prove that you live; with `run`, by a run of the model, which keeps code and weights in the caches."""

    run: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong:
    """The answer to a Ping. A run that failed is no news: it fails on the next part too, and that part's ERROR tells of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The model is warm and checked; `usual_s` is what a golden frame took."""

    reference: str
    sha256: str
    golden_deviation: float
    usual_s: float


class PictureRoom:
    """The picture's place in memory that two processes share: one lays it there, the other takes it.

    It has room for most pictures from the start and grows for a larger one. Written as memory, it knows nothing of full
    disks and limits of files.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._map: mmap.mmap | None = None

    @classmethod
    def make(cls) -> PictureRoom:
        """Make the file, in memory where the system has such; raises OSError."""
        if hasattr(os, "memfd_create"):
            file = os.memfd_create("linegate-picture")
        else:
            with tempfile.TemporaryFile() as made:
                file = os.dup(made.fileno())
        os.ftruncate(file, _ROOM)
        return cls(file)

    def fileno(self) -> int:
        """Give the descriptor to hand to the other process."""
        return self._file

    def lay(self, picture: bytes) -> None:
        """Put a picture there; raises OSError."""
        if os.fstat(self._file).st_size < len(picture):
            os.ftruncate(self._file, len(picture))
        self._mapped(len(picture))[: len(picture)] = picture

    def take(self, length: int) -> bytes:
        """Get the picture out; raises OSError."""
        return self._mapped(length)[:length]

    def close(self) -> None:
        """Let go of it."""
        if self._map is not None:
            self._map.close()
        os.close(self._file)

    def _mapped(self, length: int) -> mmap.mmap:
        if self._map is None or len(self._map) < length:
            if self._map is not None:
                self._map.close()
            self._map = mmap.mmap(self._file, 0)
        return self._map


def pack(message: Any) -> bytes:
    """Give the bytes of one message."""
    packed = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(packed)) + packed


def receive(link: socket.socket) -> Any:
    """Wait for one message; None when the other side has gone."""
    length = _exactly(link, _LENGTH.size)
    packed = _exactly(link, _LENGTH.unpack(length)[0]) if length else b""
    return pickle.loads(packed) if packed else None


def _exactly(link: socket.socket, length: int) -> bytes:
    """Receive `length` bytes, or none when the other side has gone before."""
    data = b""
    while len(data) < length:
        if not (more := link.recv(length - len(data))):
            return b""
        data += more
    return data


class Unpacker:
    """Puts messages together from the pieces in which they arrive."""

    def __init__(self) -> None:
        self._pieces = bytearray()

    def feed(self, piece: bytes) -> Iterator[Any]:
        """Take what arrived; gives each message that is whole by now."""
        self._pieces += piece
        while len(self._pieces) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._pieces)[0]
            if len(self._pieces) < end:
                return
            packed = bytes(self._pieces[_LENGTH.size : end])
            del self._pieces[:end]
            yield pickle.loads(packed)
