"""What waits to be published: bounded, in order, and only so much of it in the client's hands at a time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import structlog

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One message to be published at QoS 1."""

    topic: str
    payload: str
    retain: bool = False
    correlation: bytes | None = None


class Outbox:
    """Holds at most `limit` messages, the oldest going first (`dropped` counts them); of a retained topic the newest.

    At most `window` may be published and unconfirmed: after a reconnection the client sends all of those again at
    once, and a broker may hang up on more than its receive maximum [20 with mosquitto].
    """

    def __init__(self, *, limit: int, window: int = 20) -> None:
        self._waiting: deque[Outgoing] = deque(maxlen=limit)
        self._retained: dict[str, Outgoing] = {}
        self._window = window
        self._unconfirmed = 0
        self.dropped = 0

    @property
    def empty(self) -> bool:
        """Whether nothing waits and the broker has confirmed all."""
        return not (self._waiting or self._retained or self._unconfirmed)

    def put(self, outgoing: Outgoing) -> None:
        """Add a message; retained ones go after all others."""
        if outgoing.retain:
            self._retained[outgoing.topic] = outgoing
            return
        if len(self._waiting) == self._waiting.maxlen:
            self.dropped += 1
            if self.dropped & (self.dropped - 1) == 0:
                # at 1, 2, 4, 8, ...: a long outage is a few lines, not one for each message
                _log.warning("mqtt_messages_dropped", dropped=self.dropped, hint="the records have them")
        self._waiting.append(outgoing)

    def take(self) -> Outgoing | None:
        """Give the next message that may be sent now, None when there is none."""
        if self._unconfirmed >= self._window:
            return None
        if self._waiting:
            return self._waiting.popleft()
        if self._retained:
            return self._retained.pop(next(iter(self._retained)))
        return None

    def sent(self) -> None:
        """Count a message that the client has taken."""
        self._unconfirmed += 1

    def confirmed(self) -> None:
        """Count a message that the broker has taken, or refused for good."""
        self._unconfirmed = max(0, self._unconfirmed - 1)
