"""The stations' own counters and histograms as Prometheus metrics, read afresh at every scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isinf

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from bridge.domain.histogram import Histogram
from bridge.domain.status import StationState, StationStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a scrape finds of one station beside its status.

    `reconnects` goes by link (mqtt, gate, modbus_client, opcua_client),
    `latencies` by step, `firing_errors` by what left (fired, released; empty
    where the PLC fires). Histograms are in s.
    """

    dead_letters: int
    dropped: int
    reconnects: Mapping[str, int]
    waiting: int
    most_in_flight: int
    latencies: Mapping[str, Histogram]
    slack: Histogram
    firing_errors: Mapping[str, Histogram]


TaskCounts = Callable[[], Mapping[str, int]]
"""By the name of an event loop, how many tasks it has: a number that only grows is a leak."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalCounts:
    """How the journal, one for all stations, gets its rows into the database."""

    failures: int
    lost: int
    waiting: int


Key = tuple[str, str]
"""Line and station."""
StationStatuses = Callable[[], Mapping[Key, StationStatus]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where a scrape reads; the callables are called by the HTTP server's threads."""

    version: str
    stations: StationStatuses
    measured: Callable[[], Mapping[Key, Measured]] = dict
    journal: Callable[[], JournalCounts | None] = lambda: None
    tasks: TaskCounts = dict


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
LATENCY = (
    "linegate_part_latency_seconds",
    "Time for each step of a part that is judged live; publish is from the verdict to the outputs, total from the trigger "
    "to the verdict.",
)
SLACK = (
    "linegate_deadline_slack_seconds",
    "Time left to the gate's deadline when the verdict stood, negative when late (so there is no sum and no count).",
)
FIRING_ERROR = (
    "linegate_gate_firing_error_seconds",
    "How late the gate's command left, for rejects (fired) and for parts let pass (released); where the bridge fires.",
)


class StationMetrics(Collector):
    """Reads every station at the scrape; a reset of the counters looks like a restart to Prometheus."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        """Give all families; with no station yet, the build and the journal alone."""
        build = GaugeMetricFamily("linegate_build_info", "The version that runs.", labels=["version"])
        build.add_metric([self._sources.version], 1)
        yield build
        yield _tasks(self._sources.tasks())
        if (journal := self._sources.journal()) is not None:
            yield from _journal(journal)
        stations = dict(self._sources.stations())
        for name, text, counter in COUNTERS:
            family = CounterMetricFamily(name, text, labels=LABELS)
            for key, status in stations.items():
                family.add_metric(key, getattr(status.counters, counter))
            yield family
        yield _verdicts(stations)
        yield from _gauges(stations)
        yield _states(stations)
        measured = dict(self._sources.measured())
        yield from _queues(measured)
        yield from _links(measured)
        yield from _histograms(measured)


def render(sources: Sources) -> Callable[[], bytes]:
    """Give a function that writes the exposition text: the stations' metrics and those of this process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StationMetrics(sources))
    ProcessCollector(registry=registry)
    return lambda: generate_latest(registry)


def _journal(journal: JournalCounts) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "linegate_journal_commit_failures", "Commits that the database did not take.", value=journal.failures
    )
    yield CounterMetricFamily("linegate_journal_rows_lost", "Rows that the journal had to give up.", value=journal.lost)
    yield GaugeMetricFamily("linegate_journal_rows_waiting", "Rows not committed yet.", value=journal.waiting)


def _verdicts(stations: Mapping[Key, StationStatus]) -> Metric:
    family = CounterMetricFamily("linegate_verdicts", "Verdicts by kind.", labels=(*LABELS, "verdict"))
    for key, status in stations.items():
        for verdict, counter in VERDICTS:
            family.add_metric((*key, verdict), getattr(status.counters, counter))
    return family


