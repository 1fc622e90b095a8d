"""What /healthz says of a station whose model hangs, whose loop hangs, and that has nothing to do."""

from __future__ import annotations

import asyncio
import contextlib
import json
from http import HTTPStatus

from bridge.domain.belt import BeltSettings
from bridge.domain.part import Part
from bridge.monitoring.http import Pages
from tests.station.fakes import Bench

STANDING = BeltSettings(speed_mm_s=0.0)


class HungModel:
    """Takes no notice of its cancellation until it is let go: native code can't be stopped."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()

    def close(self) -> None:
        self.let_go.set()

    async def score(self, _part: Part) -> float:
        while not self.let_go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.let_go.wait()
        return 0.1


async def good(_part: Part) -> float:
    return 0.1


def now_s() -> float:
    return asyncio.get_running_loop().time()


class Probe:
    """Asks as a service manager does."""

    def __init__(self, bench: Bench) -> None:
        self.ahead_s = 0.0
        troubles = bench.loop.progress.troubles
        self._pages = Pages(
            unhealthy=lambda: troubles(bench.clock.now_ns() + round(self.ahead_s * 1e9)),
            not_ready=list,
            metrics=bytes,
            picture=lambda *_: None,
        )

    def healthy(self) -> bool:
        return self.reasons() == []

    def reasons(self) -> list[str]:
        answer = self._pages.answer("/healthz")
        document = json.loads(answer.body)
        assert document["healthy"] == (answer.status is HTTPStatus.OK) == (document["reasons"] == [])
        return list(document["reasons"])


async def test_a_model_that_hangs_makes_the_station_unhealthy_until_it_gives_a_verdict() -> None:
    model = HungModel()
    async with Bench(model.score) as bench:
        probe, begun = Probe(bench), now_s()
        with contextlib.closing(model):
            assert probe.healthy()
            bench.send(1, part_id="A-1")
            bench.send(2)
            await bench.until(lambda: not probe.healthy(), limit_s=3.0)
            assert now_s() - begun > 1.4, "the deadline, 407.5 ms, and a second"
            (reason,) = probe.reasons()
            assert reason.startswith("part A-1 (sequence 1) is 1.0 s past its limit")
            assert (bench.condition.counters.in_flight, bench.loop.progress.waiting) == (2, 1)
        assert await bench.verdicts(2) == [(1, "LATE"), (2, "LATE")]
        await bench.until(lambda: bench.condition.counters.in_flight == 0)
        assert probe.healthy()
        assert bench.loop.progress.most == 2


async def test_a_part_on_a_standing_belt_may_wait_as_long_as_the_verdict_timeout() -> None:
    model = HungModel()
    async with Bench(model.score, belt=STANDING, verdict_timeout_ms=1500.0) as bench:
        probe, begun = Probe(bench), now_s()
        with contextlib.closing(model):
            bench.send(1)
            await bench.until(lambda: not probe.healthy(), limit_s=5.0)
            assert now_s() - begun > 2.5


async def test_parts_that_leave_one_after_the_other_are_no_trouble_however_old_they_are() -> None:
    async with Bench(good, belt=STANDING, verdict_timeout_ms=100.0) as bench:
        probe = Probe(bench)
        bench.journal.stalled.clear()  # each part now takes the 10 ms that a commit may hold it up
        begun = now_s()
        for sequence in range(1, 201):
            bench.send(sequence)
        while bench.condition.counters.in_flight:
            assert probe.healthy(), probe.reasons()
            await asyncio.sleep(0.001)
        assert now_s() - begun > 1.5, "the last ones were more than a second past their limit"
        assert bench.loop.progress.most == 200


async def test_a_loop_that_stands_still_is_told_and_an_idle_one_is_not() -> None:
    async with Bench(good) as bench:
        probe = Probe(bench)
        bench.send(1)
        await bench.verdicts(1)
        await asyncio.sleep(0.3)
        probe.ahead_s = 2.5
        assert probe.healthy(), "idle, but it turns"
        probe.ahead_s = 3.5
        (reason,) = probe.reasons()
        assert reason.startswith("the loop has stood still for 3.")
