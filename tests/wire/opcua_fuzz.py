"""OPC UA messages that no client should send, by kinds; each is told by its kind and a number, the same every time."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary

STATION = "ns=2;s=line1.station1"
Bytes = bytes


def framed(kind: bytes, body: bytes, *, chunk: bytes = b"F", size: int | None = None) -> bytes:
    """Put the eight bytes before a body that OPC UA's TCP mapping has (part 6, 7.1.2); `size` may lie."""
    return kind + chunk + struct.pack("<I", len(body) + 8 if size is None else size) + body


def text(value: bytes) -> bytes:
    return struct.pack("<i", len(value)) + value


def hello(url: str, *, buffers: int = 65_536, version: int = 0) -> bytes:
    limits = struct.pack("<5I", version, buffers, buffers, 0, 0)
    return framed(b"HEL", limits + text(url.encode()))


def open_channel(policy: bytes = b"http://opcfoundation.org/UA/SecurityPolicy#None") -> bytes:
    """Ask for a channel without security."""
    request = ua.OpenSecureChannelRequest()
    request.Parameters.RequestedLifetime = ua.UInt32(60_000)
    request.Parameters.SecurityMode = ua.MessageSecurityMode.None_
    security = text(policy) + text(b"")[:0] + struct.pack("<ii", -1, -1)
    return framed(b"OPN", struct.pack("<I", 0) + security + struct.pack("<II", 1, 1) + struct_to_binary(request))


def noise(dice: random.Random, most: int = 400) -> bytes:
    return dice.randbytes(dice.randrange(1, most))


def flipped(dice: random.Random, message: bytes, *, after: int = 8) -> bytes:
    """Change some bytes of a message behind its header, to anything or to the ends of their range."""
    changed = bytearray(message)
    for _ in range(dice.randrange(1, 6)):
        place = dice.randrange(after, len(changed))
        changed[place] = dice.choice((0, 0xFF, 0x7F, 0x80, dice.randrange(256)))
    return bytes(changed)


def _cut(dice: random.Random, message: bytes) -> bytes:
    return message[: dice.randrange(1, len(message))]


def _deep(_dice: random.Random, url: str) -> bytes:
    """Nest a variant in variants, 200 deep, where an unopened channel would take it."""
    return hello(url) + framed(b"MSG", struct.pack("<IIII", 1, 1, 1, 1) + b"\x18" * 200)


# What is sent before there is a session; each gets the dice and the server's address.
BEFORE: dict[str, Callable[[random.Random, str], bytes]] = {
    "noise": lambda dice, _: noise(dice),
    "another protocol": lambda _, url: b"GET / HTTP/1.1\r\nHost: " + url.encode() + b"\r\n\r\n",
    "a TLS greeting": lambda dice, _: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + dice.randbytes(64),
    "hello cut short": lambda dice, url: _cut(dice, hello(url)),
    "hello with other bytes": lambda dice, url: flipped(dice, hello(url)),
    "hello with a size of its own": lambda dice, url: framed(
        b"HEL", hello(url)[8:], size=dice.choice((0, 1, 7, 8, 9, 2**31 - 1, 2**31, 2**32 - 1))
    ),
    "hello with an endless address": lambda dice, _: framed(
        b"HEL", struct.pack("<5Ii", 0, 0, 0, 0, 0, dice.choice((-2, 2**31 - 1, 100_000))) + noise(dice)
    ),
    "hello with buffers of nothing": lambda dice, url: hello(url, buffers=dice.choice((0, 1, 7, 2**32 - 1))),
    "hello of another version": lambda dice, url: hello(url, version=dice.randrange(1, 2**32)),
    "hello many times": lambda _, url: hello(url) * 20,
    "an unknown type": lambda dice, url: hello(url) + framed(dice.randbytes(3), noise(dice)),
    "an unknown kind of chunk": lambda dice, url: hello(url) + framed(b"MSG", noise(dice), chunk=dice.randbytes(1)),
    "an error, as servers send": lambda dice, url: (
        hello(url) + framed(b"ERR", struct.pack("<I", 0x80010000) + noise(dice))
    ),
    "an acknowledgement": lambda dice, url: hello(url) + framed(b"ACK", dice.randbytes(20)),
    "a message without a channel": lambda dice, url: hello(url) + framed(b"MSG", noise(dice)),
    "an oversize chunk": lambda dice, url: hello(url) + framed(b"MSG", bytes(70_000 + dice.randrange(1_000))),
    "chunks without an end": lambda dice, url: (
        hello(url) + framed(b"MSG", struct.pack("<IIII", 1, 1, 1, 1) + dice.randbytes(8_000), chunk=b"C") * 20
    ),
    "a channel cut short": lambda dice, url: hello(url) + _cut(dice, open_channel()),
    "a channel with other bytes": lambda dice, url: hello(url) + flipped(dice, open_channel()),
    "a channel of an unknown policy": lambda dice, url: hello(url) + open_channel(dice.randbytes(30)),
    "a channel many times": lambda _, url: hello(url) + open_channel() * 10,
    "a session asked for in noise": lambda dice, url: (
        hello(url) + open_channel() + framed(b"MSG", struct.pack("<IIII", 1, 1, 2, 2) + noise(dice))
    ),
    "nested without end": _deep,
}


