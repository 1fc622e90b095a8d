"""The kinds of faults, one class each: its keys with their limits, whom it befalls, and how long it lasts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Literal

Victim = Literal["line", "part", "process"]
"""Who carries it out: the conveyor, on the line or on the next part at the beam, or the demo, which owns the processes."""


def _number(low: float, high: float, default: Any = MISSING, *, whole: bool = False) -> Any:
    """Declare a key of a fault with the numbers it may hold."""
    return field(default=default, metadata={"low": low, "high": high, "whole": whole})


def _seconds(default: Any = MISSING) -> Any:
    return _number(0.0, 3600.0, default)


@dataclass(frozen=True, slots=True, kw_only=True)
class BeltStop:
    """The belt stops for a while."""

    kind: ClassVar[str] = "belt_stop"
    victim: ClassVar[Victim] = "line"
    duration_s: float = _seconds()
    ramp_s: float = _seconds(0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedRamp:
    """The belt changes its speed evenly, from `from_mm_s` at once if that is given."""

    kind: ClassVar[str] = "speed_ramp"
    victim: ClassVar[Victim] = "line"
    to_mm_s: float = _number(0.0, 10_000.0)
    duration_s: float = _seconds()
    from_mm_s: float | None = _number(0.0, 10_000.0, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateTrigger:
    """One part's trigger is published twice."""

    kind: ClassVar[str] = "duplicate_trigger"
    victim: ClassVar[Victim] = "part"


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingTrigger:
    """One part's trigger gets lost."""

    kind: ClassVar[str] = "missing_trigger"
    victim: ClassVar[Victim] = "part"


@dataclass(frozen=True, slots=True, kw_only=True)
class Touching:
    """The next part lies against this one: the eye sees one long part, told once, with the time it held the beam."""

    kind: ClassVar[str] = "touching"
    victim: ClassVar[Victim] = "part"


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """The next parts are laid closer than the rest, front edge to front edge."""

    kind: ClassVar[str] = "burst"
    victim: ClassVar[Victim] = "line"
    parts: int = _number(1, 1000, whole=True)
    spacing_mm: float = _number(101.0, 10_000.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderReset:
    """The encoder's counter jumps to 0 and counts on from there."""

    kind: ClassVar[str] = "encoder_reset"
    victim: ClassVar[Victim] = "line"


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraLost:
    """Triggers come without their picture."""

    kind: ClassVar[str] = "camera_lost"
    victim: ClassVar[Victim] = "line"
    duration_s: float = _seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockWrong:
    """The source's clock is off, ahead or (negative) behind, and nothing was latched: the stamp alone places the part."""

    kind: ClassVar[str] = "clock_wrong"
    victim: ClassVar[Victim] = "line"
    duration_s: float = _seconds()
    offset_s: float = _number(-100_000.0, 100_000.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkDelay:
    """Triggers take longer to the broker, each by the delay and up to the jitter more; their order stays."""

    kind: ClassVar[str] = "network_delay"
    victim: ClassVar[Victim] = "process"
    duration_s: float = _seconds()
    delay_ms: float = _number(0.0, 60_000.0)
    jitter_ms: float = _number(0.0, 60_000.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerKill:
    """The broker is killed, keeps nothing, and comes back on its port."""

    kind: ClassVar[str] = "broker_kill"
    victim: ClassVar[Victim] = "process"
    down_s: float = _seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlcRestart:
    """The PLC is killed and started again, knowing nothing."""

    kind: ClassVar[str] = "plc_restart"
    victim: ClassVar[Victim] = "process"
    down_s: float = _seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowModel:
    """The process that runs the model stands still again and again."""

    kind: ClassVar[str] = "slow_model"
    victim: ClassVar[Victim] = "process"
    duration_s: float = _seconds()
    stop_ms: float = _number(1.0, 60_000.0)
    run_ms: float = _number(1.0, 60_000.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenModel:
    """The process that runs the model stands still."""

    kind: ClassVar[str] = "frozen_model"
    victim: ClassVar[Victim] = "process"
    duration_s: float = _seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenBridge:
    """The bridge itself stands still, with its servers and its heartbeat."""

    kind: ClassVar[str] = "frozen_bridge"
    victim: ClassVar[Victim] = "process"
    duration_s: float = _seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFull:
    """The bridge's journal can't grow: no file of its can, beyond the size of a picture."""

    kind: ClassVar[str] = "disk_full"
    victim: ClassVar[Victim] = "process"
    duration_s: float = _seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSlow:
    """Somebody holds the lock of the bridge's journal for stretches."""

    kind: ClassVar[str] = "disk_slow"
    victim: ClassVar[Victim] = "process"
    duration_s: float = _seconds()
    hold_ms: float = _number(1.0, 60_000.0, 1500.0)
    pause_ms: float = _number(1.0, 60_000.0, 300.0)


Fault = (
    BeltStop
    | SpeedRamp
    | DuplicateTrigger
    | MissingTrigger
    | Touching
    | Burst
    | EncoderReset
    | CameraLost
    | ClockWrong
    | NetworkDelay
    | BrokerKill
    | PlcRestart
    | SlowModel
    | FrozenModel
    | FrozenBridge
    | DiskFull
    | DiskSlow
)
KINDS: Mapping[str, type[Fault]] = MappingProxyType({cls.kind: cls for cls in Fault.__args__})
OF_TRIGGERS = (
    DuplicateTrigger, MissingTrigger, Touching, CameraLost, ClockWrong, NetworkDelay, BrokerKill,
    SlowModel, FrozenModel, FrozenBridge,
)  # fmt: skip
"""Kinds that need triggers by MQTT: with triggers by handshake there is no such message or key, or Ready falls with them."""


def lasts_s(fault: Fault) -> float:
    """Give how long a fault stands by its keys; what it leaves behind may take longer."""
    return float(getattr(fault, "duration_s", getattr(fault, "down_s", 0.0)))
