"""Find the requests on a serial line, where silence parts the frames; the checksum and the lengths are pymodbus'.

pymodbus' own search waits for a length that only a request to itself has: on a line with other devices their answers
make it deaf for a while. Here what stands between two silences is a frame if its checksum says so, whatever it holds.
"""

from __future__ import annotations

from pymodbus.framer.rtu import FramerRTU

from bridge.outputs.modbus.requests import REQUESTS

SHORTEST, LONGEST = 4, 256
STALE_S = 0.05
"""A frame that a USB adapter cut in two goes on within 16 ms; what is older belongs to something else."""
FAST_BAUD = 19_200
SHORTEST_GAP_S = 0.00175
_CHECKSUM = 2


def frame_gap_s(*, baud_rate: int, bits: int) -> float:
    """Give the silence that ends a frame: 3.5 characters of `bits` each, 1.75 ms above 19,200 baud.

    Modbus over serial line 1.02, section 2.5.1.1.
    """
    return SHORTEST_GAP_S if baud_rate > FAST_BAUD else 3.5 * bits / baud_rate


class RtuFrames:
    """Gather what a line brings, and give the request that stands in it at a silence. `units` are those served."""

    def __init__(self, units: range) -> None:
        self._units = units
        self._held = bytearray()
        self._last_s = 0.0

    def feed(self, data: bytes, *, at_s: float) -> None:
        """Take bytes that came at a moment on any steady clock."""
        if at_s - self._last_s > STALE_S:
            self._held.clear()
        self._last_s = at_s
        self._held += data
        del self._held[:-LONGEST]

    def at_silence(self) -> tuple[int, bytes] | None:
        """Give unit and PDU of a request to one of the units; None for everything else that may be on a line.

        Another device's frame is left alone. Behind noise, or another device's frame without a silence between, a request
        is found if it ends where the line fell silent.
        """
        held = bytes(self._held)
        for start in range(len(held) - SHORTEST + 1):
            frame = held[start:]
            if (start == 0 or self._may_be_ours(frame)) and _is_whole(frame):
                self._held.clear()
                return (frame[0], frame[1:-_CHECKSUM]) if frame[0] in self._units else None
        return None

    def _may_be_ours(self, frame: bytes) -> bool:
        kind = REQUESTS.get(frame[1])
        return frame[0] in self._units and kind is not None and kind.calculateRtuFrameSize(frame) == len(frame)


def _is_whole(frame: bytes) -> bool:
    return FramerRTU.check_CRC(frame[:-_CHECKSUM], int.from_bytes(frame[-_CHECKSUM:], "big"))
