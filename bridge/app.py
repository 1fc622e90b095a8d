"""The composition root: the only place that builds adapters and joins them to the stations."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from bridge.adapters import (
    camera_of,
    coil_of,
    gate_process,
    gate_reports,
    guard_settings,
    mqtt_link,
    picture_store,
)
from bridge.built import Built, http_server
from bridge.config import Config, StationSettings
from bridge.domain.belt import Belt, BeltSettings
from bridge.domain.condition import Condition
from bridge.domain.gate_plan import GatePlan
from bridge.domain.messages import Inbound
from bridge.domain.reception import Reception, ReceptionRules
from bridge.domain.sequence import SequenceLedger
from bridge.errors import BundleError, StartError
from bridge.gate.trial import fire_once
from bridge.line_report import gate_settings, gate_warnings
from bridge.monitoring.observations import Observations
from bridge.outputs.mqtt import MqttVerdictOutput
from bridge.plc_adapters import modbus_settings, plc_clients, plc_servers
from bridge.plc_report import modbus_ways
from bridge.ports import Camera, GateOutput, Loaded, VerdictOutput
from bridge.recipe_book import DiskRecipes
from bridge.records.journal import Journal
from bridge.records.pictures import PictureStore
from bridge.recovery import complete, remember
from bridge.station import Journey
from bridge.station_loop import StationLoop
from bridge.watchdog import Pulse, Watchdog

HISTORY = 1000
SWITCH_INTERVAL_S = 0.0005
"""How long one Python thread may hold the others up; the default of 5 ms is 6 mm of belt."""

log = structlog.get_logger()


class SystemClock:
    """The machine's own clocks."""

    def now_ns(self) -> int:
        """Monotonic nanoseconds."""
        return time.monotonic_ns()

    def utc_ns(self) -> int:
        """Nanoseconds since 1970."""
        return time.time_ns()


class Doorway:
    """The way into a station that is built later than those who post to it."""

    def __init__(self) -> None:
        self._station: StationLoop | None = None
        self._early: list[Inbound] = []

    def post(self, message: Inbound) -> None:
        """Hand one message on, or keep it until the station stands."""
        if self._station is None:
            self._early.append(message)
        else:
            self._station.post(message)

    def open(self, station: StationLoop) -> None:
        """Let in what waits, and all that comes."""
        self._station = station
        for message in self._early:
            station.post(message)
        self._early.clear()


async def check_line(config: Config, recipes: Path) -> Mapping[str, Loaded]:
    """Make cameras and TLS, load recipes and models, as a start would; raises ConfigError, BundleError."""
    book = DiskRecipes(folder=recipes, models=config.models)
    loaded = {}
    modbus_settings(config)
    for place, station in enumerate(config.stations):
        camera_of(config, station)
        plc_clients(station, place)
        loaded[station.name] = await book.load(name=station.recipe)
        await loaded[station.name].model.close()
    return loaded


async def try_gate(station: StationSettings, *, open_ms: float, say: Callable[[str], None]) -> None:
    """Fire a station's gate once; raises OutputError."""
    await fire_once(gate_settings(station), coil_of(station.gate), open_ms=open_ms, clock=SystemClock(), say=say)


