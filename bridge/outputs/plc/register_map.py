"""The Modbus map: one table, from which the encoding, `linegate tags` and the README's tables come.

Input registers 0 to 99 and the ring at 100 to 323 are written by the bridge; the PLC's own block is in `control_block`.
Encoding is pure: a view and a monotonic moment in, words out. Registers 12 and 40-41 depend on the moment of
reading and are filled in when a request is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from bridge.domain.gate import NO_ORDER, GateOrder
from bridge.domain.part import Result
from bridge.domain.status import StatusBit
from bridge.domain.verdict import Disposition, VerdictCode
from bridge.outputs.plc.view import RING_SLOTS, SLOT_SIZE, U16, U32, PlcView, Shown, bridge_clock_ms
from bridge.outputs.plc.words import NOT_AVAILABLE, WordOrder, quantity, signed, split_u32

RegisterType = Literal["bits", "u16", "u32", "i16"]

INPUT_SIZE = 324
STATUS_SIZE = 55
RING_BASE = 100
RING_SIZE = RING_SLOTS * SLOT_SIZE
READ_LIMIT = 125
MIRROR_OFFSET = 1000
DISCRETE_SIZE = 20
EMPTY_SLOT = (0,) * SLOT_SIZE
GATE_COIL = 0
UNTIL_OPEN, CLOCK = 12, 40

# In this order the words of one result go out where they can't go out at once: slot, then the sequence that a reader
# in several requests reads last, then the rest, then the sequence that it reads first.
WRITE_ORDER: tuple[range, ...] = (
    range(RING_BASE, RING_BASE + RING_SIZE),
    range(36, 38),
    range(2),
    range(4, 36),
    range(38, RING_BASE),
    range(2, 4),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """One entry of the map. `value` gives the number for a view; u32 are split by the word order."""

    address: int
    kind: RegisterType
    name: str
    text: str
    value: Callable[[PlcView], int]

    @property
    def width(self) -> int:
        """Registers it takes."""
        return 2 if self.kind == "u32" else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotField:
    """One entry of a ring slot, `offset` counted from the slot's first register."""

    offset: int
    kind: RegisterType
    name: str
    text: str
    value: Callable[[Result, GateOrder], int]

    @property
    def width(self) -> int:
        """Registers it takes."""
        return 2 if self.kind == "u32" else 1


class Flag:
    """Bit numbers of register 9, of a slot's flags and of OPC UA's Gate.Flags."""

    ORDER_VALID = 0
    MISSED = 1
    COUNTS_VALID = 2
    TIME_VALID = 3
    MERGED = 4
    GUARD_OR_COLLATERAL = 5
    LOW_CONFIDENCE = 6
    SECOND_MODEL = 7


FLAG_TEXTS: tuple[tuple[int, str, str], ...] = (
    (Flag.ORDER_VALID, "OrderValid", "fire for this part; while 0, counts, moment and window mean nothing"),
    (
        Flag.MISSED,
        "Missed",
        "the order came too late for its counts, or can no longer be met: never fire by it; "
        "the PLC's positive release still rejects the part",
    ),
    (Flag.COUNTS_VALID, "CountsValid", "open and close count are there"),
    (Flag.TIME_VALID, "TimeValid", "the moment is there; clear while the belt stands or its speed is unknown"),
    (Flag.MERGED, "Merged", "the gate stays open from the order before"),
    (Flag.GUARD_OR_COLLATERAL, "GuardOrCollateral", "a guard was given up, or a part that is to pass is swept"),
    (Flag.LOW_CONFIDENCE, "LowConfidence", "the verdict is UNCERTAIN"),
    (Flag.SECOND_MODEL, "SecondModel", "the second model of a cascade decided; 0 with one model"),
)


def flags_of(result: Result, order: GateOrder) -> int:
    """Pack the flags of one result."""
    standing = {
        Flag.ORDER_VALID: order.state == "ordered",
        Flag.MISSED: order.state == "missed",
        Flag.COUNTS_VALID: order.open_count is not None and order.close_count is not None,
        Flag.TIME_VALID: order.open_ns is not None,
        Flag.MERGED: order.merged,
        Flag.GUARD_OR_COLLATERAL: order.guard_given_up or order.collateral,
        Flag.LOW_CONFIDENCE: result.judgement.code is VerdictCode.UNCERTAIN,
    }
    return sum(1 << bit for bit, on in standing.items() if on)


