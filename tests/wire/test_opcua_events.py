"""Results and alarms as events, heard by node-opcua-client: a client of another maker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import pytest
import pytest_asyncio
from asyncua import Client, Node, ua
from asyncua.common.events import get_filter_from_event_type

from bridge.domain.alarms import ALARMS
from bridge.domain.verdict import VerdictCode
from bridge.outputs.opcua.server import OpcUaServer
from bridge.outputs.plc.panel import PlcPanel
from bridge.ports import Alarm
from tests.foreign.node import NodeProgram, need_node, node_program
from tests.outputs.samples import DECIDED_UTC_NS, MS, READY, outcome

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]  # its packages may come first

RESULT = "ns=2;s=ResultReadyEventType"
ALARM = "ns=2;s=StationAlarmType"
CONDITION = "i=2782"
STATION, LINE, SERVER = "ns=2;s=line1.station1", "ns=2;s=line1", "i=2253"


class Line:
    """Two stations on one server."""

    def __init__(self) -> None:
        need_node()
        self.panels = [PlcPanel(station=name, post=lambda _: None) for name in ("station1", "station2")]
        self.server = OpcUaServer(
            self.panels,
            line="line1",
            endpoint="opc.tcp://127.0.0.1:0/linegate/",
            clock_ns=lambda: 5 * MS,
            anonymous=True,
        )

    async def start(self) -> Line:
        self.url = f"opc.tcp://127.0.0.1:{await self.server.start()}/linegate/"
        for panel in self.panels:
            panel.show(READY, now_ns=0)
        return self

    def hears(self, notifier: str, kind: str, *fields: str, queue: int = 1) -> AbstractAsyncContextManager[NodeProgram]:
        return node_program("watch_events.js", self.url, notifier, kind, str(queue), *fields)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def line() -> AsyncIterator[Line]:
    running = await Line().start()
    yield running
    await running.server.stop()


def alarm(name: str, *, raised: bool = True, at_ms: int = 0) -> Alarm:
    return Alarm(kind=ALARMS[name], raised=raised, text=f"about {name}", at_utc_ns=DECIDED_UTC_NS + at_ms * MS)


async def listening(program: NodeProgram) -> None:
    assert (await program.next())["listening"]


async def test_every_live_verdict_is_an_event_with_the_whole_result(line: Line) -> None:
    fields = ("EventType", "SourceNode", "SourceName", "Time", "Severity", "Message", "2:PartId", "2:Sequence", "2:Verdict",
              "2:Disposition", "2:Label", "2:LabelId", "2:Score", "2:Reason", "2:LatencyMs", "2:TriggeredAt",
              "2:Json")  # fmt: skip
    async with line.hears(STATION, RESULT, *fields) as program:
        await listening(program)
        line.panels[0].publish(outcome(7))
        line.panels[0].publish(outcome(8, replayed=True))
        line.panels[1].publish(outcome(9))
        line.panels[0].publish(outcome(10, code=VerdictCode.PASS))
        first, second = await program.next(), await program.next()
        line.panels[0].publish(outcome(11))
        assert (await program.next())["2:Sequence"] == 11
    assert first == {
        "EventType": RESULT, "SourceNode": STATION, "SourceName": "line1.station1",
        "Time": "2026-11-18T11:06:40.123Z", "Severity": 200, "Message": "A-000007: FAIL, crack 0.93",
        "2:PartId": "A-000007", "2:Sequence": 7, "2:Verdict": 2, "2:Disposition": 2, "2:Label": "crack", "2:LabelId": 2,
        "2:Score": 0.93, "2:Reason": "crack 0.93", "2:LatencyMs": 6, "2:TriggeredAt": "2026-11-18T11:06:40.117Z",
        "2:Json": '{"sequence": 7}',
    }  # fmt: skip
    assert (second["2:Sequence"], second["2:Verdict"], second["2:Disposition"], second["Severity"]) == (10, 1, 1, 100)


@pytest.mark.parametrize(("notifier", "stations"), [(LINE, {7, 9}), (SERVER, {7, 9}), (STATION, {7})])
async def test_a_line_and_the_server_tell_of_all_their_stations(line: Line, notifier: str, stations: set[int]) -> None:
    async with line.hears(notifier, "-", "2:Sequence", "SourceName") as program:
        await listening(program)
        line.panels[0].publish(outcome(7))
        line.panels[1].publish(outcome(9))
        assert {(await program.next())["2:Sequence"] for _ in stations} == stations


async def test_a_queue_of_one_loses_no_event_of_many_that_come_at_once(line: Line) -> None:
    async with line.hears(SERVER, RESULT, "2:Sequence", "EventId", queue=1) as program:
        assert (await program.next())["queue"] == 1_000
        for sequence in range(900):
            line.panels[0].publish(outcome(sequence))
        heard = [await program.next() for _ in range(900)]
    assert [each["2:Sequence"] for each in heard] == list(range(900))
    assert len({each["EventId"] for each in heard}) == 900


async def test_an_alarm_is_a_condition_that_is_raised_and_cleared(line: Line) -> None:
    fields = ("EventType", "ConditionName", "2:Code", "Severity", "Message", "Retain", "ActiveState", "ActiveState.Id",
              "AckedState.Id", "EnabledState.Id", "2:StopRequest", "2:Latched", "2:Degraded", "SuppressedOrShelved",
              "ConditionClassId", "EventId")  # fmt: skip
    async with line.hears(STATION, "i=2915", *fields) as program:
        await listening(program)
        line.panels[0].publish(outcome(7))
        line.panels[0].alarm(alarm("ORDER_MISSED"))
        line.panels[0].alarm(alarm("CAMERA_LOST", at_ms=1))
        line.panels[0].alarm(alarm("COLLATERAL", at_ms=2))
        line.panels[0].alarm(alarm("CAMERA_LOST", raised=False, at_ms=3))
        told = [await program.next() for _ in range(4)]
    assert len({each.pop("EventId") for each in told}) == 4
    assert told[0] == {
        "EventType": ALARM, "ConditionName": "ORDER_MISSED", "2:Code": 1, "Severity": 900, "Message": "about ORDER_MISSED",
        "Retain": True, "ActiveState": "Active", "ActiveState.Id": True, "AckedState.Id": True, "EnabledState.Id": True,
        "2:StopRequest": True, "2:Latched": True, "2:Degraded": False, "SuppressedOrShelved": False,
        "ConditionClassId": "ns=0;i=11166",
    }  # fmt: skip
    assert [(each["2:Code"], each["Severity"], each["Retain"], each["ActiveState"]) for each in told[1:]] == [
        (34, 700, True, "Active"), (28, 400, True, "Active"), (34, 700, False, "Inactive"),
    ]  # fmt: skip


async def test_who_comes_later_is_told_what_stands(line: Line) -> None:
    for panel in line.panels:
        for standing in tuple(panel.alarms):
            panel.alarm(alarm(standing, raised=False))
    line.panels[0].alarm(alarm("ORDER_MISSED"))
    line.panels[0].alarm(alarm("CAMERA_LOST"))
    line.panels[0].alarm(alarm("CAMERA_LOST", raised=False, at_ms=1))
    line.panels[1].alarm(alarm("BROKER_LOST"))
    async with line.hears(SERVER, CONDITION, "EventType", "ConditionName", "SourceName", "Retain") as program:
        await listening(program)
        program.tell("refresh")
        told = [await program.next() for _ in range(5)]
        begin, first, second, end = (each for each in told if "refreshed" not in each)
        assert {"refreshed": "Good"} in told
    assert (begin["EventType"], end["EventType"]) == ("ns=0;i=2787", "ns=0;i=2788")
    assert [(each["ConditionName"], each["SourceName"], each["Retain"]) for each in (first, second)] == [
        ("ORDER_MISSED", "line1.station1", True), ("BROKER_LOST", "line1.station2", True),
    ]  # fmt: skip


class Heard:
    """What one asyncua subscriber was told."""

    def __init__(self) -> None:
        self.sequences: list[int] = []

    def event_notification(self, event: object) -> None:
        self.sequences.append(event.Sequence)  # type: ignore[attr-defined]


async def event_filter(client: Client, *, where: bool) -> ua.EventFilter:
    return await get_filter_from_event_type([client.get_node(RESULT)], where_clause_generation=where)


async def subscribe(client: Client, wanted: ua.EventFilter, node: str = STATION) -> ua.MonitoredItemCreateResult:
    created = await client.uaclient.create_subscription(
        ua.CreateSubscriptionParameters(
            RequestedPublishingInterval=50, RequestedLifetimeCount=1_000, RequestedMaxKeepAliveCount=100,
            PublishingEnabled=True,
        ), lambda _: None,
    )  # fmt: skip
    watch = ua.ReadValueId(NodeId=ua.NodeId.from_string(node), AttributeId=ua.AttributeIds.EventNotifier)
    asked = ua.MonitoringParameters(ClientHandle=1, QueueSize=1, Filter=wanted)
    item = ua.MonitoredItemCreateRequest(
        ItemToMonitor=watch, MonitoringMode=ua.MonitoringMode.Reporting, RequestedParameters=asked
    )
    (answer,) = await client.uaclient.create_monitored_items(
        ua.CreateMonitoredItemsParameters(
            SubscriptionId=created.SubscriptionId, TimestampsToReturn=ua.TimestampsToReturn.Both, ItemsToCreate=[item]
        )
    )
    return answer


def clause(*names: str) -> ua.SimpleAttributeOperand:
    path = [ua.QualifiedName(name, 0) for name in names]
    return ua.SimpleAttributeOperand(AttributeId=ua.AttributeIds.Value, BrowsePath=path)


def element(operator: ua.FilterOperator, *operands: object) -> ua.ContentFilterElement:
    return ua.ContentFilterElement(FilterOperator=operator, FilterOperands=list(operands))


def wants(*elements: ua.ContentFilterElement, select: tuple[str, ...] = ("Sequence",)) -> ua.EventFilter:
    return ua.EventFilter(SelectClauses=[clause(each) for each in select], WhereClause=ua.ContentFilter(list(elements)))


LOOP = element(ua.FilterOperator.Not, ua.ElementOperand(0))
REFUSED = {
    "no field": ua.EventFilter(),
    "a loop": wants(LOOP),
    "an element that is not there": wants(element(ua.FilterOperator.Not, ua.ElementOperand(7))),
    "too few operands": wants(element(ua.FilterOperator.Equals)),
    "an operator that is not understood": wants(element(ua.FilterOperator.InView, ua.LiteralOperand(ua.Variant(1)))),
    "too many elements": wants(*[element(ua.FilterOperator.IsNull, clause("Sequence"))] * 101),
    "no filter of events": ua.DataChangeFilter(),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_filter_that_can_not_be_worked_out_is_refused(line: Line, case: str) -> None:
    async with Client(line.url) as client:
        answer = await subscribe(client, REFUSED[case])
        assert answer.StatusCode.value == ua.StatusCodes.BadEventFilterInvalid


async def test_odd_filters_cost_no_other_subscriber_an_event(line: Line) -> None:
    odd = (
        wants(select=("tell", "fields", "__class__", "data_types", "internal_properties", "Nothing")),
        wants(element(ua.FilterOperator.GreaterThan, clause("PartId"), ua.LiteralOperand(ua.Variant(5)))),
        wants(element(ua.FilterOperator.GreaterThan, clause("Nowhere"), ua.LiteralOperand(ua.Variant(5)))),
        wants(element(ua.FilterOperator.OfType, ua.LiteralOperand(ua.Variant([1, 2])))),
    )
    async with Client(line.url) as strange, Client(line.url) as plain:
        for each in odd:
            assert (await subscribe(strange, each)).StatusCode.is_good()
        heard = Heard()
        subscription = await plain.create_subscription(10, heard)
        await subscription.subscribe_events(
            plain.get_node(STATION), evfilter=await event_filter(plain, where=True), queuesize=1
        )
        for sequence in range(50):
            line.panels[0].publish(outcome(sequence))
        for _ in range(200):
            if len(heard.sequences) == 50:
                break
            await asyncio.sleep(0.02)
        assert heard.sequences == list(range(50))


async def test_who_listens_and_takes_nothing_costs_no_other_subscriber_an_event(line: Line) -> None:
    dead = Client(line.url)
    await dead.connect()
    async with Client(line.url) as plain:
        for interval in (0, 10):
            subscription = await dead.create_subscription(interval, Heard())
            await subscription.subscribe_events(dead.get_node(SERVER), evfilter=await event_filter(dead, where=False))
        protocol = dead.uaclient.protocol
        assert protocol is not None
        transport = protocol.transport
        transport.pause_reading()
        heard = Heard()
        subscription = await plain.create_subscription(10, heard)
        await subscription.subscribe_events(plain.get_node(STATION), evfilter=await event_filter(plain, where=True))
        for sequence in range(400):
            line.panels[0].publish(replace(outcome(sequence), document="x" * 20_000))
            await asyncio.sleep(0.002)
            if sequence == 200:
                transport.abort()
        for _ in range(200):
            if len(heard.sequences) == 400:
                break
            await asyncio.sleep(0.02)
        assert heard.sequences == list(range(400))
    with contextlib.suppress(OSError, ua.UaError, TimeoutError):
        await asyncio.wait_for(dead.disconnect(), 2)


async def test_a_where_clause_chooses_by_fields(line: Line) -> None:
    rejected = element(ua.FilterOperator.Equals, clause("Disposition"), ua.LiteralOperand(ua.Variant(2)))
    low = element(ua.FilterOperator.LessThan, clause("Sequence"), ua.LiteralOperand(ua.Variant(3)))
    both = element(ua.FilterOperator.And, ua.ElementOperand(1), ua.ElementOperand(2))
    async with Client(line.url) as client:
        heard = Heard()
        subscription = await client.create_subscription(10, heard)
        wanted = await event_filter(client, where=False)
        wanted.WhereClause = ua.ContentFilter([both, rejected, low])
        await subscription.subscribe_events(client.get_node(LINE), evfilter=wanted)
        for sequence in range(6):
            code = VerdictCode.PASS if sequence == 1 else VerdictCode.FAIL
            line.panels[0].publish(outcome(sequence, code=code))
        for _ in range(100):
            if len(heard.sequences) == 2:
                break
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.05)
        assert heard.sequences == [0, 2]


async def test_a_subscription_holds_no_more_than_its_bounds(line: Line) -> None:
    async with Client(line.url) as client:
        subscription = await client.create_subscription(100, Heard())
        for _ in range(10):
            await subscription.subscribe_events(client.get_node(STATION), evfilter=wants())
        with pytest.raises(ua.UaStatusCodeError) as error:
            await subscription.subscribe_events(client.get_node(STATION), evfilter=wants())
        assert error.value.code == ua.StatusCodes.BadTooManyMonitoredItems
        leaf = client.get_node(f"{STATION}.Result.Sequence")
        answers = await subscription.subscribe_data_change([leaf] * 1_000)
        refused = [each for each in answers if isinstance(each, ua.StatusCode)]
        assert [each.value for each in refused] == [ua.StatusCodes.BadTooManyMonitoredItems] * 10


async def test_the_types_are_browsed_with_their_fields(line: Line) -> None:
    async with Client(line.url) as client:
        for kind, base, fields in (
            (RESULT, "i=2041", {"PartId", "Sequence", "Verdict", "Disposition", "Label", "LabelId", "Score", "Reason",
                                "LatencyMs", "TriggeredAt", "Json", "Written"}),
            (ALARM, "i=2915", {"Code", "StopRequest", "Degraded", "Latched"}),
        ):  # fmt: skip
            node: Node = client.get_node(kind)
            parent = await node.get_parent()
            assert parent is not None
            assert parent.nodeid.to_string() == base
            assert {(await each.read_browse_name()).Name for each in await node.get_properties()} == fields
        notified = await client.get_node(SERVER).get_referenced_nodes(refs=ua.ObjectIds.HasNotifier)
        assert {each.nodeid.to_string() for each in notified} >= {LINE, STATION, "ns=2;s=line1.station2"}
