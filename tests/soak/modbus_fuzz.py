"""Modbus messages that no client should send, one after the other, each with what has to become of it."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

CODES = (1, 2, 3, 4, 5, 6, 15, 16, 22, 23, 43)
WRITES = frozenset({5, 6, 15, 16, 22, 23})
DRIP_S = 0.002
LINGER_AND_RESET = struct.pack("ii", 1, 0)


class GoneError(Exception):
    """The server ended the connection."""


@dataclass
class Fuzzer:
    """Send `messages` from a thread of its own, and count them by kind. `wrong` are answers that should not have come.

    Nothing that it sends may change the station: a write that the map would take goes to a unit that is not there.
    """

    port: int
    messages: int
    seed: int
    sent: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    _socket: socket.socket | None = None
    _number: int = 0

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._kinds: dict[str, Callable[[socket.socket], None]] = {
            "random pdu": self._random_pdu,
            "unknown function": self._unknown_function,
            "bad length": self._bad_length,
            "bad protocol": self._bad_protocol,
            "random bytes": self._random_bytes,
            "dribbled": self._dribbled,
            "reset in mid-frame": self._reset,
            "half a frame and goodbye": self._half,
            "burst": self._burst,
            "unread answers": self._unread,
        }
        self._thread = threading.Thread(target=self._run, name=f"fuzzer {self.seed}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, limit_s: float) -> None:
        self._thread.join(limit_s)
        assert not self._thread.is_alive(), f"still at it: {self.sent}"

    def _run(self) -> None:
        names = list(self._kinds)
        for _ in range(self.messages):
            name = self._chance.choice(names)
            self.sent[name] += 1
            try:
                self._kinds[name](self._connected())
            except (OSError, GoneError):
                self._close()
        self._close()

    def _connected(self) -> socket.socket:
        for _ in range(200):
            if self._socket is not None:
                break
            with contextlib.suppress(OSError):  # the cap: others have the places just now
                self._socket = socket.create_connection(("127.0.0.1", self.port), timeout=8)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert self._socket is not None
        return self._socket

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _frame(self, pdu: bytes) -> bytes:
        self._number = (self._number + 1) % 65_536
        unit = self._chance.choice((0, 1, 255)) if pdu[0] not in WRITES else self._chance.randrange(2, 255)
        return struct.pack(">HHHB", self._number, 0, len(pdu) + 1, unit) + pdu

    def _answered(self, connection: socket.socket, pdu: bytes) -> None:
        """Take one answer; it must be to the last request, by its number and its function."""
        header = self._receive(connection, 7)
        number, protocol, length, _ = struct.unpack(">HHHB", header)
        body = self._receive(connection, length - 1)
        if (number, protocol) != (self._number, 0) or body[0] not in {pdu[0], pdu[0] | 0x80}:
            self.wrong.append(f"{pdu.hex()} was answered {header.hex()} {body.hex()}")

    def _receive(self, connection: socket.socket, length: int) -> bytes:
        data = b""
        while len(data) < length:
            more = connection.recv(length - len(data))
            if not more:
                raise GoneError
            data += more
        return data

    def _must_end(self, connection: socket.socket, sent: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            if connection.recv(1):
                self.wrong.append(f"{sent.hex()} was answered")
        self._close()

    def _any_pdu(self) -> bytes:
        return bytes([self._chance.choice(CODES)]) + self._chance.randbytes(self._chance.randrange(20))

    def _random_pdu(self, connection: socket.socket) -> None:
        pdu = self._any_pdu()
        connection.sendall(self._frame(pdu))
        self._answered(connection, pdu)

    def _unknown_function(self, connection: socket.socket) -> None:
        pdu = bytes([self._chance.choice([n for n in range(256) if n not in CODES])]) + self._chance.randbytes(4)
        connection.sendall(self._frame(pdu))
        self._answered(connection, pdu)

    def _bad_length(self, connection: socket.socket) -> None:
        length = self._chance.choice((0, 1, 270, 300, 5_000, 65_535))
        sent = struct.pack(">HHHB", 1, 0, length, 1) + b"\x04\0\0\0\x01"
        connection.sendall(sent)
        self._must_end(connection, sent)

    def _bad_protocol(self, connection: socket.socket) -> None:
        sent = struct.pack(">HHHB", 1, self._chance.randrange(1, 65_536), 6, 1) + b"\x04\0\0\0\x01"
        connection.sendall(sent)
        self._must_end(connection, sent)

    def _random_bytes(self, connection: socket.socket) -> None:
        connection.sendall(self._chance.randbytes(2) + b"\x7f" + self._chance.randbytes(self._chance.randrange(3, 500)))
        self._must_end(connection, b"random bytes")

    def _dribbled(self, connection: socket.socket) -> None:
        pdu = struct.pack(">BHH", 4, 0, self._chance.randrange(1, 60))
        for byte in self._frame(pdu):
            connection.sendall(bytes([byte]))
            time.sleep(DRIP_S)
        self._answered(connection, pdu)

    def _reset(self, connection: socket.socket) -> None:
        frame = self._frame(self._any_pdu())
        connection.sendall(frame[: self._chance.randrange(1, len(frame))])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_AND_RESET)
        self._close()

    def _half(self, connection: socket.socket) -> None:
        frame = self._frame(self._any_pdu())
        connection.sendall(frame[: self._chance.randrange(1, len(frame))])
        connection.shutdown(socket.SHUT_WR)
        self._must_end(connection, frame)

    def _burst(self, connection: socket.socket) -> None:
        pdus = [self._any_pdu() for _ in range(10)]
        first = self._number
        connection.sendall(b"".join(self._frame(pdu) for pdu in pdus))
        for place, pdu in enumerate(pdus):
            self._number = (first + place + 1) % 65_536
            self._answered(connection, pdu)

    def _unread(self, connection: socket.socket) -> None:
        connection.sendall(b"".join(self._frame(struct.pack(">BHH", 4, 0, 125)) for _ in range(20)))
        self._close()
