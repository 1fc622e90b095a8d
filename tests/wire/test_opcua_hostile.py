"""OPC UA clients that never log in, flood, read nothing or vanish: the PLC beside them reads its results all the while."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import struct
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from asyncua import Client, Node, ua

from bridge.outputs.opcua.server import MAX_CONNECTIONS, OpcUaServer
from bridge.outputs.plc.panel import PlcPanel
from tests.outputs.samples import MS, READY, outcome

PATIENCE_S = 0.6
URL = "opc.tcp://127.0.0.1:{}/linegate/"
STATION = "ns=2;s=line1.station1."
MANY_MESSAGES = logging.getLogger("asyncua")


@dataclass
class Bench:
    panel: PlcPanel
    port: int
    server: OpcUaServer

    @property
    def url(self) -> str:
        return URL.format(self.port)

    @property
    def connected(self) -> int:
        assert self.server._server is not None
        assert self.server._server.bserver is not None
        return len(self.server._server.bserver.clients)

    async def stranger(self, *, sends: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(sends)
        return reader, writer


pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.soak]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Bench]:
    MANY_MESSAGES.setLevel(logging.CRITICAL)
    panel = PlcPanel(station="station1", post=lambda _message: None)
    server = OpcUaServer(
        [panel],
        line="line1",
        endpoint=URL.format(0),
        clock_ns=lambda: 5_010 * MS,
        anonymous=True,
        patience_s=PATIENCE_S,
    )
    port = await server.start()
    assert port is not None
    panel.show(READY, now_ns=5_010 * MS)
    yield Bench(panel=panel, port=port, server=server)
    await server.stop()


@pytest.fixture
def bench(running: Bench) -> Bench:
    running.panel.publish(outcome())
    return running


async def sees_the_verdict(plc: Client, sequence: int = 123_456) -> None:
    nodes = [plc.get_node(STATION + name) for name in ("Result.Sequence", "Result.Verdict")]
    assert [value.Value.Value for value in await plc.read_attributes(nodes)] == [sequence, 2]


async def closed(reader: asyncio.StreamReader) -> bool:
    with contextlib.suppress(ConnectionError):
        while await asyncio.wait_for(reader.read(65_536), 15):
            pass
    return True


def hello(url: str) -> bytes:
    body = struct.pack("<5I", 0, 65_536, 65_536, 0, 0) + struct.pack("<I", len(url)) + url.encode()
    return b"HELF" + struct.pack("<I", len(body) + 8) + body


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("kind", ["nothing", "half a channel"])
async def test_connections_without_a_session_are_closed_and_their_places_are_free_again(
    bench: Bench, kind: str
) -> None:
    first = {
        "nothing": b"",
        "half a channel": hello(bench.url) + b"OPNF" + struct.pack("<I", 132) + bytes(60),
    }[kind]  # fmt: skip
    async with Client(bench.url) as plc:
        strangers = [await bench.stranger(sends=first) for _ in range(MAX_CONNECTIONS - 1)]
        await sees_the_verdict(plc)
        surplus, writer = await bench.stranger()
        assert await closed(surplus)
        writer.close()
        begun = time.monotonic()
        for reader, writer in strangers:
            assert await closed(reader)
            writer.close()
        assert time.monotonic() - begun < 10 * PATIENCE_S
        async with Client(bench.url) as another:
            await sees_the_verdict(another)
        await asyncio.sleep(2 * PATIENCE_S)
        await sees_the_verdict(plc)


async def test_a_message_that_announces_4_gb_is_cut_off(bench: Bench) -> None:
    before = resident_mib()
    async with Client(bench.url) as plc:
        reader, writer = await bench.stranger(sends=hello(bench.url) + b"MSGF" + struct.pack("<I", 2**32 - 1))
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 400_000_000:
                writer.write(bytes(250_000))
                sent += 250_000
                await writer.drain()
                if sent % 5_000_000 == 0:
                    await sees_the_verdict(plc)
        assert sent < 200_000_000
        assert await closed(reader)
        writer.close()
        await sees_the_verdict(plc)
    assert resident_mib() < before + 100


async def log_in(url: str, *, session_ms: int = 60_000) -> Client:
    """Connect and let nothing keep the session alive afterwards."""
    client = Client(url, timeout=30)
    client.session_timeout = session_ms
    await client.connect()
    return client


async def vanish(client: Client) -> None:
    """Cut the connection and end what the library does beside it."""
    transport = client.uaclient.protocol.transport if client.uaclient.protocol else None
    if transport is not None:
        transport.abort()
    with contextlib.suppress(Exception):
        await client.disconnect()


async def test_a_client_that_asks_and_reads_nothing_is_cut_off(bench: Bench) -> None:
    async with Client(bench.url) as plc:
        deaf = await log_in(bench.url)
        params = ua.ReadParameters()
        for _ in range(200):
            node = ua.NodeId.from_string(STATION + "Ring.Words")
            params.NodesToRead.append(ua.ReadValueId(NodeId=node, AttributeId=ua.AttributeIds.Value))
        request = ua.ReadRequest(Parameters=params)
        protocol = deaf.uaclient.protocol
        protocol.transport.pause_reading()
        before, asked = resident_mib(), []
        begun, turn = time.monotonic(), 0
        while bench.connected > 1:
            assert time.monotonic() - begun < 25
            turn += 1
            asked.append(asyncio.ensure_future(protocol.send_request(request)))
            await asyncio.sleep(0.005)
            if turn % 50 == 0:
                await sees_the_verdict(plc)
                with contextlib.suppress(RuntimeError):
                    protocol.transport.pause_reading()
        assert resident_mib() < before + 60
        for each in asked:
            each.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        await sees_the_verdict(plc)
        await vanish(deaf)


class Quiet:
    """A subscriber that wants nothing."""

    def datachange_notification(self, _node: Node, _value: object, _data: object) -> None:
        """Look away."""


async def test_who_subscribes_to_everything_at_no_interval_and_reads_nothing_stops_nobody(bench: Bench) -> None:
    async with Client(bench.url) as plc:
        greedy = await log_in(bench.url)
        leaves: list[Node] = []
        for group in ("Status", "Result", "Gate", "Ring", "Counters", "Control"):
            leaves += await greedy.get_node(STATION + group).get_children()
        for _ in range(10):
            subscription = await greedy.create_subscription(0.001, Quiet())
            await subscription.subscribe_data_change(leaves, queuesize=0)
        assert subscription.parameters.RequestedPublishingInterval == 5.0, "as the server revised it"
        greedy.uaclient.protocol.transport.pause_reading()
        before, slowest = resident_mib(), 0.0
        for sequence in range(1, 301):
            bench.panel.publish(outcome(sequence))
            begun = time.monotonic()
            await sees_the_verdict(plc, sequence)
            slowest = max(slowest, time.monotonic() - begun)
        assert slowest < 1.0
        assert resident_mib() < before + 80
        await vanish(greedy)
        await sees_the_verdict(plc, 300)


async def visit(bench: Bench, kind: int) -> None:
    if kind == 3:
        async with Client(bench.url) as client:
            assert await client.get_node(STATION + "Result.Verdict").read_value() == 2
        return
    _, writer = await bench.stranger(sends=(b"", b"HELF", hello(bench.url), b"")[kind])
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def level(bench: Bench) -> tuple[int, int, int, int]:
    assert bench.server._server is not None
    iserver = bench.server._server.iserver
    return (
        open_files(), len(asyncio.all_tasks()), len(iserver._external_sessions), len(iserver.subscription_service.subscriptions)
    )  # fmt: skip


async def settles(bench: Bench, expected: tuple[int, int, int, int], limit_s: float = 20) -> None:
    until = time.monotonic() + limit_s
    while any(have > want for have, want in zip(await level(bench), expected, strict=True)):
        assert time.monotonic() < until, (await level(bench), expected)
        await asyncio.sleep(0.1)


async def test_many_connections_that_come_and_go_leave_nothing_behind(bench: Bench) -> None:
    async with Client(bench.url) as plc:
        for kind in range(4):
            await visit(bench, kind)
        before = await level(bench)
        for turn in range(300):
            await visit(bench, 3 if turn % 20 == 0 else turn % 3)
            if turn % 50 == 0:
                await sees_the_verdict(plc)
        await settles(bench, before)
        await sees_the_verdict(plc)


@pytest.mark.soak
@pytest.mark.timeout(170)
async def test_a_thousand_reconnections_with_and_without_farewell_leave_nothing_behind(bench: Bench) -> None:
    async with Client(bench.url) as plc:
        for _ in range(5):
            await visit(bench, 3)
        before, memory = await level(bench), resident_mib()
        for turn in range(1_000):
            if turn % 10:
                await visit(bench, turn % 3 if turn % 4 else 3)
                continue
            client = await log_in(bench.url, session_ms=5_000)
            with contextlib.suppress(ua.UaStatusCodeError):  # abandoned ones are counted until their sessions end
                subscription = await client.create_subscription(100, Quiet())
                await subscription.subscribe_data_change(client.get_node(STATION + "Result.Sequence"))
            await vanish(client)
            bench.panel.publish(outcome(turn + 1))
            await sees_the_verdict(plc, turn + 1)
        await settles(bench, before, limit_s=40)
        assert resident_mib() < memory + 60
        await sees_the_verdict(plc, 991)


@pytest.mark.soak
@pytest.mark.timeout(60)
async def test_an_idle_session_ends_and_takes_its_connection_along(bench: Bench) -> None:
    async with Client(bench.url) as plc:
        before = asyncio.all_tasks()
        idle = await log_in(bench.url, session_ms=5_000)
        ours = asyncio.current_task()
        for task in asyncio.all_tasks() - before - {ours}:
            # what the library does to keep a session alive, and not the server's side of the connection
            if getattr(task.get_coro(), "__qualname__", "").startswith("Client."):
                task.cancel()
        begun, transport = time.monotonic(), idle.uaclient.protocol.transport
        while not transport.is_closing():
            assert time.monotonic() - begun < 20
            await asyncio.sleep(0.1)
        assert time.monotonic() - begun > 4
        await vanish(idle)
        await sees_the_verdict(plc)
