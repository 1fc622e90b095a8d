"""What a station shows of itself: status bits, state, counters."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum, StrEnum


class StatusBit(IntEnum):
    """Bit numbers of status register 0."""

    ONLINE = 0
    READY = 1
    TRIGGER_ACK = 2
    BUSY = 3
    RESULT_VALID = 4
    MISSED_TRIGGER = 5
    OVERRUN = 6
    ERROR = 7
    RECIPE_OK = 8
    DEGRADED = 9
    PLC_HEARTBEAT_LOST = 10
    STOP_REQUEST = 11
    GATE_UNGUARDED = 12
    CLOCK_OK = 13


class StationState(StrEnum):
    """The station's state in a word."""

    STARTING = "STARTING"
    READY = "READY"
    BUSY = "BUSY"
    DISABLED = "DISABLED"
    FAULT = "FAULT"
    STOPPING = "STOPPING"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """Counts since the last reset, each u32. triggers = pass + fail + uncertain + error + late + parts in flight."""

    triggers: int = 0
    passed: int = 0
    failed: int = 0
    uncertain: int = 0
    error: int = 0
    late: int = 0
    missed_triggers: int = 0
    duplicate_triggers: int = 0
    gate_fired: int = 0
    gate_missed: int = 0
    gate_confirmed: int = 0
    collateral: int = 0

    @property
    def in_flight(self) -> int:
        """Accepted triggers without a verdict yet."""
        decided = self.passed + self.failed + self.uncertain + self.error + self.late
        return (self.triggers - decided) % 2**32


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeShown:
    """The challenge test as it stands: idle, announced, under way, passed or failed; when one was last passed."""

    state: str = "idle"
    due: bool = False
    passed_utc_ns: int | None = None


COUNTER_NAMES: tuple[str, ...] = tuple(field.name for field in fields(Counters))


@dataclass(frozen=True, slots=True, kw_only=True)
class StationStatus:
    """A station's own view of itself, shown by every output. Handshake bits are added by the PLC panel.

    `error_code` is the newest standing alarm's code, 0 = none. `belt_speed_mm_s` is None when unknown or stale.
    `gate_on` is the gate's coil as the bridge's own gate process last wrote it. `enabled` is both the PLC's and the operator's.
    `not_ready` says why `ready` is false, `inhibited` what the PLC's inhibit bits say. `alarms` are those that stand,
    oldest first, each with its text; `recipes` the names that can be asked for.
    """

    state: StationState
    online: bool
    ready: bool
    busy: bool
    error: bool
    recipe_ok: bool
    degraded: bool
    plc_heartbeat_lost: bool
    stop_request: bool
    gate_unguarded: bool
    clock_ok: bool
    heartbeat: int
    error_code: int
    error_text: str
    recipe: str
    recipe_number: int
    model: str
    model_sha256: str
    belt_speed_mm_s: float | None
    counters: Counters
    last_sequence: int
    firing_error_ms: float | None = None
    gate_on: bool = False
    enabled: bool = True
    not_ready: tuple[str, ...] = ()
    inhibited: tuple[str, ...] = ()
    dry_run: bool = False
    challenge: ChallengeShown = ChallengeShown()
    alarms: tuple[tuple[str, str], ...] = ()
    recipes: tuple[str, ...] = ()
