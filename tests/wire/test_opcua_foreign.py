"""The OPC UA server as node-opcua-client sees it, a client of another maker: what the contract says of the tree, by hand."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from bridge.domain.status import StationState
from bridge.domain.verdict import Disposition, VerdictCode
from bridge.outputs.plc_servers import OpcUaSettings, PlcServers, PlcStation, StationOutput
from bridge.ports import Outcome
from tests.foreign.node import NodeProgram, need_node, node_program
from tests.outputs.samples import READY, outcome, result

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]  # its packages may come first

LINE = "ns=2;s=line1"
# fmt: off
TREE: dict[str, dict[str, str]] = {
    "Status": {
        "Bits": "UInt16", "Online": "Boolean", "Ready": "Boolean", "TriggerAck": "Boolean", "Busy": "Boolean",
        "ResultValid": "Boolean", "MissedTrigger": "Boolean", "Overrun": "Boolean", "Error": "Boolean", "RecipeOk": "Boolean",
        "Degraded": "Boolean", "PlcHeartbeatLost": "Boolean", "StopRequest": "Boolean", "GateUnguarded": "Boolean",
        "ClockOk": "Boolean", "State": "String", "Heartbeat": "UInt32", "ErrorCode": "UInt16", "ErrorText": "String",
        "Recipe": "String", "Model": "String", "ModelSha256": "String", "BeltSpeed": "Double",
    },
    "Result": {
        "PartId": "String", "Verdict": "Int32", "Disposition": "Int32", "Label": "String", "LabelId": "UInt16", "Score": "Double",
        "Reason": "String", "LatencyMs": "Double", "TriggeredAt": "DateTime", "Json": "String", "Written": "UInt32",
        "Sequence": "UInt32",
    },
    "Gate": {
        "OpenCount": "UInt32", "CloseCount": "UInt32", "OpenAtMs": "UInt32", "ClockMs": "UInt32", "DelayMs": "Double",
        "WindowMs": "Double", "ErrorMs": "Double", "Flags": "UInt16", "DueAt": "DateTime", "Sequence": "UInt32",
    },
    "Ring": {"Words": "UInt16", "Written": "UInt32", "ClockMs": "UInt32"},
    "Counters": dict.fromkeys((
        "Triggers", "Pass", "Fail", "Uncertain", "Error", "Late", "MissedTriggers", "DuplicateTriggers", "GateFired",
        "GateMissed", "GateConfirmed", "Collateral"), "UInt32"),
    "Control": {
        "Enable": "Boolean", "Trigger": "Boolean", "ClearError": "Boolean", "ResetCounters": "Boolean", "PlcHeartbeat": "UInt32",
        "TriggerSequence": "UInt32", "TriggerEncoder": "UInt32", "EncoderCount": "UInt32", "ResultAck": "UInt32",
        "RejectConfirm": "UInt32", "GateFired": "UInt32", "BeltSpeed": "Double", "TriggerAgeMs": "UInt16",
        "RecipeNumber": "UInt16", "Inhibit": "UInt16", "RecipeRequest": "String",
    },
}
DATA_TYPES = {"Boolean": "i=1", "UInt16": "i=5", "UInt32": "i=7", "Double": "i=11", "String": "i=12", "DateTime": "i=13"}
ENUMERATIONS = {"Verdict": "ns=2;s=VerdictEnum", "Disposition": "ns=2;s=DispositionEnum"}
# fmt: on
PLACES = [(group, name) for group, names in TREE.items() for name in names]


class Silent:
    """Takes what PLCs write."""

    def post(self, message: object) -> None:
        """Take it."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers() -> AsyncIterator[PlcServers]:
    """Five stations on one server with its own thread, as in the bridge."""
    need_node()
    stations = [
        PlcStation(name=f"station{n}", inbox=Silent(), open_lead_ms=40.0, close_lead_ms=40.0) for n in (1, 2, 3, 4, 5)
    ]
    opcua = OpcUaSettings(endpoint="opc.tcp://127.0.0.1:0/linegate/", anonymous=True)
    running = PlcServers(stations, line="line1", modbus=None, opcua=opcua)
    await running.start()
    yield running
    await running.stop()


