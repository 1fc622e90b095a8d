"""What the PLC's counts in the bin say of the rejects, by a clock of the test's own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.domain.condition import Condition
from bridge.domain.confirmation import CONFIRM_MS
from bridge.domain.gate_settings import GateSettings
from bridge.domain.part import Part, Result
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

    def __init__(self) -> None:
        self.clock, self.condition, self.output = SteppedClock(), Condition(), FakeOutput()
        self.journal = FakeJournal()
        self.reports = GateReports(
            line="line1",
            station="station1",
            condition=self.condition,
            journal=self.journal,
            outputs=[self.output],
            clock=self.clock,
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
