"""The PLC's side of triggering by handshake, the same for Modbus and OPC UA.

idle       a part waits, Ready and no acknowledgement stands -> raised, Trigger = 1 with the part's sequence and count
raised     TriggerAck -> lowered, Trigger = 0; no acknowledgement in time -> lowered, the part is given up
lowered    TriggerAck gone -> idle
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from simulators.line.field_io import Edge

Stage = Literal["idle", "raised", "lowered"]
ACK_LIMIT_NS = 1_000_000_000
READY_LIMIT_NS = 200_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the PLC shows: the Trigger bit and the part it is for."""

    trigger: bool
    edge: Edge


class TriggerHandshake:
    """Tell the bridge of one part after the other; `step` is called with what the bridge shows."""

    def __init__(self) -> None:
        self.given_up = 0
        self._stage: Stage = "idle"
        self._waiting: deque[tuple[int, Edge]] = deque()
        self._present = Edge(sequence=0, count=0)
        self._since_ns = 0

    @property
    def busy(self) -> bool:
        """Whether a part waits or is being told of."""
        return self._stage != "idle" or bool(self._waiting)

    def take(self, edge: Edge, now_ns: int) -> None:
        """Queue a part that has met the beam."""
        self._waiting.append((now_ns, edge))

    def step(self, now_ns: int, *, ready: bool, acknowledged: bool) -> Request:
        """Take one step of the handshake; gives what to show now.

        A part that has waited 200 ms for Ready is told of without it: the bridge then records an ERROR for it.
        """
        if self._stage == "idle" and self._waiting and not acknowledged:
            met_ns, edge = self._waiting[0]
            if ready or now_ns - met_ns > READY_LIMIT_NS:
                self._waiting.popleft()
                self._stage, self._present, self._since_ns = "raised", edge, now_ns
        elif self._stage == "raised":
            if acknowledged or now_ns - self._since_ns > ACK_LIMIT_NS:
                self.given_up += not acknowledged
                self._stage = "lowered"
        elif self._stage == "lowered" and not acknowledged:
            self._stage = "idle"
        return Request(trigger=self._stage == "raised", edge=self._present)
