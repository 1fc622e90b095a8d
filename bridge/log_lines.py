"""Where the log goes: standard error, written so that what lies behind it can't end a thread."""

from __future__ import annotations

import contextlib
import os


class LogLines:
    """A text file for the log of which every write is one call of the system.

    A full disk or a pipe that nobody reads any more costs the line, and nothing else: a thread that logs must not end by
    it, and no rest of a line may wait in a buffer and fail the next one too.
    """

    def __init__(self, descriptor: int = 2) -> None:
        self._descriptor = descriptor

    def write(self, text: str) -> int:
        """Write one line, or lose it."""
        with contextlib.suppress(OSError):
            os.write(self._descriptor, text.encode("utf-8", "backslashreplace"))
        return len(text)

    def flush(self) -> None:
        """Nothing waits here."""