def url(servers: PlcServers) -> str:
    return f"opc.tcp://127.0.0.1:{servers.opcua_port}/linegate/"


async def read(
    session: NodeProgram, station: str, *places: tuple[str, str], attribute: str = "Value"
) -> list[dict[str, Any]]:
    nodes = [[f"{LINE}.{station}.{group}.{name}", attribute] for group, name in places]
    answer: list[dict[str, Any]] = (await session.ask(read=nodes))["values"]
    return answer


async def shows(output: StationOutput, session: NodeProgram, station: str, sequence: int) -> None:
    """Publish a result, and wait until it is there."""
    output.publish(outcome(sequence))
    while (await read(session, station, ("Result", "Sequence")))[0]["value"] != sequence:
        await asyncio.sleep(0.01)


async def test_the_tree_has_the_contracts_groups_variables_types_and_access(servers: PlcServers) -> None:
    async with node_program("session.js", url(servers)) as session:
        await session.next()
        children = (await session.ask(browse=f"{LINE}.station1"))["children"]
        methods = {each["name"] for each in children if each["class"] == "Method"}
        assert methods == {"2:SelectRecipe", "2:ResetCounters", "2:GetResult"}
        assert {each["name"] for each in children if each["class"] == "Object"} == {
            f"2:{group}" for group in (*TREE, "VisionSystem")
        }
        for group, names in TREE.items():
            found = (await session.ask(browse=f"{LINE}.station1.{group}"))["children"]
            assert {each["name"] for each in found} == {f"2:{name}" for name in names}, group
        types = await read(session, "station1", *PLACES, attribute="DataType")
        levels = await read(session, "station1", *PLACES, attribute="AccessLevel")
        ranks = await read(session, "station1", *PLACES, attribute="ValueRank")
        for (group, name), kind, level, rank in zip(PLACES, types, levels, ranks, strict=True):
            told = kind["value"].removeprefix("ns=0;")
            wanted = ENUMERATIONS[name] if name in ENUMERATIONS else DATA_TYPES[TREE[group][name]]
            assert told == wanted, (group, name)
            assert level["value"] == (3 if group == "Control" else 1), (group, name)
            assert rank["value"] == (1 if name == "Words" else -1), (group, name)
        words = await read(session, "station1", ("Ring", "Words"))
        assert (words[0]["type"], words[0]["value"]) == ("UInt16", [0] * 224)


async def test_doubles_carry_engineering_units(servers: PlcServers) -> None:
    units = {"BeltSpeed": (4_403_510, "mm/s"), "Score": (4_404_786, "1")}
    async with node_program("session.js", url(servers)) as session:
        await session.next()
        for group, name in PLACES:
            found = (await session.ask(browse=f"{LINE}.station1.{group}.{name}"))["children"]
            if TREE[group][name] != "Double":
                assert found == []
                continue
            assert [each["name"] for each in found] == ["0:EngineeringUnits"]
            (got,) = (await session.ask(read=[[found[0]["node"], "Value"]]))["values"]
            number, symbol = units.get(name, (4_403_766, "ms"))
            space = "http://www.opcfoundation.org/UA/units/un/cefact"
            assert got["value"] == {"unit": number, "symbol": symbol, "space": space}


