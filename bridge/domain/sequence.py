"""The ledger of accepted triggers: tells a repeated message from a lost trigger from a restarted counter."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from bridge.domain.belt import signed_step

AcceptanceKind = Literal["first", "next", "gap", "out_of_order", "restarted", "duplicate"]
Identity = tuple[int, str, str | None]

SEQUENCES = 2**32
REMEMBERED = 1000
REORDERED = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """What a trigger's sequence says. `missed` is what to add to the missed triggers: -1 gives one back.

    A duplicate carries the epoch of the trigger that it repeats.
    """

    kind: AcceptanceKind
    epoch: int
    missed: int = 0

    @property
    def accepted(self) -> bool:
        """Whether the part is to be judged and recorded: everything but a duplicate."""
        return self.kind != "duplicate"


class SequenceLedger:
    """Remembers the newest 1,000 accepted triggers.

    `remembered` holds (epoch, sequence, part id, ts) of earlier ones, oldest first. What they say identifies duplicates
    and restarted counters; triggers missed while nobody listened are not counted against them.
    """

    def __init__(self, remembered: Iterable[tuple[int, int, str, str | None]] = ()) -> None:
        self._order: deque[tuple[int, Identity]] = deque()
        self._epoch_of: dict[Identity, int] = {}
        self._seen: set[tuple[int, int]] = set()
        self._missing: set[int] = set()
        self._newest: int | None = None
        self._epoch = 1
        self._opened = False
        for epoch, sequence, part_id, ts in remembered:
            if epoch != self._epoch:
                self._epoch, self._newest = epoch, None
            if self._newest is None or signed_step(sequence, self._newest, SEQUENCES) > 0:
                self._newest = sequence
            self._remember(epoch, (sequence, part_id, ts))

    @property
    def epoch(self) -> int:
        """The present epoch: 1 at first, one more after each restart of the counter."""
        return self._epoch

    @property
    def newest(self) -> int | None:
        """The newest accepted sequence, u32; None before the first."""
        return self._newest

    def accept(self, sequence: int, part_id: str, ts: str | None) -> Acceptance:
        """Take one trigger's sequence (u32), part id and `ts` as sent, and say what it is."""
        identity = (sequence, part_id, ts)
        known = self._epoch_of.get(identity)
        if known is not None:
            return Acceptance(kind="duplicate", epoch=known)
        kind, missed = self._classify(sequence)
        self._remember(self._epoch, identity)
        return Acceptance(kind=kind, epoch=self._epoch, missed=missed)

    def _classify(self, sequence: int) -> tuple[AcceptanceKind, int]:
        newest, opened = self._newest, self._opened
        step = 1 if newest is None else signed_step(sequence, newest, SEQUENCES)
        if -REORDERED <= step < 0 and (self._epoch, sequence) not in self._seen:
            # It does not open the count: a straggler says nothing of what was missed since.
            counted = sequence in self._missing
            self._missing.discard(sequence)
            return "out_of_order", -1 if counted else 0
        self._opened, self._newest = True, sequence
        if step <= 0:
            self._epoch += 1
            self._missing.clear()
            return "restarted", 0
        if not opened:
            return "first", 0
        assert newest is not None
        self._note_missing(newest, sequence, step)
        return ("next", 0) if step == 1 else ("gap", step - 1)

    def _note_missing(self, newest: int, sequence: int, step: int) -> None:
        for back in range(1, min(step - 1, REORDERED) + 1):
            self._missing.add((sequence - back) % SEQUENCES)
        self._missing = {one for one in self._missing if -REORDERED <= signed_step(one, sequence, SEQUENCES) < 0}

    def _remember(self, epoch: int, identity: Identity) -> None:
        self._order.append((epoch, identity))
        self._epoch_of[identity] = epoch
        self._seen.add((epoch, identity[0]))
        if len(self._order) > REMEMBERED:
            old_epoch, old = self._order.popleft()
            if self._epoch_of.get(old) == old_epoch:
                del self._epoch_of[old]
            self._seen.discard((old_epoch, old[0]))