def requests(dice: random.Random) -> object:
    """Give a request that a session may make, with arguments that make no sense."""
    anywhere = ua.NodeId(ua.UInt32(dice.randrange(2**32)), ua.Int16(dice.randrange(5)))
    station, sequence = ua.NodeId.from_string(STATION), ua.NodeId.from_string(f"{STATION}.Result.Sequence")
    node = dice.choice((anywhere, station, sequence, ua.NodeId()))
    attribute = ua.IntegerId(dice.randrange(60))
    kind = dice.randrange(8)
    if kind == 0:
        read = ua.ReadRequest()
        read.Parameters.NodesToRead = [ua.ReadValueId(NodeId=node, AttributeId=attribute)] * dice.randrange(1, 50)
        return read
    if kind == 1:
        write = ua.WriteRequest()
        value = ua.DataValue(ua.Variant(dice.randbytes(20)))
        write.Parameters.NodesToWrite = [ua.WriteValue(NodeId=node, AttributeId=attribute, Value=value)]
        return write
    if kind == 2:
        call = ua.CallRequest()
        given = [ua.Variant(dice.randbytes(9))] * dice.randrange(4)
        method = dice.choice((node, ua.NodeId.from_string(f"{STATION}.GetResult"), ua.NodeId(ua.Int32(3875))))
        call.Parameters.MethodsToCall = [ua.CallMethodRequest(ObjectId=node, MethodId=method, InputArguments=given)]
        return call
    if kind == 3:
        browse = ua.BrowseRequest()
        browse.Parameters.NodesToBrowse = [ua.BrowseDescription(NodeId=node)] * dice.randrange(1, 20)
        return browse
    if kind == 4:
        items = ua.CreateMonitoredItemsRequest()
        items.Parameters.SubscriptionId = ua.IntegerId(dice.randrange(70, 200))
        wanted = ua.ReadValueId(NodeId=node, AttributeId=dice.choice((attribute, ua.AttributeIds.EventNotifier)))
        items.Parameters.ItemsToCreate = [ua.MonitoredItemCreateRequest(ItemToMonitor=wanted)] * 3
        return items
    if kind == 5:
        subscription = ua.CreateSubscriptionRequest()
        subscription.Parameters.RequestedPublishingInterval = dice.choice(
            (-1.0, 0.0, 1e-300, float("nan"), float("inf"))
        )
        return subscription
    if kind == 6:
        published = ua.PublishRequest()
        told = ua.SubscriptionAcknowledgement(
            SubscriptionId=ua.IntegerId(dice.randrange(200)), SequenceNumber=ua.Counter(7)
        )
        published.Parameters.SubscriptionAcknowledgements = [told] * dice.randrange(20)
        return published
    registered = ua.RegisterNodesRequest()
    registered.Parameters.NodesToRegister = [node] * dice.randrange(1, 50)
    return registered