def open_clock_ms(order: GateOrder) -> int:
    """Give the moment when the gate must be fully open, on the bridge clock; 0 without one."""
    return 0 if order.open_ns is None else bridge_clock_ms(order.open_ns)


def _of(read: Callable[[Shown], int], default: int = 0) -> Callable[[PlcView], int]:
    """Read from the shown result; `default` before the first one."""
    return lambda view: default if view.shown is None else read(view.shown)


def _verdict(view: PlcView) -> int:
    return int(view.shown.result.judgement.code) if view.valid and view.shown else int(VerdictCode.NONE)


def _disposition(view: PlcView) -> int:
    return int(view.shown.result.disposition) if view.valid and view.shown else int(Disposition.NONE)


def _sequence(view: PlcView) -> int:
    return view.shown.result.part.sequence if view.shown else 0


# fmt: off
INPUT_REGISTERS: tuple[Register, ...] = (
    Register(address=0, kind="bits", name="StatusBits", text="status bits, see below", value=lambda v: v.bits),
    Register(address=1, kind="u16", name="Heartbeat", text="+1 every 500 ms; stands still when the station hangs",
             value=lambda v: v.status.heartbeat & U16),
    Register(address=2, kind="u32", name="ResultSequence", text="sequence of the result, written last", value=_sequence),
    Register(address=4, kind="u16", name="Verdict", text="verdict code, 0 without a valid result", value=_verdict),
    Register(address=5, kind="u16", name="Disposition", text="disposition code, 0 without a valid result",
             value=_disposition),
    Register(address=6, kind="u16", name="LabelId", text="1 + index in the bundle's labels, 0 = none",
             value=_of(lambda s: s.result.judgement.label_id & U16)),
    Register(address=7, kind="u16", name="Score", text="score of the deciding label x 10000, 65535 = none",
             value=_of(lambda s: quantity(s.result.judgement.score, scale=1e4), NOT_AVAILABLE)),
    Register(address=8, kind="u16", name="Latency", text="triggered to decided, in 0.1 ms, 65535 = none",
             value=_of(lambda s: quantity(s.result.latency_ms, scale=10.0), NOT_AVAILABLE)),
    Register(address=9, kind="bits", name="Flags", text="flags of the result and its gate order",
             value=_of(lambda s: flags_of(s.result, s.order))),
    Register(address=10, kind="u32", name="OpenCount", text="encoder count at which the gate must be fully open",
             value=_of(lambda s: s.order.open_count or 0)),
    Register(address=UNTIL_OPEN, kind="u16", name="MsUntilOpen",
             text="ms until the gate must be fully open, computed when the request is answered; 0 = now or past, 65535 = none",
             value=lambda _: NOT_AVAILABLE),
    Register(address=13, kind="u16", name="WindowMs", text="gate window in ms, 65535 = none",
             value=_of(lambda s: quantity(s.order.window_ms), NOT_AVAILABLE)),
    Register(address=14, kind="u16", name="RecipeNumber", text="number of the active recipe",
             value=lambda v: v.status.recipe_number & U16),
    Register(address=16, kind="u32", name="Triggers", text="accepted triggers", value=lambda v: v.status.counters.triggers),
    Register(address=18, kind="u32", name="Pass", text="verdicts PASS", value=lambda v: v.status.counters.passed),
    Register(address=20, kind="u32", name="Fail", text="verdicts FAIL", value=lambda v: v.status.counters.failed),
    Register(address=22, kind="u32", name="Uncertain", text="verdicts UNCERTAIN",
             value=lambda v: v.status.counters.uncertain),
    Register(address=24, kind="u32", name="Error", text="verdicts ERROR", value=lambda v: v.status.counters.error),
    Register(address=26, kind="u32", name="Late", text="verdicts LATE", value=lambda v: v.status.counters.late),
    Register(address=28, kind="u32", name="MissedTriggers", text="parts that passed the photo-eye without a trigger",
             value=lambda v: v.status.counters.missed_triggers),
    Register(address=30, kind="u32", name="GateMissed", text="gate orders that could not be met",
             value=lambda v: v.status.counters.gate_missed),
    Register(address=32, kind="u32", name="GateConfirmed", text="rejects seen in the bin",
             value=lambda v: v.status.counters.gate_confirmed),
    Register(address=34, kind="u16", name="ErrorCode", text="code of the foremost standing alarm, 0 = none",
             value=lambda v: v.status.error_code & U16),
    Register(address=35, kind="u16", name="BeltSpeed", text="belt speed in mm/s, 65535 = unknown",
             value=lambda v: quantity(v.status.belt_speed_mm_s)),
    Register(address=36, kind="u32", name="ResultSequenceFirst", text="the result sequence again, written first",
             value=_sequence),
    Register(address=38, kind="u32", name="ResultsWritten",
             text="results written since the bridge started, 0 = none: watch this", value=lambda v: v.written & U32),
    Register(address=CLOCK, kind="u32", name="ClockMs",
             text="bridge clock in ms, rolls over; filled in when the request is answered", value=lambda _: 0),
    Register(address=42, kind="u32", name="OpenAtMs",
             text="moment on that clock when the gate must be fully open; with flag 3 only",
             value=_of(lambda s: open_clock_ms(s.order))),
    Register(address=44, kind="u32", name="CloseCount", text="encoder count up to which the gate must be fully open",
             value=_of(lambda s: s.order.close_count or 0)),
    Register(address=46, kind="u16", name="OpenLeadMs", text="command to fully open, in ms",
             value=lambda v: quantity(v.open_lead_ms)),
    Register(address=47, kind="u16", name="CloseLeadMs", text="command to clear, in ms",
             value=lambda v: quantity(v.close_lead_ms)),
    Register(address=48, kind="u32", name="GateFired", text="gate operations", value=lambda v: v.status.counters.gate_fired),
    Register(address=50, kind="u32", name="DuplicateTriggers", text="duplicates, which give no second verdict",
             value=lambda v: v.status.counters.duplicate_triggers),
    Register(address=52, kind="u32", name="AcceptedSequence", text="sequence of the last accepted trigger",
             value=lambda v: v.accepted_sequence),
    Register(address=54, kind="i16", name="FiringError", text="last firing error in 0.1 ms, signed, -32768 = none",
             value=lambda v: signed(v.status.firing_error_ms, scale=10.0)),
)
# fmt: on

