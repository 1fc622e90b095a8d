"""One part's journey against in-memory twins: exactly one verdict each, and no failure that passes."""

from __future__ import annotations

import asyncio
import re

import pytest

from bridge.domain.belt import BeltSettings
from bridge.domain.gate_settings import GateSettings
from bridge.domain.messages import Command, EncoderSample, Inhibit, PlcCounts, PlcEnable, Refused, Reply, SpeedSample
from bridge.domain.part import Part
from bridge.domain.recipe import Policy
from bridge.domain.verdict import Disposition
from bridge.errors import InferenceError
from bridge.ports import Loaded
from tests.station.fakes import Bench, FakeModel, recipe

SLOW_BELT = GateSettings(distance_mm=6000.0)


async def good(_part: Part) -> float:
    return 0.1


async def bad(_part: Part) -> float:
    return 0.9


async def test_a_good_part_passes_and_its_record_is_acknowledged() -> None:
    async with Bench(good, gate=SLOW_BELT) as bench:
        bench.send(1)
        assert await bench.verdicts(1) == [(1, "PASS")]
        await bench.until(lambda: bench.acknowledged == [1])
        result = bench.output.outcomes[0].result
        assert result.disposition is Disposition.LET_PASS
        assert result.order.state == "none"
        assert bench.journal.accepted == [(1, 1)]
        assert bench.pictures.kept == ["1.jpg"]


async def test_a_bad_part_gets_an_order_counted_from_its_trigger() -> None:
    async with Bench(bad, gate=SLOW_BELT) as bench:
        bench.send(7, encoder_counts=1000)
        assert await bench.verdicts(1) == [(7, "FAIL")]
        order = bench.output.outcomes[0].result.order
        assert order.state == "ordered"
        assert order.open_count == 1000 + ((6000 - 15) * 10)
        assert bench.output.reports == [("ordered", 7, None)]


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (InferenceError("score of crack is nan"), "score of crack is nan"),
        (ValueError("boom"), "internal: ValueError: boom"),
    ],
)
async def test_a_broken_model_is_an_error_that_rejects(trouble: Exception, reason: str) -> None:
    async def broken(_part: Part) -> float:
        raise trouble

    async with Bench(broken, gate=SLOW_BELT) as bench:
        bench.send(1)
        assert await bench.verdicts(1) == [(1, "ERROR")]
        result = bench.output.outcomes[0].result
        assert result.judgement.reason == reason
        assert result.disposition is Disposition.REJECT
        assert result.order.state == "ordered"


async def test_nan_is_an_error_and_not_a_pass() -> None:
    async def nan(_part: Part) -> float:
        return float("nan")

    async with Bench(nan, gate=SLOW_BELT) as bench:
        bench.send(1)
        assert await bench.verdicts(1) == [(1, "ERROR")]


async def test_a_missing_picture_is_an_error() -> None:
    async with Bench(good, gate=SLOW_BELT) as bench:
        bench.send(1, image=None)
        assert await bench.verdicts(1) == [(1, "ERROR")]
        assert bench.output.captures == []


async def test_outputs_are_told_of_a_picture_while_the_model_still_thinks() -> None:
    thinks = asyncio.Event()

    async def slow(_part: Part) -> float:
        await thinks.wait()
        return 0.1

    async with Bench(slow, gate=SLOW_BELT) as bench:
        bench.send(1)
        await bench.until(lambda: bench.model.seen == [1])
        ((sequence, captured_utc_ns),) = bench.output.captures
        assert (sequence, bench.output.outcomes) == (1, [])
        thinks.set()
        assert await bench.verdicts(1) == [(1, "PASS")]
        assert bench.output.outcomes[0].result.captured_utc_ns == captured_utc_ns
        assert len(bench.output.captures) == 1


async def test_a_slow_model_makes_late_parts_in_order_and_their_orders_are_still_met() -> None:
    async def stuck(part: Part) -> float:
        await asyncio.sleep(30 if part.sequence == 1 else 0)
        return 0.1

    async with Bench(stuck) as bench:
        bench.send(1)
        bench.send(2)
        bench.send(3)
        verdicts = await bench.verdicts(3)
        assert [sequence for sequence, _ in verdicts] == [1, 2, 3]
        assert verdicts[0] == (1, "LATE")
        assert "PASS" not in {code for _, code in verdicts}
        assert bench.output.outcomes[0].result.order.state == "ordered"
        assert "PART_LATE" in bench.output.raised


