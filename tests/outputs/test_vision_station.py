"""Jobs and results of a VisionSystem, followed from the views of a panel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import pytest

from bridge.domain.status import Counters, StationState
from bridge.domain.vision_states import VisionState
from bridge.outputs.plc.panel import PlcPanel
from bridge.outputs.vision.results import HISTORY, Job, ResultFilter
from bridge.outputs.vision.station import Acquired, Happening, JobStarted, Moved, ResultReady, VisionStation
from tests.outputs.samples import outcome, status

START = status(counters=Counters(), last_sequence=0)


class Line:
    """A panel whose every view a VisionStation sees."""

    def __init__(self) -> None:
        ids = count(1)
        self.station = VisionStation(new_id=lambda: f"job{next(ids)}")
        self.panel = PlcPanel(station="station1", post=lambda message: None)
        self.happened: list[Happening] = []
        self.panel.watch(lambda view: self.happened.extend(self.station.see(view)))
        self.panel.watch_captures(lambda *captured: self.happened.extend(self.station.captured(*captured)))
        self.status = START
        self.show()

    def show(self, **changes: object) -> None:
        self.status = replace(self.status, **changes)  # type: ignore[arg-type]
        self.panel.show(self.status, now_ns=0)

    def count(self, **by: int) -> None:
        counters = self.status.counters
        self.show(counters=replace(counters, **{name: getattr(counters, name) + more for name, more in by.items()}))

    def accept(self, sequence: int) -> None:
        self.show(last_sequence=sequence)
        self.count(triggers=1)

    def capture(self, sequence: int) -> str:
        """Take a part's picture; gives the job that it is told of."""
        self.panel.captured(sequence, 1_000_000 * sequence)
        told = self.happened[-1]
        assert isinstance(told, Acquired)
        assert told.at_utc_ns == 1_000_000 * sequence
        return told.job.job_id

    def judge(self, sequence: int, *, replayed: bool = False) -> None:
        self.panel.publish(outcome(sequence, replayed=replayed))
        self.count(failed=1)

    @property
    def jobs(self) -> dict[str, str]:
        """The job of each result so far."""
        results = [each.result for each in self.happened if isinstance(each, ResultReady)]
        return {each.part_id: each.job.job_id for each in results}

    @property
    def begun(self) -> list[str]:
        return [each.job.job_id for each in self.happened if isinstance(each, JobStarted)]

    @property
    def state(self) -> VisionState | None:
        return self.station.machine.automatic


@pytest.fixture
def line() -> Line:
    return Line()


def test_parts_of_the_line_belong_to_the_job_that_runs_on(line: Line) -> None:
    line.accept(1)
    line.accept(2)
    line.judge(1)
    line.judge(2)
    assert set(line.jobs.values()) == set(line.begun)
    assert len(line.begun) == 1


def test_parts_under_way_at_a_stop_keep_their_job_and_later_ones_have_their_own(line: Line) -> None:
    line.accept(1)
    line.accept(2)
    line.happened += line.station.call("Stop")
    line.judge(1)
    line.accept(3)
    line.judge(2)
    assert line.state is VisionState.SINGLE_EXECUTION
    line.judge(3)
    assert line.state is VisionState.READY
    first, second, third = (line.jobs[f"A-00000{number}"] for number in (1, 2, 3))
    assert (first, third) == (second, line.begun[1])
    assert first != third


def test_a_part_judged_before_its_acceptance_was_shown_is_a_job_of_its_own(line: Line) -> None:
    line.happened += line.station.call("Stop")
    line.judge(1)
    assert line.state is VisionState.READY
    assert line.jobs == {"A-000001": line.begun[-1]}
    assert len(line.begun) == 2


def test_a_capture_is_told_at_once_and_a_result_tells_none(line: Line) -> None:
    line.accept(1)
    line.happened.clear()
    job = line.capture(1)
    assert [type(each) for each in line.happened] == [Acquired]
    line.judge(1)
    line.judge(2)
    assert [type(each) for each in line.happened] == [Acquired, ResultReady, ResultReady], "part 2 had no picture"
    assert line.jobs["A-000001"] == job


