"""When to switch the gate on and off, for whoever fires it: a sans-I/O state machine on moments.

The caller puts orders in as they come and are revised, sleeps until `next_due`, and carries out what `poll` says:

    schedule.put((1, 17), due_ns=..., off_ns=..., now_ns=...)
    while (due_ns := schedule.next_due()) is not None:
        sleep until due_ns
        for command in schedule.poll(now_ns): ...

Rules: the gate is on while any order's time from on-command to off-command runs; it stays on between two orders where it
could not clear and open again; it is never switched on late beyond the firing jitter; it is on and off for at least the
minimum times; an order that has kept it on for `max_on_ms` ends it. In a run of merging orders each new one begins its
own `max_on_ms`: twenty bad parts in a row are no stuck gate.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from bridge.domain.belt import NS_PER_MS
from bridge.domain.gate_settings import BRIDGE_LATE_MS, GateSettings
from bridge.domain.gate_track import PartKey

REMEMBERED = 256
"""Orders that are over, missed or withdrawn and may still be revised by somebody who does not know it yet."""
NAMED = 16
CommandKind = Literal["on", "off", "missed", "stuck"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateCommand:
    """One thing to do or to report. `due_ns` is when it should have happened, for the measured firing error.

    "on" and "off" switch the gate, "off" with the keys that are done (of many the newest); "missed" reports orders that
    must not be fired any more; "stuck" switches it off after max_on_ms, with the keys whose windows were not over.
    """

    kind: CommandKind
    due_ns: int
    keys: tuple[PartKey, ...] = ()


@dataclass(slots=True, kw_only=True)
class _Order:
    due_ns: int | None
    off_ns: int | None
    joined: bool = False  # the gate is on for it


class GateSchedule:
    """Orders in, commands out; holds the gate's on or off as last commanded."""

    def __init__(self, settings: GateSettings) -> None:
        self._max_on_ns = round(settings.max_on_ms * NS_PER_MS)
        self._min_on_ns = round(settings.min_on_ms * NS_PER_MS)
        self._min_off_ns = round(settings.min_off_ms * NS_PER_MS)
        self._rest_ns = round(settings.rest_ms * NS_PER_MS)
        self._jitter_ns = round(max(settings.firing_jitter_ms, BRIDGE_LATE_MS) * NS_PER_MS)
        self._orders: dict[PartKey, _Order] = {}
        self._done: deque[PartKey] = deque(maxlen=REMEMBERED)
        self._on_ns: int | None = None
        self._renewed_ns = 0
        self._off_ns: int | None = None

    @property
    def on(self) -> bool:
        """Whether the gate is commanded on."""
        return self._on_ns is not None

    @property
    def pending(self) -> tuple[PartKey, ...]:
        """Keys of the orders that are not done, as they came."""
        return tuple(self._orders)

    def put(self, key: PartKey, *, due_ns: int | None, off_ns: int | None, now_ns: int) -> bool:
        """Take an order, or new moments for one; None freezes a moment while the belt stands.

        Gives False, and forgets the order, when it is new and more than 1 ms late. A revised one that a rising speed
        has made late by no more than the firing jitter is due now.
        """
        order = self._orders.get(key)
        if order is None and key in self._done:
            return True  # what is over can't be moved any more
        if order is None:
            if due_ns is not None and now_ns > due_ns + round(BRIDGE_LATE_MS * NS_PER_MS):
                return False
            self._orders[key] = _Order(due_ns=due_ns, off_ns=off_ns)
            return True
        if not order.joined:
            late = due_ns is not None and due_ns < now_ns <= due_ns + self._jitter_ns
            order.due_ns = now_ns if late else due_ns
        order.off_ns = off_ns
        return True

    def withdraw(self, key: PartKey) -> None:
        """Forget an order; if the gate is on for it alone it goes off at the next poll."""
        if key in self._orders:
            self._finish((key,))

    def drop_untimed(self) -> None:
        """Forget the orders without moments: nobody is left who could give them any."""
        for key, order in list(self._orders.items()):
            if order.due_ns is None or order.off_ns is None:
                del self._orders[key]

    def next_due(self) -> int | None:
        """Give the moment at which `poll` will have something to say; None while nothing is timed."""
        moments = [self._ready_ns(due_ns) for due_ns in self._waiting().values()]
        if self._on_ns is not None:
            end_ns = self._end_ns()
            moments.append(self._renewed_ns + self._max_on_ns)
            if end_ns is not None and not self._merges(end_ns):
                moments.append(end_ns)
        return min(moments, default=None)

    def poll(self, now_ns: int) -> tuple[GateCommand, ...]:
        """Give what is to be done by `now_ns`, in order."""
        commands = [*self._switch_off(now_ns), *self._switch_on(now_ns)]
        return tuple(commands)

    def _switch_on(self, now_ns: int) -> list[GateCommand]:
        ripe = {key: due_ns for key, due_ns in self._waiting().items() if self._ready_ns(due_ns) <= now_ns}
        if not ripe:
            return []
        commands: list[GateCommand] = []
        if self._on_ns is None:
            late = tuple(key for key, due_ns in ripe.items() if now_ns - due_ns > self._jitter_ns)
            self._finish(late)
            if late:
                commands.append(GateCommand(kind="missed", due_ns=min(ripe[key] for key in late), keys=late))
            ripe = {key: due_ns for key, due_ns in ripe.items() if key not in late}
            if not ripe:
                return commands
            self._on_ns = now_ns
            commands.append(GateCommand(kind="on", due_ns=min(ripe.values()), keys=tuple(ripe)))
        for key in ripe:
            self._orders[key].joined = True
        self._renewed_ns = now_ns
        over = [key for key, order in self._orders.items() if order.joined and self._over(order, now_ns)]
        self._finish(tuple(over[:-NAMED]))
        return commands

    def _switch_off(self, now_ns: int) -> list[GateCommand]:
        if self._on_ns is None:
            return []
        end_ns, stuck_ns = self._end_ns(), self._renewed_ns + self._max_on_ns
        joined = tuple(key for key, order in self._orders.items() if order.joined)
        if end_ns is not None and end_ns <= now_ns and not self._merges(end_ns):
            self._go_off(joined, now_ns)
            return [GateCommand(kind="off", due_ns=end_ns, keys=joined)]
        if stuck_ns > now_ns or any(due_ns <= now_ns for due_ns in self._waiting().values()):
            return []
        unfinished = tuple(key for key in joined if not self._over(self._orders[key], now_ns))
        self._go_off(joined, now_ns)
        return [GateCommand(kind="stuck", due_ns=stuck_ns, keys=unfinished)]

    def _go_off(self, joined: tuple[PartKey, ...], now_ns: int) -> None:
        self._finish(joined)
        self._on_ns, self._off_ns = None, now_ns

    def _finish(self, keys: tuple[PartKey, ...]) -> None:
        """Forget what is over, missed or withdrawn: nothing brings it back."""
        for key in keys:
            del self._orders[key]
            self._done.append(key)

    def _over(self, order: _Order, now_ns: int) -> bool:
        return order.off_ns is not None and order.off_ns <= now_ns

    def _end_ns(self) -> int | None:
        """When the orders that the gate is on for are over; None while one of them is frozen."""
        assert self._on_ns is not None
        end_ns = self._on_ns + self._min_on_ns
        for order in self._orders.values():
            if order.joined:
                if order.off_ns is None:
                    return None
                end_ns = max(end_ns, order.off_ns)
        return end_ns

    def _merges(self, end_ns: int) -> bool:
        """Whether another order is due so soon after `end_ns` that the gate stays on for it."""
        return any(due_ns - end_ns < self._rest_ns for due_ns in self._waiting().values())

    def _waiting(self) -> dict[PartKey, int]:
        """Due moments of the timed orders that the gate is not on for yet."""
        timed = {key: order.due_ns for key, order in self._orders.items() if not order.joined}
        return {key: due_ns for key, due_ns in timed.items() if due_ns is not None}

    def _ready_ns(self, due_ns: int) -> int:
        """When an order due at `due_ns` may switch the gate on: not before the minimum off time is over."""
        if self._on_ns is not None or self._off_ns is None:
            return due_ns
        return max(due_ns, self._off_ns + self._min_off_ns)
