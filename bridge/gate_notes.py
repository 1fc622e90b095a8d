"""What the journal keeps of each part at the gate, beside its verdict."""

from __future__ import annotations

from bridge.domain.gate_track import PartKey
from bridge.ports import Clock, Journal


class GateNotes:
    """Note events of one station's parts in the journal, stamped with the wall clock."""

    def __init__(self, *, line: str, station: str, journal: Journal, clock: Clock) -> None:
        self._line = line
        self._station = station
        self._journal = journal
        self._clock = clock

    def note(self, event: str, key: PartKey, reason: str | None) -> None:
        """Note one event; `reason` is None where the event says all."""
        self._journal.gate_event(
            line=self._line,
            station=self._station,
            epoch=key[0],
            sequence=key[1],
            event=event,
            reason=reason,
            at_utc_ns=self._clock.utc_ns(),
        )
