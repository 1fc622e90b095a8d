"""Cameras that speak HTTP, from the standard library: snapshots, and an endless MJPEG stream of numbered frames."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import numpy as np

from tests.ports import free_ports

BITS = 16
"""A frame's number stands in it as so many columns, black or white: it survives JPEG and video coding."""


def numbered(number: int) -> np.ndarray:
    """Draw a frame that shows its number."""
    bits = [255 * (number >> bit & 1) for bit in range(BITS)]
    row = np.repeat(np.array(bits, np.uint8), 8)
    return np.repeat(np.tile(row, (64, 1))[:, :, None], 3, axis=2)


def number_of(pixels: np.ndarray) -> int:
    """Read the number of a decoded frame."""
    middle = pixels[32, 4::8, 0] > 127
    return sum(1 << bit for bit, lit in enumerate(middle) if lit)


def jpeg(pixels: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())


class CameraServer:
    """A server on a port of its own that can be stopped, with its connections, and started again."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.port = free_ports(1)[0]
        self._tls = tls
        self.asked: list[str] = []
        self.connections = 0
        self._open: list[Any] = []
        self._server: ThreadingHTTPServer | None = None

    def url(self, path: str) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}{path}"

    def start(self) -> None:
        camera = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                camera.connections += 1
                camera._open.append(self.connection)

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                camera.asked.append(f"{self.command} {self.path}")
                with contextlib.suppress(OSError):
                    camera.answer(self)

            def do_HEAD(self) -> None:
                self.do_GET()

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(2)
                connection.close()
        self._open.clear()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        raise NotImplementedError

    @contextlib.contextmanager
    def running(self) -> Iterator[CameraServer]:
        self.start()
        try:
            yield self
        finally:
            self.stop()


class SnapshotCamera(CameraServer):
    """Answers each path by `pages`: a function that writes the whole answer."""

    def __init__(self, picture: bytes, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.picture = picture
        self.hung = threading.Event()
        self.released = threading.Event()
        self.pages: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {
            "/snapshot.jpg": self._snapshot,
            "/no-head.jpg": self._no_head,
            "/basic.jpg": lambda request: self._log_in(request, "Basic "),
            "/digest.jpg": self._digest,
            "/broken": lambda request: reply(request, 500),
            "/slow.jpg": self._slow,
            "/drip.jpg": self._drip,
            "/huge.jpg": self._huge,
            "/garbage.jpg": lambda request: reply(request, 200, b"<html>sorry</html>"),
            "/html": lambda request: reply(request, 200, b"<html>sorry</html>", kind="text/html; charset=utf-8"),
            "/cut.jpg": lambda request: reply(request, 200, self.picture[:-300]),
            "/unlabelled.jpg": lambda request: reply(request, 200, self.picture, kind=""),
            "/moved.jpg": lambda request: reply(request, 302, location="/snapshot.jpg"),
            "/elsewhere.jpg": lambda request: reply(request, 302, location="http://localhost:9/snapshot.jpg"),
            "/round.jpg": lambda request: reply(request, 302, location="/round.jpg"),
        }

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        if self.hung.is_set():
            self.released.wait(20)
            return
        self.pages.get(request.path, lambda one: reply(one, 404))(request)

    def _snapshot(self, request: BaseHTTPRequestHandler) -> None:
        reply(request, 200, self.picture)

    def _no_head(self, request: BaseHTTPRequestHandler) -> None:
        if request.command == "HEAD":
            reply(request, 501)
        else:
            reply(request, 200, self.picture)

    def _log_in(self, request: BaseHTTPRequestHandler, scheme: str) -> None:
        expected = scheme + base64.b64encode(b"cam:pa:ss").decode()
        if request.headers.get("Authorization") == expected:
            reply(request, 200, self.picture)
        else:
            reply(request, 401, challenge='Basic realm="camera"')

    def _digest(self, request: BaseHTTPRequestHandler) -> None:
        given = dict(
            part.strip().split("=", 1)
            for part in request.headers.get("Authorization", "").removeprefix("Digest ").split(",")
            if "=" in part
        )
        fields = {name: value.strip('"') for name, value in given.items()}
        first = hashlib.md5(b"cam:camera:pa:ss").hexdigest()
        second = hashlib.md5(f"{request.command}:{request.path}".encode()).hexdigest()
        middle = ":".join(fields.get(name, "") for name in ("nonce", "nc", "cnonce", "qop"))
        if fields.get("response") == hashlib.md5(f"{first}:{middle}:{second}".encode()).hexdigest():
            reply(request, 200, self.picture)
        else:
            reply(request, 401, challenge='Digest realm="camera", nonce="abc", qop="auth", algorithm=MD5')

    def _slow(self, request: BaseHTTPRequestHandler) -> None:
        self.released.wait(3.0)
        reply(request, 200, self.picture)

    def _drip(self, request: BaseHTTPRequestHandler) -> None:
        """Keep each wait short and the whole one long."""
        request.send_response(200)
        request.send_header("Content-Type", "image/jpeg")
        request.send_header("Content-Length", str(len(self.picture)))
        request.end_headers()
        for at in range(0, len(self.picture), 10):
            request.wfile.write(self.picture[at : at + 10])
            if self.released.wait(0.05):
                return

    def _huge(self, request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "image/jpeg")
        request.send_header("Connection", "close")
        request.end_headers()
        request.close_connection = True
        request.wfile.write(b"\xff\xd8\xff")
        for _ in range(100_000):
            request.wfile.write(bytes(65536))


def reply(
    request: BaseHTTPRequestHandler,
    status: int,
    body: bytes = b"",
    *,
    kind: str = "image/jpeg",
    location: str = "",
    challenge: str = "",
) -> None:
    """Write one whole answer; a HEAD gets no body."""
    request.send_response(status)
    for name, value in (("Content-Type", kind), ("Location", location), ("WWW-Authenticate", challenge)):
        if value:
            request.send_header(name, value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body)


class MjpegCamera(CameraServer):
    """Takes a numbered frame every 40 ms, whether or not anybody looks; a held client gets them later, all at once."""

    def __init__(self, draw: Callable[[int], np.ndarray] = numbered) -> None:
        super().__init__()
        self._draw = draw
        self._begun_ns = time.monotonic_ns()
        self.held = threading.Event()

    def taken_ns(self, number: int) -> int:
        """Give the moment at which a frame was exposed."""
        return self._begun_ns + number * 40_000_000

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        request.send_response(200)
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        request.end_headers()
        number = (time.monotonic_ns() - self._begun_ns) // 40_000_000
        while self._server is not None:
            number += 1
            time.sleep(max(0.0, (self.taken_ns(number) - time.monotonic_ns()) / 1e9))
            while self.held.is_set():
                time.sleep(0.005)
            data = jpeg(self._draw(number))
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            request.wfile.write(head.encode() + data + b"\r\n")
