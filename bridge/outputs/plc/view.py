"""What a station shows to PLCs at one moment: the one input of the register map and of the node map."""

from __future__ import annotations

from dataclasses import dataclass, field

from bridge.domain.gate import GateOrder
from bridge.domain.part import Result
from bridge.domain.status import Counters, StationState, StationStatus, StatusBit

U16 = 0xFFFF
U32 = 0xFFFFFFFF

RING_SLOTS = 16
SLOT_SIZE = 14
EMPTY_RING = (0,) * (RING_SLOTS * SLOT_SIZE)

STARTING = StationStatus(
    state=StationState.STARTING,
    online=False,
    ready=False,
    busy=False,
    error=False,
    recipe_ok=False,
    degraded=False,
    plc_heartbeat_lost=True,
    stop_request=False,
    gate_unguarded=False,
    clock_ok=False,
    heartbeat=0,
    error_code=0,
    error_text="",
    recipe="",
    recipe_number=0,
    model="",
    model_sha256="",
    belt_speed_mm_s=None,
    counters=Counters(),
    last_sequence=0,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One live result as outputs show it: its order may have been revised since it was published."""

    result: Result
    order: GateOrder
    document: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlcView:
    """All that a PLC can read of one station, but the clock. `ring` has input registers 100 to 323, `slots` their results.

    `shown` is the result in registers 2 to 54 and OPC UA's Result; with acknowledgement it may be older than `newest`,
    which OPC UA's Gate shows. `valid` is the ResultValid bit, `live` says that `newest` stands: neither is true before
    the first result, nor once the station is stopping or its heartbeat has stood still. `written` counts live results.
    """

    status: StationStatus = STARTING
    stale: bool = False
    trigger_ack: bool = False
    missed_trigger: bool = False
    overrun: bool = False
    shown: Shown | None = None
    newest: Shown | None = None
    valid: bool = False
    live: bool = False
    written: int = 0
    accepted_sequence: int = 0
    ring: tuple[int, ...] = EMPTY_RING
    slots: tuple[Shown | None, ...] = (None,) * RING_SLOTS
    open_lead_ms: float = 0.0
    close_lead_ms: float = 0.0
    bits: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", _bits(self))


def _bits(view: PlcView) -> int:
    """Pack the status bits of register 0; a station that hangs is not ready, whatever it said last."""
    status = view.status
    standing = {
        StatusBit.ONLINE: status.online,
        StatusBit.READY: status.ready and not view.stale,
        StatusBit.TRIGGER_ACK: view.trigger_ack,
        StatusBit.BUSY: status.busy,
        StatusBit.RESULT_VALID: view.valid,
        StatusBit.MISSED_TRIGGER: view.missed_trigger,
        StatusBit.OVERRUN: view.overrun,
        StatusBit.ERROR: status.error,
        StatusBit.RECIPE_OK: status.recipe_ok,
        StatusBit.DEGRADED: status.degraded,
        StatusBit.PLC_HEARTBEAT_LOST: status.plc_heartbeat_lost,
        StatusBit.STOP_REQUEST: status.stop_request,
        StatusBit.GATE_UNGUARDED: status.gate_unguarded,
        StatusBit.CLOCK_OK: status.clock_ok,
    }
    return sum(1 << bit for bit, on in standing.items() if on)


def bridge_clock_ms(at_ns: int) -> int:
    """Turn a monotonic moment into the bridge clock that PLCs see: u32 ms, rolling over."""
    return round(at_ns / 1_000_000) & U32
