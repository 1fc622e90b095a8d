"""Who is let in: addresses and networks, IPv4 and IPv6, and no more than the cap; with mbpoll where it can."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from tests.wire.mbpoll import needs_mbpoll, over_tcp
from tests.wire.modbus_bench import Bench, RawClient


def _has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6 on loopback")


@contextlib.asynccontextmanager
async def serving(**settings: object) -> AsyncIterator[Bench]:
    bench = await Bench().start(**settings)  # type: ignore[arg-type]
    yield bench
    await bench.stop()


async def is_served(bench: Bench, host: str, *, source: str | None = None) -> bool:
    local = (source, 0) if source else None
    client = RawClient(*await asyncio.open_connection(host, bench.port, local_addr=local))
    try:
        return await client.registers(4, 1, 1) == [0]
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return False
    finally:
        client.close()


@needs_ipv6
@pytest.mark.parametrize(
    ("allow", "served"),
    [("::1", True), ("::/0", True), ("::1/128", True), ("fd00::/8", False), ("127.0.0.1", False), ("::2", False)],
)
async def test_an_ipv6_client_is_let_in_by_its_network(allow: str, served: bool) -> None:
    async with serving(host="::1", allow=(allow,)) as bench:
        assert await is_served(bench, "::1") is served


@needs_ipv6
async def test_one_port_for_both_and_ipv4_clients_are_known_by_their_ipv4_address() -> None:
    async with serving(host="::", allow=("127.0.0.1", "::1")) as bench:
        assert await is_served(bench, "::1")
        assert await is_served(bench, "127.0.0.1")
        assert not await is_served(bench, "127.0.0.1", source="127.0.0.2")


@pytest.mark.parametrize(
    ("allow", "source", "served"),
    [
        ("127.0.0.0/30", "127.0.0.3", True), ("127.0.0.0/30", "127.0.0.4", False), ("127.0.0.9/24", "127.0.0.200", True),
        ("127.0.1.0/24", "127.0.0.1", False), ("0.0.0.0/0", "127.9.9.9", True), ("10.0.0.0/8", "127.0.0.1", False),
    ],
)  # fmt: skip
async def test_an_ipv4_client_is_let_in_by_its_network(allow: str, source: str, served: bool) -> None:
    async with serving(allow=(allow,)) as bench:
        assert await is_served(bench, "127.0.0.1", source=source) is served


@needs_mbpoll
async def test_mbpoll_from_an_address_that_is_not_allowed_gets_nothing() -> None:
    async with serving(allow=("10.0.0.0/8",)) as bench:
        told = await over_tcp(bench.port, "-t", "3", "-r", 1)
        assert told.values == {}
    async with serving(allow=("10.0.0.0/8", "127.0.0.0/8")) as bench:
        assert (await over_tcp(bench.port, "-t", "3", "-r", 1)).values == {1: 0}


@needs_mbpoll
async def test_mbpoll_over_the_cap_gets_nothing_until_a_place_is_free() -> None:
    async with serving(max_connections=2) as bench:
        clients = [await RawClient.connect(bench.port) for _ in range(2)]
        for each in clients:
            assert await each.registers(4, 1, 1) == [0]
        assert (await over_tcp(bench.port, "-t", "3", "-r", 1)).values == {}
        clients[0].close()
        await clients[0].writer.wait_closed()
        await asyncio.sleep(0.05)
        assert (await over_tcp(bench.port, "-t", "3", "-r", 1)).values == {1: 0}
        clients[1].close()


@needs_mbpoll
async def test_without_the_mirror_mbpoll_finds_no_holding_registers_there() -> None:
    async with serving(mirror=False) as bench:
        assert "Illegal data address" in (await over_tcp(bench.port, "-t", "4", "-r", 1_000)).text
        assert (await over_tcp(bench.port, "-t", "3", "-r", 1)).values == {1: 0}
