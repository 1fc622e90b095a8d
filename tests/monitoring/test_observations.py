"""What is measured of a verdict, and what a thread that reads meanwhile may see."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from bridge.domain.histogram import Histogram
from bridge.monitoring.observations import STEPS, Observations
from bridge.ports import Outcome
from tests.outputs.samples import MS, result


class SteppedClock:
    def __init__(self, ns: int) -> None:
        self.ns = ns

    def now_ns(self) -> int:
        return self.ns

    def utc_ns(self) -> int:
        return self.ns


def test_a_live_verdict_is_measured_once_in_every_step_that_it_took() -> None:
    one = result()
    one = replace(one, timing_ms={"queue": 0.5, "inference": 4.0, "total": 9.0}, deadline_ns=one.decided_ns - 3 * MS)
    observations = Observations(SteppedClock(one.decided_ns + 2 * MS))
    observations.publish(Outcome(result=one, document="{}"))
    sums = {step: (sum(each.counts), each.total) for step, each in observations.latencies.items()}
    latency = pytest.approx(one.latency_ms / 1e3)
    assert sums == {
        "queue": (1, 0.0005), "decode": (0, 0), "preprocess": (0, 0), "inference": (1, 0.004), "publish": (1, 0.002),
        "total": (1, latency),
    }  # fmt: skip
    assert dict(observations.slack.cumulative)[-0.01] == 0
    assert dict(observations.slack.cumulative)[0.0] == 1


def test_a_replayed_verdict_and_a_standing_belt_measure_nothing() -> None:
    one = result()
    observations = Observations(SteppedClock(one.decided_ns))
    observations.publish(Outcome(result=replace(one, replayed=True, deadline_ns=one.decided_ns), document="{}"))
    assert [sum(observations.latencies[step].counts) for step in STEPS] == [0] * len(STEPS)
    observations.publish(Outcome(result=replace(one, deadline_ns=None), document="{}"))
    assert sum(observations.latencies["total"].counts) == 1
    assert sum(observations.slack.counts) == 0


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty_threads")
def test_a_thread_that_reads_sees_each_value_whole_or_not_at_all() -> None:
    one = replace(result(), timing_ms={"queue": 1000.0})
    observations = Observations(SteppedClock(one.decided_ns))
    seen: list[Histogram] = []
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            seen.append(observations.latencies["queue"])

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(3000):
        observations.publish(Outcome(result=one, document="{}"))
    over.set()
    reader.join()
    assert len({each.total for each in seen}) > 2, "the two ran beside each other"
    assert [each for each in seen if each.total != sum(each.counts)] == []