async def test_a_trigger_that_comes_when_its_part_is_past_the_deadline_says_so() -> None:
    async with Bench(good, belt=BeltSettings(speed_source="encoder")) as bench:
        now_ns = bench.clock.now_ns()
        for ago_ms in range(100, -1, -10):
            bench.loop.post(
                EncoderSample(counts=50_000 - 12 * ago_ms, at_ns=now_ns - ago_ms * 1_000_000, origin="mqtt")
            )
        bench.send(1, encoder_counts=50_000 - 20_000)
        assert await bench.verdicts(1) == [(1, "LATE")]
        result = bench.output.outcomes[0].result
        assert re.fullmatch(r"its trigger came 1\d{3}\.\d ms after the deadline: .*", result.judgement.reason)
        assert result.order.state == "missed"


async def test_a_standing_belt_gives_time_until_the_wall_clock_limit() -> None:
    async def stuck(_part: Part) -> float:
        await asyncio.sleep(30)
        return 0.1

    belt = BeltSettings(speed_source="mqtt")
    async with Bench(stuck, belt=belt, verdict_timeout_ms=700.0) as bench:
        bench.loop.post(SpeedSample(mm_s=0.0, at_ns=bench.clock.now_ns(), origin="mqtt"))
        bench.send(1)
        assert await bench.verdicts(1) == [(1, "ERROR")]
        result = bench.output.outcomes[0].result
        assert result.judgement.reason == "no verdict within 700 ms"
        assert result.latency_ms >= 700


async def test_a_belt_that_stops_moves_the_deadline_of_the_part_under_way() -> None:
    release = asyncio.Event()

    async def waits(_part: Part) -> float:
        await release.wait()
        return 0.1

    async with Bench(waits, belt=BeltSettings(speed_source="mqtt", speed_timeout_ms=60_000)) as bench:
        bench.loop.post(SpeedSample(mm_s=1200.0, at_ns=bench.clock.now_ns(), origin="mqtt"))
        bench.send(1)
        await bench.until(lambda: bench.model.seen == [1])
        bench.loop.post(SpeedSample(mm_s=0.0, at_ns=bench.clock.now_ns(), origin="mqtt"))
        await asyncio.sleep(0.6)  # longer than the deadline of the moving belt, 407.5 ms
        assert bench.output.outcomes == []
        release.set()
        assert await bench.verdicts(1) == [(1, "PASS")]


async def test_an_unknown_speed_gives_a_missed_order_never_one_that_guesses() -> None:
    async with Bench(bad, belt=BeltSettings(speed_source="mqtt")) as bench:
        bench.send(1)
        await bench.verdicts(1)
        assert bench.output.outcomes[0].result.order.state == "missed"
        await bench.until(lambda: {"ORDER_MISSED", "SPEED_STALE"} <= bench.output.raised)
        await bench.until(lambda: bench.output.statuses[-1].stop_request and bench.output.statuses[-1].degraded)


async def test_a_duplicate_gives_no_second_verdict_but_is_acknowledged() -> None:
    async with Bench(good, gate=SLOW_BELT) as bench:
        bench.send(1)
        bench.send(1)
        bench.send(2)
        assert await bench.verdicts(2) == [(1, "PASS"), (2, "PASS")]
        await bench.until(lambda: sorted(bench.acknowledged) == [1, 1, 2])
        assert bench.condition.counters.duplicate_triggers == 1
        assert bench.journal.accepted == [(1, 1), (1, 2)]


async def test_a_backlog_is_late_replayed_unjudged_and_orders_nothing() -> None:
    async with Bench(bad, gate=SLOW_BELT) as bench:
        bench.send(5, backlog=True)
        assert await bench.verdicts(1) == [(5, "LATE")]
        result = bench.output.outcomes[0].result
        assert result.replayed
        assert result.order.state == "none"
        assert bench.model.seen == []
        assert bench.output.captures == []
        assert bench.output.reports == []


async def test_a_gap_and_an_unreadable_trigger_ask_for_a_stop_until_cleared() -> None:
    async with Bench(good, gate=SLOW_BELT) as bench:
        bench.send(1)
        bench.send(4)
        bench.loop.post(Refused(reason="not JSON", at_ns=bench.clock.now_ns()))
        await bench.verdicts(2)
        await bench.until(lambda: {"TRIGGER_MISSED", "TRIGGER_UNREADABLE"} <= bench.output.raised)
        assert bench.condition.counters.missed_triggers == 2
        assert bench.condition.alarms.stop_request
        replies: list[Reply] = []
        bench.loop.post(Command(name="clear-error", origin="operator", respond=replies.append))
        assert replies == [Reply(ok=True)]
        assert not bench.condition.alarms.stop_request


