"""The metrics without the server: what a scrape finds, and whether their names keep Prometheus' rules."""

from __future__ import annotations

import re
from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from bridge.domain.histogram import Histogram
from bridge.domain.status import COUNTER_NAMES, Counters
from bridge.monitoring.metrics import COUNTERS, VERDICTS, Sources, StationMetrics, render
from tests.monitoring.samples import KEY, MEASURED, SOURCES, STATUS

LABELS = frozenset({("line", "line1"), ("station", "station1")})
UNITS = ("seconds", "meters_per_second")
NO_BASE_UNIT = {"ms", "us", "ns", "s", "mm", "cm", "m", "minutes", "percent", "milliseconds"}


def values(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_before_the_first_station_there_is_the_build_and_the_process() -> None:
    names = {name for name, _labels in values(render(Sources(version="1.2.3", stations=dict))())}
    assert "linegate_build_info" in names
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"} <= names
    assert "linegate_triggers_total" not in names


def test_every_counter_of_a_station_is_in_the_metrics() -> None:
    assert {counter for _name, _text, counter in COUNTERS} | {counter for _v, counter in VERDICTS} == set(COUNTER_NAMES)


def test_each_scrape_reads_the_status_afresh() -> None:
    stations = {KEY: STATUS}
    metrics = render(replace(SOURCES, stations=lambda: stations))
    assert values(metrics())["linegate_triggers_total", LABELS] == 3
    assert values(metrics())["linegate_parts_in_flight", LABELS] == 1
    assert values(metrics())["linegate_stop_request", LABELS] == 1
    stations[KEY] = replace(STATUS, counters=Counters(triggers=1))
    assert values(metrics())["linegate_triggers_total", LABELS] == 1


def test_a_histogram_counts_each_value_in_every_bucket_that_holds_it() -> None:
    slack = Histogram.within(-0.1, 0.0, 0.1)
    for value in (-0.5, -0.1, 0.0, 0.05, 3.0):
        slack = slack.having(value)
    latency = Histogram.within(0.1, 1.0).having(0.1).having(0.2).having(9.0)
    measured = replace(MEASURED, slack=slack, latencies={"total": latency})
    found = values(render(replace(SOURCES, measured=lambda: {KEY: measured}))())
    name = "linegate_deadline_slack_seconds"
    buckets = {dict(labels)["le"]: value for (each, labels), value in found.items() if each == f"{name}_bucket"}
    assert buckets == {"-0.1": 2, "0.0": 3, "0.1": 4, "+Inf": 5}
    assert (f"{name}_sum", LABELS) not in found, "a sum that can fall would look like a restart"
    name, total = "linegate_part_latency_seconds", LABELS | {("step", "total")}
    assert found[f"{name}_count", total] == 3
    assert found[f"{name}_sum", total] == 9.3
    assert [found[f"{name}_bucket", total | {("le", bound)}] for bound in ("0.1", "1.0", "+Inf")] == [1, 2, 3]


def test_the_names_keep_prometheus_rules() -> None:
    families = list(StationMetrics(SOURCES).collect())
    assert len({family.name for family in families}) == len(families)
    for family in families:
        assert re.fullmatch(r"linegate(_[a-z]+)+", family.name), family.name
        assert not NO_BASE_UNIT & set(family.name.replace("meters_per_second", "").split("_")), family.name
        assert re.search(r"_(total|count|sum|bucket)$", family.name) is None, "the type adds its own suffix"
        assert family.type != "histogram" or family.name.endswith(UNITS), family.name
        assert family.documentation.endswith("."), family.name
        assert family.samples, family.name
        one_part = {"linegate_build_info", "linegate_tasks"} | {
            each.name for each in families if each.name.startswith("linegate_journal_")
        }
        assert family.name in one_part or {"line", "station"} <= set(family.samples[0].labels), family.name
        if family.type == "counter":
            assert {sample.name for sample in family.samples} == {f"{family.name}_total"}


def test_the_tasks_of_each_loop_are_counted() -> None:
    metrics = render(replace(SOURCES, tasks=lambda: {"main": 7, "plc": 5}))
    assert values(metrics())["linegate_tasks", frozenset({("loop", "main")})] == 7
    assert values(metrics())["linegate_tasks", frozenset({("loop", "plc")})] == 5
