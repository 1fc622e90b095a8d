"""What every live verdict cost, measured as the last of a station's outputs."""

from __future__ import annotations

from bridge.domain.gate import GateOrder
from bridge.domain.histogram import Histogram
from bridge.domain.part import Result
from bridge.domain.report import TIMINGS
from bridge.domain.status import StationStatus
from bridge.ports import Alarm, Clock, GateEvent, Outcome

STEPS = (*TIMINGS[:-1], "publish", TIMINGS[-1])
"""The timings of a verdict's document, with the way from the verdict through the journal to the outputs before the total."""
LATENCY_S = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
SLACK_S = (-1.0, -0.1, -0.05, -0.02, -0.01, 0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)


class Observations:
    """A VerdictOutput that shows nothing and measures. What any thread reads of it is whole at any moment."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.latencies = {step: Histogram.within(*LATENCY_S) for step in STEPS}
        self.slack = Histogram.within(*SLACK_S)

    def captured(self, sequence: int, at_utc_ns: int) -> None:
        """Measure nothing: the timings come with the verdict."""

    def publish(self, outcome: Outcome) -> None:
        """Measure one verdict; a replayed one is no live part's."""
        result = outcome.result
        if result.replayed:
            return
        publish_ms = (self._clock.now_ns() - result.decided_ns) / 1e6
        spent_ms = {**result.timing_ms, "publish": publish_ms, "total": result.latency_ms}
        for step, before in self.latencies.items():
            if step in spent_ms:
                self.latencies[step] = before.having(spent_ms[step] / 1e3)
        if result.deadline_ns is not None:
            self.slack = self.slack.having((result.deadline_ns - result.decided_ns) / 1e9)

    def remember(self, sequence: int, document: str) -> None:
        """Measure nothing: another run has."""

    def revise(self, sequence: int, order: GateOrder) -> None:
        """Measure nothing: the verdict stands."""

    def show(self, status: StationStatus) -> None:
        """Measure nothing: a scrape reads the status itself."""

    def alarm(self, alarm: Alarm) -> None:
        """Measure nothing."""

    def gate_report(
        self, event: GateEvent, result: Result, order: GateOrder, reason: str | None, error_ms: float | None = None
    ) -> None:
        """Measure nothing: orders that merged are told one by one, and fire once."""
