"""Acknowledgements in the order of arrival, as MQTT demands (5.0, section 4.6): some brokers hang up on any other."""

from __future__ import annotations

from collections import deque


class AckOrder:
    """Holds back an acknowledgement until all earlier messages of the connection have theirs."""

    def __init__(self) -> None:
        self._connection = 0
        self._open: deque[int] = deque()
        self._done: set[int] = set()

    @property
    def waiting(self) -> int:
        """How many messages have no acknowledgement yet."""
        return len(self._open)

    def arrived(self, connection: int, mid: int) -> None:
        """Note a message of QoS 1; the first one of a new connection ends all that was open on the old."""
        if connection != self._connection:
            self._connection = connection
            self._open.clear()
            self._done.clear()
        self._open.append(mid)

    def done(self, connection: int, mid: int) -> list[int]:
        """Note that a message is safe; give the message ids that may be acknowledged now, in their order."""
        if connection != self._connection or mid not in self._open:
            return []
        self._done.add(mid)
        ready = []
        while self._open and self._open[0] in self._done:
            ready.append(self._open.popleft())
            self._done.discard(ready[-1])
        return ready
