"""The exception tree: each error names the guilty side, so that one place can turn it into a verdict or an exit code."""

from __future__ import annotations


class BridgeError(Exception):
    """Anything that Linegate itself reports as wrong; its text is one line fit for an operator."""


class ConfigError(BridgeError):
    """A setting, recipe or command line that can't be used: names the key, the value and what is allowed."""


class StartError(BridgeError):
    """Something the line needs is absent at start: a port in use, a missing model. Exit code 1."""


class TriggerError(BridgeError):
    """A trigger that can't be read. `sequence` is set when at least that much was legible, so the part gets ERROR."""

    def __init__(self, text: str, *, sequence: int | None = None, part_id: str | None = None) -> None:
        super().__init__(text)
        self.sequence = sequence
        self.part_id = part_id


class MessageError(BridgeError):
    """A message beside the triggers (speed, encoder, command) that can't be read."""


class CameraError(BridgeError):
    """No usable frame: absent, truncated, unreadable, or outside the image folder."""


class InferenceError(BridgeError):
    """The model gave no usable scores: NaN, a wrong shape, a value outside 0 to 1, or it failed."""


class BundleError(BridgeError):
    """A model bundle that is missing, tampered with, of the wrong shape, or off its golden scores."""


class JournalError(BridgeError):
    """The journal could not commit."""


class OutputError(BridgeError):
    """An output can't be written: the text names it and why."""


class RefusedError(OutputError):
    """The other side answers, and does not take what is written: a setting of it or of ours is wrong."""


def first_line(exc: Exception) -> str:
    """Give the first line of what a library says, the error's name where it says nothing."""
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0]