# fmt: off
SLOT_FIELDS: tuple[SlotField, ...] = (
    SlotField(offset=0, kind="u32", name="Sequence", text="sequence", value=lambda r, _: r.part.sequence),
    SlotField(offset=2, kind="u16", name="Verdict", text="verdict code, 0 = the slot is empty",
              value=lambda r, _: int(r.judgement.code)),
    SlotField(offset=3, kind="u16", name="Disposition", text="disposition code", value=lambda r, _: int(r.disposition)),
    SlotField(offset=4, kind="u16", name="LabelId", text="1 + index in the bundle's labels, 0 = none",
              value=lambda r, _: r.judgement.label_id & U16),
    SlotField(offset=5, kind="u16", name="Score", text="score x 10000, 65535 = none",
              value=lambda r, _: quantity(r.judgement.score, scale=1e4)),
    SlotField(offset=6, kind="u32", name="OpenCount", text="open count", value=lambda _, o: o.open_count or 0),
    SlotField(offset=8, kind="u32", name="CloseCount", text="close count", value=lambda _, o: o.close_count or 0),
    SlotField(offset=10, kind="u32", name="OpenAtMs", text="moment on the bridge clock; with flag 3 only",
              value=lambda _, o: open_clock_ms(o)),
    SlotField(offset=12, kind="u16", name="WindowMs", text="gate window in ms, 65535 = none",
              value=lambda _, o: quantity(o.window_ms)),
    SlotField(offset=13, kind="bits", name="Flags", text="flags", value=flags_of),
)
# fmt: on

# Which bit each discrete input shows: the status bits by number, then four bits of the newest result.
RESULT_INPUTS: tuple[tuple[int, str, str, Callable[[PlcView], bool]], ...] = (
    (16, "LetPass", "its disposition is LET_PASS", lambda v: _disposition(v) == Disposition.LET_PASS),
    (17, "Reject", "its disposition is REJECT", lambda v: _disposition(v) == Disposition.REJECT),
    (18, "Pass", "its verdict is PASS", lambda v: _verdict(v) == VerdictCode.PASS),
    (19, "Fail", "its verdict is FAIL", lambda v: _verdict(v) == VerdictCode.FAIL),
)

