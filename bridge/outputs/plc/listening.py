"""Sockets: open a listening one patiently, as a bridge that restarts may find its own port busy; and set up connections."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct

from bridge.errors import StartError

PATIENCE_S = 3.0
PAUSE_S = 0.1
# A peer that vanished without a word is found after 10 s of silence and 3 tries, or when it takes no answer for 25 s.
_KEEP_ALIVE = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 25_000))
_RESET = struct.pack("ii", 1, 0)  # linger on, for 0 s
_MAY_PASS = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL})


async def listen(host: str, port: int, *, what: str, key: str, patience_s: float = PATIENCE_S) -> socket.socket:
    """Give a bound socket on `host` and `port` (0 = any free one), tried for `patience_s`.

    Raises StartError with one line that names `what`, the port and the setting `key`.
    """
    loop = asyncio.get_running_loop()
    give_up = loop.time() + patience_s
    while True:
        try:
            return await asyncio.to_thread(_bind, host, port)
        except OSError as exc:
            if exc.errno not in _MAY_PASS or loop.time() >= give_up:
                busy = exc.errno != errno.EADDRNOTAVAIL
                mend = f"stop the program that uses it, or set {key}" if busy else f"no interface has it: see {key}"
                raise StartError(f"{what} can't open port {port} on {host}: {exc.strerror or exc}; {mend}") from exc
        await asyncio.sleep(PAUSE_S)


def _bind(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(64)
        bound.setblocking(False)
    except OSError:
        bound.close()
        raise
    return bound


def keep_alive(connection: socket.socket) -> None:
    """Have the system find peers that vanished without a word, so that they don't use up the connections."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEP_ALIVE:
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def reset_on_close(connection: socket.socket) -> None:
    """Have a close drop what is unsent.

    Else the system would go on sending, and a PLC that can be reached again seconds later would take an order that nobody
    stands for any more.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
