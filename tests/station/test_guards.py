"""A station's guards against in-memory twins: the bin by place, challenge tests, runs, dry run, parts that touch."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bridge.domain.gate_settings import GateSettings
from bridge.domain.guards import GuardSettings
from bridge.domain.messages import Command, PlcCounts, Reply
from bridge.domain.part import Part
from bridge.domain.verdict import Disposition
from tests.station.fakes import Bench

GATE = GateSettings(distance_mm=600.0)
BIN = GuardSettings(confirm_distance_mm=720.0, confirm_window_ms=200.0)
TO_BIN_S = 0.6


async def by_name(part: Part) -> float:
    return 0.9 if part.part_id.startswith("bad") else 0.1


async def good(_part: Part) -> float:
    return 0.1


async def bad(_part: Part) -> float:
    return 0.9


def counts(bench: Bench, number: int) -> None:
    bench.loop.post(PlcCounts(origin="modbus", at_ns=bench.clock.now_ns(), reject_confirm=number))


def asked(bench: Bench, name: str, **more: Any) -> Reply:
    replies: list[Reply] = []
    bench.loop.post(Command(name=name, origin="mqtt", respond=replies.append, **more))  # type: ignore[arg-type]
    (reply,) = replies
    return reply


async def test_a_count_at_a_rejects_place_confirms_it_and_one_at_a_passing_parts_place_stops_the_line() -> None:
    async with Bench(by_name, gate=GATE, guards=BIN) as bench:
        counts(bench, 0)
        for number, part_id in enumerate(("bad", "good"), start=1):
            bench.send(number, part_id=part_id)
            await bench.verdicts(number)
            assert "PASS_IN_BIN" not in bench.output.raised
            await asyncio.sleep(TO_BIN_S + 0.01)
            counts(bench, number)
        assert ("confirmed", 1) in bench.journal.events
        assert bench.journal.events[-1] == ("passed part in bin", 2)
        await bench.until(lambda: "PASS_IN_BIN" in bench.output.raised)
        await bench.until(lambda: bench.output.statuses[-1].stop_request)
        assert bench.condition.counters.gate_confirmed == 2
        assert "REJECT_NOT_CONFIRMED" not in bench.output.raised


async def test_a_reject_that_never_comes_is_alarmed_when_its_window_is_over() -> None:
    async with Bench(bad, gate=GATE, guards=BIN) as bench:
        begun_ns = bench.clock.now_ns()
        bench.send(1)
        await bench.until(lambda: "REJECT_NOT_CONFIRMED" in bench.output.raised)
        waited_ms = (bench.clock.now_ns() - begun_ns) / 1e6
        assert 800.0 <= waited_ms < 800.0 + 100 / 1.2 + 10, "one part's travel, and the wait for it"
        assert bench.journal.events[-1] == ("not confirmed", 1)


async def test_a_challenge_is_passed_by_the_bin_and_failed_by_a_pass() -> None:
    guards = GuardSettings(confirm_distance_mm=720.0, confirm_window_ms=200.0, challenge_hours=1.0)
    async with Bench(by_name, gate=GATE, guards=guards) as bench:
        counts(bench, 0)
        await bench.until(lambda: "CHALLENGE_DUE" in bench.output.raised)
        assert asked(bench, "challenge", sequence=2) == Reply(ok=True)
        bench.send(1, part_id="bad other")
        bench.send(2, part_id="bad one")
        await bench.verdicts(2)
        await bench.until(lambda: bench.output.statuses[-1].challenge.state == "under way")
        await asyncio.sleep(TO_BIN_S)
        counts(bench, 2)
        await bench.until(lambda: bench.output.statuses[-1].challenge.state == "passed")
        assert not bench.output.statuses[-1].challenge.due
        noted = [event for event in bench.journal.events if event[0].startswith("challenge")]
        assert noted == [("challenge", 2), ("challenge passed", 2)]
        assert "CHALLENGE_DUE" not in bench.condition.alarms.standing
        asked(bench, "challenge")
        bench.send(3, part_id="taken for good")
        await bench.until(lambda: "CHALLENGE_FAILED" in bench.output.raised)
        assert bench.journal.events[-1] == ("challenge failed", 3)
        assert bench.condition.alarms.stop_request


async def test_a_challenge_part_that_is_not_seen_in_the_bin_fails() -> None:
    async with Bench(bad, gate=GATE, guards=BIN) as bench:
        asked(bench, "challenge")
        bench.send(1)
        await bench.until(lambda: "CHALLENGE_FAILED" in bench.output.raised)
        text = next(each.text for each in bench.output.alarms if each.kind.name == "CHALLENGE_FAILED")
        assert text == "1: it was not seen in the reject bin"


async def test_a_challenge_that_was_passed_in_an_earlier_run_counts() -> None:
    guards = GuardSettings(challenge_hours=1.0)
    bench = Bench(good, guards=guards, challenge_passed_utc_ns=0)
    assert "CHALLENGE_DUE" in bench.condition.alarms.standing
    bench = Bench(good, guards=guards, challenge_passed_utc_ns=bench.clock.utc_ns())
    assert "CHALLENGE_DUE" not in bench.condition.alarms.standing


async def test_a_dry_run_judges_and_records_and_orders_nothing() -> None:
    async with Bench(by_name, gate=GATE, guards=GuardSettings(dry_run=True, max_consecutive_rejects=0)) as bench:
        bench.send(1, part_id="bad")
        bench.send(2, part_id="good")
        bench.send(3, image=None)
        assert await bench.verdicts(3) == [(1, "FAIL"), (2, "PASS"), (3, "ERROR")]
        for outcome in bench.output.outcomes:
            assert outcome.result.disposition is Disposition.NONE
            assert outcome.result.order.state == "none"
        assert len(bench.journal.outcomes) == 3
        assert bench.output.reports == []
        assert len(bench.plan) == 0, "no part waits for a gate that will not move"
        assert "DRY_RUN" in bench.output.raised
        assert not asked(bench, "challenge").ok


@pytest.mark.parametrize(("measured", "code"), [({"eye_on_ms": 175.0}, "ERROR"), ({"eye_on_ms": 90.0}, "PASS")])
async def test_parts_that_touch_are_alarmed_and_the_gate_covers_both(measured: dict[str, float], code: str) -> None:
    async with Bench(good, gate=GATE, guards=GuardSettings(touching_tolerance_mm=20.0)) as bench:
        bench.send(1, **measured)
        assert await bench.verdicts(1) == [(1, code)]
        assert ("PARTS_TOUCH" in bench.condition.alarms.standing) == (code == "ERROR")
        order = bench.output.outcomes[0].result.order
        if code == "ERROR":
            assert order.window_ms == pytest.approx((210 + 2 * 15) / 1.2, abs=0.1)


async def test_a_run_of_failures_drops_ready_and_a_part_over_mqtt_is_still_judged() -> None:
    async with Bench(good, gate=GATE, guards=GuardSettings()) as bench:
        for sequence in (1, 2, 3):
            bench.send(sequence, image=None)
        await bench.verdicts(3)
        await bench.until(lambda: not bench.output.statuses[-1].ready)
        bench.send(4)
        assert (await bench.verdicts(4))[3] == (4, "PASS")
        assert not bench.output.statuses[-1].ready
        asked(bench, "clear-error")
        await bench.until(lambda: bench.output.statuses[-1].ready)
