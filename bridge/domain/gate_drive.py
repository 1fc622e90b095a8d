"""The coil of a gate that the bridge fires: orders and releases in, moments and the coil's level out. Sans I/O.

With `rest = "reject"` the coil is on only while a part's release runs and no order does: what nobody has judged is
rejected. With `rest = "pass"`, and for a pusher, the coil follows the orders alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bridge.domain.gate_schedule import GateCommand, GateSchedule
from bridge.domain.gate_settings import GateSettings
from bridge.domain.gate_track import PartKey

CallKind = Literal["reject", "release", "withdraw"]
NEVER_MS = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class GateCall:
    """What is to be done for one part: carry out its order or release as it is now, or forget it."""

    kind: CallKind
    key: PartKey
    due_ns: int | None = None
    off_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that a poll has found to be done, for an order or for a release."""

    kind: Literal["reject", "release"]
    command: GateCommand


class GateDrive:
    """Hold what is ordered, and the coil's level as last commanded."""

    def __init__(self, settings: GateSettings) -> None:
        self._settings = settings
        self._schedules = {"reject": GateSchedule(settings), "release": GateSchedule(_for_releases(settings))}

    @property
    def level(self) -> bool:
        """Whether the coil is to be on."""
        ordered, released = self._schedules["reject"].on, self._schedules["release"].on
        if self._settings.releases:
            return released and not ordered
        return ordered != (self._settings.rest == "reject")

    @property
    def idle(self) -> bool:
        """Whether nothing is left to be done."""
        return not any(each.pending or each.on for each in self._schedules.values())

    def take(self, call: GateCall, now_ns: int) -> bool:
        """Take a call; gives False, and forgets the part, when its order or release comes too late."""
        if call.kind != "withdraw":
            return self._schedules[call.kind].put(call.key, due_ns=call.due_ns, off_ns=call.off_ns, now_ns=now_ns)
        for schedule in self._schedules.values():
            schedule.withdraw(call.key)
        return True

    def drop_untimed(self) -> None:
        """Forget what has no moments: nobody is left who could give it any."""
        for schedule in self._schedules.values():
            schedule.drop_untimed()

    def next_due(self) -> int | None:
        """Give the moment of the next step; None while nothing is timed."""
        moments = (schedule.next_due() for schedule in self._schedules.values())
        return min((moment for moment in moments if moment is not None), default=None)

    def poll(self, now_ns: int) -> list[Step]:
        """Give what is to be done by `now_ns`; the level after it is what to write."""
        return [
            *(Step(kind="release", command=command) for command in self._schedules["release"].poll(now_ns)),
            *(Step(kind="reject", command=command) for command in self._schedules["reject"].poll(now_ns)),
        ]


def _for_releases(settings: GateSettings) -> GateSettings:
    """Give the settings of the releases' schedule: the arm's way is in their moments, and one after the other is usual."""
    return GateSettings(
        mode="bridge",
        open_lead_ms=0.0,
        close_lead_ms=0.0,
        min_on_ms=settings.min_on_ms,
        min_off_ms=settings.min_off_ms,
        max_on_ms=NEVER_MS,
        firing_jitter_ms=settings.firing_jitter_ms,
    )
