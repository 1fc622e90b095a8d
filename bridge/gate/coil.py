"""A coil on a Modbus TCP remote I/O module, written without waiting for the answer; the answers are checked as they come."""

from __future__ import annotations

import errno
import socket
from collections import deque
from dataclasses import dataclass, field

from pymodbus.exceptions import ModbusException
from pymodbus.framer import FramerSocket
from pymodbus.pdu import DecodePDU
from pymodbus.pdu.bit_message import WriteSingleCoilRequest

ANSWER_NS = 300_000_000
"""An answer that takes longer means that nobody can say where the gate is."""
RETRY_NS = 200_000_000
MAX_FRAME = 260


@dataclass(frozen=True, slots=True, kw_only=True)
class CoilAddress:
    """Where the gate's coil is: zero-based, on the module's first unit."""

    host: str
    port: int
    coil: int


@dataclass(slots=True)
class _Link:
    sock: socket.socket
    since_ns: int
    connected: bool = False
    received: bytes = b""
    unanswered: deque[tuple[int, int]] = field(default_factory=deque)  # transaction, moment of the request


class Coil:
    """Keep a connection to the module and write the coil; every method returns at once.

    `trouble` says why the coil can't be written, None while it can.
    """

    def __init__(self, address: CoilAddress) -> None:
        self._address = address
        self._framer = FramerSocket(DecodePDU(False))
        self._link: _Link | None = None
        self._transaction = 0
        self._prepared: dict[bool, bytes] = {}
        self._retry_ns = 0
        self.trouble: str | None = "not connected yet"

    @property
    def reading(self) -> list[socket.socket]:
        """Sockets to wait on for answers."""
        return [self._link.sock] if self._link is not None and self._link.connected else []

    @property
    def connecting(self) -> list[socket.socket]:
        """Sockets to wait on until they can be written."""
        return [self._link.sock] if self._link is not None and not self._link.connected else []

    def next_ns(self) -> int:
        """Give the moment at which `look` has something to do."""
        if self._link is None:
            return self._retry_ns
        if not self._link.connected:
            return self._link.since_ns + ANSWER_NS
        return self._link.unanswered[0][1] + ANSWER_NS if self._link.unanswered else self._link.since_ns + 2**62

    def prepare(self) -> None:
        """Make the next request ready, so that nothing is left to do for it but to send it."""
        if self._prepared:
            return
        self._transaction = self._transaction % 0xFFFF + 1
        for on in (False, True):
            request = WriteSingleCoilRequest(
                dev_id=1, transaction_id=self._transaction, address=self._address.coil, bits=[on]
            )
            self._prepared[on] = self._framer.buildFrame(request)

    def write(self, *, on: bool, now_ns: int) -> bool:
        """Send the request; gives whether it has left."""
        link = self._link
        if link is None or not link.connected:
            return False
        self.prepare()
        frame = self._prepared[on]
        self._prepared.clear()
        try:
            link.sock.sendall(frame)
        except OSError as exc:
            self._lose(exc.strerror or str(exc), now_ns)
            return False
        link.unanswered.append((self._transaction, now_ns))
        return True

    def look(self, now_ns: int) -> None:
        """Connect, take answers, and find out whether the module is still there."""
        if self._link is None:
            if now_ns >= self._retry_ns:
                self._connect(now_ns)
        elif not self._link.connected:
            self._finish_connecting(self._link, now_ns)
        else:
            self._take_answers(self._link, now_ns)

    def close(self) -> None:
        """Let go of the connection."""
        if self._link is not None:
            self._link.sock.close()
            self._link = None

    def _connect(self, now_ns: int) -> None:
        try:
            family, kind, protocol, _name, place = socket.getaddrinfo(
                self._address.host, self._address.port, type=socket.SOCK_STREAM
            )[0]
            sock = socket.socket(family, kind, protocol)
        except OSError as exc:
            self._lose(exc.strerror or str(exc), now_ns)
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._link = _Link(sock, now_ns)
        refused = sock.connect_ex(place)
        if refused not in (0, errno.EINPROGRESS):
            self._lose(errno.errorcode.get(refused, str(refused)), now_ns)

    def _finish_connecting(self, link: _Link, now_ns: int) -> None:
        refused = link.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        try:
            link.sock.getpeername()
        except OSError:
            if refused:
                self._lose(errno.errorcode.get(refused, str(refused)), now_ns)
            elif now_ns - link.since_ns >= ANSWER_NS:
                self._lose("no connection in time", now_ns)
            return
        link.connected, self.trouble = True, None

    def _take_answers(self, link: _Link, now_ns: int) -> None:
        try:
            data = link.sock.recv(4096)
        except BlockingIOError:
            if link.unanswered and now_ns - link.unanswered[0][1] >= ANSWER_NS:
                self._lose(f"no answer within {ANSWER_NS // 1_000_000} ms", now_ns)
            return
        except OSError as exc:
            self._lose(exc.strerror or str(exc), now_ns)
            return
        if not data:
            self._lose("the module closed the connection", now_ns)
            return
        link.received += data
        try:
            while link.received:
                used, answer = self._framer.handleFrame(link.received, 0, 0)
                link.received = link.received[used:]
                if answer is None:
                    break
                if answer.isError():
                    self._lose(f"the module refuses coil {self._address.coil}: {answer}", now_ns)
                    return
                while link.unanswered and link.unanswered[0][0] != answer.transaction_id:
                    link.unanswered.popleft()
                if link.unanswered:
                    link.unanswered.popleft()
        except ModbusException as exc:
            self._lose(f"not a Modbus answer: {exc}", now_ns)
            return
        if len(link.received) > MAX_FRAME:
            self._lose("not a Modbus answer", now_ns)

    def _lose(self, why: str, now_ns: int) -> None:
        self.close()
        self._retry_ns = now_ns + RETRY_NS
        self.trouble = f"{self._address.host}:{self._address.port}: {why}"
