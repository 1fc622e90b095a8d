"""The stations' own counters as Prometheus metrics, read afresh at every scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bridge.domain.status import StationState, StationStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkCounts:
    """What a station's MQTT link has refused, and what it could not send while the broker was away."""

    dead_letters: int
    dropped: int


TaskCounts = Callable[[], Mapping[str, int]]
"""By the name of an event loop, how many tasks it has: a number that only grows is a leak."""
StationLinks = Callable[[], Mapping[tuple[str, str], LinkCounts]]
StationStatuses = Callable[[], Mapping[tuple[str, str], StationStatus]]

LABELS = ("line", "station")

# Metric, what it says, the counter of the station.
COUNTERS = (
    ("linegate_triggers", "Accepted triggers.", "triggers"),
    ("linegate_missed_triggers", "Parts that passed the photo-eye without a trigger.", "missed_triggers"),
    ("linegate_duplicate_triggers", "Triggers that came again and were dropped.", "duplicate_triggers"),
    ("linegate_gate_fired", "Times the reject gate fired.", "gate_fired"),
    ("linegate_gate_missed", "Gate orders that could not be met.", "gate_missed"),
    ("linegate_gate_confirmed", "Rejected parts seen in the reject bin.", "gate_confirmed"),
    ("linegate_collateral", "Good parts that the gate swept along.", "collateral"),
)
VERDICTS = (("PASS", "passed"), ("FAIL", "failed"), ("UNCERTAIN", "uncertain"), ("ERROR", "error"), ("LATE", "late"))
FLAGS = (
    ("linegate_ready", "1 while the station is ready for a trigger.", "ready"),
    ("linegate_degraded", "1 while something is wrong that does not stop the line.", "degraded"),
    ("linegate_stop_request", "1 when a part that should be rejected could not be, until ClearError.", "stop_request"),
    ("linegate_gate_unguarded", "1 while nobody else would reject a part without a result.", "gate_unguarded"),
    ("linegate_plc_heartbeat_lost", "1 while the PLC's heartbeat stands still.", "plc_heartbeat_lost"),
)


class StationMetrics(Collector):
    """Reads every station's status at the scrape; a reset of the counters looks like a restart to Prometheus."""

    def __init__(self, stations: StationStatuses, links: StationLinks, tasks: TaskCounts, *, version: str) -> None:
        self._stations = stations
        self._links = links
        self._tasks = tasks
        self._version = version

    def collect(self) -> Iterator[Metric]:
        """Give all families; with no station yet, the build alone."""
        build = GaugeMetricFamily("linegate_build_info", "The version that runs.", labels=["version"])
        build.add_metric([self._version], 1)
        yield build
        tasks = GaugeMetricFamily("linegate_tasks", "Tasks of one event loop; level in the long run.", labels=["loop"])
        for loop, count in self._tasks().items():
            tasks.add_metric([loop], count)
        yield tasks
        stations = dict(self._stations())
        for name, text, counter in COUNTERS:
            family = CounterMetricFamily(name, text, labels=LABELS)
            for key, status in stations.items():
                family.add_metric(key, getattr(status.counters, counter))
            yield family
        yield from self._link_counters()
        yield _verdicts(stations)
        yield from _gauges(stations)
        yield _states(stations)

    def _link_counters(self) -> Iterator[Metric]:
        refused = CounterMetricFamily("linegate_dead_letters", "Messages refused to the dead letters.", labels=LABELS)
        dropped = CounterMetricFamily("linegate_mqtt_dropped", "Messages that no broker was there for.", labels=LABELS)
        for key, link in self._links().items():
            refused.add_metric(key, link.dead_letters)
            dropped.add_metric(key, link.dropped)
        yield from (refused, dropped)


def render(
    stations: StationStatuses, links: StationLinks = dict, tasks: TaskCounts = dict, *, version: str
) -> Callable[[], bytes]:
    """Give a function that writes the exposition text: the stations' metrics and those of this process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StationMetrics(stations, links, tasks, version=version))
    ProcessCollector(registry=registry)
    return lambda: generate_latest(registry)


def _verdicts(stations: Mapping[tuple[str, str], StationStatus]) -> Metric:
    family = CounterMetricFamily("linegate_verdicts", "Verdicts by kind.", labels=(*LABELS, "verdict"))
    for key, status in stations.items():
        for verdict, counter in VERDICTS:
            family.add_metric((*key, verdict), getattr(status.counters, counter))
    return family


def _gauges(stations: Mapping[tuple[str, str], StationStatus]) -> Iterator[Metric]:
    for name, text, flag in FLAGS:
        family = GaugeMetricFamily(name, text, labels=LABELS)
        for key, status in stations.items():
            family.add_metric(key, float(getattr(status, flag)))
        yield family
    in_flight = GaugeMetricFamily("linegate_parts_in_flight", "Accepted triggers without a verdict yet.", labels=LABELS)
    error_code = GaugeMetricFamily("linegate_error_code", "The newest standing alarm, 0 = none.", labels=LABELS)
    heartbeat = GaugeMetricFamily("linegate_heartbeat", "Stands still when the station hangs.", labels=LABELS)
    speed = GaugeMetricFamily("linegate_belt_speed_mm_s", "Belt speed; absent while unknown.", labels=LABELS)
    firing = GaugeMetricFamily("linegate_firing_error_ms", "Last firing error; absent without one.", labels=LABELS)
    for key, status in stations.items():
        in_flight.add_metric(key, status.counters.in_flight)
        error_code.add_metric(key, status.error_code)
        heartbeat.add_metric(key, status.heartbeat)
        if status.belt_speed_mm_s is not None:
            speed.add_metric(key, status.belt_speed_mm_s)
        if status.firing_error_ms is not None:
            firing.add_metric(key, status.firing_error_ms)
    yield from (in_flight, error_code, heartbeat, speed, firing)


def _states(stations: Mapping[tuple[str, str], StationStatus]) -> Metric:
    family = GaugeMetricFamily("linegate_state", "1 for the state the station is in.", labels=(*LABELS, "state"))
    for key, status in stations.items():
        for state in StationState:
            family.add_metric((*key, state.value), float(state is status.state))
    return family
