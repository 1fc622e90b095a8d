"""A camera that speaks RTSP, as small as one can be: MJPEG in RTP, sent inside the RTSP connection.

RTSP 1.0 is RFC 2326, JPEG in RTP RFC 2435: behind the 12 bytes of RTP stand offset(3 of 4) type(1) Q(1) width/8(1)
height/8(1) and, with the first packet of a frame, its quantisation tables; then the coded pixels without the JPEG's headers.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import struct
import threading
import time

import cv2
import numpy as np

from tests.ports import free_ports
from tests.wire.camera_servers import numbered

CHUNK = 1200
CLOCK_HZ = 90_000


class RtspCamera:
    """Takes a numbered frame every 40 ms; log-in is `cam` with `pa:ss`, by Basic."""

    def __init__(self) -> None:
        self.port = free_ports(1)[0]
        self._begun_ns = time.monotonic_ns()
        self._server: socket.socket | None = None
        self._clients: list[socket.socket] = []

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/stream"

    def taken_ns(self, number: int) -> int:
        """Give the moment at which a frame was exposed."""
        return self._begun_ns + number * 40_000_000

    def start(self) -> None:
        self._server = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def stop(self) -> None:
        for each in (self._server, *self._clients):
            if each is not None:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
        self._server, self._clients = None, []

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = server.accept()
                self._clients.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), client.makefile("rb") as lines:
            while (first := lines.readline().decode()).strip():
                fields = {}
                while line := lines.readline().decode().strip():
                    name, _, value = line.partition(":")
                    fields[name.lower()] = value.strip()
                client.sendall(self._answer(first.split()[0], fields).encode())
                if first.startswith("PLAY"):
                    self._send(client)

    def _answer(self, method: str, fields: dict[str, str]) -> str:
        head, body = f"CSeq: {fields['cseq']}\r\n", ""
        expected = "Basic " + base64.b64encode(b"cam:pa:ss").decode()
        if method != "OPTIONS" and fields.get("authorization") != expected:
            return f'RTSP/1.0 401 Unauthorized\r\n{head}WWW-Authenticate: Basic realm="camera"\r\n\r\n'
        if method == "OPTIONS":
            head += "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        elif method == "DESCRIBE":
            lines = ["v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=camera", "t=0 0", "m=video 0 RTP/AVP 26", "a=control:track1"]
            body = "\r\n".join(lines) + "\r\n"
            head += f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
        elif method == "SETUP":
            head += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
        else:
            head += "Session: 1\r\n"
        return f"RTSP/1.0 200 OK\r\n{head}\r\n{body}"

    def _send(self, client: socket.socket) -> None:
        number, sequence = (time.monotonic_ns() - self._begun_ns) // 40_000_000, 0
        while True:
            number += 1
            time.sleep(max(0.0, (self.taken_ns(number) - time.monotonic_ns()) / 1e9))
            tables, coded, (height, width) = _parts(numbered(number))
            for at in range(0, len(coded), CHUNK):
                piece = coded[at : at + CHUNK]
                last = at + CHUNK >= len(coded)
                rtp = struct.pack(
                    ">BBHII", 0x80, 26 | (0x80 if last else 0), sequence % 65536, number * CLOCK_HZ // 25 % 2**32, 7
                )
                header = struct.pack(">I", at) + bytes([1, 255, width // 8, height // 8])
                if at == 0:
                    header += struct.pack(">BBH", 0, 0, len(tables)) + tables
                packet = rtp + header + piece
                client.sendall(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
                sequence += 1


def _parts(pixels: np.ndarray) -> tuple[bytes, bytes, tuple[int, int]]:
    """Take a JPEG apart: quantisation tables, coded pixels, size. OpenCV's are baseline, 4:2:0, with the usual codes."""
    data = bytes(cv2.imencode(".jpg", pixels)[1].tobytes())
    at, tables = 2, b""
    while data[at + 1] != 0xDA:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xDB:
            body = data[at + 4 : at + 2 + length]
            tables += b"".join(body[start + 1 : start + 65] for start in range(0, len(body), 65))
        at += 2 + length
    at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return tables, data[at:-2], (pixels.shape[0], pixels.shape[1])
