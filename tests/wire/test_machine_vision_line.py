"""A whole bridge by OPC 40100-1: parts triggered by a client are judged, and the line's own go on being judged."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asyncua import Client, Node, ua

from tests.foreign.node import need_node, node_program, run_node
from tests.inference.probe import workers_of
from tests.wire.bad_messages import BRIGHT, DARK, raw
from tests.wire.judging_bench import Bench, judging_bridge

STATION = {"recipe": "brightness", "gate_distance_mm": 6000.0, "camera": {"kind": "folder", "folder": "camera"}}
SYSTEM = "ns=2;s=line1.station1.VisionSystem"
MACHINE = f"{SYSTEM}.VisionStateMachine"
AUTOMATIC = f"{MACHINE}.AutomaticModeStateMachine"
MODEL = "http://opcfoundation.org/UA/MachineVision"
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
]  # node's packages may have to come first


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A bridge whose camera shows a good part, then a pitted one, and so on."""
    folder: Path = tmp_path_factory.mktemp("bridge")
    (folder / "camera").mkdir()
    (folder / "camera" / "1.jpg").write_bytes(DARK)
    (folder / "camera" / "2.jpg").write_bytes(BRIGHT)
    with judging_bridge(folder, stations=json.dumps([STATION])) as bench:
        yield bench


def url(bench: Bench) -> str:
    return f"opc.tcp://127.0.0.1:{bench.bridge.ports.opcua}/linegate/"


