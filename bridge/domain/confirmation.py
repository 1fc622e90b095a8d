"""Rejects that wait to be seen in the reject bin: which one a confirmation belongs to, and which one never came."""

from __future__ import annotations

from bridge.domain.belt import NS_PER_MS
from bridge.domain.gate_track import PartKey

CONFIRM_MS = 3000.0  # from the gate to the bin's sensor and through the PLC


class Confirmations:
    """Match the bin's count with the rejects, oldest first.

    The PLC counts parts, it does not name them. A line without a bin sensor never counts one: until the first
    confirmation, `in_use`, an overdue part means nothing.
    """

    def __init__(self) -> None:
        self._due_ns: dict[PartKey, int | None] = {}
        self.in_use = False

    def ordered(self, key: PartKey) -> None:
        """Expect a part in the bin."""
        self._due_ns.setdefault(key, None)

    def given_up(self, key: PartKey) -> None:
        """Expect it no more: its order was missed."""
        self._due_ns.pop(key, None)

    def passed(self, key: PartKey, now_ns: int) -> None:
        """Note that a part is past the gate: from now on its time runs."""
        if key in self._due_ns:
            self._due_ns[key] = now_ns + round(CONFIRM_MS * NS_PER_MS)

    def confirmed(self, count: int) -> list[PartKey]:
        """Take so many parts newly seen in the bin; gives those that were ordered there. Others are the PLC's own."""
        self.in_use = self.in_use or count > 0
        keys = list(self._due_ns)[:count]
        for key in keys:
            del self._due_ns[key]
        return keys

    def overdue(self, now_ns: int) -> list[PartKey]:
        """Give, once, the parts that should have been in the bin by now: nobody waits for them any more."""
        late = [key for key, due_ns in self._due_ns.items() if due_ns is not None and due_ns < now_ns]
        for key in late:
            del self._due_ns[key]
        return late
