"""The OPC UA server as an asyncua client sees it: tree, types, qualities, writes, methods, subscriptions."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
from asyncua import Client, Node, ua

from bridge.domain.messages import (
    Arrival,
    Command,
    EncoderSample,
    Inbound,
    Inhibit,
    PlcBeat,
    PlcCounts,
    PlcEnable,
    Reply,
    SpeedSample,
)
from bridge.domain.status import StationState
from bridge.domain.verdict import VerdictCode
from bridge.errors import StartError
from bridge.outputs.opcua.server import OpcUaServer
from bridge.outputs.plc.node_map import METHODS, NODES
from bridge.outputs.plc.panel import PlcPanel
from tests.outputs.samples import DECIDED_UTC_NS, MS, ORDERED, READY, outcome, result, status

BAD_WAITING = ua.StatusCodes.BadWaitingForInitialData
BAD_OUT = ua.StatusCodes.BadOutOfService


pytestmark = pytest.mark.asyncio(loop_scope="module")

STATIONS = 44


@dataclass
class Bench:
    """One station of a server that all tests share, its clock, and what the station was told."""

    panel: PlcPanel
    url: str
    posted: list[Inbound] = field(default_factory=list)
    clock: list[int] = field(default_factory=list)

    @property
    def now_ns(self) -> int:
        return self.clock[0]

    @now_ns.setter
    def now_ns(self, value: int) -> None:
        self.clock[0] = value

    def post(self, message: Inbound) -> None:
        self.posted.append(message)
        if isinstance(message, Command) and message.respond:
            message.respond(
                Reply(ok=message.recipe != "nonsense", text="unknown" if message.recipe == "nonsense" else "")
            )


def poster(benches: list[Bench], number: int) -> Callable[[Inbound], None]:
    def post(message: Inbound) -> None:
        benches[number].post(message)

    return post


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stations() -> AsyncIterator[Iterator[Bench]]:
    """One server with a station for each test; the very last one acknowledges its results."""
    benches: list[Bench] = []
    clock = [5_010 * MS]
    panels = [
        PlcPanel(station=f"station{n + 1}", post=poster(benches, n), result_ack=n == STATIONS - 1)
        for n in range(STATIONS)
    ]
    server = OpcUaServer(
        panels, line="line1", endpoint="opc.tcp://127.0.0.1:0/linegate/", clock_ns=lambda: clock[0], anonymous=True
    )
    port = await server.start()
    benches += [Bench(panel=panel, url=f"opc.tcp://127.0.0.1:{port}/linegate/", clock=clock) for panel in panels]
    yield iter(benches)
    await server.stop()


@pytest.fixture
def bench(stations: Iterator[Bench]) -> Bench:
    return next(stations)


@dataclass
class StationClient:
    """A client with its eye on one station."""

    ua: Client
    station: str

    def node(self, path: str = "") -> Node:
        return self.ua.get_node(f"ns=2;s=line1.{self.station}" + (f".{path}" if path else ""))


@pytest_asyncio.fixture(loop_scope="module")
async def client(bench: Bench) -> AsyncIterator[StationClient]:
    async with Client(bench.url) as connected:
        yield StationClient(ua=connected, station=bench.panel.station)


async def values(client: StationClient, *paths: str) -> list[ua.DataValue]:
    params = ua.ReadParameters()
    for path in paths:
        params.NodesToRead.append(ua.ReadValueId(client.node(path).nodeid, ua.AttributeIds.Value))
    return await client.ua.uaclient.read(params)


def plain(got: ua.DataValue) -> Any:
    assert got.Value is not None
    return got.Value.Value


def code(got: ua.DataValue) -> int:
    assert got.StatusCode is not None
    return got.StatusCode.value


async def write(client: StationClient, path: str, value: Any, kind: ua.VariantType) -> None:
    await client.node(path).write_value(ua.DataValue(ua.Variant(value, kind)))


async def test_the_namespace_is_the_second_and_names_are_the_last_segments(client: StationClient) -> None:
    assert (await client.ua.get_namespace_array())[2] == "urn:linegate"
    line = await client.ua.nodes.objects.get_child("2:line1")
    assert line.nodeid.to_string() == "ns=2;s=line1"
    children = await line.get_children()
    assert [each.nodeid.to_string() for each in children] == [f"ns=2;s=line1.station{n + 1}" for n in range(STATIONS)]
    verdict = await line.get_child(["2:station1", "2:Result", "2:Verdict"])
    assert verdict.nodeid.to_string() == "ns=2;s=line1.station1.Result.Verdict"


async def test_every_variable_has_its_type_its_unit_and_its_access(client: StationClient) -> None:
    units = {"C16": 4_403_510, "C26": 4_403_766, "C62": 4_404_786}
    for spec in NODES:
        variable = client.node(f"{spec.group}.{spec.name}")
        name = (await client.ua.get_node(await variable.read_data_type()).read_browse_name()).Name
        assert name == spec.data_type, spec.name
        assert await variable.get_access_level() == {ua.AccessLevel.CurrentRead}
        assert (await variable.read_value_rank()) == (ua.ValueRank.OneDimension if spec.length else ua.ValueRank.Scalar)
        assert (spec.unit is not None) == (spec.data_type == "Double"), spec.name
        if spec.unit:
            unit = await (await variable.get_child("0:EngineeringUnits")).read_value()
            assert unit.UnitId == units[spec.unit]


@pytest.mark.parametrize(
    ("enumeration", "texts"),
    [
        ("VerdictEnum", ["NONE", "PASS", "FAIL", "UNCERTAIN", "ERROR", "LATE"]),
        ("DispositionEnum", ["NONE", "LET_PASS", "REJECT"]),
    ],
)
async def test_enumerations_carry_their_strings(client: StationClient, enumeration: str, texts: list[str]) -> None:
    data_type = client.ua.get_node(f"ns=2;s={enumeration}")
    strings = await (await data_type.get_child("0:EnumStrings")).read_value()
    assert [each.Text for each in strings] == texts
    parent = await data_type.get_parent()
    assert parent is not None
    assert parent.nodeid == ua.NodeId(ua.ObjectIds.Enumeration)


async def test_before_the_first_result_codes_read_0_uncertain_and_the_rest_is_bad(client: StationClient) -> None:
    for spec in NODES:
        (got,) = await values(client, f"{spec.group}.{spec.name}")
        assert got.StatusCode is not None
        if spec.name in {"Verdict", "Disposition"}:
            assert (plain(got), got.Value.VariantType) == (0, ua.VariantType.Int32)
            assert got.StatusCode.value == ua.StatusCodes.UncertainInitialValue
        elif spec.group in {"Result", "Gate"}:
            assert got.StatusCode.value == BAD_WAITING, spec.name
        else:
            assert got.StatusCode.is_good(), spec.name


async def test_a_result_is_read_whole_with_the_decided_moment(bench: Bench, client: StationClient) -> None:
    bench.panel.publish(outcome())
    names = ("PartId", "Verdict", "Disposition", "Label", "LabelId", "Score", "Reason", "LatencyMs", "TriggeredAt", "Json",
             "Written", "Sequence")  # fmt: skip
    got = await values(client, *(f"Result.{name}" for name in names))
    assert [plain(each) for each in got] == [
        "A-123456", 2, 2, "crack", 2, 0.93, "crack 0.93", 6.0, datetime.fromtimestamp((DECIDED_UTC_NS - 6 * MS) / 1e9, UTC),
        '{"sequence": 123456}', 1, 123_456,
    ]  # fmt: skip
    decided = datetime.fromtimestamp(DECIDED_UTC_NS // 1000 / 1e6, UTC)
    assert {each.SourceTimestamp for each in got} == {decided}
    assert all(each.StatusCode is not None and each.StatusCode.is_good() for each in got)
    gate_names = ("OpenCount", "CloseCount", "OpenAtMs", "DelayMs", "Flags", "Sequence")
    gate = await values(client, *(f"Gate.{name}" for name in gate_names))
    assert [plain(each) for each in gate] == [462_639, 463_939, 5_481, 475.0, 0b1101, 123_456]
    neighbour = client.ua.get_node(f"ns=2;s=line1.station{STATIONS}.Result.Verdict")
    other = await neighbour.read_data_value(raise_on_bad_status=False)
    assert other.StatusCode is not None
    assert other.StatusCode.value == ua.StatusCodes.UncertainInitialValue


async def test_after_the_station_stops_or_hangs_nothing_reads_as_a_verdict(bench: Bench, client: StationClient) -> None:
    bench.panel.show(READY, now_ns=0)
    bench.panel.publish(outcome(code=VerdictCode.PASS))
    assert plain((await values(client, "Result.Verdict"))[0]) == 1
    bench.panel.check_heartbeat(2_000 * MS)
    assert plain((await values(client, "Result.Verdict"))[0]) == 1
    bench.panel.check_heartbeat(2_001 * MS)
    got = await values(
        client, "Result.Verdict", "Result.Disposition", "Result.Sequence", "Gate.OpenCount", "Status.Ready"
    )
    assert [plain(each) for each in got[:2]] == [0, 0]
    assert [code(each) for each in got[2:4]] == [BAD_OUT, BAD_OUT]
    assert plain(got[4]) is False
    bench.panel.show(status(heartbeat=2), now_ns=2_500 * MS)
    bench.panel.publish(outcome(2))
    assert plain((await values(client, "Result.Verdict"))[0]) == 2
    bench.panel.show(status(heartbeat=3, state=StationState.STOPPING), now_ns=2_600 * MS)
    got = await values(client, "Result.Verdict", "Result.PartId")
    assert [code(each) for each in got] == [ua.StatusCodes.UncertainInitialValue, BAD_OUT]


async def test_status_and_counters_follow_the_station(bench: Bench, client: StationClient) -> None:
    bench.panel.show(READY, now_ns=0)
    expected = {
        "Status.Bits": 0b10_0001_0000_0011, "Status.Online": True, "Status.Ready": True, "Status.Busy": False,
        "Status.PlcHeartbeatLost": False, "Status.State": "READY", "Status.Heartbeat": 70_001, "Status.ErrorCode": 24,
        "Status.ErrorText": "SEQUENCE_RESTARTED: again", "Status.Recipe": "bracket-a@3", "Status.Model": "surface@1.2.0",
        "Status.ModelSha256": "ab" * 32, "Status.BeltSpeed": 1200.4, "Counters.Triggers": 100_000, "Counters.Collateral": 16,
    }  # fmt: skip
    got = await values(client, *expected)
    assert [plain(each) for each in got] == list(expected.values())
    bench.panel.show(replace(READY, belt_speed_mm_s=None, error_text="é" * 300), now_ns=0)
    speed, text = await values(client, "Status.BeltSpeed", "Status.ErrorText")
    assert math.isnan(plain(speed))
    assert plain(text) == "é" * 127


async def test_texts_and_scores_that_are_absent_are_empty_and_nan(bench: Bench, client: StationClient) -> None:
    judged = result(code=VerdictCode.ERROR, label=None, score=None)
    bench.panel.publish(replace(outcome(), result=judged))
    label, number, score = await values(client, "Result.Label", "Result.LabelId", "Result.Score")
    assert (plain(label), plain(number)) == ("", 0)
    assert math.isnan(plain(score))


async def test_the_ring_is_the_registers_and_clocks_are_of_the_moment_of_reading(
    bench: Bench, client: StationClient
) -> None:
    for sequence in range(2**32 - 3, 2**32 + 3):
        bench.panel.publish(outcome(sequence % 2**32))
    words, written = await values(client, "Ring.Words", "Ring.Written")
    assert words.Value.VariantType is ua.VariantType.UInt16
    assert plain(words) == list(bench.panel.view.ring)
    assert len(plain(words)) == 224
    assert plain(words)[15 * 14 : 15 * 14 + 3] == [0xFFFF, 0xFFFF, 2]
    assert plain(written) == 6
    for now_ms in (6_000, 7_000):
        bench.now_ns = now_ms * MS
        got = await values(client, "Ring.ClockMs", "Gate.ClockMs")
        assert [plain(each) for each in got] == [now_ms, now_ms]


async def test_a_revised_order_shows_in_gate_and_ring(bench: Bench, client: StationClient) -> None:
    bench.panel.publish(outcome())
    bench.panel.revise(123_456, replace(ORDERED, due_ns=None, open_ns=None))
    at, flags, delay, words = await values(client, "Gate.OpenAtMs", "Gate.Flags", "Gate.DelayMs", "Ring.Words")
    assert (plain(at), plain(flags)) == (0, 0b0101)
    assert math.isnan(plain(delay))
    assert plain(words)[10:14] == [0, 0, 108, 0b0101]


async def test_a_replayed_result_is_in_get_result_alone(bench: Bench, client: StationClient) -> None:
    bench.panel.publish(outcome(5, replayed=True))
    bench.panel.remember(6, '{"sequence": 6}')
    station = client.node()
    for sequence in (5, 6):
        got = await station.call_method("2:GetResult", ua.Variant(sequence, ua.VariantType.UInt32))
        assert got == f'{{"sequence": {sequence}}}'
    (verdict, ring) = await values(client, "Result.Verdict", "Ring.Words")
    assert plain(verdict) == 0
    assert plain(ring) == [0] * 224


async def test_get_result_knows_the_last_1000_and_says_no_data_for_others(bench: Bench, client: StationClient) -> None:
    for sequence in range(1_001):
        bench.panel.publish(outcome(sequence))
    station = client.node()
    with pytest.raises(ua.UaStatusCodeError) as error:
        await station.call_method("2:GetResult", ua.Variant(0, ua.VariantType.UInt32))
    assert error.value.code == ua.StatusCodes.BadNoData
    assert await station.call_method("2:GetResult", ua.Variant(1, ua.VariantType.UInt32)) == '{"sequence": 1}'


async def test_methods_describe_their_arguments(client: StationClient) -> None:
    for spec in METHODS:
        method = client.node(spec.name)
        found = {}
        for each in await method.get_properties():
            found[(await each.read_browse_name()).Name] = [argument.Name for argument in await each.read_value()]
        assert found.get("InputArguments", []) == [name for name, _, _ in spec.inputs]
        assert found.get("OutputArguments", []) == [name for name, _, _ in spec.outputs]


async def test_select_recipe_and_reset_counters_answer_what_the_station_answers(
    bench: Bench, client: StationClient
) -> None:
    station = client.node()
    assert await station.call_method("2:SelectRecipe", "bracket-b") == [True, ""]
    assert await station.call_method("2:SelectRecipe", "nonsense") == [False, "unknown"]
    assert await station.call_method("2:ResetCounters") is None
    assert [(each.name, each.recipe) for each in bench.posted if isinstance(each, Command)] == [
        ("select-recipe", "bracket-b"), ("select-recipe", "nonsense"), ("reset-counters", None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], ua.StatusCodes.BadArgumentsMissing),
        ([ua.Variant("5", ua.VariantType.String)], ua.StatusCodes.BadInvalidArgument),
        ([ua.Variant([5], ua.VariantType.UInt32)], ua.StatusCodes.BadInvalidArgument),
        ([ua.Variant(5, ua.VariantType.UInt32)] * 2, ua.StatusCodes.BadTooManyArguments),
    ],
)
async def test_wrong_arguments_are_refused(
    client: StationClient, arguments: list[ua.Variant], code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ua.UaStatusCodeError) as error:
        await client.node().call_method("2:GetResult", *arguments)
    assert error.value.code == code
    assert "Traceback" not in "".join(capfd.readouterr())


async def test_a_plc_writes_its_block_and_the_station_is_told(bench: Bench, client: StationClient) -> None:
    bench.panel.show(READY, now_ns=0)
    kinds = ua.VariantType
    writes: list[tuple[str, Any, ua.VariantType]] = [
        ("EncoderCount", 456_789, kinds.UInt32), ("BeltSpeed", 1_200.5, kinds.Double), ("BeltSpeed", math.nan, kinds.Double),
        ("PlcHeartbeat", 70_000, kinds.UInt32), ("Inhibit", 5, kinds.UInt16), ("RejectConfirm", 3, kinds.UInt32),
        ("GateFired", 4, kinds.UInt32), ("RecipeRequest", "bracket-b", kinds.String), ("RecipeNumber", 12, kinds.UInt16),
        ("ClearError", True, kinds.Boolean), ("ClearError", False, kinds.Boolean), ("ResetCounters", True, kinds.Boolean),
        ("Enable", True, kinds.Boolean), ("Enable", False, kinds.Boolean),
    ]  # fmt: skip
    for name, value, kind in writes:
        await write(client, f"Control.{name}", value, kind)
    now = bench.now_ns
    assert bench.posted == [
        EncoderSample(counts=456_789, at_ns=now, origin="plc"),
        SpeedSample(mm_s=1_200.5, at_ns=now, origin="plc"),
        PlcBeat(value=70_000, at_ns=now),
        Inhibit(bits=5),
        PlcCounts(origin="opcua", reject_confirm=3),
        PlcCounts(origin="opcua", gate_fired=4),
        Command(name="select-recipe", origin="opcua", recipe="bracket-b"),
        Command(name="select-recipe", origin="opcua", recipe_number=12),
        Command(name="clear-error", origin="opcua"),
        Command(name="reset-counters", origin="opcua"),
        PlcEnable(enabled=False),
    ]


async def test_a_trigger_of_one_write_call_shakes_hands(bench: Bench, client: StationClient) -> None:
    bench.panel.show(READY, now_ns=0)
    nodes = [
        client.node(f"Control.{name}") for name in ("Trigger", "TriggerSequence", "TriggerAgeMs", "TriggerEncoder")
    ]
    kinds = (ua.VariantType.Boolean, ua.VariantType.UInt32, ua.VariantType.UInt16, ua.VariantType.UInt32)
    await client.ua.write_values(
        nodes, [ua.DataValue(ua.Variant(value, kind)) for value, kind in zip((True, 9, 4, 777), kinds, strict=True)]
    )
    (arrival,) = bench.posted
    assert isinstance(arrival, Arrival)
    got = arrival.trigger
    assert (got.sequence, got.part_id, got.source, got.age_ms, got.encoder_counts) == (9, "9", "opcua", 4.0, 777)
    assert plain((await values(client, "Status.TriggerAck"))[0]) is True
    await write(client, "Control.Trigger", value=False, kind=ua.VariantType.Boolean)
    assert plain((await values(client, "Status.TriggerAck"))[0]) is False


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("Enable", 0, ua.VariantType.UInt16),
        ("Enable", [False], ua.VariantType.Boolean),
        ("EncoderCount", 5, ua.VariantType.Int32),
        ("EncoderCount", 5, ua.VariantType.UInt16),
        ("BeltSpeed", 5.0, ua.VariantType.Float),
        ("RecipeRequest", b"x", ua.VariantType.ByteString),
        ("Inhibit", None, ua.VariantType.Null),
    ],
)
async def test_another_type_is_a_type_mismatch_and_changes_nothing(
    bench: Bench, client: StationClient, name: str, value: Any, kind: ua.VariantType
) -> None:
    before = await client.node(f"Control.{name}").read_data_value()
    with pytest.raises(ua.UaStatusCodeError) as error:
        await write(client, f"Control.{name}", value, kind)
    assert error.value.code == ua.StatusCodes.BadTypeMismatch
    after = await client.node(f"Control.{name}").read_data_value()
    assert str(after.Value) == str(before.Value)
    assert bench.posted == []


async def test_a_null_text_is_an_empty_one(client: StationClient) -> None:
    await write(client, "Control.RecipeRequest", None, ua.VariantType.String)
    assert await client.node("Control.RecipeRequest").read_value() == ""


@pytest.mark.parametrize("value", [-1.0, math.inf])
async def test_an_impossible_speed_is_out_of_range(bench: Bench, client: StationClient, value: float) -> None:
    with pytest.raises(ua.UaStatusCodeError) as error:
        await write(client, "Control.BeltSpeed", value, ua.VariantType.Double)
    assert error.value.code == ua.StatusCodes.BadOutOfRange
    assert bench.posted == []


async def test_nothing_but_control_can_be_written_nor_the_tree_changed(client: StationClient) -> None:
    refused = {ua.StatusCodes.BadNotWritable, ua.StatusCodes.BadUserAccessDenied}
    for spec in NODES:
        if spec.length:
            continue
        with pytest.raises(ua.UaStatusCodeError) as error:
            await write(client, f"{spec.group}.{spec.name}", value=1, kind=ua.VariantType.Int32)
        assert error.value.code in refused, spec.name
    with pytest.raises(ua.UaStatusCodeError) as error:
        await client.node("Control.Enable").write_attribute(
            ua.AttributeIds.DisplayName, ua.DataValue(ua.Variant(ua.LocalizedText("x"), ua.VariantType.LocalizedText))
        )
    assert error.value.code in refused
    with pytest.raises(ua.UaError):
        await client.ua.nodes.objects.add_object(2, "intruder")


async def test_an_administrator_by_name_is_not_let_in(bench: Bench) -> None:
    intruder = Client(bench.url)
    intruder.set_user("admin")
    with pytest.raises(ua.UaError):
        await intruder.connect()


class Watcher:
    """Collects the changes of one subscription."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []
        self.done = asyncio.Event()

    def datachange_notification(self, changed: Node, value: Any, _data: Any) -> None:
        self.seen.append((changed.nodeid.Identifier.rpartition(".")[2], value))
        if self.seen[-1] == ("Sequence", 1_003):
            self.done.set()


