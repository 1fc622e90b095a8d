"""Both handshakes with clients that we did not write: mbpoll, pymodbus' own client and node-opcua."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pymodbus.client import AsyncModbusTcpClient, ModbusTcpClient

from bridge.domain.messages import Arrival
from bridge.domain.part import Trigger
from bridge.outputs.opcua.server import OpcUaServer
from bridge.outputs.plc.panel import PlcPanel
from tests.cli.processes import eventually
from tests.foreign.node import need_node, run_node
from tests.outputs.samples import MS, READY, outcome, status
from tests.wire.bad_messages import BRIGHT, DARK
from tests.wire.judging_bench import Bench as WholeBridge
from tests.wire.judging_bench import judging_bridge
from tests.wire.modbus_bench import Bench

ENABLE, TRIGGER, RESULT_ACK, CLEAR_ERROR = 1, 2, 4, 8
READY_BIT, TRIGGER_ACK, RESULT_VALID, MISSED, OVERRUN = (1 << bit for bit in (1, 2, 4, 5, 6))
TRIGGER_COIL, RESULT_ACK_COIL, CLEAR_COIL = 101, 102, 103


@pytest_asyncio.fixture
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    running = await Bench().start(result_ack=getattr(request, "param", False))
    running.panels[0].show(READY, now_ns=running.now_ns)
    yield running
    await running.stop()


@pytest_asyncio.fixture
async def plc(bench: Bench) -> AsyncIterator[AsyncModbusTcpClient]:
    client = AsyncModbusTcpClient("127.0.0.1", port=bench.port)
    assert await client.connect()
    yield client
    client.close()


def triggers(bench: Bench) -> list[Trigger]:
    return [each.trigger for each in bench.posted if isinstance(each, Arrival)]


async def words(plc: AsyncModbusTcpClient, address: int, count: int) -> list[int]:
    return list((await plc.read_input_registers(address, count=count)).registers)


async def mbpoll(port: int, *arguments: str) -> list[int]:
    """Make one request, with -1 and zero-based; gives the values that it read."""
    call = await asyncio.create_subprocess_exec(
        "mbpoll", "-m", "tcp", "-p", str(port), "-a", "1", "-0", "-1", *arguments, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await call.communicate()
    assert call.returncode == 0, out
    return [int(value) for value in re.findall(r"\[\d+\]:\s+(\d+)", out.decode())]


@pytest.mark.skipif(shutil.which("mbpoll") is None, reason="mbpoll (Debian package) is not installed")
async def test_mbpoll_does_a_handshake_and_the_next_one(bench: Bench) -> None:
    for sequence in (77, 78):
        await mbpoll(bench.port, "-t", "4", "-r", "2", "127.0.0.1", "0", str(sequence))
        assert len(triggers(bench)) == sequence - 77, "the sequence alone is no trigger"
        await mbpoll(bench.port, "-t", "4", "-r", "0", "127.0.0.1", str(ENABLE | TRIGGER))
        shown = await mbpoll(bench.port, "-t", "3", "-r", "0", "-c", "1", "127.0.0.1")
        assert shown[0] & (READY_BIT | TRIGGER_ACK | MISSED) == READY_BIT | TRIGGER_ACK
        assert await mbpoll(bench.port, "-t", "3", "-r", "52", "-c", "2", "127.0.0.1") == [0, sequence]
        await mbpoll(bench.port, "-t", "4", "-r", "0", "127.0.0.1", str(ENABLE))
        shown = await mbpoll(bench.port, "-t", "3", "-r", "0", "-c", "1", "127.0.0.1")
        assert not shown[0] & TRIGGER_ACK
    assert [(each.sequence, each.problem) for each in triggers(bench)] == [(77, None), (78, None)]


async def test_coils_and_registers_are_one_handshake(bench: Bench, plc: AsyncModbusTcpClient) -> None:
    await plc.write_registers(2, [0, 5])
    await plc.write_coil(TRIGGER_COIL, True)
    assert (await words(plc, 0, 1))[0] & TRIGGER_ACK
    assert (await plc.read_holding_registers(0, count=1)).registers == [ENABLE | TRIGGER]
    await plc.write_registers(0, [ENABLE | TRIGGER, 1, 0, 6])
    assert [each.sequence for each in triggers(bench)] == [5], "the bit stands, so it is no edge"
    await plc.write_register(0, ENABLE)
    assert not (await words(plc, 0, 1))[0] & TRIGGER_ACK
    assert not (await plc.read_coils(TRIGGER_COIL, count=1)).bits[0]
    await plc.write_registers(0, [ENABLE | TRIGGER, 2, 0, 7])
    await plc.write_coil(TRIGGER_COIL, False)
    assert [each.sequence for each in triggers(bench)] == [5, 7]
    assert not (await words(plc, 0, 1))[0] & (TRIGGER_ACK | MISSED)


async def test_an_edge_while_not_ready_is_missed_until_clear_error_by_coil(
    bench: Bench, plc: AsyncModbusTcpClient
) -> None:
    bench.panels[0].show(status(ready=False, heartbeat=1), now_ns=bench.now_ns)
    await plc.write_registers(0, [ENABLE | TRIGGER, 0, 0, 9])
    bench.panels[0].show(READY, now_ns=bench.now_ns)
    await plc.write_registers(0, [ENABLE | TRIGGER, 0, 0, 9])
    assert [(each.sequence, each.problem) for each in triggers(bench)] == [(9, "trigger while not ready")]
    assert (await words(plc, 0, 1))[0] & (MISSED | TRIGGER_ACK) == MISSED
    await plc.write_coil(TRIGGER_COIL, False)
    assert (await words(plc, 0, 1))[0] & MISSED
    await plc.write_coil(CLEAR_COIL, True)
    assert not (await words(plc, 0, 1))[0] & MISSED


@pytest.mark.parametrize("bench", [True], indirect=True)
@pytest.mark.parametrize("by_coil", [False, True])
async def test_twenty_results_overrun_the_queue_and_nothing_else(
    bench: Bench, plc: AsyncModbusTcpClient, by_coil: bool
) -> None:
    async def acknowledge(*, up: bool) -> None:
        if by_coil:
            await plc.write_coil(RESULT_ACK_COIL, up)
        else:
            await plc.write_register(0, ENABLE | (RESULT_ACK if up else 0))

    for sequence in range(1, 18):
        bench.panels[0].publish(outcome(sequence))
    assert not (await words(plc, 0, 1))[0] & OVERRUN, "one stands, sixteen wait"
    for sequence in range(18, 21):
        bench.panels[0].publish(outcome(sequence))
    assert (await words(plc, 0, 1))[0] & OVERRUN
    assert await words(plc, 38, 2) == [0, 20]
    ring = [*await words(plc, 100, 112), *await words(plc, 212, 112)]
    assert sorted(ring[14 * slot + 1] for slot in range(16)) == list(range(5, 21)), "the ring does not wait"
    seen = []
    while (shown := await words(plc, 0, 6))[0] & RESULT_VALID:
        seen.append(shown[3])
        await acknowledge(up=True)
        assert (await words(plc, 0, 6))[0] & RESULT_VALID == 0
        assert (await words(plc, 4, 2)) == [0, 0], "no verdict stands while none is valid"
        await acknowledge(up=False)
    assert seen == [1, *range(5, 21)], "the oldest that waited were dropped"
    await plc.write_register(0, ENABLE | CLEAR_ERROR)
    assert not (await words(plc, 0, 1))[0] & OVERRUN


def endpoint(port: int) -> str:
    return f"opc.tcp://127.0.0.1:{port}/linegate/"


def told(sequence: int, **more: Any) -> dict[str, Any]:
    """One Write call that tells of a part: the Trigger bit first, to see that the order within a call is nothing."""
    values = [
        ["Control.Trigger", "Boolean", True],
        ["Control.TriggerSequence", "UInt32", sequence],
        ["Control.TriggerAgeMs", "UInt16", 12],
    ]
    return {"write": values, **more}


DROP = {"write": [["Control.Trigger", "Boolean", False]], "await": ["Status.TriggerAck", False]}


@pytest.mark.timeout(300)
async def test_opcua_acknowledges_a_result_by_its_sequence() -> None:
    need_node()
    panel = PlcPanel(station="station1", post=lambda message: None, result_ack=True)
    server = OpcUaServer([panel], line="line1", endpoint=endpoint(0), clock_ns=lambda: 5 * MS, anonymous=True)
    port = await server.start()
    assert port is not None
    try:
        panel.show(READY, now_ns=0)
        for sequence in range(1, 21):
            panel.publish(outcome(sequence))
        shows = ["Result.Sequence", "Status.ResultValid", "Status.Overrun"]
        in_turn = (2, 1, 1, 5)  # one that does not stand, the one that does, that again, the next
        steps: list[dict[str, Any]] = [
            {"write": [["Control.ResultAck", "UInt32", sequence]], "read": shows} for sequence in in_turn
        ]
        steps.insert(0, {"read": shows})
        found = await run_node("run_steps.js", endpoint(port), json.dumps(steps))
    finally:
        await server.stop()
    assert [each["Result.Sequence"] for each in found] == [1, 1, 5, 5, 6]
    assert all(each["Status.ResultValid"] and each["Status.Overrun"] for each in found)


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeBridge]:
    """A whole bridge whose broker never brings a trigger; its camera shows a good and a pitted part in turns."""
    folder: Path = tmp_path_factory.mktemp("handshake")
    (folder / "shots").mkdir()
    (folder / "shots" / "1.jpg").write_bytes(DARK)
    (folder / "shots" / "2.jpg").write_bytes(BRIGHT)
    station = {
        "recipe": "brightness",
        "gate_distance_mm": 6000.0,
        "camera": {"kind": "folder", "folder": str(folder / "shots")},
    }
    with judging_bridge(folder, stations=json.dumps([station])) as running:
        yield running


@pytest.mark.realtime
def test_a_whole_line_needs_no_trigger_by_mqtt(bridge: WholeBridge) -> None:
    with ModbusTcpClient("127.0.0.1", port=bridge.bridge.ports.modbus) as plc:

        def bits() -> int:
            return int(plc.read_input_registers(0, count=1).registers[0])

        assert eventually(lambda: bits() & READY_BIT)
        for sequence, verdict in ((1, 1), (2, 2), (3, 1), (4, 2)):
            written = plc.read_input_registers(38, count=2).registers[1]
            plc.write_registers(0, [ENABLE | TRIGGER, sequence, 0, sequence, 0, 0, 65_535, 0, 0, 0, 0, 4])
            assert bits() & TRIGGER_ACK
            plc.write_register(0, ENABLE)
            assert not bits() & TRIGGER_ACK
            while plc.read_input_registers(38, count=2).registers[1] == written:
                time.sleep(0.01)
            shown = plc.read_input_registers(0, count=10).registers
            assert (shown[3], shown[4], shown[0] & (READY_BIT | MISSED)) == (sequence, verdict, READY_BIT)
            assert bridge.publisher.verdict_of(sequence)["code"] == verdict, "the broker is told all the same"
        assert bridge.bridge.metrics()["linegate_verdicts_total/ERROR"] == 0


@pytest.mark.realtime
@pytest.mark.timeout(300)
async def test_a_whole_line_is_triggered_by_node_opcua(bridge: WholeBridge) -> None:
    need_node()
    steps: list[dict[str, Any]] = [{"await": ["Status.Ready", True]}]
    for sequence in (11, 12, 13):
        steps += [
            told(sequence),
            {"await": ["Status.TriggerAck", True]},
            {**DROP},
            {
                "await": ["Result.Sequence", sequence],
                "read": ["Result.Sequence", "Result.Verdict", "Status.MissedTrigger"],
            },
        ]
    found = await run_node("run_steps.js", endpoint(bridge.bridge.ports.opcua), json.dumps(steps))
    assert found == [
        {"Result.Sequence": sequence, "Result.Verdict": verdict, "Status.MissedTrigger": False}
        for sequence, verdict in ((11, 1), (12, 2), (13, 1))
    ]
