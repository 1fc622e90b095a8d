"""The reject gate: an arm that needs time to open and to close, and remembers when it stood where."""

from __future__ import annotations

from dataclasses import dataclass, field

Interval = tuple[int, int]
MS = 1_000_000
RECENT = 16  # intervals back from now that one part can still meet


@dataclass(slots=True, kw_only=True)
class RejectGate:
    """Divert while commanded. A part is thrown out only by an arm that is fully open; one that moves sweeps it.

    The arm travels evenly, `open_lead_ms` from rest to fully open and `close_lead_ms` back, and turns where it is
    when the command changes on the way.
    """

    open_lead_ms: float = 40.0
    close_lead_ms: float = 40.0
    commanded: bool = False
    fully_open: list[Interval] = field(default_factory=list)
    sweeps: list[Interval] = field(default_factory=list)
    _turn_ns: int = 0
    _turn_fraction: float = 0.0
    _sweep_from_ns: int | None = None

    def command(self, now_ns: int, on: bool) -> bool:
        """Take a command; tells whether it changed anything."""
        if on == self.commanded:
            return False
        fraction = self.fraction_at(now_ns)
        if on:
            if self._sweep_from_ns is not None and fraction == 0.0:
                self.sweeps.append((self._sweep_from_ns, self._closed_ns()))
                self._sweep_from_ns = None
            if self._sweep_from_ns is None:
                self._sweep_from_ns = now_ns
        elif fraction == 1.0:
            self.fully_open.append((self._full_ns(), now_ns))
        self.commanded, self._turn_ns, self._turn_fraction = on, now_ns, fraction
        return True

    def fraction_at(self, now_ns: int) -> float:
        """Give how far the arm is open, 0 at rest to 1."""
        if self.commanded:
            return 1.0 if now_ns >= self._full_ns() else self._turn_fraction + self._moved(now_ns, self.open_lead_ms)
        return 0.0 if now_ns >= self._closed_ns() else self._turn_fraction - self._moved(now_ns, self.close_lead_ms)

    def is_fully_open(self, now_ns: int) -> bool:
        """Tell the state of the limit switch."""
        return self.commanded and now_ns >= self._full_ns()

    def open_throughout(self, from_ns: int, to_ns: int) -> bool:
        """Tell whether the arm stood fully open during all of an interval that lies in the past."""
        intervals = self.fully_open[-RECENT:]
        if self.commanded and self._full_ns() <= to_ns:
            intervals.append((self._full_ns(), to_ns))
        return any(start <= from_ns and to_ns <= end for start, end in intervals)

    def touched(self, from_ns: int, to_ns: int) -> bool:
        """Tell whether the arm was away from its rest at any time of an interval that lies in the past."""
        return any(start < to_ns and from_ns < end for start, end in self.sweeps_until(to_ns)[-RECENT:])

    def sweeps_until(self, now_ns: int) -> list[Interval]:
        """Give every interval in which the arm was not at rest, the present one up to now."""
        if self._sweep_from_ns is None:
            return list(self.sweeps)
        end_ns = now_ns if self.commanded else min(now_ns, self._closed_ns())
        return [*self.sweeps, (self._sweep_from_ns, end_ns)]

    def _moved(self, now_ns: int, lead_ms: float) -> float:
        return max(0, now_ns - self._turn_ns) / (lead_ms * MS) if lead_ms > 0 else 1.0

    def _full_ns(self) -> int:
        return self._turn_ns + round((1.0 - self._turn_fraction) * self.open_lead_ms * MS)

    def _closed_ns(self) -> int:
        return self._turn_ns + round(self._turn_fraction * self.close_lead_ms * MS)