async def test_a_subscriber_of_sequence_reads_each_result_from_one_state(bench: Bench, client: StationClient) -> None:
    watcher = Watcher()
    subscription = await client.ua.create_subscription(0, watcher)
    await subscription.subscribe_data_change([client.node("Result.Verdict"), client.node("Result.Sequence")])
    for sequence in range(1_000, 1_004):
        bench.panel.publish(outcome(sequence, code=VerdictCode.PASS if sequence % 2 else VerdictCode.FAIL))
        await asyncio.sleep(0.02)
    await asyncio.wait_for(watcher.done.wait(), 5)
    assert [value for name, value in watcher.seen if name == "Sequence"][-4:] == [1_000, 1_001, 1_002, 1_003]
    assert [value for name, value in watcher.seen if name == "Verdict"][-4:] == [2, 1, 2, 1]
    await subscription.delete()


async def test_one_read_is_never_torn_between_two_results(bench: Bench, client: StationClient) -> None:
    watcher = Watcher()
    subscription = await client.ua.create_subscription(0, watcher)
    await subscription.subscribe_data_change([client.node(f"Result.{each}") for each in ("PartId", "Json", "Sequence")])
    stop = asyncio.Event()

    async def publish() -> None:
        sequence = 0
        while not stop.is_set():
            sequence += 1
            bench.panel.publish(outcome(sequence))
            await asyncio.sleep(0)

    publishing = asyncio.create_task(publish())
    seen = set()
    for _ in range(200):
        part, json, sequence = await values(client, "Result.PartId", "Result.Json", "Result.Sequence")
        if sequence.StatusCode is None or not sequence.StatusCode.is_good():
            continue
        number = plain(sequence)
        seen.add(number)
        assert plain(part) == f"A-{number:06d}"
        assert plain(json) == f'{{"sequence": {number}}}'
    stop.set()
    await publishing
    assert len(seen) > 10
    await subscription.delete()