@pytest.mark.parametrize("message", [PlcEnable(enabled=False), Inhibit(bits=1)])
async def test_a_trigger_while_disabled_or_inhibited_is_an_error(message: PlcEnable | Inhibit) -> None:
    async with Bench(good, gate=SLOW_BELT) as bench:
        bench.loop.post(message)
        bench.send(1)
        assert await bench.verdicts(1) == [(1, "ERROR")]
        await bench.until(lambda: bench.output.statuses[-1].state == "DISABLED")
        assert not bench.output.statuses[-1].ready


async def test_another_recipe_in_the_trigger_is_a_mismatch() -> None:
    async with Bench(good, gate=SLOW_BELT) as bench:
        bench.send(1, recipe="other")
        bench.send(2, recipe="bracket")
        assert await bench.verdicts(2) == [(1, "ERROR"), (2, "PASS")]
        assert bench.output.outcomes[0].result.judgement.reason.startswith("recipe mismatch")


async def test_more_parts_than_can_wait_get_error_and_every_one_a_verdict() -> None:
    async def slow(_part: Part) -> float:
        await asyncio.sleep(0.002)
        return 0.1

    async with Bench(slow, gate=SLOW_BELT) as bench:
        for sequence in range(100):
            bench.send(sequence)
        verdicts = await bench.verdicts(100)
        assert [sequence for sequence, _ in verdicts] == list(range(100))
        assert {code for _, code in verdicts} == {"PASS", "ERROR"}
        counters = bench.condition.counters
        assert (counters.triggers, counters.in_flight) == (100, 0)
        assert "QUEUE_OVERLOAD" in bench.output.raised


async def test_a_long_backlog_costs_the_live_parts_behind_it_nothing() -> None:
    async with Bench(good, gate=SLOW_BELT) as bench:
        bench.journal.stalled.clear()  # not even a commit is waited for
        begun_s = asyncio.get_running_loop().time()
        for sequence in range(300):
            bench.send(sequence, backlog=True)
        bench.send(300)
        verdicts = await bench.verdicts(301)
        assert asyncio.get_running_loop().time() - begun_s < 2.0
        assert verdicts == [*((sequence, "LATE") for sequence in range(300)), (300, "PASS")]
        assert all(outcome.result.part.trigger.image is None for outcome in bench.output.outcomes[:300])
        assert "QUEUE_OVERLOAD" not in bench.output.raised


async def test_a_stalled_journal_holds_no_output_and_no_acknowledgement_goes_out() -> None:
    async with Bench(good, gate=SLOW_BELT) as bench:
        bench.journal.stalled.clear()
        bench.send(1)
        bench.send(2)
        assert await bench.verdicts(2) == [(1, "PASS"), (2, "PASS")]
        assert bench.acknowledged == []
        bench.journal.stalled.set()
        await bench.until(lambda: sorted(bench.acknowledged) == [1, 2])
        assert len(bench.journal.outcomes) == 2


async def test_a_dead_journal_drops_ready_and_asks_for_a_stop_while_parts_are_judged() -> None:
    async with Bench(good, gate=SLOW_BELT) as bench:
        bench.journal.healthy = False
        bench.send(1)
        assert await bench.verdicts(1) == [(1, "PASS")]
        await bench.until(lambda: "JOURNAL_DEAD" in bench.output.raised)
        await bench.until(lambda: bench.output.statuses[-1].stop_request and not bench.output.statuses[-1].ready)
        assert bench.acknowledged == []


async def test_the_recipe_changes_between_two_parts_and_the_old_model_goes_after_its_last() -> None:
    async with Bench(good, gate=SLOW_BELT) as bench:
        bench.recipes.models["second"] = Loaded(recipe=recipe(name="second"), model=FakeModel(bad))
        replies: list[Reply] = []
        bench.send(1)
        bench.loop.post(Command(name="select-recipe", origin="mqtt", recipe="second", respond=replies.append))
        await bench.until(lambda: replies == [Reply(ok=True)])
        bench.send(2)
        assert await bench.verdicts(2) == [(1, "PASS"), (2, "FAIL")]
        assert bench.output.outcomes[1].result.part.recipe.reference == "second@3"
        await bench.until(lambda: bench.model.closed)


