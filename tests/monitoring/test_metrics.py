"""The metrics without the server: what a scrape finds before the first station, and after a reset."""

from __future__ import annotations

from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from bridge.domain.status import COUNTER_NAMES, Counters, StationState, StationStatus
from bridge.monitoring.metrics import COUNTERS, VERDICTS, render

STATUS = StationStatus(
    state=StationState.BUSY, online=True, ready=False, busy=True, error=False, recipe_ok=True, degraded=False,
    plc_heartbeat_lost=False, stop_request=True, gate_unguarded=False, clock_ok=True, heartbeat=1, error_code=0,
    error_text="", recipe="r@1", recipe_number=1, model="m@1.0.0", model_sha256="", belt_speed_mm_s=None,
    counters=Counters(triggers=3, passed=1, error=1), last_sequence=0,
)  # fmt: skip


def values(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_before_the_first_station_there_is_the_build_and_the_process() -> None:
    names = {name for name, _labels in values(render(dict, version="1.2.3")())}
    assert "linegate_build_info" in names
    assert "process_cpu_seconds_total" in names
    assert "linegate_triggers_total" not in names


def test_every_counter_of_a_station_is_in_the_metrics() -> None:
    assert {counter for _name, _text, counter in COUNTERS} | {counter for _v, counter in VERDICTS} == set(COUNTER_NAMES)


def test_each_scrape_reads_the_status_afresh() -> None:
    stations = {("line1", "station1"): STATUS}
    metrics = render(lambda: stations, version="1.2.3")
    key = frozenset({("line", "line1"), ("station", "station1")})
    assert values(metrics())["linegate_triggers_total", key] == 3
    assert values(metrics())["linegate_parts_in_flight", key] == 1
    assert values(metrics())["linegate_stop_request", key] == 1
    stations["line1", "station1"] = replace(STATUS, counters=Counters(triggers=1))
    assert values(metrics())["linegate_triggers_total", key] == 1


def test_the_tasks_of_each_loop_are_counted() -> None:
    metrics = render(dict, tasks=lambda: {"main": 7, "plc": 5}, version="1.2.3")
    assert values(metrics())["linegate_tasks", frozenset({("loop", "main")})] == 7
    assert values(metrics())["linegate_tasks", frozenset({("loop", "plc")})] == 5
