"""Heartbeats: a counter that must keep changing, and the station's own that only a working station advances."""

from __future__ import annotations

from bridge.domain.belt import NS_PER_MS

U16 = 2**16


class HeartbeatWatch:
    """Watches another's heartbeat: once seen to change, it must change again within `timeout_ms`.

    `at_rest` is what the register holds before anybody has written to it.
    """

    def __init__(self, *, timeout_ms: float = 2000.0, at_rest: int = 0) -> None:
        self._timeout_ns = round(timeout_ms * NS_PER_MS)
        self._value = at_rest
        self._changed_ns: int | None = None

    def seen(self, value: int, *, now_ns: int) -> None:
        """Take the counter as read now; only a change counts as life."""
        if value != self._value:
            self._value, self._changed_ns = value, now_ns

    @property
    def ever_seen(self) -> bool:
        """Whether it has changed since the start: before that a loss is no alarm."""
        return self._changed_ns is not None

    def lost(self, now_ns: int) -> bool:
        """Say whether it stands still: it was never seen, or has not changed for the timeout."""
        return self._changed_ns is None or now_ns - self._changed_ns >= self._timeout_ns

    def next_change_ns(self) -> int | None:
        """Give the moment at which silence turns into loss, for whoever sets a timer; None before the first change."""
        return None if self._changed_ns is None else self._changed_ns + self._timeout_ns


class Heartbeat:
    """The station's own heartbeat, u16: +1 every `period_ms`, but only on a pass that could judge a part."""

    def __init__(self, *, period_ms: float = 500.0, value: int = 0) -> None:
        self._period_ns = round(period_ms * NS_PER_MS)
        self._next_ns: int | None = None
        self._value = value % U16

    @property
    def value(self) -> int:
        """The present count, modulo 2^16."""
        return self._value

    def still_ms(self, now_ns: int) -> float:
        """Give for how long it has stood still, 0 before its first beat."""
        return 0.0 if self._next_ns is None else max(0.0, (now_ns - self._next_ns + self._period_ns) / NS_PER_MS)

    def passed(self, now_ns: int, *, able: bool = True) -> bool:
        """Note one pass of the station's loop; advance at most once a period and give whether it advanced.

        A pass that could not judge a part (`able` false) leaves the count standing, as a hanging station would.
        """
        if not able or (self._next_ns is not None and now_ns < self._next_ns):
            return False
        late = self._next_ns is None or now_ns - self._next_ns > self._period_ns
        self._next_ns = self._period_ns + (now_ns if late or self._next_ns is None else self._next_ns)
        self._value = (self._value + 1) % U16
        return True
