"""The simulated PLC and the Structured Text side by side: the same words, counts and edges go in, the same gate must come out."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from simulators.line.field_io import EDGE_SLOTS, FieldState
from simulators.line.geometry import Geometry
from simulators.plc.core import Plc, ScanInputs, ScanOutputs
from simulators.plc.tables import BridgeResult, split
from tests.plc.st_interpreter import Instance, Library

U16 = 2**16


def source() -> str:
    """Give the blocks' text as `linegate tags --format st` prints it."""
    return files("bridge.outputs.plc").joinpath("linegate_blocks.st").read_text(encoding="utf-8")


@cache
def library() -> Library:
    """Give the blocks, ready to run."""
    return Library(source())


@dataclass(kw_only=True)
class Registers:
    """The bridge's input registers 0 to 323, written as the contract says."""

    words: list[int] = field(default_factory=lambda: [0] * 324)
    written: int = 0

    def beat(self, heartbeat: int) -> None:
        self.words[1] = heartbeat % U16

    def show(self, result: BridgeResult) -> None:
        """Write one result: its slot of the ring, then the live block."""
        self.written += 1
        opens, closes = split(result.open_count), split(result.close_count)
        head = [*split(result.sequence), result.verdict, result.disposition, result.label_id, result.score]
        at = 100 + 14 * (result.sequence % 16)
        self.words[at : at + 14] = [*head, *opens, *closes, 0, 0, 65535, result.flags]
        self.words[2:8], self.words[9], self.words[10:12], self.words[44:46] = head, result.flags, opens, closes
        self.words[38:40] = split(self.written)


class StructuredPlc:
    """FB_LinegateResults and FB_LinegateRejectGate, called as their comment says."""

    def __init__(
        self, geometry: Geometry, *, scan_ms: float = 10.0, max_on_us: int = 0, blocks: Library | None = None
    ) -> None:
        blocks = blocks or library()
        self.reader: Instance = blocks.new("FB_LinegateResults")
        self.gate: Instance = blocks.new("FB_LinegateRejectGate")
        self._measures = blocks.struct(
            "ST_LinegateGeometry", GateDistanceMm=geometry.gate_distance_mm, PartLengthMm=geometry.part_length_mm,
            LengthToleranceMm=geometry.part_length_tolerance_mm, GuardMm=geometry.guard_mm,
            CountsPerMm=geometry.counts_per_mm, OpenLeadMs=geometry.open_lead_ms, CloseLeadMs=geometry.close_lead_ms,
            ScanMs=scan_ms, MaxOnUs=max_on_us, TouchingMm=geometry.touching_mm,
            Pulse=geometry.pulse_ms > 0, PulseMs=geometry.pulse_ms or 50.0,
        )  # fmt: skip
        self._before_ns: int | None = None

    def scan(
        self,
        now_ns: int,
        *,
        sampled_ns: int,
        state: FieldState,
        words: list[int],
        answered: bool = True,
        clear: bool = False,
    ) -> bool:
        """Run one scan; gives whether the gate is told to reject."""
        elapsed_us, rest = divmod(now_ns - (self._before_ns if self._before_ns is not None else now_ns), 1000)
        assert rest == 0
        self._before_ns = now_ns
        self.reader.call(Answered=answered, Status=words[:55], Ring=words[100:324], ElapsedUs=elapsed_us)
        self.gate.call(
            ElapsedUs=elapsed_us, EncoderCount=state.encoder_count, CountAgeUs=(now_ns - sampled_ns) // 1000,
            SpeedMmS=state.speed_mm_s, Edges=edges_of(state), Results=self.reader["Results"], Alive=self.reader["Alive"],
            Geometry=self._measures, ClearError=clear, EyeBlocked=state.photo_eye,
        )  # fmt: skip
        gate = self.gate["Gate"]
        assert isinstance(gate, bool)
        return gate


def edges_of(state: FieldState) -> dict[str, Any]:
    """Give the photo-eye's last edges as the blocks take them."""
    sequences, counts = [0] * EDGE_SLOTS, [0] * EDGE_SLOTS
    first = state.edge_number - len(state.edges)
    for place, edge in enumerate(state.edges, start=first):
        sequences[place % EDGE_SLOTS], counts[place % EDGE_SLOTS] = edge.sequence, edge.count
    return library().struct("ST_LinegateEdges", Number=state.edge_number % U16, Sequences=sequences, Counts=counts)


class TwinPlc(Plc):
    """The simulated PLC that holds, at every scan, the Structured Text to what it does itself."""

    def __init__(self, *, geometry: Geometry) -> None:
        super().__init__(geometry=geometry)
        self.geometry, self.structured, self.registers = geometry, StructuredPlc(geometry), Registers()
        self.scans = self.switches = 0
        self.decided = {"let_pass": 0, "order": 0, "release": 0}
        self._last = False

    def scan(self, now_ns: int, inputs: ScanInputs) -> ScanOutputs:
        """Run both for one scan, and compare."""
        outputs = super().scan(now_ns, inputs)
        for result in inputs.results:
            self.registers.show(result)
        if inputs.heartbeat is not None:
            self.registers.beat(inputs.heartbeat)
        gate = self.structured.scan(
            now_ns, sampled_ns=inputs.sampled_ns, state=inputs.field, words=self.registers.words,
            answered=inputs.heartbeat is not None,
        )  # fmt: skip
        self.compare(now_ns, outputs, gate)
        return outputs

    def compare(self, now_ns: int, outputs: ScanOutputs, gate: bool) -> None:
        """Assert that gate, firings and decisions are the same."""
        block, at = self.structured.gate, f"{now_ns / 1e6} ms"
        for decision in outputs.decisions:
            self.decided[decision.by] += 1
        assert gate == outputs.gate, at
        assert block["Fired"] == outputs.fired, at
        told = {"let_pass": block["LetPassed"], "order": block["Ordered"], "release": block["Released"]}
        assert told == self.decided, at
        for firing in outputs.firings:
            if firing.error_ms is not None:
                assert block["FiringErrorMs"] == firing.error_ms, at
        self.scans += 1
        self.switches += gate != self._last
        self._last = gate
