"""Both servers on their own thread: what a station publishes is seen by PLCs, and what they write comes back."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest
import pytest_asyncio
from asyncua import Client, ua

from bridge.domain.alarms import ALARMS
from bridge.domain.messages import Command, EncoderSample, Inbound, PlcLink, Reply
from bridge.errors import StartError
from bridge.outputs.modbus.client import ModbusClientSettings
from bridge.outputs.modbus.service import ModbusSettings
from bridge.outputs.plc_servers import OpcUaSettings, PlcServers, PlcStation
from bridge.ports import Alarm, VerdictOutput
from tests.outputs.samples import DECIDED_UTC_NS, ORDERED, READY, outcome, result, status
from tests.wire.modbus_bench import RawClient, write_registers
from tests.wire.plc_twin import PlcTwin

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Inbox:
    """Keeps what was posted and on which thread; answers commands at once."""

    messages: list[Inbound] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)

    def post(self, message: Inbound) -> None:
        self.messages.append(message)
        self.threads.add(threading.current_thread().name)
        if isinstance(message, Command) and message.respond:
            message.respond(Reply(ok=True))


def station(inbox: Inbox, name: str = "station1") -> PlcStation:
    return PlcStation(name=name, inbox=inbox, open_lead_ms=40.0, close_lead_ms=40.0)


@dataclass
class Running:
    servers: PlcServers
    inbox: Inbox


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Running]:
    inbox = Inbox()
    servers = PlcServers(
        [station(inbox), station(inbox, "station2")],
        line="line1",
        modbus=ModbusSettings(port=0),
        opcua=OpcUaSettings(endpoint="opc.tcp://127.0.0.1:0/linegate/", anonymous=True),
    )
    servers.output("station2").remember(77, "kept from before the start")
    await servers.start()
    yield Running(servers, inbox)
    await servers.stop()
    assert not servers.is_alive


async def test_a_verdict_reaches_registers_and_tags(running: Running) -> None:
    output: VerdictOutput = running.servers.output("station1")
    output.show(READY)
    output.publish(outcome())
    output.gate_report("ordered", result(), ORDERED, None)
    modbus = await RawClient.connect(running.servers.modbus_port or 0)
    while (await modbus.registers(4, 38, 2)) != [0, 1]:
        await asyncio.sleep(0.005)
    words = await modbus.registers(4, 0, 55)
    assert (words[2:6], words[46:48]) == ([1, 57_920, 2, 2], [40, 40])
    async with Client(f"opc.tcp://127.0.0.1:{running.servers.opcua_port}/linegate/") as client:
        assert await client.get_node("ns=2;s=line1.station1.Result.PartId").read_value() == "A-123456"
        assert await client.get_node("ns=2;s=line1.station1.Ring.Words").read_value() == await modbus.registers(
            4, 100, 112
        ) + await modbus.registers(4, 212, 112)
        got = await client.get_node("ns=2;s=line1.station2").call_method(
            "2:GetResult", ua.Variant(77, ua.VariantType.UInt32)
        )
        assert got == "kept from before the start"
    assert running.servers.output("station1").last_publish_ms is not None
    modbus.close()


class Heard:
    """The alarms that a subscriber of events was told of."""

    def __init__(self) -> None:
        self.alarms: asyncio.Queue[tuple[int, bool]] = asyncio.Queue()

    def event_notification(self, event: object) -> None:
        if event.EventType.Identifier == "StationAlarmType":  # type: ignore[attr-defined]
            self.alarms.put_nowait((event.Code, event.Retain))  # type: ignore[attr-defined]


async def test_an_alarm_reaches_those_who_listen_for_events(running: Running) -> None:
    async with Client(f"opc.tcp://127.0.0.1:{running.servers.opcua_port}/linegate/") as client:
        heard = Heard()
        subscription = await client.create_subscription(10, heard)
        kind = client.get_node("ns=2;s=StationAlarmType")
        await subscription.subscribe_events(client.get_node("ns=2;s=line1"), kind)
        output: VerdictOutput = running.servers.output("station2")
        for raised in (True, False):
            output.alarm(Alarm(kind=ALARMS["CAMERA_LOST"], raised=raised, text="gone", at_utc_ns=DECIDED_UTC_NS))
        assert [await asyncio.wait_for(heard.alarms.get(), 5) for _ in range(2)] == [(34, True), (34, False)]


async def test_what_plcs_write_is_posted_on_the_main_loop(running: Running) -> None:
    running.inbox.messages.clear()
    modbus = await RawClient.connect(running.servers.modbus_port or 0)
    await modbus.ask(write_registers(4, [0, 99]))
    async with Client(f"opc.tcp://127.0.0.1:{running.servers.opcua_port}/linegate/") as client:
        assert await client.get_node("ns=2;s=line1.station1").call_method("2:SelectRecipe", "bracket-b") == [True, ""]
    samples = [each.counts for each in running.inbox.messages if isinstance(each, EncoderSample)]
    assert samples == [99]
    assert [each.recipe for each in running.inbox.messages if isinstance(each, Command)] == ["bracket-b"]
    assert running.inbox.threads == {threading.current_thread().name}
    modbus.close()


async def test_coil_0_mirrors_the_gate(running: Running) -> None:
    modbus = await RawClient.connect(running.servers.modbus_port or 0)
    running.servers.output("station1").show(status(gate_on=True))
    while await modbus.ask(b"\x01\x00\x00\x00\x01") != b"\x01\x01\x01":
        await asyncio.sleep(0.005)
    running.servers.output("station1").show(status(gate_on=False))
    while await modbus.ask(b"\x01\x00\x00\x00\x01") != b"\x01\x01\x00":
        await asyncio.sleep(0.005)
    modbus.close()


async def test_a_station_that_hangs_loses_ready_and_its_result(running: Running) -> None:
    output = running.servers.output("station2")
    output.show(status(heartbeat=5))
    output.publish(outcome(4))
    modbus = await RawClient.connect(running.servers.modbus_port or 0)
    while (await modbus.registers(4, 4, 1, unit=2)) != [2]:
        await asyncio.sleep(0.005)
    while (await modbus.registers(4, 4, 1, unit=2)) != [0]:
        await asyncio.sleep(0.05)
    assert not (await modbus.registers(4, 0, 1, unit=2))[0] & 0b10010
    modbus.close()


async def test_calls_after_the_end_are_harmless_and_clients_are_let_go() -> None:
    servers = PlcServers([station(Inbox())], line="line1", modbus=ModbusSettings(port=0), opcua=None)
    await servers.start()
    assert servers.opcua_port is None
    modbus = await RawClient.connect(servers.modbus_port or 0)
    assert await modbus.registers(4, 1, 1) == [0]
    await servers.stop()
    assert not servers.is_alive
    assert await modbus.is_closed()
    servers.output("station1").publish(outcome())
    servers.output("station1").show(READY)
    await servers.stop()
    modbus.close()


async def test_each_station_writes_into_its_own_plc() -> None:
    plcs = {name: PlcTwin() for name in ("station1", "station2")}
    for plc in plcs.values():
        await plc.start()
    clients = {
        name: ModbusClientSettings(host="127.0.0.1", port=plc.port, address=n)
        for n, (name, plc) in enumerate(plcs.items())
    }
    inbox = Inbox()
    servers = PlcServers(
        [replace(station(inbox, name), clients=(clients[name],)) for name in plcs],
        line="line1",
        modbus=None,
        opcua=None,
    )
    await servers.start()
    for n, name in enumerate(plcs):
        servers.output(name).show(READY)
        servers.output(name).publish(outcome(70 + n))
    await plcs["station1"].until(lambda: plcs["station1"].words(2, 3) == [0, 70, 2])
    await plcs["station2"].until(lambda: plcs["station2"].words(3, 3) == [0, 71, 2])
    assert servers.reconnects("station2") == {"modbus_client": 0}
    await plcs["station1"].until(
        lambda: sum(isinstance(each, PlcLink) and each.state == "up" for each in inbox.messages) == 2
    )
    assert inbox.threads == {threading.current_thread().name}
    await servers.stop()
    assert not servers.is_alive
    for plc in plcs.values():
        await plc.stop()


async def test_without_anonymous_access_opc_ua_is_closed_and_modbus_open() -> None:
    servers = PlcServers([station(Inbox())], line="line1", modbus=ModbusSettings(port=0), opcua=OpcUaSettings())
    await servers.start()
    assert (servers.opcua_port, servers.modbus_port is not None) == (None, True)
    await servers.stop()


async def test_a_port_in_use_raises_start_error_and_leaves_nothing_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupant:
        port = occupant.getsockname()[1]
        servers = PlcServers([station(Inbox())], line="line1", modbus=ModbusSettings(port=port), opcua=None)
        with pytest.raises(StartError, match=f"port {port}"):
            await servers.start()
        await servers.stop()
        assert not servers.is_alive


async def test_a_malformed_allow_list_is_named() -> None:
    servers = PlcServers(
        [station(Inbox())], line="line1", modbus=ModbusSettings(port=0, allow=("10.0.0.0/99",)), opcua=None
    )
    with pytest.raises(StartError, match=r"\[modbus\] allow"):
        await servers.start()
    await servers.stop()


async def test_servers_that_were_never_started_leave_nothing_behind() -> None:
    await PlcServers([station(Inbox())], line="line1", modbus=None, opcua=None).stop()