# fmt: off
_STATUS_TEXTS: Mapping[StatusBit, str] = {
    StatusBit.ONLINE: "the bridge runs this station and is not stopping",
    StatusBit.READY: "a handshake trigger will be taken: enabled, not inhibited, recipe active, broker and journal up, "
                     "no run of rejects or failures",
    StatusBit.TRIGGER_ACK: "the handshake trigger was taken; falls when the PLC drops Trigger",
    StatusBit.BUSY: "at least one accepted part has no verdict yet",
    StatusBit.RESULT_VALID: "a live result stands in registers 2 to 13; with result_ack until it is acknowledged",
    StatusBit.MISSED_TRIGGER: "a handshake trigger rose while Ready = 0; until ClearError "
                              "(register 28 counts parts without a trigger)",
    StatusBit.OVERRUN: "with result_ack: more than 16 results waited, the oldest left the queue; until ClearError",
    StatusBit.ERROR: "an alarm of severity error or critical stands; register 34 has the foremost",
    StatusBit.RECIPE_OK: "the recipe last asked for is active; 0 after a refused one until another or ClearError",
    StatusBit.DEGRADED: "a standing alarm makes the station less than whole",
    StatusBit.PLC_HEARTBEAT_LOST: "no PLC heartbeat seen yet, or unchanged for 2 s",
    StatusBit.STOP_REQUEST: "stop the line: a part that should be rejected can't be, or could not be; until ClearError",
    StatusBit.GATE_UNGUARDED: "no PLC heartbeat in plc mode: nobody would reject a part without a result",
    StatusBit.CLOCK_OK: "time stamps of triggers place them; 0 after one ahead, until ClearError, or a filtered one in doubt",
}
# fmt: on
STATUS_BITS: tuple[tuple[int, str, str], ...] = tuple(
    (int(bit), "".join(word.capitalize() for word in bit.name.split("_")), _STATUS_TEXTS[bit]) for bit in StatusBit
)


def encode_status(view: PlcView, word_order: WordOrder) -> list[int]:
    """Give input registers 0 to 99, with 12 and 40-41 not yet filled in."""
    words = [0] * RING_BASE
    for each in INPUT_REGISTERS:
        _put(words, each.address, each.kind, each.value(view), word_order)
    return words


def encode_slot(shown: Shown, word_order: WordOrder) -> list[int]:
    """Give the 14 registers of one result's ring slot."""
    words = [0] * SLOT_SIZE
    for each in SLOT_FIELDS:
        _put(words, each.offset, each.kind, each.value(shown.result, shown.order), word_order)
    return words


def ring_reads() -> str:
    """Say how the ring is read: in requests of whole slots, so that none is torn, each within Modbus's limit."""
    step = READ_LIMIT // SLOT_SIZE * SLOT_SIZE
    starts = range(RING_BASE, INPUT_SIZE, step)
    spans = " and ".join(f"{start}-{min(start + step, INPUT_SIZE) - 1}" for start in starts)
    return f"read whole slots: {spans}, at most {READ_LIMIT} registers a request"


def slot_address(sequence: int) -> int:
    """Give the first input register of the ring slot of a sequence."""
    return RING_BASE + sequence % RING_SLOTS * SLOT_SIZE


def encode_discrete(view: PlcView) -> list[bool]:
    """Give discrete inputs 0 to 19."""
    bits = [bool(view.bits >> number & 1) for number in range(16)]
    return bits + [read(view) for _, _, _, read in RESULT_INPUTS]


def moment_of(order: GateOrder | None, *, now_ns: int, word_order: WordOrder) -> tuple[int, tuple[int, int]]:
    """Give what depends on the moment of reading: ms until open (12) and the bridge clock (40-41)."""
    open_ns = (order or NO_ORDER).open_ns
    until_open = NOT_AVAILABLE if open_ns is None else quantity((open_ns - now_ns) / 1e6)
    return until_open, split_u32(bridge_clock_ms(now_ns), word_order)


def encode_moment(words: list[int], order: GateOrder | None, *, now_ns: int, word_order: WordOrder) -> None:
    """Fill in what depends on the moment of reading."""
    words[UNTIL_OPEN], words[CLOCK : CLOCK + 2] = moment_of(order, now_ns=now_ns, word_order=word_order)


def _put(words: list[int], address: int, kind: RegisterType, value: int, word_order: WordOrder) -> None:
    if kind == "u32":
        words[address : address + 2] = split_u32(value & U32, word_order)
    else:
        words[address] = value


def encode(view: PlcView, *, now_ns: int, word_order: WordOrder) -> list[int]:
    """Give all input registers, 0 to 323, as a read at `now_ns` would answer."""
    words = [*encode_status(view, word_order), *view.ring]
    encode_moment(words, view.shown.order if view.shown else None, now_ns=now_ns, word_order=word_order)
    return words