def _gauges(stations: Mapping[Key, StationStatus]) -> Iterator[Metric]:
    for name, text, flag in FLAGS:
        family = GaugeMetricFamily(name, text, labels=LABELS)
        for key, status in stations.items():
            family.add_metric(key, float(getattr(status, flag)))
        yield family
    in_flight = GaugeMetricFamily("linegate_parts_in_flight", "Accepted triggers without a verdict yet.", labels=LABELS)
    error_code = GaugeMetricFamily("linegate_error_code", "The newest standing alarm, 0 = none.", labels=LABELS)
    heartbeat = GaugeMetricFamily("linegate_heartbeat", "Stands still when the station hangs.", labels=LABELS)
    speed = GaugeMetricFamily(
        "linegate_belt_speed_meters_per_second", "Belt speed; absent while unknown.", labels=LABELS
    )
    for key, status in stations.items():
        in_flight.add_metric(key, status.counters.in_flight)
        error_code.add_metric(key, status.error_code)
        heartbeat.add_metric(key, status.heartbeat)
        if status.belt_speed_mm_s is not None:
            speed.add_metric(key, status.belt_speed_mm_s / 1e3)
    yield from (in_flight, error_code, heartbeat, speed)


def _states(stations: Mapping[Key, StationStatus]) -> Metric:
    family = GaugeMetricFamily("linegate_state", "1 for the state the station is in.", labels=(*LABELS, "state"))
    for key, status in stations.items():
        for state in StationState:
            family.add_metric((*key, state.value), float(state is status.state))
    return family


def _queues(measured: Mapping[Key, Measured]) -> Iterator[Metric]:
    waiting = GaugeMetricFamily("linegate_parts_waiting", "Parts behind the one that is judged.", labels=LABELS)
    most = GaugeMetricFamily(
        "linegate_parts_in_flight_max", "The most parts in flight at once since the start.", labels=LABELS
    )
    for key, station in measured.items():
        waiting.add_metric(key, station.waiting)
        most.add_metric(key, station.most_in_flight)
    yield from (waiting, most)


def _links(measured: Mapping[Key, Measured]) -> Iterator[Metric]:
    refused = CounterMetricFamily("linegate_dead_letters", "Messages refused to the dead letters.", labels=LABELS)
    dropped = CounterMetricFamily("linegate_mqtt_dropped", "Messages that no broker was there for.", labels=LABELS)
    text = "Connections made anew: to the broker (mqtt), the gate's module (gate), PLCs (modbus_client, opcua_client)."
    anew = CounterMetricFamily("linegate_reconnects", text, labels=(*LABELS, "link"))
    for key, station in measured.items():
        refused.add_metric(key, station.dead_letters)
        dropped.add_metric(key, station.dropped)
        for link, count in station.reconnects.items():
            anew.add_metric((*key, link), count)
    yield from (refused, dropped, anew)


def _histograms(measured: Mapping[Key, Measured]) -> Iterator[Metric]:
    latency = HistogramMetricFamily(*LATENCY, labels=(*LABELS, "step"))
    slack = HistogramMetricFamily(*SLACK, labels=LABELS)
    firing = HistogramMetricFamily(*FIRING_ERROR, labels=(*LABELS, "event"))
    for key, station in measured.items():
        for step, histogram in dict(station.latencies).items():
            _add(latency, (*key, step), histogram)
        _add(slack, key, station.slack)
        for event, histogram in dict(station.firing_errors).items():
            _add(firing, (*key, event), histogram)
    yield from (latency, slack, firing)


def _add(family: HistogramMetricFamily, labels: tuple[str, ...], histogram: Histogram) -> None:
    buckets = [("+Inf" if isinf(bound) else str(bound), float(count)) for bound, count in histogram.cumulative]
    family.add_metric(labels, buckets, sum_value=histogram.total)


def _tasks(counts: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily("linegate_tasks", "Tasks of one event loop; level in the long run.", labels=["loop"])
    for loop, count in counts.items():
        family.add_metric([loop], count)
    return family
