"""The snapshot camera against a real HTTP server: pictures, every way to have none, log-in, loss and return."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.domain.part import Part, Trigger
from bridge.domain.recipe import Recipe
from bridge.errors import CameraError, ConfigError
from bridge.inputs.cameras.http import HttpCamera
from tests.ports import free_ports
from tests.wire.camera_servers import SnapshotCamera, jpeg, numbered

PICTURE = jpeg(numbered(7))
PART = Part(
    line="l", station="s", trigger=Trigger(sequence=1, part_id="1", arrived_ns=0, image=None), epoch=1, triggered_ns=0,
    triggered_utc_ns=0, length_mm=100.0, recipe=Recipe(name="r", number=1, revision=1, bundle="b", labels=("x",)),
)  # fmt: skip


@pytest.fixture
def server() -> Iterator[SnapshotCamera]:
    camera = SnapshotCamera(PICTURE)
    with camera.running():
        yield camera
        camera.released.set()


@asynccontextmanager
async def looking_at(url: str, **options: Any) -> AsyncIterator[HttpCamera]:
    camera = HttpCamera(url, **({"timeout_ms": 2000.0, "max_late_ms": 1000.0, "max_bytes": 100_000} | options))
    await camera.start()
    try:
        yield camera
    finally:
        await camera.close()


async def until(camera: HttpCamera, *, lost: bool, limit_s: float) -> float:
    """Wait until the camera is lost, or back; gives how long it took."""
    begun_s = time.monotonic()
    async with asyncio.timeout(limit_s):
        while (camera.trouble is not None) != lost:
            await asyncio.sleep(0.01)
    return time.monotonic() - begun_s


@pytest.mark.parametrize("path", ["/snapshot.jpg", "/no-head.jpg", "/unlabelled.jpg", "/moved.jpg"])
async def test_a_picture_for_each_part_over_one_connection(server: SnapshotCamera, path: str) -> None:
    async with looking_at(server.url(path)) as camera:
        assert camera.trouble is None
        for _ in range(5):
            before_ns = time.time_ns()
            frame = await camera.capture(PART, time.monotonic_ns())
            assert (frame.data, frame.media_type) == (PICTURE, "image/jpeg")
            assert before_ns <= frame.captured_utc_ns <= time.time_ns()
    assert server.connections == (2 if path == "/no-head.jpg" else 1), "one more where HEAD was refused"
    assert [line for line in server.asked if line.startswith("GET")]


NO_PICTURE = [
    ("/absent.jpg", "status 404, Not Found"),
    ("/broken", "status 500, Internal Server Error"),
    ("/basic.jpg", "status 401, log-in refused: check username, password_file and auth"),
    ("/garbage.jpg", "neither JPEG nor PNG"),
    ("/html", "content type 'text/html': allowed are image/jpeg and image/png"),
    ("/cut.jpg", "truncated JPEG"),
    ("/huge.jpg", "the picture has more than 100000 bytes"),
    ("/elsewhere.jpg", "sends on to another host, localhost, which is not followed"),
    ("/round.jpg", "sends on more than 3 times"),
]


@pytest.mark.parametrize(("path", "reason"), NO_PICTURE)
async def test_no_picture_is_told_with_its_reason(server: SnapshotCamera, path: str, reason: str) -> None:
    async with looking_at(server.url("/snapshot.jpg")) as camera:
        server.pages["/snapshot.jpg"] = server.pages.get(path, server.pages["/broken"])
        if path == "/absent.jpg":
            del server.pages["/snapshot.jpg"]
        with pytest.raises(CameraError, match=reason):
            await camera.capture(PART, time.monotonic_ns())
        await until(camera, lost=True, limit_s=3.0)
        assert reason in str(camera.trouble)
        with pytest.raises(CameraError, match="camera lost: .*" + reason):
            await camera.capture(PART, time.monotonic_ns())


@pytest.mark.parametrize("path", ["/slow.jpg", "/drip.jpg"])
async def test_a_slow_answer_is_given_up_in_time(server: SnapshotCamera, path: str) -> None:
    async with looking_at(server.url("/snapshot.jpg"), timeout_ms=200.0) as camera:
        server.pages["/snapshot.jpg"] = server.pages[path]
        begun_s = time.monotonic()
        with pytest.raises(CameraError, match="no whole answer within 200 ms"):
            await camera.capture(PART, time.monotonic_ns())
        assert time.monotonic() - begun_s < 1.0


@pytest.mark.parametrize("auth", ["basic", "digest"])
async def test_the_log_in_is_given_and_stays_out_of_every_text(server: SnapshotCamera, auth: str) -> None:
    log_in = {"username": "cam", "password": "pa:ss", "auth": auth}
    async with looking_at(server.url(f"/{auth}.jpg"), **log_in) as camera:
        assert (await camera.capture(PART, time.monotonic_ns())).data == PICTURE
    async with looking_at(server.url(f"/{auth}.jpg"), **log_in | {"password": "wr0ng"}) as camera:
        assert "status 401" in str(camera.trouble)
        assert "wr0ng" not in str(camera.trouble)


async def test_a_log_in_never_goes_to_another_host(server: SnapshotCamera) -> None:
    other = SnapshotCamera(PICTURE)
    with other.running():
        server.pages["/elsewhere.jpg"] = lambda request: _send_to(request, other.url("/basic.jpg"))
        options = {"username": "cam", "password": "pa:ss", "auth": "basic"}
        async with looking_at(server.url("/elsewhere.jpg"), **options) as camera:
            assert "another host" in str(camera.trouble)
    assert other.asked == []


def _send_to(request: Any, url: str) -> None:
    request.send_response(302)
    request.send_header("Location", url)
    request.send_header("Content-Length", "0")
    request.end_headers()


async def test_nobody_there_is_known_at_the_start() -> None:
    port = free_ports(1)[0]
    async with looking_at(f"http://127.0.0.1:{port}/snapshot.jpg") as camera:
        assert "refused" in str(camera.trouble).lower()


async def test_a_stopped_camera_is_missed_without_a_part_and_found_again(server: SnapshotCamera) -> None:
    async with looking_at(server.url("/snapshot.jpg"), timeout_ms=250.0) as camera:
        await camera.capture(PART, time.monotonic_ns())
        server.stop()
        assert await until(camera, lost=True, limit_s=5.0) < 3.0
        assert "refused" in str(camera.trouble).lower()
        server.start()
        assert await until(camera, lost=False, limit_s=5.0) < 3.0
        assert (await camera.capture(PART, time.monotonic_ns())).data == PICTURE


async def test_a_camera_that_hangs_is_missed_without_a_part(server: SnapshotCamera) -> None:
    async with looking_at(server.url("/snapshot.jpg"), timeout_ms=250.0) as camera:
        await camera.capture(PART, time.monotonic_ns())
        server.hung.set()
        assert await until(camera, lost=True, limit_s=5.0) < 3.0
        assert "no whole answer within" in str(camera.trouble)


async def test_a_camera_that_is_seldom_needed_is_asked_by_head(server: SnapshotCamera) -> None:
    async with looking_at(server.url("/snapshot.jpg")):
        await asyncio.sleep(2.4)
    assert set(server.asked) == {"HEAD /snapshot.jpg"}
    assert 2 <= len(server.asked) <= 4


async def test_a_connection_that_the_camera_closed_between_parts_costs_no_part(server: SnapshotCamera) -> None:
    async with looking_at(server.url("/snapshot.jpg")) as camera:
        await camera.capture(PART, time.monotonic_ns())
        server.stop()
        server.start()
        assert (await camera.capture(PART, time.monotonic_ns())).data == PICTURE


async def test_a_name_that_nobody_knows_is_said_so() -> None:
    async with looking_at("http://camera.invalid/snapshot.jpg") as camera:
        assert camera.trouble is not None
        assert "not known" in camera.trouble or "resolution" in camera.trouble or "No address" in camera.trouble


async def test_https_is_trusted_by_a_certificate_of_ones_own_alone(tmp_path: Path) -> None:
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=camera -addext subjectAltName=IP:127.0.0.1"
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "camera.pem")]
    subprocess.run([*command.split(), *files], check=True, capture_output=True, timeout=20)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "camera.pem", tmp_path / "key.pem")
    server = SnapshotCamera(PICTURE, tls)
    with server.running():
        async with looking_at(server.url("/snapshot.jpg"), tls_ca=tmp_path / "camera.pem") as camera:
            assert (await camera.capture(PART, time.monotonic_ns())).data == PICTURE
        async with looking_at(server.url("/snapshot.jpg")) as camera:
            assert "TLS: self-signed certificate" in str(camera.trouble)
    with pytest.raises(ConfigError, match=r"camera\.tls_ca = .*gone\.pem': No such file"):
        await HttpCamera(
            server.url("/"), timeout_ms=100.0, max_late_ms=60.0, max_bytes=9999, tls_ca=tmp_path / "gone.pem"
        ).start()


async def test_a_part_whose_turn_came_too_late_gets_no_picture_of_the_next_part(server: SnapshotCamera) -> None:
    async with looking_at(server.url("/snapshot.jpg"), max_late_ms=100.0) as camera:
        asked = len(server.asked)
        with pytest.raises(
            CameraError, match=r"at the camera 1[2-9]\d ms before its turn came: allowed is max_late_ms = 100"
        ):
            await camera.capture(PART, time.monotonic_ns() - 120_000_000)
        assert len(server.asked) == asked
        assert (await camera.capture(PART, time.monotonic_ns())).data == PICTURE
