"""What holds without security holds with it: limits, sessions that survive a lost connection, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from asyncua import Client, ua

from bridge.outputs.opcua.server import MAX_CONNECTIONS, MAX_SUBSCRIPTIONS, SESSION_TIMEOUT_MS
from tests.outputs.samples import outcome
from tests.wire.opcua_clients import PASSWORD, POLICIES, STATION, Pair, SecuredBench, make_pair, secured, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SecuredBench]:
    async with secured(tmp_path_factory.mktemp("opcua")) as running:
        running.panel.publish(outcome(7))
        yield running


class Ears:
    """Notes what a subscription tells."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def datachange_notification(self, _node: object, value: object, _data: object) -> None:
        self.heard.append(value)


async def test_connections_and_subscriptions_are_capped_and_sessions_shortened(bench: SecuredBench) -> None:
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(bench.connected("plc1"))
        assert first.session_timeout <= SESSION_TIMEOUT_MS
        for _ in range(MAX_CONNECTIONS - 1):
            await stack.enter_async_context(bench.connected("eyes"))
        with pytest.raises((ConnectionError, TimeoutError, ua.UaError, asyncio.CancelledError)):
            async with bench.connected("eyes", timeout=1):
                pass
        for _ in range(MAX_SUBSCRIPTIONS):
            await first.create_subscription(100, Ears())
        with pytest.raises(ua.uaerrors.BadTooManySubscriptions):
            await first.create_subscription(100, Ears())
        assert await first.get_node(STATION + "Result.Sequence").read_value() == 7
    await until(lambda: not bench.server._server.bserver.clients)  # type: ignore[union-attr]


async def test_a_session_goes_on_over_a_new_channel_of_the_same_client_alone(bench: SecuredBench) -> None:
    kept = bench.folder / "session.json"
    server = bench.server._server
    assert server is not None
    stranger = make_pair(bench.folder / "stranger", name="stranger")
    bench.trust(stranger)
    await until(lambda: len(bench.server._access._trust.pinned) == 2)
    async with resumable(bench, kept, bench.client) as lost:
        await lost.create_subscription(20, Ears())  # what has none ends with its connection
        (token,) = server.iserver._external_sessions
        lost.uaclient.protocol.transport.abort()
        await until(lambda: not server.bserver.clients)  # type: ignore[union-attr]
        (tmp := bench.folder / "stolen.json").write_bytes(kept.read_bytes())
        async with resumable(bench, tmp, stranger):
            assert len(server.iserver._external_sessions) == 2, "the stranger got a session of his own"
        async with resumable(bench, kept, bench.client) as again:
            assert list(server.iserver._external_sessions) == [token]
            assert await again.get_node(STATION + "Result.Sequence").read_value() == 7


@contextlib.asynccontextmanager
async def resumable(bench: SecuredBench, kept: Path, pair: Pair) -> AsyncIterator[Client]:
    """Connect as plc1 and keep the session's token in a file, to go on with it."""
    client = Client(bench.url, timeout=4)
    client.session_state_path = kept
    client.application_uri = pair.uri
    client.set_user("plc1")
    client.set_password(PASSWORD)
    await client.set_security(POLICIES["Basic256Sha256"], *pair.files)
    await client.connect()
    try:
        yield client
    finally:
        with contextlib.suppress(ConnectionError):
            await client.disconnect()


def level(bench: SecuredBench) -> tuple[int, int, int, int]:
    server = bench.server._server
    assert server is not None
    sessions, subscriptions = server.iserver._external_sessions, server.iserver.subscription_service.subscriptions
    return len(list(Path("/proc/self/fd").iterdir())), len(asyncio.all_tasks()), len(sessions), len(subscriptions)


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_a_thousand_secured_connections_leave_nothing_behind(tmp_path: Path) -> None:
    async with secured(tmp_path, anonymous=True) as bench:
        bench.panel.publish(outcome(7))
        for turn in range(20):
            await visit(bench, turn)
        await asyncio.sleep(1)
        gc.collect()
        before, memory = level(bench), resident_mib()
        for turn in range(1_000):
            await visit(bench, turn)
        async with asyncio.timeout(30):
            while any(have > want for have, want in zip(level(bench), before, strict=True)):
                await asyncio.sleep(0.1)
        gc.collect()
        assert resident_mib() < memory + 30


async def visit(bench: SecuredBench, turn: int) -> None:
    policy, mode = (
        list(POLICIES)[turn % 3],
        (ua.MessageSecurityMode.Sign, ua.MessageSecurityMode.SignAndEncrypt)[turn % 2],
    )
    user = "plc1" if turn % 10 == 5 else None  # a password costs 0.1 s
    async with bench.connected(user, policy=policy, mode=mode) as client:
        if turn % 10 == 0:
            subscription = await client.create_subscription(100, Ears())
            await subscription.subscribe_data_change(client.get_node(STATION + "Result.Sequence"))
        assert await client.get_node(STATION + "Result.Sequence").read_value() == 7
