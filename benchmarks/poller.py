"""Modbus clients that read the live block at a fixed rate, as a process of its own: `python -P -m benchmarks.poller --port N`.

A line `on` on its standard input starts them, `off` stops them and prints what they did: {"reads", "torn", "slowest_ms"}.
"""

from __future__ import annotations

import argparse
import json
import socket
import struct
import sys
import threading
import time
from dataclasses import dataclass

_REGISTERS = 55
_ANSWER = 9 + 2 * _REGISTERS


@dataclass(slots=True)
class Reads:
    """What one client did. `torn` counts answers whose two copies of the sequence differ; `ended` in good order."""

    reads: int = 0
    torn: int = 0
    slowest_ms: float = 0.0
    ended: bool = False


def poll(port: int, period_s: float, stop: threading.Event, counts: Reads) -> None:
    """Read input registers 0 to 54 on one connection until told to stop."""
    request = struct.pack(">HHHBBHH", 1, 0, 6, 1, 4, 0, _REGISTERS)
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        due = time.monotonic()
        while not stop.is_set():
            begun = time.monotonic()
            connection.sendall(request)
            answer = b""
            while len(answer) < _ANSWER:
                more = connection.recv(_ANSWER)
                if not more:
                    raise ConnectionResetError("the bridge closed a poller's connection")
                answer += more
            now = time.monotonic()
            counts.reads += 1
            counts.torn += answer[9 + 4 : 9 + 8] != answer[9 + 72 : 9 + 76]  # registers 2-3 and 36-37
            counts.slowest_ms = max(counts.slowest_ms, (now - begun) * 1e3)
            due = max(due + period_s, now - period_s)
            time.sleep(max(0.0, due - now))
    counts.ended = True


def main() -> None:
    """Poll while told to."""
    options = argparse.ArgumentParser(description="Modbus clients that poll.")
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--clients", type=int, default=10)
    options.add_argument("--hz", type=float, default=100.0)
    given = options.parse_args()
    while sys.stdin.readline():  # `on`
        stop, counts = threading.Event(), [Reads() for _ in range(given.clients)]
        threads = [threading.Thread(target=poll, args=(given.port, 1 / given.hz, stop, each)) for each in counts]
        for thread in threads:
            thread.start()
        sys.stdin.readline()  # `off`
        stop.set()
        for thread in threads:
            thread.join()
        if not all(each.ended for each in counts):
            sys.exit(1)  # its thread has said why
        told = {
            "reads": sum(each.reads for each in counts),
            "torn": sum(each.torn for each in counts),
            "slowest_ms": max(each.slowest_ms for each in counts),
        }
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
