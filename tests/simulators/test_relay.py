"""The relay between conveyor and broker, with real sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from simulators.demo.relay import Relay
from tests.ports import free_ports


@asynccontextmanager
async def relayed(port: int) -> AsyncIterator[Relay]:
    relay = Relay(host="127.0.0.1", port=port)
    await relay.start()
    try:
        yield relay
    finally:
        await relay.stop()


@asynccontextmanager
async def echo(port: int) -> AsyncIterator[asyncio.Server]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1000):
            writer.write(piece)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", port) as server:
        yield server


async def is_hung_up_on(relay: Relay) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.listens_on)
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_pieces_come_in_order_and_no_sooner_than_their_delay() -> None:
    port = free_ports(1)[0]
    async with echo(port), relayed(port) as relay:
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.listens_on)
        writer.write(b"at once")
        assert await reader.readexactly(7) == b"at once"
        relay.delay(200.0, 100.0)
        sent_s = time.monotonic()
        for number in range(20):
            writer.write(b"%02d" % number)
            await asyncio.sleep(0.005)
        assert await reader.readexactly(40) == b"".join(b"%02d" % number for number in range(20))
        assert time.monotonic() - sent_s >= 0.3
        relay.delay(0.0)
        writer.write(b"after")
        assert await reader.readexactly(5) == b"after"
        writer.close()


async def test_what_is_sent_after_a_delay_overtakes_nothing() -> None:
    port = free_ports(1)[0]
    async with echo(port), relayed(port) as relay:
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.listens_on)
        relay.delay(300.0)
        writer.write(b"slow ")
        await asyncio.sleep(0.05)
        relay.delay(0.0)
        writer.write(b"quick")
        assert await reader.readexactly(10) == b"slow quick"
        writer.close()


async def test_a_server_that_is_away_or_goes_closes_the_client_s_end() -> None:
    port = free_ports(1)[0]
    async with relayed(port) as relay:
        await is_hung_up_on(relay)

        async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        async with await asyncio.start_server(hang_up, "127.0.0.1", port):
            await is_hung_up_on(relay)
