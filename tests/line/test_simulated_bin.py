"""What the bin's count says on whole lines in simulated time: every reject confirmed by name, nobody accused falsely."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from bridge.domain.confirmation import Confirmations
from bridge.domain.guards import GuardSettings
from simulators.fault_kinds import EncoderReset, MissingTrigger
from simulators.faults import ScheduledFault
from simulators.line.conveyor import Riding
from simulators.line.field_io import FieldState
from simulators.line.marks import BIN_WAY_MM
from simulators.plc.tables import LET_PASS, ORDER_VALID, BridgeResult, int32
from tests.line.simulated_line import PlanBridge, Run, run_line
from tests.line.test_simulated_line import random_faults


@dataclass(kw_only=True)
class BinBridge(PlanBridge):
    """A bridge that reads the bin's count as well, from the same writes as the encoder's."""

    kinds: dict[int, str] = field(default_factory=dict)
    overdue: set[int] = field(default_factory=set)
    ordered: set[int] = field(default_factory=set)
    _last: int | None = None
    _counted: int = 0
    _count: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        geometry = self.geometry
        bin_mm = geometry.gate_distance_mm + geometry.part_length_mm + BIN_WAY_MM
        self._bin = Confirmations(self._belt, GuardSettings(confirm_distance_mm=bin_mm), pitch_mm=175.0)

    def sample(self, state: FieldState, now_ns: int) -> None:
        super().sample(state, now_ns)
        if self._count is not None and abs(int32(state.encoder_count - self._count)) > 10_000:
            self._bin.excuse("encoder reset")
        self._count = state.encoder_count
        for sequence in self.missed:
            self._bin.given_up((1, sequence))
        for sequence in self.collateral:
            self._bin.excuse("collateral", (1, sequence))
        new, self._counted = state.binned - self._counted, state.binned
        for seen in self._bin.confirmed(new, now_ns):
            if seen.key is not None:
                self.kinds[seen.key[1]] = seen.kind
        self.overdue |= {key[1] for key in self._bin.overdue(now_ns)}

    def expect(self, part: Riding, triggered_ns: int) -> None:
        super().expect(part, triggered_ns)
        place = self._belt.place(triggered_ns=triggered_ns, latched_count=part.count, now_ns=triggered_ns)
        gap = self._last is not None and (part.sequence - self._last) % 2**32 != 1
        self._bin.met((1, part.sequence), place.x0_mm, gap=gap)
        self._last = part.sequence

    def decide(self, part: Riding, now_ns: int) -> BridgeResult:
        result = super().decide(part, now_ns)
        key = (1, part.sequence)
        if result.disposition == LET_PASS:
            self._bin.let_pass(key)
        elif result.flags & ORDER_VALID:
            self._bin.ordered(key)
            self.ordered.add(part.sequence)
        else:
            self._bin.given_up(key)
        return result


def run_with_bin(seed: int, faults: tuple[ScheduledFault, ...], **options: object) -> tuple[Run, BinBridge]:
    made: list[BinBridge] = []

    def make(**facts: object) -> BinBridge:
        made.append(BinBridge(**facts))  # type: ignore[arg-type]
        return made[0]

    run = run_line(seed=seed, faults=faults, bridge_type=make, **options)  # type: ignore[arg-type]
    return run, made[0]


def false_words(run: Run, bridge: BinBridge) -> list[str]:
    """What was said of the bin and is not so."""
    outcome = {truth.sequence: truth.outcome for truth in run.truths}
    said = [f"{sequence} {kind}" for sequence, kind in bridge.kinds.items() if outcome[sequence] != "binned"]
    return said + [f"{sequence} lost" for sequence in bridge.overdue if outcome[sequence] == "binned"]


@pytest.mark.timeout(120)
def test_on_many_random_lines_nothing_false_is_said_of_the_bin() -> None:
    false: dict[int, list[str]] = {}
    confirmed = 0
    for seed in range(100):
        chance = random.Random(seed)
        run, bridge = run_with_bin(
            seed,
            random_faults(chance, 16),
            parts=16,
            speed_mm_s=chance.uniform(500, 1250),
            spacing_mm=chance.uniform(182, 400),
            first_sequence=chance.choice((0, 1, 2**32 - 7)),
            first_count=chance.choice((0, 2**32 - 9000)),
        )
        accused = [str(sequence) for sequence, kind in bridge.kinds.items() if kind == "in bin"]
        if found := false_words(run, bridge) + accused:
            false[seed] = found
        binned = [truth.sequence for truth in run.truths if truth.outcome == "binned"]
        told = [sequence for sequence in binned if sequence in bridge.ordered]
        confirmed += sum(bridge.kinds.get(sequence) == "confirmed" for sequence in told[:-2])
        assert [s for s in told[:-2] if bridge.kinds.get(s) != "confirmed"] == [], seed
    assert false == {}
    assert confirmed > 300


@pytest.mark.parametrize("seed", range(25))
def test_what_the_plc_rejects_by_itself_accuses_nobody(seed: int) -> None:
    chance = random.Random(seed)
    faults = (
        ScheduledFault(fault=MissingTrigger(), at_part=chance.randint(3, 8)),
        ScheduledFault(fault=EncoderReset(), at_part=chance.randint(12, 18)),
    )
    run, bridge = run_with_bin(seed, faults, parts=24, spacing_mm=chance.uniform(182, 250), first_count=400_000)

    assert false_words(run, bridge) == []
    by_plc = [d.sequence for d in run.decisions if d.reject and d.by == "release"]
    assert by_plc
    assert [s for s in by_plc if bridge.kinds.get(s) == "in bin"] == []
