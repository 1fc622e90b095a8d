"""How this bridge's MQTT 5 client is set up: session, will, log-in, TLS, socket options."""

from __future__ import annotations

import contextlib
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bridge.errors import ConfigError
from bridge.inputs.mqtt_outbox import Outgoing

SESSION_EXPIRY_S = 86_400
"""Set explicitly: a session without an expiry dies with its connection."""
LARGEST_PACKET = 268_435_460
"""The most that MQTT can say, MQTT 5.0, section 2.1.4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """Where the broker is and how to log in. TLS is used when `tls_ca` is set.

    The broker keeps a message of more than `max_packet_bytes` from us, as if it had been delivered.
    """

    host: str
    port: int
    username: str | None = None
    password: str | None = None
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    keepalive_s: int = 10
    receive_maximum: int = 256
    """Far above what can wait in time: beyond it the broker holds triggers back, and they look fresh when they come."""
    max_packet_bytes: int = 33_000_000


class LenientClient(Client):
    """A client that reads a message without its properties where the library finds fault with them.

    The library hangs up on a U+FEFF in any property, which MQTT allows; the broker would send the message again on
    every new connection, without end. `flaw` is what was wrong with the message that is being delivered.
    """

    flaw = ""

    def _handle_publish(self) -> MQTTErrorCode:
        self.flaw = ""
        try:
            return super()._handle_publish()
        except (MalformedPacket, UnicodeDecodeError) as exc:
            self.flaw = f"its MQTT properties can't be read: {exc}"
            packet = self._in_packet
            packet["packet"] = without_properties(packet["packet"], qos=(packet["command"] & 0x06) >> 1)
            return super()._handle_publish()


def without_properties(packet: bytearray, *, qos: int) -> bytearray:
    """Cut the properties out of a PUBLISH: topic, message id (not at QoS 0), length of properties, they, payload.

    Raises MalformedPacket where the packet ends before its payload. MQTT 5.0, section 3.3.2.
    """
    at = 2 + int.from_bytes(packet[:2], "big") + (2 if qos else 0)
    length = shift = 0
    end = at
    for end in range(at, at + 4):
        if end >= len(packet):
            raise MalformedPacket("a PUBLISH that ends before its properties")
        length |= (packet[end] & 0x7F) << shift
        shift += 7
        if packet[end] < 0x80:
            break
    if end + 1 + length > len(packet):
        raise MalformedPacket("a PUBLISH that ends within its properties")
    return packet[:at] + b"\0" + packet[end + 1 + length :]


def client_for(broker: Broker, client_id: str, will: Outgoing) -> LenientClient:
    """Build a client that keeps its session and acknowledges by hand; it connects when told to.

    Raises ConfigError when a TLS file can't be used.
    """
    client = LenientClient(
        CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv5, manual_ack=True
    )
    client.connect_timeout = 5.0
    client.on_socket_open = _no_delay
    # with this set, a publish from the main loop never writes to the socket itself: only the network thread does
    client.on_socket_register_write = _wake_is_enough
    client.will_set(will.topic, will.payload, qos=1, retain=True)
    if broker.username:
        client.username_pw_set(broker.username, broker.password or None)
    for name, path in (("tls_ca", broker.tls_ca), ("tls_cert", broker.tls_cert), ("tls_key", broker.tls_key)):
        if path is not None and not path.is_file():
            raise ConfigError(f"mqtt.{name} = {str(path)!r}: no such file")
    if broker.tls_ca is not None:
        try:
            client.tls_set_context(_tls_context(broker))
        except (OSError, ValueError, ssl.SSLError) as exc:
            raise ConfigError(f"mqtt.tls_ca, tls_cert or tls_key can't be used: {exc}") from exc
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = SESSION_EXPIRY_S
    properties.ReceiveMaximum = broker.receive_maximum
    properties.MaximumPacketSize = min(broker.max_packet_bytes, LARGEST_PACKET)
    client.connect_async(
        broker.host, broker.port, keepalive=broker.keepalive_s, clean_start=False, properties=properties
    )
    return client


class _TidySocket(ssl.SSLSocket):
    """A socket that is closed when its handshake fails: the MQTT library loses sight of it then."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except (OSError, ValueError):
            self.close()
            raise


def _tls_context(broker: Broker) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(broker.tls_ca)
    context.sslsocket_class = _TidySocket
    if broker.tls_cert is not None:
        context.load_cert_chain(broker.tls_cert, broker.tls_key)
    return context


def _no_delay(_client: Client, _userdata: Any, sock: Any) -> None:
    # without it Nagle's algorithm holds an acknowledgement back for up to 40 ms
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def acknowledge_at_once(sock: object) -> None:
    """Have the kernel acknowledge what comes next without its usual delay; call it after each read, it does not last.

    mosquitto with Nagle's algorithm on (its default) holds a trigger back until the one before it is acknowledged: up to
    40 ms, which is 48 mm of belt at 1.2 m/s.
    """
    if isinstance(sock, socket.socket) and hasattr(socket, "TCP_QUICKACK"):  # Linux alone has it
        with contextlib.suppress(OSError):  # closed meanwhile: the next read tells of it
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _wake_is_enough(_client: Client, _userdata: Any, _sock: Any) -> None:
    """Leave the write to the network thread, which paho has woken through its socket pair."""