async def test_an_unknown_recipe_is_answered_and_logged_and_the_active_one_stays(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with Bench(good, gate=SLOW_BELT) as bench:
        replies: list[Reply] = []
        bench.loop.post(Command(name="select-recipe", origin="mqtt", recipe="nope", respond=replies.append))
        await bench.until(lambda: len(replies) == 1)
        assert replies[0] == Reply(ok=False, text="recipe = 'nope': unknown")
        bench.loop.post(Command(name="select-recipe", origin="modbus", recipe="never"))
        await bench.until(lambda: bench.output.statuses[-1].recipe_ok is False)
        bench.loop.post(Command(name="select-recipe", origin="mqtt", recipe="nope", respond=replies.append))
        await bench.until(lambda: len(replies) == 2)
        logged = capsys.readouterr().out
        assert "recipe_refused" in logged
        assert "origin=modbus" in logged
        assert "recipe = 'never': unknown" in logged
        bench.send(1)
        assert await bench.verdicts(1) == [(1, "PASS")]
        assert not bench.output.statuses[-1].recipe_ok


async def test_a_lenient_policy_lets_errors_pass_and_keeps_degraded() -> None:
    async with Bench(good, gate=SLOW_BELT, policy=Policy(error="pass")) as bench:
        bench.send(1, image=None)
        await bench.verdicts(1)
        assert bench.output.outcomes[0].result.disposition is Disposition.LET_PASS
        await bench.until(lambda: bench.output.statuses[-1].degraded)
        bench.loop.post(Command(name="clear-error", origin="operator"))
        await asyncio.sleep(0.15)
        assert bench.output.statuses[-1].degraded


async def test_an_encoder_reset_misses_the_pending_orders() -> None:
    async with Bench(bad, gate=SLOW_BELT, belt=BeltSettings(speed_source="encoder")) as bench:
        start_ns = bench.clock.now_ns()
        for step in range(5):
            bench.loop.post(EncoderSample(counts=120 * step, at_ns=start_ns - (4 - step) * 10_000_000, origin="mqtt"))
        bench.send(1, encoder_counts=480)
        await bench.verdicts(1)
        assert bench.output.outcomes[0].result.order.state == "ordered"
        bench.loop.post(EncoderSample(counts=3_000_000_000, at_ns=bench.clock.now_ns(), origin="mqtt"))
        await bench.until(lambda: {"ENCODER_RESET", "ORDER_MISSED"} <= bench.output.raised)
        assert [(event, sequence) for event, sequence, _ in bench.output.reports] == [("ordered", 1), ("missed", 1)]
        assert bench.output.revisions[-1][1].state == "missed"


async def test_counters_reset_to_the_parts_in_flight() -> None:
    release = asyncio.Event()

    async def waits(_part: Part) -> float:
        await release.wait()
        return 0.1

    async with Bench(waits, gate=SLOW_BELT) as bench:
        bench.send(1)
        await bench.until(lambda: bench.model.seen == [1])
        bench.loop.post(Command(name="reset-counters", origin="operator"))
        assert (bench.condition.counters.triggers, bench.condition.counters.in_flight) == (1, 1)
        release.set()
        await bench.verdicts(1)
        assert (bench.condition.counters.triggers, bench.condition.counters.passed) == (1, 1)


async def test_the_heartbeat_stands_still_while_no_part_can_be_judged() -> None:
    async def stuck(_part: Part) -> float:
        await asyncio.sleep(30)
        return 0.1

    async with Bench(stuck, gate=GateSettings(distance_mm=60_000.0), verdict_timeout_ms=1500.0) as bench:
        await bench.until(lambda: bench.condition.heartbeat.value >= 1)
        bench.send(1)
        await bench.until(lambda: bench.model.seen == [1])
        before = bench.condition.heartbeat.value
        await asyncio.sleep(1.2)
        assert bench.condition.heartbeat.value == before
        await bench.verdicts(1)
        await bench.until(lambda: bench.condition.heartbeat.value > before)


async def test_a_dead_journal_does_not_starve_the_line_and_the_rest_is_acknowledged_when_it_is_back() -> None:
    async with Bench(good, gate=SLOW_BELT) as bench:
        bench.journal.healthy = False
        for sequence in range(1, 16):
            bench.send(sequence)
        await bench.verdicts(15)
        await bench.until(lambda: len(bench.acknowledged) == 5)
        bench.journal.healthy = True
        await bench.until(lambda: len(bench.acknowledged) == 15)


async def test_the_plc_counts_become_reports_of_the_oldest_order() -> None:
    async with Bench(bad, gate=GateSettings()) as bench:
        bench.loop.post(PlcCounts(origin="modbus", gate_fired=0, reject_confirm=0))
        bench.send(7)
        await bench.verdicts(1)
        order = bench.output.outcomes[0].result.order
        due_ns = order.due_ns
        assert due_ns is not None
        await bench.until(lambda: bench.clock.now_ns() >= due_ns)
        bench.loop.post(PlcCounts(origin="modbus", gate_fired=1))
        bench.loop.post(PlcCounts(origin="modbus", reject_confirm=1))
        bench.loop.post(PlcCounts(origin="modbus", reject_confirm=2))
        assert [event for event, _, _ in bench.output.reports] == ["ordered", "fired", "confirmed"]
        assert bench.condition.counters.gate_confirmed == 2
        assert "REJECT_NOT_CONFIRMED" not in bench.output.raised


async def test_a_lost_worker_raises_its_alarm_lowers_ready_and_is_cleared_when_it_is_back() -> None:
    async def score(_part: Part) -> float:
        if bench.model.trouble:
            raise InferenceError(f"the inference worker is restarting: {bench.model.trouble}")
        return 0.1

    async with Bench(score, gate=SLOW_BELT) as bench:
        await bench.until(lambda: bench.output.statuses[-1:] != [] and bench.output.statuses[-1].ready)
        bench.model.trouble = "it died"
        await bench.until(lambda: "WORKER_LOST" in bench.output.raised)
        status = bench.output.statuses[-1]
        assert (status.ready, status.degraded, status.error, status.state) == (False, True, True, "FAULT")
        assert bench.condition.not_ready == ["it died"]
        bench.send(1)
        assert await bench.verdicts(1) == [(1, "ERROR")]
        result = bench.output.outcomes[0].result
        assert result.disposition is Disposition.REJECT
        assert "restarting: it died" in result.judgement.reason
        bench.model.trouble = ""
        await bench.until(lambda: bench.output.statuses[-1].ready)
        cleared = [alarm.kind.name for alarm in bench.output.alarms if not alarm.raised]
        assert cleared == ["WORKER_LOST"]
        bench.send(2)
        assert (await bench.verdicts(2))[1] == (2, "PASS")


async def test_the_alarm_of_a_lost_worker_ends_with_its_recipe() -> None:
    async with Bench(good, gate=SLOW_BELT) as bench:
        bench.model.trouble = "it died"
        await bench.until(lambda: "WORKER_LOST" in bench.output.raised)
        bench.recipes.models["other"] = Loaded(recipe=recipe(name="other"), model=FakeModel(good))
        bench.loop.post(Command(name="select-recipe", origin="mqtt", recipe="other"))
        await bench.until(lambda: not bench.output.alarms[-1].raised)
        await bench.until(lambda: bench.output.statuses[-1].ready)
        assert bench.model.closed


async def test_the_counters_that_the_watchdog_looks_at_move_and_the_second_stands_under_a_part() -> None:
    go = asyncio.Event()

    async def waiting(_part: Part) -> float:
        await go.wait()
        return 0.1

    async with Bench(waiting, gate=SLOW_BELT) as bench:
        turns, entries = bench.loop.turns, bench.loop.entries
        await bench.until(lambda: bench.loop.turns > turns + 2 and bench.loop.entries > entries)
        bench.send(1)
        await bench.until(lambda: bench.model.seen == [1])
        turns, entries = bench.loop.turns, bench.loop.entries
        await bench.until(lambda: bench.loop.turns > turns + 8)
        assert bench.loop.entries == entries
        go.set()
        await bench.until(lambda: bench.loop.entries > entries)


async def test_a_station_one_of_whose_tasks_dies_ends_with_the_error() -> None:
    class Broken(FakeModel):
        @property
        def trouble(self) -> str:  # type: ignore[override]
            raise RuntimeError("no such thing was foreseen")

    bench = Bench(good)
    bench.loop.activate(Loaded(recipe=recipe(), model=Broken(good)))
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.timeout(5):
            await bench.loop.run()
    assert "foreseen" in str(caught.value.exceptions[0])
