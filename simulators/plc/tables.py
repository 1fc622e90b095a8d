"""The PLC programmer's own copy of the bridge's address tables, typed in from its documentation.

It is kept apart from the bridge's on purpose: if the two ever differ, the line stops working and a test says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LIVE_REGISTERS = 55
RING_SLOTS = 16
RING_SLOT_REGISTERS = 14
RING_HALVES = ((100, 112), (212, 112))
"""Address and length of the two requests that fetch the ring in whole slots."""
CONTROL_REGISTERS = 16
U16 = 2**16
U32 = 2**32

READY_BIT = 1
TRIGGER_ACK_BIT = 2
STOP_REQUEST_BIT = 11

LET_PASS = 1
REJECT = 2

ORDER_VALID = 1 << 0
ORDER_MISSED = 1 << 1
COUNTS_VALID = 1 << 2
GUARD_OR_COLLATERAL = 1 << 5

CONTROL_ENABLE = 1 << 0
CONTROL_TRIGGER = 1 << 1

NAMESPACE_URI = "urn:linegate"
RESULT_VARIABLES = (
    "Written", "Sequence", "PartId", "Verdict", "Disposition", "Label", "LabelId", "Score", "Reason", "LatencyMs",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeResult:
    """One part's result as the PLC reads it. `verdict` and `disposition` are codes, the counts u32."""

    sequence: int
    verdict: int
    disposition: int
    label_id: int = 0
    score: int = 65535
    open_count: int = 0
    close_count: int = 0
    flags: int = 0

    @property
    def has_order(self) -> bool:
        """Whether the gate must be fired for this part, by counts that can be used."""
        return self.disposition == REJECT and self.flags & (ORDER_VALID | COUNTS_VALID) == ORDER_VALID | COUNTS_VALID

    @property
    def missed(self) -> bool:
        """Whether the bridge says that its order came too late."""
        return bool(self.flags & ORDER_MISSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveBlock:
    """Input registers 0 to 54 of one answer. `counters` are those the demo's report needs, by name."""

    status: int
    heartbeat: int
    written: int
    newest: BridgeResult
    last_accepted: int
    counters: dict[str, int]

    def bit(self, number: int) -> bool:
        """Give one status bit."""
        return bool(self.status >> number & 1)


_COUNTERS = {
    "triggers": 16, "pass": 18, "fail": 20, "uncertain": 22, "error": 24, "late": 26, "missed_triggers": 28,
    "gate_missed": 30, "gate_confirmed": 32, "gate_fired": 48, "duplicate_triggers": 50,
}  # fmt: skip


def decode_live(registers: Sequence[int]) -> LiveBlock:
    """Read registers 0 to 54."""
    newest = BridgeResult(
        sequence=join(registers, 2),
        verdict=registers[4],
        disposition=registers[5],
        label_id=registers[6],
        score=registers[7],
        open_count=join(registers, 10),
        close_count=join(registers, 44),
        flags=registers[9],
    )
    return LiveBlock(
        status=registers[0],
        heartbeat=registers[1],
        written=join(registers, 38),
        newest=newest,
        last_accepted=join(registers, 52),
        counters={name: join(registers, at) for name, at in _COUNTERS.items()},
    )


def decode_ring(registers: Sequence[int]) -> list[BridgeResult]:
    """Read the ring's 224 registers; empty slots are left out. The order is that of the slots, not of time."""
    results = []
    for slot in range(RING_SLOTS):
        at = slot * RING_SLOT_REGISTERS
        if registers[at + 2] == 0:
            continue
        results.append(
            BridgeResult(
                sequence=join(registers, at),
                verdict=registers[at + 2],
                disposition=registers[at + 3],
                label_id=registers[at + 4],
                score=registers[at + 5],
                open_count=join(registers, at + 6),
                close_count=join(registers, at + 8),
                flags=registers[at + 13],
            )
        )
    return results


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlBlock:
    """What the PLC tells the bridge: holding registers 0 to 15. Counts are u32; `speed_mm_s` None = not supplied."""

    heartbeat: int
    encoder_count: int
    speed_mm_s: float | None
    confirmed: int = 0
    fired: int = 0
    trigger: bool = False
    sequence: int = 0
    latched_count: int = 0
    age_ms: int = 65535


def encode_control(block: ControlBlock) -> list[int]:
    """Give holding registers 0 to 15."""
    bits = CONTROL_ENABLE | (CONTROL_TRIGGER if block.trigger else 0)
    speed = 65535 if block.speed_mm_s is None else min(65534, max(0, round(block.speed_mm_s)))
    return [
        bits, block.heartbeat % U16, *split(block.sequence), *split(block.encoder_count), speed, 0,
        *split(block.confirmed), 0, block.age_ms, *split(block.latched_count), *split(block.fired),
    ]  # fmt: skip


def join(registers: Sequence[int], at: int) -> int:
    """Join two registers, high word first."""
    return registers[at] << 16 | registers[at + 1]


def split(value: int) -> tuple[int, int]:
    """Split a u32 into two registers, high word first."""
    return (value % U32) >> 16, value % U16


def int32(value: int) -> int:
    """Give the difference of two u32 counts as the signed step it stands for."""
    return (value + 2**31) % U32 - 2**31
