"""All that PLCs are joined by, on a thread and loop of its own, behind the one interface of an output.

PLCs are clients of the servers, or servers that the bridge is a client of.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from bridge.domain.gate import GateOrder
from bridge.domain.messages import AlarmState, Inbound
from bridge.domain.part import Result
from bridge.domain.status import StationStatus
from bridge.errors import StartError
from bridge.outputs.modbus.service import ModbusService, ModbusSettings
from bridge.outputs.opcua.access import Security
from bridge.outputs.opcua.server import OpcUaServer
from bridge.outputs.plc.panel import PlcPanel
from bridge.outputs.plc.words import WordOrder
from bridge.outputs.plc_clients import PlcClients, PlcClientSettings
from bridge.outputs.vision.machine_vision import MachineVision
from bridge.outputs.vision.methods import RecipeList
from bridge.ports import Alarm, GateEvent, Inbox, Outcome

_log = structlog.get_logger(__name__)

TICK_S = 0.25
TICKS_PER_CLOCK = 2
STOP_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlcStation:
    """One station as the servers need it; `inbox` is called on the main loop only."""

    name: str
    inbox: Inbox
    open_lead_ms: float
    close_lead_ms: float
    clients: tuple[PlcClientSettings, ...] = ()
    output_ms: float = 20.0  # from the registers of a PLC that is written to the switched output


@dataclass(frozen=True, slots=True, kw_only=True)
class OpcUaSettings:
    """Where the OPC UA server listens and whom it lets in; while that is nobody its port stays closed.

    With `machine_vision` each station has a VisionSystem; `recipes` lists what it can prepare, as `name@revision`.
    """

    endpoint: str = "opc.tcp://127.0.0.1:4840/linegate/"
    anonymous: bool = False
    security: Security | None = None
    machine_vision: bool = True
    recipes: RecipeList = tuple


class StationOutput:
    """Show one station to PLCs: hands everything over to the servers' loop and never waits."""

    def __init__(self, panel: PlcPanel, hand_over: Callable[..., None]) -> None:
        self._panel = panel
        self._hand_over = hand_over
        self._status: StationStatus | None = None
        self.last_publish_ms: float | None = None

    def captured(self, sequence: int, at_utc_ns: int) -> None:
        """Tell those who listen for events that a part may leave the camera; where nobody can, nobody is woken."""
        if self._panel.tells_captures:
            self._hand_over(self._panel.captured, sequence, at_utc_ns)

    def publish(self, outcome: Outcome) -> None:
        """Show one outcome; a replayed one enters the history of GetResult alone."""
        self._hand_over(self._publish, outcome, time.monotonic_ns())

    def remember(self, sequence: int, document: str) -> None:
        """Take a verdict of an earlier run into the history that GetResult answers from."""
        self._hand_over(self._panel.remember, sequence, document)

    def revise(self, sequence: int, order: GateOrder) -> None:
        """Rewrite the moment of a published order after a change of speed."""
        self._hand_over(self._panel.revise, sequence, order)

    def show(self, status: StationStatus) -> None:
        """Show the station's status; one that is the last one again wakes nobody."""
        if status != self._status:
            self._status = status
            self._hand_over(self._show, status)

    def alarm(self, alarm: Alarm) -> None:
        """Tell those who listen for events; in the status PLCs see the foremost alarm, by code and text."""
        self._hand_over(self._panel.alarm, alarm)

    def gate_report(
        self, event: GateEvent, result: Result, order: GateOrder, reason: str | None, error_ms: float | None = None
    ) -> None:
        """Show nothing: PLCs see the counters, the firing error and the order's flags."""

    def _publish(self, outcome: Outcome, called_ns: int) -> None:
        self._panel.publish(outcome)
        self.last_publish_ms = (time.monotonic_ns() - called_ns) / 1e6

    def _show(self, status: StationStatus) -> None:
        self._panel.show(status, now_ns=time.monotonic_ns())


