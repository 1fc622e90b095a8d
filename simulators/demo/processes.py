"""What befalls a process from outside: it is stopped and let go on, and its files can't grow."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

INFERENCE = b"bridge.inference"


def model_process(bridge: int) -> int:
    """Give the id of the process that runs the model: a child of the bridge if there is one for it, else the bridge."""
    for child in _children(bridge):
        with contextlib.suppress(OSError):  # it may have ended by now
            if INFERENCE in Path(f"/proc/{child}/cmdline").read_bytes():
                return child
    return bridge


def _children(pid: int) -> Iterator[int]:
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            yield from map(int, path.read_text().split())


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Let a process stand still."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def full_disk(pid: int, *, room_bytes: int = 0) -> Iterator[None]:
    """Let every write of a process fail that lies further than `room_bytes` into its file.

    The limit counts for files in memory too, which a full disk would leave alone: give room for what goes through those.
    """
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (room_bytes, before[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