class Results:
    """The ResultReady events that a client was told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def event_notification(self, event: Any) -> None:
        self.told.append(event)

    async def of(self, part_id: str) -> Any:
        async with asyncio.timeout(10):
            while not (found := [each for each in self.told if each.PartId.Id == part_id]):
                await asyncio.sleep(0.01)
        assert len(found) == 1
        return found[0]


@pytest_asyncio.fixture(loop_scope="module")
async def client(bench: Bench) -> AsyncIterator[Client]:
    async with Client(url(bench)) as client:
        await client.load_data_type_definitions()
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def results(client: Client) -> Results:
    heard = Results()
    space = await client.get_namespace_index(MODEL)
    subscription = await client.create_subscription(10, heard)
    await subscription.subscribe_events(client.get_node(SYSTEM), [client.get_node(ua.NodeId(1024, space))])
    return heard


async def call(client: Client, path: str, *arguments: ua.Variant) -> Any:
    owner: Node = client.get_node(path.rpartition(".")[0])
    return await owner.call_method(client.get_node(path).nodeid, *arguments)


async def command(client: Client, path: str) -> int:
    return int(await call(client, path, ua.Variant(0, ua.VariantType.Int32), ua.Variant("", ua.VariantType.String)))


async def start(client: Client, part: str) -> tuple[str, int]:
    ids = (ua.MeasIdDataType(Id="M"), ua.PartIdDataType(Id=part), None, None)
    more = ua.Variant([], ua.VariantType.Variant, is_array=True)
    structures = [ua.Variant(each, ua.VariantType.ExtensionObject) for each in ids]
    job, error = await call(client, f"{AUTOMATIC}.StartSingleJob", *structures, more)
    return job.Id, error


async def becomes(client: Client, path: str, state: str) -> None:
    async with asyncio.timeout(10):
        while (await client.get_node(f"{path}.CurrentState").read_value()).Text != state:
            await asyncio.sleep(0.01)


async def test_parts_that_the_line_triggers_are_results_of_one_job(
    bench: Bench, client: Client, results: Results
) -> None:
    await becomes(client, AUTOMATIC, "ContinuousExecution")
    await asyncio.to_thread(bench.judges_on)
    first, second = sorted(bench.good)[-2:]
    good, bad = await results.of(str(first)), await results.of(str(second))
    assert [json.loads(each.ResultContent[0].Value)["verdict"] for each in (good, bad)] == ["PASS", "FAIL"]
    assert good.JobId == bad.JobId
    assert json.loads(bad.ResultContent[0].Value) == bench.publisher.verdict_of(second)


async def test_a_single_job_is_judged_for_real_and_the_line_goes_on(
    bench: Bench, client: Client, results: Results
) -> None:
    assert await command(client, f"{AUTOMATIC}.Stop") == 0
    verdicts = []
    for part in ("P-1", "P-2"):
        await becomes(client, AUTOMATIC, "Ready")
        job, error = await start(client, part)
        assert error == 0
        told = await results.of(part)
        assert (told.JobId.Id, told.MeasId.Id, told.ResultState) == (job, "M", 1)
        verdict = json.loads(told.ResultContent[0].Value)
        bench.good.add(verdict["sequence"])
        next(bench.sequences)
        assert await asyncio.to_thread(bench.publisher.verdict_of, verdict["sequence"]) == verdict
        verdicts.append(verdict["verdict"])
    assert sorted(verdicts) == ["FAIL", "PASS"]
    await asyncio.to_thread(bench.judges_on)


async def test_halt_stops_the_judging_and_reset_brings_it_back(bench: Bench, client: Client) -> None:
    assert await command(client, f"{MACHINE}.Halt") == 0
    await becomes(client, MACHINE, "Halted")
    sequence = next(bench.sequences)
    bench.send(raw(DARK)(sequence))
    verdict = await asyncio.to_thread(bench.publisher.verdict_of, sequence)
    assert (verdict["verdict"], verdict["reason"]) == ("ERROR", "station disabled by the operator")
    assert await command(client, f"{MACHINE}.Reset") == 0
    await becomes(client, AUTOMATIC, "ContinuousExecution")
    await asyncio.to_thread(bench.judges_on)


async def test_a_client_of_another_maker_knows_that_a_part_may_leave_the_camera_while_the_model_thinks(
    bench: Bench, client: Client
) -> None:
    await asyncio.to_thread(need_node)
    space = await client.get_namespace_index(MODEL)
    (worker,) = workers_of(bench.bridge.process.pid)
    sequence = next(bench.sequences)
    async with node_program("watch_events.js", url(bench), SYSTEM, "-", "100", "EventType", "ReceiveTime") as watching:
        assert (await watching.next())["listening"]
        os.kill(worker, signal.SIGSTOP)
        try:
            bench.send(raw(DARK)(sequence))
            acquired = await watching.next()
            await asyncio.sleep(0.2)
            assert sequence not in {each["sequence"] for each in bench.publisher.heard("verdict")}
        finally:
            os.kill(worker, signal.SIGCONT)
        judged = await watching.next()
    assert [each["EventType"] for each in (acquired, judged)] == [f"ns={space};i={kind}" for kind in (1025, 1024)]
    told = [datetime.fromisoformat(each["ReceiveTime"]) for each in (acquired, judged)]
    assert told[1] - told[0] > timedelta(seconds=0.15)
    bench.good.add(sequence)
    await asyncio.to_thread(bench.judges_on)


async def test_a_client_of_another_maker_walks_it(bench: Bench) -> None:
    await asyncio.to_thread(need_node)
    said = await run_node("machine_vision.js", url(bench), SYSTEM, "N-1")
    found, states, stopped, started, told, given, wrong, simulated = said
    assert found["found"] == ["VisionSystem line1.station1"]
    assert states["states"] == ["Operational", "ContinuousExecution"]
    assert (stopped["stop"], stopped["state"]) == ([0], "Ready")
    assert started["error"] == 0
    assert (told["job"], told["state"], told["recipe"], len(told["hash"])) == (started["job"], 1, "brightness", 64)
    assert told["verdict"] in {"PASS", "FAIL"}
    assert given == {"result": told["result"], "part": "N-1", "meas": "M-1", "error": 0, "verdict": told["verdict"]}
    assert wrong == {"status": "Good", "completed": False, "error": -2}
    assert simulated == {"status": "BadNotSupported"}
