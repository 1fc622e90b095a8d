"""HTTP clients that dawdle, flood or come without end: threads and files stay few, and a probe is answered."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.monitoring.http import HttpServer
from tests.wire.test_http import World, ask, raw, serve, status, until_it_answers

pytestmark = pytest.mark.soak

MOST = 8


@pytest.fixture
def server() -> Iterator[HttpServer]:
    running = serve(World(stations={("line1", "station1"): status()}), most=MOST, timeout_s=0.5, longest_s=1.0)
    yield running
    running.stop()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def connect(server: HttpServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def test_a_hundred_idle_connections_take_a_few_threads_for_a_moment(server: HttpServer) -> None:
    before = threading.active_count()
    idle = [connect(server) for _ in range(100)]
    most = 0
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        most = max(most, threading.active_count() - before)
        time.sleep(0.005)
    assert 1 <= most <= MOST
    until_it_answers(server, 200)
    for client in idle:
        client.close()


def test_a_kept_connection_is_closed_after_its_answer(server: HttpServer) -> None:
    begun = time.monotonic()
    answer = raw(server, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n" * 3)
    assert answer.startswith(b"HTTP/1.0 200")
    assert answer.count(b"HTTP/1.0") == 1
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    "line", [b"X: " + b"y" * 200_000 + b"\r\n", b"X: y\r\n" * 50_000, b"GET /" + b"a" * 1_000_000, b"X" * 10_000_000]
)
def test_headers_without_end_are_refused_and_not_kept(server: HttpServer, line: bytes) -> None:
    for _ in range(5):
        with connect(server) as client, contextlib.suppress(OSError):
            client.sendall(b"GET /healthz HTTP/1.1\r\n" + line)
            client.recv(1000)
    until_it_answers(server, 200)


@pytest.mark.parametrize(
    "path",
    [
        "/pictures/../../etc/passwd", "/pictures/line1/station1/../../../etc/passwd", "/pictures/line1/station1/1/../../..",
        "/pictures/line1/%2e%2e/1", "/pictures/line1/station1/1%2f..%2f..", "//etc/passwd", "/pictures/line1/station1/1;x",
        "/pictures/line1\\station1\\1", "/pictures/line1/station1/1%0d%0aX: y", "/pictures/line1/station1/99999999999",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_pictures(server: HttpServer, path: str) -> None:
    answer = raw(server, f"GET {path} HTTP/1.0\r\n\r\n".encode())
    assert answer.split(b"\r\n")[0].split()[1] in {b"404", b"400"}
    assert b"root:" not in answer


@pytest.mark.soak
@pytest.mark.timeout(120)
def test_a_thousand_connections_leave_nothing_behind(server: HttpServer) -> None:
    ask(server, "/metrics")
    files, threads = open_files(), threading.active_count()
    for turn in range(1_000):
        with connect(server) as client:
            if turn % 4:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.sendall((b"", b"GET", b"GET /metrics HTTP/1.0\r\n\r\n", b"\0\0")[turn % 4] or b"\r")
        if turn % 100 == 0:
            until_it_answers(server, 200)
    until = time.monotonic() + 10
    while open_files() > files or threading.active_count() > threads:
        assert time.monotonic() < until, (open_files(), files, threading.active_count(), threads)
        time.sleep(0.05)
    assert ask(server, "/healthz")[0] == 200
