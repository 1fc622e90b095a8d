"""Requests in the order and at the moments at which the network brought them, however late this process woke for them.

An I/O module acts on a command within a fraction of a millisecond. This process may stand still for tens of them while
the machine does something else, so a request is taken at the kernel's receive time stamp (SO_TIMESTAMPNS, socket(7))
and not at the moment of its reading. The kernel joins requests of one client that wait together: they share the stamp of
the last. Where there are no stamps, the moment of the reading serves.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable

SO_TIMESTAMPNS = 35
"""Linux's number; the socket module does not name it."""
_TIMESPEC = struct.Struct("@qq")
HEADER = 6
"""A Modbus TCP frame tells in its fifth and sixth byte how many bytes follow (MODBUS Messaging on TCP/IP, 3.1.3)."""
MAX_FRAME = 260


Frame = tuple[int, bytes]
"""The moment of arrival on the monotonic clock, in ns, and the bytes of one request."""


def stamp(sock: socket.socket) -> None:
    """Have the kernel stamp what a socket gets, or those that it accepts; soon: it begins with the first such socket."""
    if sys.platform == "linux":
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)


class StampedSocket:
    """Takes one Modbus TCP frame after the other off a connected socket that somebody else writes and closes."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock.dup()
        stamp(self._sock)
        self._last_ns = 0
        self.ended = False

    def fileno(self) -> int:
        """Give the descriptor to wait on."""
        return self._sock.fileno()

    def frames(self) -> list[Frame]:
        """Take all whole requests that have come, their moments never going back; `ended` tells that no more will."""
        taken: list[Frame] = []
        while not self.ended and (size := self._next_size()) > 0:
            data, ancillary, _flags, _from = self._sock.recvmsg(size, socket.CMSG_SPACE(_TIMESPEC.size))
            # one stamp read twice gives moments that differ by the time between the two clocks' readings
            self._last_ns = max(self._last_ns, _moment(ancillary))
            taken.append((self._last_ns, data))
        return taken

    def close(self) -> None:
        """Let go of this side's descriptor."""
        self._sock.close()

    def _next_size(self) -> int:
        """Give the size of the next request, 0 while it is not there as a whole."""
        try:
            head = self._sock.recv(MAX_FRAME, socket.MSG_PEEK)
        except BlockingIOError:
            return 0
        except OSError:
            head = b""
        size = HEADER + int.from_bytes(head[4:6]) if len(head) >= HEADER else HEADER
        self.ended = not head or size > MAX_FRAME
        return 0 if self.ended or len(head) < size else size


def _moment(ancillary: list[tuple[int, int, bytes]]) -> int:
    now_ns = time.monotonic_ns()
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS) and len(data) >= _TIMESPEC.size:
            seconds, nanoseconds = map(int, _TIMESPEC.unpack_from(data))
            waited_ns = time.time_ns() - (seconds * 1_000_000_000 + nanoseconds)
            return now_ns - max(0, waited_ns)
    return now_ns


class Arrivals:
    """Gives the requests of all clients to `answer`, one at a time and in the order of their moments."""

    def __init__(self) -> None:
        self._clients: dict[StampedSocket, tuple[Callable[[int, bytes], Awaitable[None]], Callable[[], None]]] = {}
        self._taking = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def add(
        self, sock: socket.socket, *, answer: Callable[[int, bytes], Awaitable[None]], ended: Callable[[], None]
    ) -> StampedSocket:
        """Listen to a connection; `ended` is called when the client has gone, or has sent what no frame begins with."""
        client = StampedSocket(sock)
        self._clients[client] = answer, ended
        asyncio.get_running_loop().add_reader(client, self._begin)
        return client

    def drop(self, client: StampedSocket) -> None:
        """Listen to a connection no longer."""
        if self._clients.pop(client, None) is not None:
            asyncio.get_running_loop().remove_reader(client)
            client.close()

    async def take(self) -> None:
        """Answer everything that has come by now."""
        async with self._taking:
            came = [(moment_ns, client, data) for client in self._clients for moment_ns, data in client.frames()]
            for moment_ns, client, data in sorted(came, key=lambda each: each[0]):  # stable: a client's stay in order
                if client in self._clients:
                    await self._clients[client][0](moment_ns, data)
            for client in [each for each in self._clients if each.ended]:
                ended = self._clients[client][1]
                self.drop(client)
                ended()

    def _begin(self) -> None:
        if not self._taking.locked():
            task = asyncio.get_running_loop().create_task(self.take())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
