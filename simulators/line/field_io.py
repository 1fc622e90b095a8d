"""The field I/O that the conveyor serves and the PLC reads: one table, both directions.

Modbus TCP, any unit id, high word first, zero-based:

    coil 0              reject gate (written by the PLC or the bridge's gate process)
    discrete inputs     0 photo-eye blocked, 1 bin sensor, 2 gate fully open
    input registers     0-1 encoder count now (u32), 2 belt speed in mm/s, 3-4 sequence of the last part at the beam (u32),
                        5-6 encoder count latched there (u32), 7-8 parts seen in the reject bin (u32),
                        9 edges seen since the start (u16, rolls over),
                        10-41 the last eight edges, sequence (u32) and latched count (u32) each, slot = edge number mod 8,
                        42 photo-eye blocked, at the moment of the count
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GATE_COIL = 0
DISCRETE_INPUTS = 3
EDGE_SLOTS = 8
EDGES_AT = 10
PHOTO_EYE_AT = EDGES_AT + 4 * EDGE_SLOTS
INPUT_REGISTERS = PHOTO_EYE_AT + 1
U16 = 2**16
U32 = 2**32


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A part's front edge at the beam: its sequence and the encoder count latched there, both u32."""

    sequence: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldState:
    """All the field's inputs at one moment. `edges` are the newest, oldest first; `edge_number` counts them all."""

    encoder_count: int
    speed_mm_s: float
    photo_eye: bool = False
    bin_sensor: bool = False
    gate_fully_open: bool = False
    binned: int = 0
    edge_number: int = 0
    edges: tuple[Edge, ...] = ()


def encode_inputs(state: FieldState) -> list[int]:
    """Give the input registers from address 0."""
    last = state.edges[-1] if state.edges else Edge(sequence=0, count=0)
    speed = min(65534, max(0, round(state.speed_mm_s)))
    registers = [*_u32(state.encoder_count), speed, *_u32(last.sequence), *_u32(last.count), *_u32(state.binned)]
    registers += [state.edge_number % U16, *[0] * (4 * EDGE_SLOTS), int(state.photo_eye)]
    first = state.edge_number - len(state.edges)
    for place, edge in enumerate(state.edges[-EDGE_SLOTS:], start=first + max(0, len(state.edges) - EDGE_SLOTS)):
        start = EDGES_AT + 4 * (place % EDGE_SLOTS)
        registers[start : start + 4] = [*_u32(edge.sequence), *_u32(edge.count)]
    return registers


def encode_discrete(state: FieldState) -> list[bool]:
    """Give the discrete inputs from address 0."""
    return [state.photo_eye, state.bin_sensor, state.gate_fully_open]


def decode_inputs(registers: Sequence[int]) -> FieldState:
    """Read the input registers from address 0; the edges come back oldest first, as many as the buffer holds."""
    number = registers[9]
    # The u16 edge counter can't tell 65536 edges from none; slots hold 0 until they are written, which a scan survives.
    filled = min(number, EDGE_SLOTS)
    edges = []
    for place in range(number - filled, number):
        start = EDGES_AT + 4 * (place % EDGE_SLOTS)
        sequence, count = _join(registers, start), _join(registers, start + 2)
        edges.append(Edge(sequence=sequence, count=count))
    return FieldState(
        encoder_count=_join(registers, 0),
        speed_mm_s=float(registers[2]),
        photo_eye=bool(registers[PHOTO_EYE_AT]),
        binned=_join(registers, 7),
        edge_number=number,
        edges=tuple(edges),
    )


def _u32(value: int) -> tuple[int, int]:
    return (value % U32) >> 16, value % U16


def _join(registers: Sequence[int], at: int) -> int:
    return registers[at] << 16 | registers[at + 1]
