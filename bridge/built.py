"""A station as it was built, and what its health and its metrics are read from by the HTTP server's threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bridge import __version__
from bridge.config import Config
from bridge.domain.condition import Condition
from bridge.domain.status import StationStatus
from bridge.gate.link import GateProcess
from bridge.inputs.mqtt import MqttLink
from bridge.monitoring.http import HttpServer
from bridge.monitoring.metrics import JournalCounts, Measured, Sources
from bridge.monitoring.observations import Observations
from bridge.outputs.plc_servers import PlcServers
from bridge.records.journal import Journal
from bridge.records.pictures import PictureStore
from bridge.station_loop import StationLoop


@dataclass(frozen=True, slots=True)
class Built:
    """One station with what belongs to it alone."""

    name: str
    loop: StationLoop
    condition: Condition
    link: MqttLink
    gate: GateProcess | None
    observations: Observations
    verdict_timeout_s: float

    def measured(self, plc_reconnects: Mapping[str, int]) -> Measured:
        """Give what a scrape finds of it beside its status."""
        reconnects = {"mqtt": self.link.reconnects, **plc_reconnects}
        if self.gate is not None:
            reconnects["gate"] = self.gate.reconnects
        return Measured(
            dead_letters=self.link.dead_letters,
            dropped=self.link.dropped,
            reconnects=reconnects,
            waiting=self.loop.progress.waiting,
            most_in_flight=self.loop.progress.most,
            latencies=self.observations.latencies,
            slack=self.observations.slack,
            firing_errors={} if self.gate is None else self.condition.firing_errors,
        )


def http_server(
    config: Config,
    stations: Sequence[Built],
    journal: Journal,
    pictures: PictureStore,
    *,
    servers: PlcServers,
    troubles: Callable[[], Sequence[str]],
) -> HttpServer:
    """Serve health, metrics and pictures: the answers are read by its threads, and only read.

    `troubles` are what a watch over the loops has found beside what the stations tell of themselves.
    """
    line, loop = config.line.name, asyncio.get_running_loop()

    def statuses() -> Mapping[tuple[str, str], StationStatus]:
        return {(line, each.name): each.loop.shown for each in stations if each.loop.shown is not None}

    def unhealthy() -> list[str]:
        now_ns = time.monotonic_ns()
        told = [f"{each.name}: {trouble}" for each in stations for trouble in each.loop.progress.troubles(now_ns)]
        return [*told, *troubles()]

    def not_ready() -> list[str]:
        reasons = [f"{each.name}: {reason}" for each in stations for reason in each.condition.not_ready]
        return reasons if journal.healthy else [*reasons, f"journal: {journal.trouble}"]

    return HttpServer(
        host=config.http.host,
        port=config.http.port,
        unhealthy=unhealthy,
        not_ready=not_ready,
        sources=Sources(
            version=__version__,
            stations=statuses,
            measured=lambda: {(line, each.name): each.measured(servers.reconnects(each.name)) for each in stations},
            tasks=lambda: {"main": len(asyncio.all_tasks(loop)), "plc": servers.tasks},
            journal=lambda: JournalCounts(failures=journal.failures, lost=journal.refused, waiting=journal.waiting),
        ),
        picture=pictures.path_for,
    )
