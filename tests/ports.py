"""Ports for servers that the tests start, below the range from which the system takes ports for outgoing connections.

A port that was free a moment ago up there may be a client's by the time that a server wants it.
"""

from __future__ import annotations

import contextlib
import random
import socket

LOWEST, HIGHEST = 20_000, 32_000


def free_ports(count: int) -> list[int]:
    """Give ports that nobody has just now, all different."""
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(found) < count:
            port = random.randrange(LOWEST, HIGHEST)  # another process of the tests shall look elsewhere
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
                found.append(port)
    return found