async def test_sessions_are_shortened_and_connections_are_capped(bench: Bench) -> None:
    clients = [Client(bench.url, timeout=2) for _ in range(20)]
    for each in clients:
        await each.connect()
    surplus = Client(bench.url, timeout=2)
    with pytest.raises((ConnectionError, TimeoutError, ua.UaError)):
        await surplus.connect()
    for each in clients:
        await each.disconnect()


async def test_without_anonymous_access_the_port_stays_closed() -> None:
    server = OpcUaServer(
        [], line="line1", endpoint="opc.tcp://127.0.0.1:0/linegate/", clock_ns=lambda: 0, anonymous=False
    )
    assert await server.start() is None
    await server.stop()


async def test_a_port_in_use_is_one_line_without_a_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupant:
        port = occupant.getsockname()[1]
        server = OpcUaServer([], line="l", endpoint=f"opc.tcp://127.0.0.1:{port}/", clock_ns=lambda: 0, anonymous=True)
        with pytest.raises(StartError, match=rf"OPC UA can't open port {port} on 127.0.0.1"):
            await server.start()
    assert "Traceback" not in "".join(capfd.readouterr())


async def test_the_sequence_acknowledges_a_result(stations: Iterator[Bench]) -> None:
    *_, bench = stations
    bench.panel.publish(outcome(1))
    bench.panel.publish(outcome(2))
    async with Client(bench.url) as connected:
        client = StationClient(ua=connected, station=bench.panel.station)
        for acknowledged, standing in ((7, 1), (1, 2)):
            await write(client, "Control.ResultAck", acknowledged, ua.VariantType.UInt32)
            assert plain((await values(client, "Result.Sequence"))[0]) == standing
        assert plain((await values(client, "Gate.Sequence"))[0]) == 2
        await write(client, "Control.ResultAck", 2, ua.VariantType.UInt32)
        got = await values(client, "Result.Verdict", "Result.Sequence", "Status.ResultValid")
        assert [code(each) for each in got[:2]] == [ua.StatusCodes.UncertainInitialValue, BAD_OUT]
        assert plain(got[2]) is False
