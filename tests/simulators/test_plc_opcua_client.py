"""The PLC's OPC UA client against a server that is not the bridge's."""

from __future__ import annotations

import asyncio
import signal

import pytest
from asyncua import ua

from tests.ports import free_ports
from tests.simulators.fake_opcua import CONTROL, FakeOpcua
from tests.simulators.line_process import LineProcess

pytestmark = pytest.mark.timeout(60)


async def test_every_result_is_read_once_and_the_missed_ones_are_asked_for() -> None:
    server = FakeOpcua()
    endpoint = await server.start(free_ports(1)[0])
    async with LineProcess("simulators.plc.opcua", "--endpoint", endpoint) as client:
        await client.event("opcua_up")
        await server.show(2**32 - 1, 1)
        await client.event("opcua_result", sequence=2**32 - 1, verdict=1, disposition=1, by="read")
        await server.show(0, 2, at_once=False)
        await server.show(1, 5, at_once=False, replayed=True)
        await server.show(2, 4, at_once=False)
        await server.show(3, 1)
        await client.event("opcua_result", sequence=3, verdict=1, by="read")
        await client.event("opcua_result", sequence=0, verdict=2, disposition=2, by="get_result")
        await client.event("opcua_result", sequence=2, verdict=4, disposition=2, by="get_result")
        assert server.asked == [0, 1, 2]
        assert len([e for e in client.events if e["event"] == "opcua_result"]) == 4
        code, said = await client.end()
    await server.stop()

    assert (code, said) == (0, "")


async def test_a_result_that_a_later_one_overtook_is_asked_for() -> None:
    server = FakeOpcua()
    endpoint = await server.start(free_ports(1)[0])
    async with LineProcess("simulators.plc.opcua", "--endpoint", endpoint) as client:
        await client.event("opcua_up")
        await server.show(9, 1)
        await client.event("opcua_result", sequence=9, by="read")
        await server.show(12, 2, at_once=False)
        await server.show(10, 1)
        await client.event("opcua_result", sequence=10, by="read")
        await client.event("opcua_result", sequence=12, verdict=2, by="get_result")
        await server.show(14, 2, at_once=False)
        await server.show(13, 1, at_once=False)
        await server.show(11, 1)
        await client.event("opcua_result", sequence=11, by="read")
        assert server.asked == [11, 12, 13, 14]
        assert len([e for e in client.events if e["event"] == "opcua_result"]) == 6
    await server.stop()


async def test_a_part_is_told_by_handshake() -> None:
    server = FakeOpcua()
    endpoint = await server.start(free_ports(1)[0])
    boolean = ua.VariantType.Boolean
    trigger, ack = server.nodes["Control.Trigger"], server.nodes["Status.TriggerAck"]
    async with LineProcess("simulators.plc.opcua", "--endpoint", endpoint) as client:
        await client.event("opcua_up")
        client.tell("trigger 4294967295 70000")
        while not await trigger.read_value():
            await asyncio.sleep(0.005)
        shown = [await server.nodes[f"Control.{name}"].read_value() for name in CONTROL]
        assert shown == [4294967295, 70000, 65535, True]
        await ack.write_value(ua.Variant(True, boolean))
        while await trigger.read_value():
            await asyncio.sleep(0.005)
        await ack.write_value(ua.Variant(False, boolean))
        client.tell("trigger 0 71800")
        while not await trigger.read_value():
            await asyncio.sleep(0.005)
        assert await server.nodes["Control.TriggerSequence"].read_value() == 0
    await server.stop()


async def test_a_server_that_goes_and_comes_back_is_found_again() -> None:
    port = free_ports(1)[0]
    first = FakeOpcua()
    endpoint = await first.start(port)
    async with LineProcess("simulators.plc.opcua", "--endpoint", endpoint) as client:
        await client.event("opcua_up")
        await first.stop()
        client.events.clear()
        second = FakeOpcua()
        await second.start(port)
        await client.event("opcua_up")
        await second.show(9, 2)
        await client.event("opcua_result", sequence=9)
        code, said = await client.end()
        await second.stop()

    assert code == 0
    assert "Traceback" not in said
    assert len(said.splitlines()) == 2


async def test_results_of_the_time_without_a_session_are_asked_for() -> None:
    server = FakeOpcua()
    endpoint = await server.start(free_ports(1)[0])
    async with LineProcess("simulators.plc.opcua", "--endpoint", endpoint) as client:
        await client.event("opcua_up")
        await server.show(7, 1)
        await client.event("opcua_result", sequence=7, by="read")
        client.events.clear()
        client.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.1)
        server.drop_sessions()
        await server.show(8, 2)
        await server.show(9, 1)
        client.process.send_signal(signal.SIGCONT)
        await client.event("opcua_up")
        await client.event("opcua_result", sequence=9, by="read")
        await client.event("opcua_result", sequence=8, verdict=2, by="get_result")
    await server.stop()
