"""A small HTTP server in threads of its own: health, readiness, metrics and the newest pictures. It only answers GET."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import structlog

from bridge.errors import StartError
from bridge.monitoring.metrics import Sources, render

NAME = r"[A-Za-z][A-Za-z0-9_-]{0,31}"
PICTURE = re.compile(rf"/pictures/({NAME})/({NAME})/(0|[1-9][0-9]{{0,9}})", re.ASCII)
U32 = 2**32
MEDIA_TYPES = {".jpg": "image/jpeg", ".png": "image/png"}
RETRY_BIND_S = 0.1
DRAIN_S = 0.5
BUSY = b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One response, whole."""

    status: HTTPStatus
    body: bytes
    media_type: str = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """Finds the answer to a path. The callables are called by the server's threads, and must be quick."""

    unhealthy: Callable[[], Sequence[str]]
    not_ready: Callable[[], Sequence[str]]
    metrics: Callable[[], bytes]
    picture: Callable[[str, str, int], Path | None]

    def answer(self, path: str) -> Answer:
        """Answer one path without its query; raises OSError for a picture that can't be read."""
        if path == "/healthz":
            return _judgement("healthy", self.unhealthy())
        if path == "/readyz":
            return _judgement("ready", self.not_ready())
        if path == "/metrics":
            media_type = "text/plain; version=0.0.4; charset=utf-8"
            return Answer(status=HTTPStatus.OK, body=self.metrics(), media_type=media_type)
        if (named := PICTURE.fullmatch(path)) and int(named[3]) < U32:
            file = self.picture(named[1], named[2], int(named[3]))
            if file is not None:
                media_type = MEDIA_TYPES.get(file.suffix, "application/octet-stream")
                return Answer(status=HTTPStatus.OK, body=file.read_bytes(), media_type=media_type)
        return Answer(status=HTTPStatus.NOT_FOUND, body=b"not found\n")


def _judgement(name: str, reasons: Sequence[str]) -> Answer:
    """Answer 200, or 503 for the reasons that speak against it."""
    status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
    body = json.dumps({name: not reasons, "reasons": list(reasons)}).encode()
    return Answer(status=status, body=body, media_type="application/json")


class _Request(http.server.BaseHTTPRequestHandler):
    """One connection with one request; HTTP/1.0, so that no client can keep a thread."""

    server: _Listener
    server_version = "Linegate"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(self.server.timeout_s)

    def __getattr__(self, name: str) -> Any:
        # BaseHTTPRequestHandler looks for do_METHOD: any method it has no function for is refused in the same way.
        if name.startswith("do_"):
            return self._refuse
        raise AttributeError(name)

    def do_GET(self) -> None:
        self._send(self._answer())

    def do_HEAD(self) -> None:
        self._send(self._answer())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Say nothing: a probe comes every few seconds."""

    def _answer(self) -> Answer:
        try:
            return self.server.pages.answer(self.path.split("?", 1)[0])
        except FileNotFoundError:  # the picture was tidied away a moment ago
            return Answer(status=HTTPStatus.NOT_FOUND, body=b"not found\n")
        except (OSError, RuntimeError, ValueError, LookupError) as exc:
            log.warning("http_answer_failed", path=self.path, cause=repr(exc))
            return Answer(status=HTTPStatus.SERVICE_UNAVAILABLE, body=b"no answer can be given at the moment\n")

    def _refuse(self) -> None:
        self._send(Answer(status=HTTPStatus.METHOD_NOT_ALLOWED, body=b"only GET and HEAD are allowed\n"))

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.media_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if answer.status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)


class _Listener(http.server.ThreadingHTTPServer):
    """Accepts at most `most` clients at a time and cuts off whoever takes longer than `longest_s`."""

    daemon_threads = True
    block_on_close = False
    # with the library's 5 a probe would wait for seconds behind a burst of others
    request_queue_size = 64

    def __init__(
        self, address: tuple[str, int], pages: Pages, *, most: int, timeout_s: float, longest_s: float
    ) -> None:
        self.pages = pages
        self.timeout_s = timeout_s
        self._longest_s = longest_s
        self._most = most
        self._lock = threading.Condition()
        self._since: dict[socket.socket, float] = {}
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Request)

    def server_bind(self) -> None:
        # The base class looks its own name up in the DNS, which can take seconds on a plant network.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            full = len(self._since) >= self._most
            if not full:
                self._since[request] = time.monotonic()
        if full:
            with contextlib.suppress(OSError):  # it may have left already
                request.settimeout(0.0)
                request.sendall(BUSY)
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._since.pop(request, None)
            self._lock.notify_all()
        super().shutdown_request(request)

    def drained(self, within_s: float) -> bool:
        """Wait until nobody is served any more; False when somebody still is after `within_s`."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._since, within_s)

    def service_actions(self) -> None:
        now = time.monotonic()
        with self._lock:
            overdue = [request for request, since in self._since.items() if now - since > self._longest_s]
        for request in overdue:
            with contextlib.suppress(OSError):  # it may have ended by itself meanwhile
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("http_connection_failed", client=client_address[0], cause=repr(sys.exc_info()[1]))


class HttpServer:
    """The server with its thread. `start` blocks for up to `bind_within_s` while the port is taken.

    `unhealthy` and `not_ready` (reasons, empty when all is well), `sources` and `picture` are called by the server's
    threads. At most `most` clients are served at a time; one may be silent for `timeout_s` and take `longest_s` in all.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        unhealthy: Callable[[], Sequence[str]],
        not_ready: Callable[[], Sequence[str]],
        sources: Sources,
        picture: Callable[[str, str, int], Path | None],
        most: int = 8,
        timeout_s: float = 5.0,
        longest_s: float = 30.0,
        bind_within_s: float = 3.0,
    ) -> None:
        self._address = (host, port)
        self._pages = Pages(unhealthy=unhealthy, not_ready=not_ready, metrics=render(sources), picture=picture)
        self._limits = {"timeout_s": timeout_s, "longest_s": longest_s}
        self._most = most
        self._bind_within_s = bind_within_s
        self._listener: _Listener | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that is open, also when 0 was asked for; 0 before `start`."""
        return self._listener.server_port if self._listener else 0

    def start(self) -> None:
        """Open the port and serve; raises StartError when it can't be had."""
        self._listener = self._bind()
        serve = self._listener.serve_forever
        self._thread = threading.Thread(target=serve, args=(0.1,), name="linegate-http", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port; a request under way has `DRAIN_S` to be answered."""
        if self._listener is None or self._thread is None:
            return
        self._listener.shutdown()
        self._listener.server_close()
        self._listener.drained(DRAIN_S)
        self._thread.join(1.0)
        self._listener = self._thread = None

    def _bind(self) -> _Listener:
        until = time.monotonic() + self._bind_within_s
        host, port = self._address
        while True:
            try:
                return _Listener(self._address, self._pages, most=self._most, **self._limits)
            except (OSError, OverflowError) as exc:
                if time.monotonic() >= until or not isinstance(exc, OSError) or isinstance(exc, socket.gaierror):
                    raise StartError(
                        f"http.port: can't open {host}:{port}: {_cause(exc)}; end the program that holds it, or set another"
                    ) from exc
            time.sleep(RETRY_BIND_S)


def _cause(exc: Exception) -> str:
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