def test_a_capture_has_the_job_of_its_result_over_a_stop(line: Line) -> None:
    captured = {}
    for sequence in (1, 2):
        line.accept(sequence)
    captured["A-000001"] = line.capture(1)
    line.happened += line.station.call("Stop")
    line.judge(1)
    line.accept(3)
    captured["A-000002"] = line.capture(2)
    line.judge(2)
    captured["A-000003"] = line.capture(3)
    line.judge(3)
    assert line.state is VisionState.READY
    assert captured == line.jobs
    assert captured["A-000001"] == captured["A-000002"] != captured["A-000003"]


def test_a_capture_before_its_acceptance_was_shown_begins_the_parts_job(line: Line) -> None:
    line.happened += line.station.call("Stop")
    line.happened.clear()
    job = line.capture(1)
    assert [type(each) for each in line.happened] == [Moved, JobStarted, Acquired]
    assert line.state is VisionState.SINGLE_EXECUTION
    line.accept(1)
    line.judge(1)
    assert line.state is VisionState.READY
    assert (line.jobs, line.begun) == ({"A-000001": job}, [job])


def test_a_capture_of_a_single_job_is_its_own_and_so_is_its_result_after_a_fault(line: Line) -> None:
    line.station.call("Stop")
    line.station.call("StartSingleJob", Job(job_id="mine"), sequence=7)
    assert line.capture(7) == "mine"
    line.show(state=StationState.FAULT, ready=False)
    line.judge(7)
    assert line.jobs == {"A-000007": "mine"}


@pytest.mark.parametrize(
    "end",
    [
        lambda line: line.judge(7),
        lambda line: line.count(duplicate_triggers=1),
        lambda line: line.station.call("Stop"),
        lambda line: (line.accept(7), line.judge(7, replayed=True)),
    ],
)
def test_a_single_job_ends_with_its_result_and_when_there_will_be_none(line: Line, end: Callable[[Line], None]) -> None:
    line.station.call("Stop")
    line.station.call("StartSingleJob", Job(job_id="mine"), sequence=7)
    line.show(heartbeat=1)
    assert line.state is VisionState.SINGLE_EXECUTION
    end(line)
    assert line.state is VisionState.READY


def test_a_fault_ends_the_job_and_its_late_result_is_still_its_own(line: Line) -> None:
    line.station.call("Stop")
    line.station.call("StartSingleJob", Job(job_id="mine"), sequence=7)
    line.accept(7)
    line.show(state=StationState.FAULT, ready=False)
    line.judge(7)
    assert line.jobs == {"A-000007": "mine"}
    assert line.state is None


def test_the_next_sequence_follows_the_stations_and_starts_anew_where_it_left_off(line: Line) -> None:
    assert line.station.next_sequence(None) == 1
    assert line.station.next_sequence(500) == 501
    line.accept(2**32 - 1)
    assert line.station.next_sequence(500) == 0
    line.judge(0)
    assert line.station.next_sequence(500) == 1, "judged before its acceptance was shown"
    line.station.call("Stop")
    line.station.call("StartSingleJob", Job(job_id="mine"), sequence=1)
    assert line.station.next_sequence(500) == 2
    line.accept(40)
    assert line.station.next_sequence(500) == 41


def test_a_replayed_result_is_none_of_the_models(line: Line) -> None:
    line.judge(1, replayed=True)
    assert line.jobs == {}
    assert list(line.station.results.filtered(ResultFilter())) == []


def test_the_last_thousand_results_are_kept(line: Line) -> None:
    for sequence in range(HISTORY + 5):
        line.panel.publish(outcome(sequence))
    kept = [each.result_id for each in line.station.results.filtered(ResultFilter())]
    assert (len(kept), kept[0], kept[-1]) == (HISTORY, "line1.station1.1.5", f"line1.station1.1.{HISTORY + 4}")
    assert line.station.results.get("line1.station1.1.4") is None
