"""What the PLC's counts in the bin say of the rejects, by a clock of the test's own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.challenges import Challenges
from bridge.domain.belt import Belt, BeltSettings
from bridge.domain.challenge import ChallengeTest
from bridge.domain.condition import Condition
from bridge.domain.confirmation import CONFIRM_MS, Confirmations
from bridge.domain.gate import NO_ORDER
from bridge.domain.gate_settings import GateSettings
from bridge.domain.guards import NO_GUARDS, GuardSettings
from bridge.domain.part import Part, Result
from bridge.domain.verdict import Disposition
from bridge.gate_notes import GateNotes
from bridge.gate_reports import GateReports
from tests.station.fakes import Bench, FakeJournal, FakeOutput


class SteppedClock:
    def __init__(self) -> None:
        self.ns = 0

    def now_ns(self) -> int:
        return self.ns

    def utc_ns(self) -> int:
        return self.ns


class Desk:
    """Reports on their own, with what they tell."""

    def __init__(self, guards: GuardSettings = NO_GUARDS) -> None:
        self.clock, self.condition, self.output = SteppedClock(), Condition(), FakeOutput()
        self.journal = FakeJournal()
        notes = GateNotes(line="line1", station="station1", journal=self.journal, clock=self.clock)
        self.reports = GateReports(
            condition=self.condition,
            notes=notes,
            outputs=[self.output],
            clock=self.clock,
            confirmations=Confirmations(Belt(BeltSettings()), guards, pitch_mm=175.0),
            challenges=Challenges(
                condition=self.condition,
                notes=notes,
                clock=self.clock,
                test=ChallengeTest(),
            ),
        )

    def reject(self, result: Result, sequence: int) -> None:
        trigger = replace(result.part.trigger, sequence=sequence)
        self.reports.decided(replace(result, part=replace(result.part, trigger=trigger)), ())

    def past_the_gate(self, sequence: int) -> None:
        self.reports.forget((1, sequence))

    def wait(self) -> None:
        self.clock.ns += round((CONFIRM_MS + 1) * 1e6)
        self.reports.watch()


@pytest.fixture
async def rejected() -> Result:
    async def bad(_part: Part) -> float:
        return 0.9

    async with Bench(bad, gate=GateSettings(distance_mm=6000.0)) as bench:
        bench.send(1)
        await bench.verdicts(1)
        return bench.output.outcomes[0].result


async def test_a_reject_that_never_reaches_the_bin_asks_for_a_stop(rejected: Result) -> None:
    desk = Desk()
    for sequence in (1, 2):
        desk.reject(rejected, sequence)
        desk.past_the_gate(sequence)
    desk.reports.counted(0, 1)
    desk.wait()
    assert "REJECT_NOT_CONFIRMED" in desk.condition.alarms.standing
    assert desk.condition.alarms.stop_request
    assert desk.journal.events[-1] == ("not confirmed", 2)
    assert ("confirmed", 1, None) in desk.output.reports


async def test_a_line_without_a_bin_sensor_is_not_alarmed(rejected: Result) -> None:
    desk = Desk()
    desk.reject(rejected, 1)
    desk.past_the_gate(1)
    desk.wait()
    assert desk.condition.alarms.standing == ()


MS = 1_000_000
BIN = GuardSettings(confirm_distance_mm=720.0)


@pytest.mark.parametrize(
    ("deadline_ms", "standing", "event"),
    [
        (407, {"PASS_IN_BIN"}, "passed part in bin"),
        (None, {"PASS_IN_BIN"}, "passed part in bin"),
        (399, set(), "seen in bin"),  # published 1 ms after it: the PLC may not have known it in time
    ],
)
def test_a_part_let_pass_in_the_bin_is_told_unless_the_plc_could_not_know(
    rejected: Result, deadline_ms: int | None, standing: set[str], event: str
) -> None:
    desk = Desk(BIN)
    part = replace(rejected.part, x0_mm=0.0)
    passing = replace(
        rejected,
        part=part,
        order=NO_ORDER,
        disposition=Disposition.LET_PASS,
        deadline_ns=None if deadline_ms is None else deadline_ms * MS,
    )
    desk.reports.met(part, gap=False)
    desk.clock.ns = 400 * MS
    desk.reports.decided(passing, ())
    for now_ms in range(400, 630, 10):
        desk.clock.ns = now_ms * MS
        desk.reports.watch()
    desk.reports.counted(0, 1, desk.clock.ns)
    assert set(desk.condition.alarms.standing) == standing
    assert desk.journal.events == [(event, 1)]


def test_a_bridge_whose_heartbeat_stood_still_accuses_no_part(rejected: Result) -> None:
    desk = Desk(BIN)
    part = replace(rejected.part, x0_mm=1.2 * 2000)
    desk.condition.heartbeat.passed(0)
    desk.clock.ns = 2000 * MS
    desk.reports.met(part, gap=False)
    desk.reports.decided(replace(rejected, part=part, order=NO_ORDER, disposition=Disposition.LET_PASS), ())
    desk.reports.watch()
    desk.condition.heartbeat.passed(2001 * MS)
    desk.clock.ns = 2620 * MS
    desk.reports.counted(0, 1, desk.clock.ns)
    assert desk.condition.alarms.standing == ()
    assert desk.journal.events == [("seen in bin", 1)]


def test_a_collateral_part_in_the_bin_is_told_as_collateral_alone(rejected: Result) -> None:
    desk = Desk(BIN)
    swept, sweeper = replace(rejected.part, x0_mm=0.0), replace(rejected.part.trigger, sequence=2)
    desk.reports.met(swept, gap=False)
    desk.reports.decided(replace(rejected, part=swept, order=NO_ORDER, disposition=Disposition.LET_PASS), ())
    desk.reports.decided(replace(rejected, part=replace(rejected.part, trigger=sweeper)), [(1, 1)])
    desk.clock.ns = 610 * MS
    desk.reports.watch()
    # an unplaced reject waits as well, and a count is its own first
    desk.reports.counted(0, 2, desk.clock.ns)
    assert set(desk.condition.alarms.standing) == {"COLLATERAL"}
    assert ("seen in bin", 1) in desk.journal.events
