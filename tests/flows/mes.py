"""A small MES on loopback: a real HTTP server that notes what it was sent, and answers as it is told."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.ports import free_ports


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One request, and how it was answered."""

    key: str
    document: dict[str, Any]
    headers: dict[str, str]
    status: int


@dataclass
class Mes:
    """Answers 201; `statuses` answers the next requests so, one by one; `refuse` the sequences with 422; `delay_s` is slow."""

    heard: list[Heard] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    refuse: set[int] = field(default_factory=set)
    delay_s: float = 0.0
    connections: int = 0
    port: int = field(default_factory=lambda: free_ports(1)[0])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/verdicts"

    @property
    def taken(self) -> list[Heard]:
        return [one for one in self.heard if one.status == 201]

    @property
    def sequences(self) -> list[int]:
        """Give what it took, in order, the first of each key alone: as an MES that minds the key keeps it."""
        return [one.document["sequence"] for one in {one.key: one for one in reversed(self.taken)}.values()][::-1]

    def start(self) -> None:
        self._server = _server(self)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        """Close the port and what is connected: from now on nobody is there."""
        self._server.shutdown()
        self._server.server_close()
        for connection in self._server.open:
            with contextlib.suppress(OSError):
                connection.shutdown(2)

    def answer(self, key: str, document: dict[str, Any], headers: dict[str, str]) -> int:
        time.sleep(self.delay_s)
        status = 422 if document.get("sequence") in self.refuse else self.statuses.pop(0) if self.statuses else 201
        self.heard.append(Heard(key=key, document=document, headers=headers, status=status))
        return status


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], answering: type[http.server.BaseHTTPRequestHandler]) -> None:
        super().__init__(address, answering)
        self.open: list[Any] = []

    def get_request(self) -> Any:
        request, address = super().get_request()
        self.open.append(request)
        return request, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a connection that is cut is what `stop` is for."""


def _server(mes: Mes) -> _Server:
    class Answering(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def setup(self) -> None:
            super().setup()
            mes.connections += 1

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = mes.answer(self.headers.get("Idempotency-Key", ""), json.loads(body), dict(self.headers))
            said = b"" if status == 201 else b"no such order"
            self.send_response(status)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_arguments: Any) -> None:
            """Say nothing."""

    return _Server(("127.0.0.1", mes.port), Answering)


@contextlib.contextmanager
def mes() -> Iterator[Mes]:
    """Run one that is up."""
    server = Mes()
    server.start()
    try:
        yield server
    finally:
        server.stop()
