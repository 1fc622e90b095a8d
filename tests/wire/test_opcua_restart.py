"""A whole bridge and node-opcua-client: GetResult over a restart and for replayed verdicts, alarms and results as events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.foreign.node import NodeProgram, need_node, node_program
from tests.wire.bad_messages import DARK, raw
from tests.wire.judging_bench import Bench, judging_bridge

pytestmark = pytest.mark.timeout(300)  # its packages may have to be installed first

STATION = "ns=2;s=line1.station1"


@pytest.fixture
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    need_node()
    with judging_bridge(tmp_path_factory.mktemp("bridge")) as bench:
        yield bench


def url(bench: Bench) -> str:
    return f"opc.tcp://127.0.0.1:{bench.bridge.ports.opcua}/linegate/"


async def result(session: NodeProgram, sequence: int) -> dict[str, Any] | str:
    got = await session.ask(call=[STATION, f"{STATION}.GetResult", [["UInt32", sequence]]])
    document: dict[str, Any] = json.loads(got["outputs"][0]) if got["outputs"] else {}
    return document or str(got["status"])


async def asked_after_the_restart(bench: Bench) -> None:
    async with node_program("session.js", url(bench)) as session:
        await session.next()
        for sequence in (1, 2):
            assert await result(session, sequence) == bench.publisher.verdict_of(sequence)
        replayed = await result(session, 3)
        assert replayed == bench.publisher.verdict_of(3)
        assert isinstance(replayed, dict)
        assert (replayed["verdict"], replayed["replayed"]) == ("LATE", True)
        assert await result(session, 4) == "BadNoData"
        names = ("Result.Sequence", "Result.Verdict", "Result.Written", "Gate.Sequence", "Ring.Written")
        read = (await session.ask(read=[[f"{STATION}.{name}", "Value"] for name in names]))["values"]
        waiting = "BadWaitingForInitialData"
        assert [(each["status"], each["value"]) for each in read] == [
            (waiting, None), ("UncertainInitialValue", 0), (waiting, None), (waiting, None), ("Good", 0),
        ]  # fmt: skip


def test_get_result_knows_the_verdicts_of_the_run_before_and_those_that_were_replayed(bench: Bench) -> None:
    bench.judges_on()
    assert bench.bridge.stop()[0] == 0
    bench.send(raw(DARK)(3))  # waits at the broker, and is backlog at the next start
    bench.bridge.start()
    bench.bridge.wait_ready()
    bench.publisher.verdict_of(3)
    asyncio.run(asked_after_the_restart(bench))


async def heard(bench: Bench) -> None:
    fields = ("EventType", "2:Sequence", "2:Verdict", "2:Json", "ConditionName", "ActiveState.Id")
    async with node_program("watch_events.js", url(bench), STATION, "-", "1", *fields) as program:
        assert (await program.next())["listening"]
        await asyncio.to_thread(bench.judges_on)
        for sequence, verdict in ((1, 1), (2, 2)):
            told = await program.next()
            assert (told["EventType"], told["2:Sequence"], told["2:Verdict"]) == (
                "ns=2;s=ResultReadyEventType", sequence, verdict,
            )  # fmt: skip
            assert json.loads(told["2:Json"]) == bench.publisher.verdict_of(sequence)
        bench.publisher.send(b"not JSON", topic="trigger")
        assert (await of_alarm(program, "TRIGGER_UNREADABLE"))["ActiveState.Id"] is True
        bench.publisher.send(b'{"command": "clear-error"}', topic="command")
        assert (await of_alarm(program, "TRIGGER_UNREADABLE"))["ActiveState.Id"] is False


async def of_alarm(program: NodeProgram, name: str) -> dict[str, Any]:
    """Give the next event of one alarm; the two parts are so close that there is COLLATERAL, too."""
    while (told := await program.next())["ConditionName"] != name:
        assert told["ConditionName"] == "COLLATERAL"
    assert told["EventType"] == "ns=2;s=StationAlarmType"
    return told


def test_results_and_alarms_of_a_whole_bridge_are_events(bench: Bench) -> None:
    asyncio.run(heard(bench))
