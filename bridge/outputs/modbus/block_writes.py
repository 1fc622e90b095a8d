"""In which requests the register map goes into a PLC's own registers: pure, addresses counted from the map's start.

Ring slots go first, whole; then 36-37, the sequence that a reader reads last; at the end 2-3, the one that it reads
first. What fits into one request goes at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bridge.outputs.plc.register_map import RING_BASE, STATUS_SIZE
from bridge.outputs.plc.view import RING_SLOTS, SLOT_SIZE

WRITE_LIMIT = 123
# Registers of a request are taken in rising order at the latest, so each span begins or ends with what its place is for.
_IN_PARTS = (range(36, STATUS_SIZE), range(4, 36), range(4))


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockWrite:
    """One request: words for consecutive registers."""

    start: int
    words: tuple[int, ...]


def ring_writes(
    slots: Sequence[tuple[int, ...]], known: Sequence[tuple[int, ...]] | None, *, max_registers: int = WRITE_LIMIT
) -> list[BlockWrite]:
    """Give the slots that differ from what the PLC is known to hold, whole ones, neighbours in one request."""
    at_most = max_registers // SLOT_SIZE
    changed = [n for n in range(RING_SLOTS) if known is None or slots[n] != known[n]]
    runs: list[list[int]] = []
    for slot in changed:
        if runs and runs[-1][-1] == slot - 1 and len(runs[-1]) < at_most:
            runs[-1].append(slot)
        else:
            runs.append([slot])
    return [
        BlockWrite(start=RING_BASE + run[0] * SLOT_SIZE, words=tuple(word for slot in run for word in slots[slot]))
        for run in runs
    ]


def status_writes(words: Sequence[int], *, max_registers: int = WRITE_LIMIT) -> list[BlockWrite]:
    """Give registers 0 to 54: in one request, or in several whose order lets a reader notice that they are on their way."""
    if max_registers >= STATUS_SIZE:
        return [BlockWrite(start=0, words=tuple(words[:STATUS_SIZE]))]
    step = max_registers // 2 * 2  # numbers of two registers stand at even addresses
    starts = [
        (start, min(start + step, part.stop)) for part in _IN_PARTS for start in range(part.start, part.stop, step)
    ]
    return [BlockWrite(start=start, words=tuple(words[start:stop])) for start, stop in starts]