class PlcServers:
    """Run the Modbus and OPC UA servers for all stations of a line. Give None for a server that is not enabled.

    `start` and `stop` belong to the main loop; what PLCs write is posted to each station's inbox on that loop.
    """

    def __init__(
        self,
        stations: Sequence[PlcStation],
        *,
        line: str,
        modbus: ModbusSettings | None,
        opcua: OpcUaSettings | None,
        word_order: WordOrder = "high_first",
        result_ack: bool = False,
    ) -> None:
        self._main_loop: asyncio.AbstractEventLoop | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="plc-servers", daemon=True)
        self._stopping: asyncio.Event = asyncio.Event()
        self._started: asyncio.Future[None] | None = None
        self._outputs: dict[str, StationOutput] = {}
        self._clients: dict[str, PlcClients] = {}
        panels = []
        for each in stations:
            panel = PlcPanel(
                station=each.name,
                post=self._poster(each.inbox),
                word_order=word_order,
                result_ack=result_ack,
                open_lead_ms=each.open_lead_ms,
                close_lead_ms=each.close_lead_ms,
            )
            panels.append(panel)
            self._outputs[each.name] = StationOutput(panel, self._hand_over)
            self._clients[each.name] = PlcClients(panel, each.clients, output_ms=each.output_ms)
        self._panels = tuple(panels)
        self._line, self._modbus, self._opcua = line, modbus, opcua
        self.modbus_port: int | None = None
        self.modbus_tls_port: int | None = None
        self.opcua_port: int | None = None

    def output(self, station: str) -> StationOutput:
        """Give the output of one station; raises KeyError."""
        return self._outputs[station]

    def reconnects(self, station: str) -> Mapping[str, int]:
        """Say how often each PLC that a station writes into was connected to anew; any thread may ask."""
        return self._clients[station].reconnects

    async def start(self) -> None:
        """Open the ports; each is tried for 3 s, then StartError names it and what to do.

        Afterwards `modbus_port`, `modbus_tls_port` and `opcua_port` are set; None is one that is not enabled or stays closed.
        """
        self._main_loop = asyncio.get_running_loop()
        self._started = self._main_loop.create_future()
        self._thread.start()
        await self._started

    async def stop(self) -> None:
        """Close ports and connections; gives up on clients that hold out for longer than 2 s."""
        if self._main_loop is None:
            self._loop.close()
        if not self._thread.is_alive():
            return
        self._hand_over(self._stopping.set)
        await asyncio.to_thread(self._thread.join, STOP_TIMEOUT_S)

    @property
    def is_alive(self) -> bool:
        """Whether the servers' thread is running; it ends by `stop` alone."""
        return self._thread.is_alive()

    @property
    def tasks(self) -> int:
        """How many tasks the servers' loop has; any thread may ask."""
        return len(asyncio.all_tasks(self._loop))

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        finally:
            self._loop.close()
            self._tell_started(StartError("the servers for PLCs ended before they were open"))

    async def _serve(self) -> None:
        modbus: ModbusService | None = None
        opcua: OpcUaServer | None = None
        try:
            modbus, opcua = self._modbus_service(), self._opcua_server()
            if modbus:
                await modbus.start()
                self.modbus_port, self.modbus_tls_port = modbus.port, modbus.tls_port
            self.opcua_port = await opcua.start() if opcua else None
            self._tell_started(None)
            for each in self._clients.values():
                each.start()
            await self._tick(opcua)
        except StartError as exc:
            self._tell_started(exc)
        finally:
            await asyncio.gather(*(each.stop() for each in self._clients.values()))
            if modbus:
                await modbus.stop()
            if opcua:
                await opcua.stop()

    def _modbus_service(self) -> ModbusService | None:
        if self._modbus is None:
            return None
        return ModbusService(
            self._panels, self._modbus, clock_ns=time.monotonic_ns, serial_trouble=self._tell_of_serial_line
        )

    def _tell_of_serial_line(self, trouble: str) -> None:
        for panel in self._panels:
            panel.post(AlarmState(name="MODBUS_SERIAL_LOST", standing=bool(trouble), text=trouble))

    def _opcua_server(self) -> OpcUaServer | None:
        settings = self._opcua
        if settings is None:
            return None
        return OpcUaServer(
            self._panels,
            line=self._line,
            endpoint=settings.endpoint,
            clock_ns=time.monotonic_ns,
            anonymous=settings.anonymous,
            security=settings.security,
            companion=MachineVision(clock_ns=time.monotonic_ns, recipes=settings.recipes)
            if settings.machine_vision
            else None,
        )

    async def _tick(self, opcua: OpcUaServer | None) -> None:
        """Watch the stations' heartbeats, and keep the clocks of OPC UA's subscribers going, until `stop`."""
        ticks = 0
        while not self._stopping.is_set():
            with suppress(TimeoutError):  # the time that passes is what is waited for
                await asyncio.wait_for(self._stopping.wait(), TICK_S)
            now_ns = time.monotonic_ns()
            for panel in self._panels:
                panel.check_heartbeat(now_ns)
            ticks += 1
            if opcua and ticks % TICKS_PER_CLOCK == 0:
                opcua.refresh_clocks()

    def _tell_started(self, error: StartError | None) -> None:
        def settle(started: asyncio.Future[None]) -> None:
            if started.done():
                return
            if error is None:
                started.set_result(None)
            else:
                started.set_exception(error)

        if self._main_loop is not None and self._started is not None:
            with suppress(RuntimeError):  # the main loop is closed: nobody waits for it any more
                self._main_loop.call_soon_threadsafe(settle, self._started)

    def _hand_over(self, call: Callable[..., None], *arguments: object) -> None:
        """Run `call` on the servers' loop; after their end there is nobody left to show anything to."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(call, *arguments)

    def _poster(self, inbox: Inbox) -> Callable[[Inbound], None]:
        def post(message: Inbound) -> None:
            if self._main_loop is None:
                return
            with suppress(RuntimeError):  # the main loop is closed: the bridge is on its way out
                self._main_loop.call_soon_threadsafe(inbox.post, message)

        return post