async def run_bridge(config: Config, recipes: Path) -> None:
    """Run the whole bridge until SIGTERM or SIGINT; raises ConfigError and StartError when it can't begin."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    stop = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    book = DiskRecipes(folder=recipes, models=config.models)
    cameras = [camera_of(config, station) for station in config.stations]
    gc.disable()  # the start makes 100,000 objects that stay: looking through them again and again is a third of its time
    async with AsyncExitStack() as stack:
        doors = [Doorway() for _ in config.stations]
        servers = plc_servers(config, doors, recipes)
        stack.push_async_callback(servers.stop)
        models = await _load_and_open(_load_all(book, config.stations, stack), servers.start())
        journal = Journal(config.records.url)
        stack.push_async_callback(journal.close)
        pictures = picture_store(config, journal, doors)
        stack.callback(pictures.close)
        for camera in cameras:
            stack.push_async_callback(camera.close)
        await asyncio.gather(*(camera.start() for camera in cameras))
        stations = [
            await _build(
                config,
                station,
                loaded,
                camera=camera,
                door=door,
                output=servers.output(station.name),
                journal=journal,
                pictures=pictures,
                book=book,
            )
            for station, loaded, camera, door in zip(config.stations, models, cameras, doors, strict=True)
        ]
        for one in stations:
            if one.gate is not None:
                one.gate.start()
                stack.push_async_callback(one.gate.stop)
        watchdog = Watchdog([pulse for station in stations for pulse in _pulses(station)])
        http = http_server(config, stations, journal, pictures, servers=servers, troubles=lambda: watchdog.troubles)
        await asyncio.to_thread(http.start)
        stack.callback(http.stop)
        # and a collection that has to look at them later would hold the line up for 0.2 s
        gc.freeze()
        gc.enable()
        addresses = _addresses(config, opcua_open=servers.opcua_port is not None)
        log.info("started", line=config.line.name, stations=[one.name for one in config.stations], **addresses)
        await _serve(stations, stop, watchdog)
        log.info("stopped")


def _addresses(config: Config, *, opcua_open: bool) -> dict[str, str]:
    """Say where everything is served."""
    opcua = config.opcua.endpoint if opcua_open else "closed"
    modbus = ", ".join(modbus_ways(config.modbus)) or "closed"
    broker = f"{config.mqtt.host}:{config.mqtt.port}"
    return {"modbus": modbus, "opcua": opcua, "http": f"{config.http.host}:{config.http.port}", "broker": broker}


async def _load_and_open(loading: Awaitable[list[Loaded]], opening: Awaitable[None]) -> list[Loaded]:
    """Load and open at once, and let both come to their end: a model is not left half loaded for a port in use."""
    models, opened = await asyncio.gather(loading, opening, return_exceptions=True)
    if isinstance(models, BaseException):
        raise models
    if isinstance(opened, BaseException):
        raise opened
    return models


async def _load_all(book: DiskRecipes, stations: Sequence[StationSettings], stack: AsyncExitStack) -> list[Loaded]:
    models: list[Loaded] = []
    for station in stations:
        models.append(await _load(book, station))
        # A worker that is still in native code when the interpreter ends would abort the process.
        stack.push_async_callback(models[-1].model.close)
    return models


async def _load(book: DiskRecipes, station: StationSettings) -> Loaded:
    try:
        return await book.load(name=station.recipe)
    except BundleError as exc:
        raise StartError(f"station {station.name}, recipe {station.recipe}: {exc}") from exc


async def _serve(stations: Sequence[Built], stop: asyncio.Event, watchdog: Watchdog) -> None:
    """Run the stations until told to stop; then let each finish what it accepted, and say farewell."""
    async with asyncio.TaskGroup() as group:
        for station in stations:
            group.create_task(station.loop.run(), name=f"station {station.name}")
            station.link.start()
        with watchdog:
            await stop.wait()
        log.info("stopping")
        for station in stations:
            station.link.hold()
            station.loop.stop()
    for station in stations:
        await station.link.stop()


async def _build(
    config: Config,
    settings: StationSettings,
    loaded: Loaded,
    *,
    camera: Camera,
    door: Doorway,
    output: VerdictOutput,
    journal: Journal,
    pictures: PictureStore,
    book: DiskRecipes,
) -> Built:
    """Join one station to its adapters, and complete what an earlier run left open."""
    line, clock = config.line.name, SystemClock()
    link = mqtt_link(config, settings, door)
    observations = Observations(clock)
    outputs: list[VerdictOutput] = [output, MqttVerdictOutput(link), observations]  # the last one times the others
    condition = Condition(gate_mode=settings.gate.mode, guards=guard_settings(settings))
    timing, belt = gate_settings(settings), Belt(BeltSettings(**config.belt.model_dump()))
    gate = gate_process(settings, timing, door, clock)
    plan = GatePlan(timing, belt)
    ledger = SequenceLedger(journal.recent_triggers(line, settings.name, HISTORY))
    remember(journal.recent_documents(line, settings.name, HISTORY), outputs)
    await _complete_open(journal, settings, line, loaded, outputs)
    station = StationLoop(
        belt=belt,
        plan=plan,
        reception=Reception(rules=_rules(config, settings), ledger=ledger, belt=belt),
        journey=_journey(settings, plan, camera=camera, journal=journal, pictures=pictures, outputs=outputs, gate=gate),
        reports=gate_reports(
            line, settings, timing, belt, condition, journal=journal, outputs=outputs, clock=clock, gate=gate
        ),
        condition=condition,
        journal=journal,
        pictures=pictures,
        recipes=book,
        outputs=outputs,
        clock=clock,
    )
    _warn(config, settings, loaded)
    station.activate(loaded)
    door.open(station)
    return Built(settings.name, station, condition, link, gate, observations, settings.verdict_timeout_ms / 1e3)


def _journey(
    settings: StationSettings,
    plan: GatePlan,
    *,
    camera: Camera,
    journal: Journal,
    pictures: PictureStore,
    outputs: Sequence[VerdictOutput],
    gate: GateOutput | None,
) -> Journey:
    return Journey(
        plan=plan,
        camera=camera,
        journal=journal,
        pictures=pictures,
        outputs=outputs,
        clock=SystemClock(),
        verdict_timeout_ms=settings.verdict_timeout_ms,
        gate=gate,
        dry_run=settings.dry_run,
    )


def _rules(config: Config, settings: StationSettings) -> ReceptionRules:
    return ReceptionRules(
        line=config.line.name,
        station=settings.name,
        trigger_clock=config.mqtt.trigger_clock,
        transport_ms=config.mqtt.transport_ms,
        part_length_mm=settings.part_length_mm,
        touching_tolerance_mm=settings.touching_tolerance_mm,
    )


def _warn(config: Config, settings: StationSettings, loaded: Loaded) -> None:
    """Say at every start what makes this line less safe than it could be."""
    if loaded.recipe.policy.lets_failures_pass:
        log.warning("recipe_lets_failures_pass", station=settings.name, recipe=loaded.recipe.reference)
    if settings.dry_run:
        log.warning("dry_run", station=settings.name, text="no part gets a disposition or a gate order")
    for text in gate_warnings(settings):
        log.warning("gate_not_fail_safe", text=text)
    if config.opcua.enabled and config.opcua.anonymous:
        log.warning("opcua_anonymous", text="anybody who reaches the port may read and write", key="opcua.anonymous")


async def _complete_open(
    journal: Journal, settings: StationSettings, line: str, loaded: Loaded, outputs: Sequence[VerdictOutput]
) -> None:
    for lost in journal.unfinished(line, settings.name):
        done = complete(lost, recipe=loaded.recipe, clock=SystemClock(), part_length_mm=settings.part_length_mm)
        await journal.complete(
            lost,
            code=done.code,
            disposition=done.disposition,
            reason=done.outcome.result.judgement.reason,
            decided_utc_ns=done.outcome.result.decided_utc_ns,
            document=done.outcome.document,
        )
        for output in outputs:
            output.publish(done.outcome)


def _pulses(station: Built) -> tuple[Pulse, Pulse]:
    """Give what moves while a station is alive: its loop turns, and no part takes longer than it may."""
    slow_s = station.verdict_timeout_s + 2.0
    return (
        Pulse(what=f"the loop of station {station.name}", count=lambda: station.loop.turns),
        Pulse(
            what=f"the judging of station {station.name}",
            count=lambda: station.loop.entries,
            sick_s=slow_s,
            dead_s=max(10.0, 2 * slow_s),
        ),
    )
