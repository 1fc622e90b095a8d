"""Which messages the broker kept while the bridge was away: they look fresh and are not."""

from __future__ import annotations

import json

MAX_ROUNDS = 20


class Backlog:
    """Tells backlog from live messages by a marker that the bridge sends to itself on every new connection.

    On a kept session the broker delivers what it held before the marker; after the marker's return all is live. MQTT
    promises that order within one topic only (5.0, section 4.6), and brokers exist that let `sync` overtake `trigger`:
    so a marker counts when no trigger came between its sending and its return; else another one is sent.
    """

    def __init__(self) -> None:
        self.connection = 0
        self._nonce = ""
        self._round = 0
        self._resumed = False
        self._touched = False
        self._settled = False

    def open(self, connection: int, *, resumed: bool, nonce: str) -> None:
        """Begin a connection; `resumed` when the broker kept the session, `nonce` makes its markers its own."""
        self.connection, self._nonce, self._round = connection, nonce, 0
        self._resumed, self._touched, self._settled = resumed, False, False

    @property
    def marker(self) -> str:
        """The text to be sent to `sync` now."""
        return json.dumps({"marker": self._nonce, "round": self._round})

    @property
    def settled(self) -> bool:
        """Whether the marker is back: neither kept nor retained messages of the subscription are still to come."""
        return self._settled

    def take(self, *, dup: bool) -> bool:
        """Note a trigger; give whether it is backlog. One with DUP always is."""
        self._touched = True
        return self.holds(dup=dup)

    def holds(self, *, dup: bool) -> bool:
        """Give whether a message that arrives now is backlog."""
        return dup or (self._resumed and not self._settled)

    def returned(self, payload: bytes) -> bool:
        """Take a message of topic `sync`; give whether `marker` is to be sent again. Anybody else's is ignored."""
        if self._settled or payload != self.marker.encode():
            return False
        if self._resumed and self._touched and self._round < MAX_ROUNDS:
            self._round, self._touched = self._round + 1, False
            return True
        self._settled = True
        return False