async def test_qualities_before_the_first_result_while_it_stands_and_after_the_stop(servers: PlcServers) -> None:
    output = servers.output("station2")
    async with node_program("session.js", url(servers)) as session:
        await session.next()
        places = [(group, name) for group, name in PLACES if group in {"Result", "Gate"}]
        for bad in ("BadWaitingForInitialData", "BadOutOfService"):
            for (_, name), got in zip(places, await read(session, "station2", *places), strict=True):
                coded = name in {"Verdict", "Disposition"}
                expected = ("UncertainInitialValue", "Int32", 0) if coded else (bad, "Null", None)
                assert (got["status"], got["type"], got["value"]) == expected, name
            if bad == "BadOutOfService":
                break
            output.show(READY)
            await shows(output, session, "station2", 7)
            standing = await read(session, "station2", *places)
            assert {each["status"] for each in standing} == {"Good"}
            assert [each["type"] for each in standing] == [TREE[group][name] for group, name in places]
            written = [each for (group, _), each in zip(places, standing, strict=True) if group == "Result"]
            assert {each["source"] for each in written} == {"2026-11-18T11:06:40.123Z"}, "the decided moment"
            output.show(replace(READY, heartbeat=2, state=StationState.STOPPING))
            while (await read(session, "station2", ("Result", "Verdict")))[0]["value"]:
                await asyncio.sleep(0.01)


async def test_texts_are_never_null_and_never_longer_than_254_bytes(servers: PlcServers) -> None:
    output = servers.output("station3")
    texts = [(group, name) for group, name in PLACES if TREE[group][name] == "String"]
    long = replace(outcome(7).result, judgement=replace(result().judgement, reason="é" * 400, label="ü" * 300))
    async with node_program("session.js", url(servers)) as session:
        await session.next()
        for judged in (result(7, code=VerdictCode.ERROR, label=None, score=None), long):
            output.show(replace(READY, error_text="ß" * 300, recipe="", model=""))
            output.publish(replace(outcome(7), result=judged, document='{"x": "' + "y" * 5_000 + '"}'))
            while not (got := await read(session, "station3", *texts))[0]["value"].startswith("READY"):
                await asyncio.sleep(0.01)
            for (_, name), each in zip(texts, got, strict=True):
                assert each["type"] == "String"
                assert isinstance(each["value"], str), name
                assert name == "Json" or len(each["value"].encode()) <= 254, name
        shown = dict(zip((name for _, name in texts), (each["value"] for each in got), strict=True))
        assert (shown["Reason"], shown["Label"], len(shown["Json"])) == ("é" * 127, "ü" * 127, 5_009)
        score = await read(session, "station3", ("Result", "Score"))
        assert not math.isnan(float(score[0]["value"]))


WRITES = (
    ("Enable", "Boolean", False, "Good"),
    ("EncoderCount", "UInt32", 5, "Good"),
    ("RecipeRequest", "String", "bracket-a", "Good"),
    ("Enable", "UInt16", 1, "BadTypeMismatch"),
    ("EncoderCount", "UInt16", 5, "BadTypeMismatch"),
    ("EncoderCount", "Int32", 5, "BadTypeMismatch"),
    ("EncoderCount", "UInt32", [5, 6], "BadTypeMismatch"),
    ("BeltSpeed", "Float", 5.0, "BadTypeMismatch"),
    ("RecipeRequest", "Boolean", True, "BadTypeMismatch"),
    ("RecipeRequest", "String", "x" * 255, "BadOutOfRange"),
)


async def test_a_write_of_another_type_is_a_mismatch(servers: PlcServers) -> None:
    async with node_program("session.js", url(servers)) as session:
        await session.next()
        for name, kind, value, answer in WRITES:
            told = await session.ask(write=[f"{LINE}.station1.Control.{name}", kind, value])
            assert told == {"status": answer}, (name, kind, value)
        told = await session.ask(write=[f"{LINE}.station1.Result.Verdict", "Int32", 1])
        assert told["status"] in {"BadNotWritable", "BadUserAccessDenied"}


