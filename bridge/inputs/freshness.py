"""Whether the broker holds triggers back: one that waited there looks as if its part had only now met the beam."""

from __future__ import annotations

import json
import secrets

from bridge.domain.belt import NS_PER_MS

MANY = 4
"""Unacknowledged messages from which on it is asked: each broker has a limit of its own, beyond which it only queues."""
HELD_BACK_NS = 100 * NS_PER_MS
PAUSE_NS = 20 * NS_PER_MS
ASK_AGAIN_NS = 1000 * NS_PER_MS


class Freshness:
    """Measures how long messages wait at the broker, by a probe that the bridge sends to itself and that queues like them.

    One probe is on its way at a time. Once one has been out for longer than 100 ms, what arrives has been held back, until
    a probe is back in less. Moments are monotonic ns.
    """

    def __init__(self) -> None:
        self._nonce, self._number = "", 0
        self._first_sent_ns: int | None = None
        self._last_sent_ns = 0
        self._slow = False

    def open(self) -> None:
        """Begin a connection: a probe of an earlier one does not count."""
        self._nonce, self._first_sent_ns, self._slow = secrets.token_hex(8), None, False

    def probe(self, *, unacknowledged: int, now_ns: int) -> str | None:
        """Give the text to send to `sync` now, None when there is no need; a lost probe is sent again after 1 s."""
        if self._first_sent_ns is None:
            if not self._slow and (unacknowledged < MANY or now_ns - self._last_sent_ns < PAUSE_NS):
                return None
            self._number += 1
            self._first_sent_ns = now_ns
        elif now_ns - self._last_sent_ns < ASK_AGAIN_NS:
            return None
        self._last_sent_ns = now_ns
        return self._text

    def returned(self, payload: bytes, *, arrived_ns: int) -> bool:
        """Take a message of topic `sync`; give whether it was our probe."""
        if self._first_sent_ns is None or payload != self._text.encode():
            return False
        self._slow = arrived_ns - self._first_sent_ns > HELD_BACK_NS
        self._first_sent_ns = None
        return True

    def held_back(self, arrived_ns: int) -> bool:
        """Give whether a message that arrived at that moment had waited at the broker."""
        out_ns = 0 if self._first_sent_ns is None else arrived_ns - self._first_sent_ns
        self._slow = self._slow or out_ns > HELD_BACK_NS
        return self._slow

    @property
    def _text(self) -> str:
        return json.dumps({"probe": self._nonce, "number": self._number})
