"""OPC UA messages that would keep the library busy for ever, or fill the log: the connection ends, and no other one."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from asyncua import Client, ua
from asyncua.common.utils import Buffer, NotEnoughData
from asyncua.ua.ua_binary import struct_to_binary

from bridge.outputs.opcua.server import OpcUaServer
from bridge.outputs.opcua.transport import StrictBuffer
from bridge.outputs.plc.panel import PlcPanel
from tests.outputs.samples import MS, READY, outcome
from tests.wire.opcua_fuzz import framed, hello

pytestmark = pytest.mark.asyncio(loop_scope="module")

MARK = struct.pack("<BI", 7, 0x0A0B0C0D)  # a variant of a UInt32
MANY = struct.pack("<i", 2**31 - 1)
ENDLESS = {
    "an array of nulls": b"\x80" + MANY,
    "a matrix of nulls": b"\xc0" + MANY,
    "texts of a length below zero": b"\x8c" + MANY + struct.pack("<i", -5) * 40,
    "an array of more than 1,000": b"\x98" + struct.pack("<i", 1_001) + bytes(1_001),
    "a text of 600 kB": b"\x0c" + struct.pack("<i", 600_000) + b"x" * 600_000,
    "nulls in an array of variants": b"\x98" + struct.pack("<i", 1) + b"\x80" + MANY,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url() -> AsyncIterator[str]:
    panel = PlcPanel(station="station1", post=lambda _: None)
    server = OpcUaServer(
        [panel], line="line1", endpoint="opc.tcp://127.0.0.1:0/linegate/", clock_ns=lambda: 5 * MS, anonymous=True
    )
    port = await server.start()
    panel.show(READY, now_ns=0)
    panel.publish(outcome())
    yield f"opc.tcp://127.0.0.1:{port}/linegate/"
    await server.stop()


async def served(client: Client) -> bool:
    """Whether a good client is answered within a second."""
    async with asyncio.timeout(1):
        got = await client.get_node("ns=2;s=line1.station1.Result.Sequence").read_value()
    return bool(got == 123_456)


@pytest.mark.parametrize("case", ENDLESS)
async def test_what_would_be_read_for_ever_is_refused(url: str, case: str) -> None:
    async with Client(url) as good:
        bad = Client(url)
        await bad.connect()
        protocol: Any = bad.uaclient.protocol
        request = ua.WriteRequest()
        request.RequestHeader.AuthenticationToken = protocol.authentication_token
        value = ua.DataValue(ua.Variant(0x0A0B0C0D, ua.VariantType.UInt32))
        node = ua.NodeId.from_string("ns=2;s=line1.station1.Control.EncoderCount")
        request.Parameters.NodesToWrite = [
            ua.WriteValue(NodeId=node, AttributeId=ua.AttributeIds.Value, Value=value),
            ua.WriteValue(NodeId=node, AttributeId=ua.AttributeIds.Value, Value=value),
        ]
        body = struct_to_binary(request)
        assert MARK in body
        protocol.transport.write(
            protocol._connection.message_to_binary(
                body.replace(MARK, ENDLESS[case], 1), ua.MessageType.SecureMessage, 999
            )
        )
        for _ in range(5):
            await asyncio.sleep(0.05)
            assert await served(good)
        assert (await good.get_node("ns=2;s=line1.station1.Control.EncoderCount").read_value()) == 0
        if protocol.transport is not None:
            protocol.transport.abort()


async def test_more_than_5000_values_are_not_read_at_once(url: str) -> None:
    async with Client(url) as client:
        nodes = [client.get_node("ns=2;s=line1.station1.Result.Sequence")]
        assert len(await client.read_attributes(nodes * 5_000)) == 5_000
        with pytest.raises(ua.UaStatusCodeError) as error:
            await client.read_attributes(nodes * 5_001)
        assert error.value.code == ua.StatusCodes.BadTooManyOperations


@pytest.mark.parametrize(
    "message",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        framed(b"XYZ", bytes(20)),
        framed(b"MSG", bytes(4), size=2**31),
        framed(b"HEL", bytes(4), size=7),
        framed(b"MSG", bytes(70_000)),
        framed(b"OPN", bytes(40)),
        framed(b"HEL", struct.pack("<5Ii", 0, 0, 0, 0, 0, -7)),
    ],
)
async def test_what_is_no_message_ends_the_connection_at_once_and_is_not_logged(
    url: str, message: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    port = urlsplit(url).port or 0
    for first in (b"", hello(url)):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(first + message)
        async with asyncio.timeout(2):
            try:
                while await reader.read(1_000):
                    pass
            except ConnectionError:
                pass
        writer.close()
    assert "".join(capfd.readouterr()) == ""
    assert logging.getLogger("asyncua").level == logging.CRITICAL


async def test_more_than_1000_nodes_are_not_browsed_at_once(url: str) -> None:
    async with Client(url) as client:
        one = ua.BrowseDescription(NodeId=ua.NodeId.from_string("ns=2;s=line1.station1"))
        assert len(await client.uaclient.browse(ua.BrowseParameters(NodesToBrowse=[one] * 1_000))) == 1_000
        with pytest.raises(ua.UaStatusCodeError) as error:
            await client.uaclient.browse(ua.BrowseParameters(NodesToBrowse=[one] * 1_001))
        assert error.value.code == ua.StatusCodes.BadTooManyOperations


def buffers(count: int) -> tuple[StrictBuffer, StrictBuffer]:
    whole = StrictBuffer.of(Buffer(b"\x80" + struct.pack("<i", count) + bytes(4)))
    return whole, whole.copy()


async def test_a_buffer_gives_no_long_array_and_never_steps_back() -> None:
    for buffer in buffers(1_001):
        assert buffer.read(1) == b"\x80"
        with pytest.raises(NotEnoughData):
            buffer.read(4)
    for buffer in buffers(1_000):
        buffer.read(1)
        assert buffer.read(4) == struct.pack("<i", 1_000)
        for back in (buffer.read, buffer.skip):
            with pytest.raises(NotEnoughData):
                back(-1)
