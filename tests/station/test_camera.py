"""The station and its camera: what its loss does, and the moment that it is asked for."""

from __future__ import annotations

from bridge.domain.belt import BeltSettings
from bridge.domain.gate_settings import GateSettings
from bridge.domain.messages import Command
from bridge.domain.part import Part
from tests.station.fakes import Bench


async def steady(_part: Part) -> float:
    return 0.1


async def test_a_lost_camera_is_alarmed_without_a_part_and_ends_with_its_cause() -> None:
    async with Bench(steady) as bench:
        await bench.until(lambda: bench.loop.shown is not None and bench.loop.shown.ready)
        bench.camera.trouble = "video rtsp://cam: no frame for 2000 ms"
        await bench.until(lambda: "CAMERA_LOST" in bench.output.raised)
        shown = bench.loop.shown
        assert shown is not None
        assert (shown.ready, shown.degraded, shown.error, shown.stop_request) == (False, True, True, False)
        assert (shown.state.name, shown.error_code) == ("FAULT", 34)
        assert shown.error_text == "CAMERA_LOST: video rtsp://cam: no frame for 2000 ms"
        assert "the camera is lost: video rtsp://cam: no frame for 2000 ms" in bench.condition.not_ready
        bench.loop.post(Command(name="clear-error", origin="operator"))
        assert "CAMERA_LOST" in bench.condition.alarms.standing, "it is not for anybody to clear"
        bench.send(1)
        assert await bench.verdicts(1) == [(1, "PASS")], "a trigger that brings its picture needs no camera"
        bench.camera.trouble = None
        await bench.until(lambda: bench.loop.shown is not None and bench.loop.shown.ready)
        assert [alarm.raised for alarm in bench.output.alarms if alarm.kind.name == "CAMERA_LOST"] == [True, False]


async def test_the_camera_is_told_the_moment_at_which_the_part_is_there() -> None:
    gate = GateSettings(camera_offset_mm=60.0)
    async with Bench(steady, gate=gate) as bench:
        bench.send(1, image=None)
        bench.send(2)
        await bench.verdicts(2)
        first, second = bench.camera.moments_ns
        triggered = [outcome.result.part.triggered_ns for outcome in bench.output.outcomes]
        assert abs(first - triggered[0] - 50_000_000) < 1_000_000, "60 mm at 1200 mm/s"
        assert second == triggered[1], "its picture was taken at the trigger"


async def test_a_camera_at_the_beam_takes_its_picture_whatever_the_belt_does() -> None:
    """The belt's speed is unknown: no order can be timed, but the picture is the trigger's all the same."""
    async with Bench(steady, belt=BeltSettings(speed_source="mqtt"), verdict_timeout_ms=500.0) as bench:
        bench.send(1, image=None)
        await bench.verdicts(1)
        result = bench.output.outcomes[0].result
        assert bench.camera.moments_ns == [result.part.triggered_ns]
        assert result.judgement.reason == "no picture came with the trigger"