async def test_get_result_gives_the_last_1000_replayed_ones_too(servers: PlcServers) -> None:
    output, station = servers.output("station4"), f"{LINE}.station4"
    for sequence in range(500):
        output.remember(sequence, f'{{"sequence": {sequence}, "from": "an earlier run"}}')
    for sequence in range(500, 1_010):
        output.publish(outcome(sequence, replayed=sequence % 2 == 0))

    async with node_program("session.js", url(servers)) as session:
        await session.next()

        async def asked(kind: str, number: Any) -> tuple[str, list[str]]:
            got = await session.ask(call=[station, f"{station}.GetResult", [[kind, number]]])
            return got["status"], got["outputs"]

        for unknown in (0, 9, 1_010, 2**32 - 1):
            assert await asked("UInt32", unknown) == ("BadNoData", [])
        assert await asked("UInt32", 10) == ("Good", ['{"sequence": 10, "from": "an earlier run"}'])
        for known in (500, 501, 1_009):
            assert await asked("UInt32", known) == ("Good", [f'{{"sequence": {known}}}'])
        assert (await asked("Int32", 500))[0] == "BadInvalidArgument"


@pytest.mark.parametrize(
    ("station", "count", "pause_s", "interval_ms", "queue"),
    [("station1", 500, 0.02, 10, 10), ("station5", 150, 0.02, 200, 1)],
    ids=["50 a second, told every 10 ms", "50 a second, told of the newest every 200 ms"],
)
async def test_a_subscriber_has_every_sequence_once_told_or_fetched(
    servers: PlcServers, station: str, count: int, pause_s: float, interval_ms: int, queue: int
) -> None:
    first, output = 2_000, servers.output(station)
    output.show(READY)
    arguments = (f"{LINE}.{station}", first, first + count - 1, interval_ms, queue)
    async with node_program("follow_results.js", url(servers), *map(str, arguments)) as follower:
        assert (await follower.next())["listening"]
        for sequence in range(first, first + count):
            output.publish(outcome(sequence))
            await asyncio.sleep(pause_s)
        had = [await follower.next() for _ in range(count)]
    assert [each["sequence"] for each in had] == list(range(first, first + count))
    told = [each for each in had if each["by"] == "told"]
    assert len(told) >= count * 0.9 if queue > 1 else 0 < len(told) < count / 2


RESULT = ("PartId", "Verdict", "Disposition", "Label", "LabelId", "Score", "Reason", "LatencyMs", "Json", "Sequence")


def distinct(sequence: int) -> tuple[Outcome, list[Any]]:
    """Give an outcome of which every field tells the sequence, and what a Read of `RESULT` must then be."""
    passes = sequence % 2 == 0
    code, disposition = (VerdictCode.PASS, Disposition.LET_PASS) if passes else (VerdictCode.FAIL, Disposition.REJECT)
    label, reason, score = f"label {sequence}", f"because of {sequence}", sequence / 1e6
    judged = result(sequence)
    judgement = replace(
        judged.judgement, code=code, label=label, label_id=sequence % 60_000, score=score, reason=reason
    )
    decided_ns = judged.part.triggered_ns + sequence * 1_000_000
    shown = replace(judged, judgement=judgement, disposition=disposition, decided_ns=decided_ns)
    document = f'{{"sequence": {sequence}}}'
    wanted = [f"A-{sequence:06d}", int(code), int(disposition), label, sequence % 60_000, score, reason, sequence,
              document, sequence]  # fmt: skip
    return Outcome(result=shown, document=document), wanted


@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_of_5000_reads_of_ten_values_none_is_torn(servers: PlcServers) -> None:
    output, stop, states = servers.output("station1"), asyncio.Event(), 0
    output.show(READY)
    output.publish(distinct(1)[0])

    async def publish() -> None:
        sequence = 1
        while not stop.is_set():
            sequence += 1
            output.show(replace(READY, heartbeat=sequence))
            output.publish(distinct(sequence)[0])
            await asyncio.sleep(0.002)

    publishing = asyncio.create_task(publish())
    nodes = [[f"{LINE}.station1.Result.{name}", "Value"] for name in RESULT]
    async with node_program("session.js", url(servers)) as session:
        await session.next()
        for _ in range(50):
            for state in (await session.ask(repeat=[100, nodes]))["states"]:
                states += 1
                assert state == distinct(state[-1])[1]
    stop.set()
    await publishing
    assert states > 1_000
