"""The HTTP server, asked by urllib, by curl and by raw sockets."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bridge.domain.status import Counters, StationState, StationStatus
from bridge.errors import StartError
from bridge.monitoring.http import HttpServer
from bridge.monitoring.metrics import Sources


def status(**changes: object) -> StationStatus:
    settings: dict[str, object] = {
        "state": StationState.READY, "online": True, "ready": True, "busy": False, "error": False, "recipe_ok": True,
        "degraded": True, "plc_heartbeat_lost": False, "stop_request": False, "gate_unguarded": False,
        "clock_ok": True, "heartbeat": 17, "error_code": 23, "error_text": "", "recipe": "bracket@3",
        "recipe_number": 7, "model": "surface@1.2.0", "model_sha256": "", "belt_speed_mm_s": 1200.0,
        "counters": Counters(triggers=10, passed=4, failed=3, late=1, missed_triggers=2, gate_fired=5), "last_sequence": 9,
    }  # fmt: skip
    return StationStatus(**(settings | changes))  # type: ignore[arg-type]


@dataclass
class World:
    """What the server is told of the bridge."""

    stuck: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    stations: dict[tuple[str, str], StationStatus] = field(default_factory=dict)
    pictures: dict[tuple[str, str, int], Path] = field(default_factory=dict)
    hold: Callable[[], None] = lambda: None

    def unhealthy(self) -> list[str]:
        self.hold()
        return self.stuck

    def picture(self, line: str, station: str, sequence: int) -> Path | None:
        return self.pictures.get((line, station, sequence))


@pytest.fixture
def world() -> World:
    return World(stations={("line1", "station1"): status()})


def serve(world: World, **settings: object) -> HttpServer:
    defaults: dict[str, object] = {
        "host": "127.0.0.1",
        "port": 0,
        "unhealthy": world.unhealthy,
        "not_ready": lambda: world.reasons,
        "sources": Sources(version="9.8.7", stations=lambda: world.stations),
        "picture": world.picture,
    }
    server = HttpServer(**(defaults | settings))  # type: ignore[arg-type]
    server.start()
    return server


@pytest.fixture
def server(world: World) -> Iterator[HttpServer]:
    running = serve(world)
    yield running
    running.stop()


def ask(server: HttpServer, path: str, method: str = "GET") -> tuple[int, Message, bytes]:
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.headers, exc.read()


def raw(server: HttpServer, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(request)
        answer = b""
        while block := client.recv(65536):
            answer += block
        return answer


def test_health_says_what_is_stuck(server: HttpServer, world: World) -> None:
    code, headers, body = ask(server, "/healthz")
    assert (code, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body) == {"healthy": True, "reasons": []}
    world.stuck = ["station1: the loop has stood still for 3.1 s"]
    code, headers, body = ask(server, "/healthz")
    assert (code, headers["Content-Type"]) == (503, "application/json")
    assert json.loads(body) == {"healthy": False, "reasons": world.stuck}


def test_readiness_names_what_is_missing(server: HttpServer, world: World) -> None:
    code, headers, body = ask(server, "/readyz")
    assert (code, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body) == {"ready": True, "reasons": []}
    world.reasons = ["MQTT is not subscribed", "the journal is not writable"]
    code, headers, body = ask(server, "/readyz")
    assert (code, headers["Content-Type"]) == (503, "application/json")
    assert json.loads(body) == {"ready": False, "reasons": ["MQTT is not subscribed", "the journal is not writable"]}


def test_metrics_have_the_counters_of_every_station(server: HttpServer, world: World) -> None:
    world.stations[("line1", "station2")] = status(belt_speed_mm_s=None, counters=Counters(triggers=2**32 - 1))
    code, headers, body = ask(server, "/metrics")
    assert code == 200
    assert headers["Content-Type"].startswith("text/plain; version=")
    lines = body.decode().splitlines()
    for expected in (
        'linegate_build_info{version="9.8.7"} 1.0',
        'linegate_triggers_total{line="line1",station="station1"} 10.0',
        'linegate_triggers_total{line="line1",station="station2"} 4.294967295e+09',
        'linegate_verdicts_total{line="line1",station="station1",verdict="PASS"} 4.0',
        'linegate_verdicts_total{line="line1",station="station1",verdict="LATE"} 1.0',
        'linegate_parts_in_flight{line="line1",station="station1"} 2.0',
        'linegate_missed_triggers_total{line="line1",station="station1"} 2.0',
        'linegate_gate_fired_total{line="line1",station="station1"} 5.0',
        'linegate_ready{line="line1",station="station1"} 1.0',
        'linegate_degraded{line="line1",station="station1"} 1.0',
        'linegate_stop_request{line="line1",station="station1"} 0.0',
        'linegate_error_code{line="line1",station="station1"} 23.0',
        'linegate_belt_speed_meters_per_second{line="line1",station="station1"} 1.2',
        'linegate_state{line="line1",state="READY",station="station1"} 1.0',
        'linegate_state{line="line1",state="FAULT",station="station1"} 0.0',
    ):
        assert expected in lines, body.decode()
    assert 'linegate_belt_speed_meters_per_second{line="line1",station="station2"}' not in body.decode()
    assert {"linegate_triggers", "process_cpu_seconds"} <= {
        family.name for family in text_string_to_metric_families(body.decode())
    }


def test_picture_is_sent_as_it_lies_on_disk(server: HttpServer, world: World, tmp_path: Path) -> None:
    picture = tmp_path / "123.jpg"
    picture.write_bytes(b"\xff\xd8" + b"x" * 300_000)
    world.pictures[("line1", "station1", 123)] = picture
    code, headers, body = ask(server, "/pictures/line1/station1/123")
    assert (code, headers["Content-Type"], body) == (200, "image/jpeg", picture.read_bytes())
    assert headers["X-Content-Type-Options"] == "nosniff"
    picture.unlink()
    assert ask(server, "/pictures/line1/station1/123")[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        "/pictures/line1/station1/124", "/pictures/line1/station1/-1", "/pictures/line1/station1/4294967296",
        "/pictures/line1/station1/1e3", "/pictures/line1/station1/%D9%A1", "/pictures/line1/station1",
        "/pictures/line1/station1/123/", "/pictures/../station1/123", "/pictures/line1/..%2f..%2fetc/123",
        "/pictures/%2e%2e/station1/123", "/pictures/1line/station1/123", "/pictures//station1/123",
        "/pictures/line1/station1/00123", "/pictures/" + "a" * 33 + "/station1/123", "/", "/nothing", "/healthz/",
        "/pictures/line1/station1/123%00", "/metrics/../pictures",
    ],
)  # fmt: skip
def test_anything_else_is_not_found(server: HttpServer, world: World, tmp_path: Path, path: str) -> None:
    (tmp_path / "123.jpg").write_bytes(b"x")
    world.pictures[("line1", "station1", 123)] = tmp_path / "123.jpg"
    assert ask(server, path)[0] == 404


def test_query_is_ignored(server: HttpServer) -> None:
    assert ask(server, "/healthz?from=probe")[0] == 200


def test_head_has_the_headers_alone(server: HttpServer) -> None:
    full = ask(server, "/readyz")
    code, headers, body = ask(server, "/readyz", "HEAD")
    assert (code, body) == (200, b"")
    assert headers["Content-Length"] == str(len(full[2]))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_other_methods_are_not_allowed(server: HttpServer, method: str) -> None:
    code, headers, _body = ask(server, "/healthz", method)
    assert (code, headers["Allow"]) == (405, "GET, HEAD")


def test_server_names_no_versions(server: HttpServer) -> None:
    assert "Python" not in str(ask(server, "/healthz")[1]["Server"])


def test_curl_gets_every_answer(server: HttpServer, tmp_path: Path, world: World) -> None:
    world.pictures[("line1", "station1", 5)] = tmp_path / "5.png"
    (tmp_path / "5.png").write_bytes(b"\x89PNG")
    base = f"http://127.0.0.1:{server.port}"
    expected = {"/healthz": "200", "/readyz": "200", "/metrics": "200", "/pictures/line1/station1/5": "200 image/png"}
    for path, start in expected.items():
        command = ["curl", "-sS", "-m", "10", "-o", "/dev/null", "-w", "%{http_code} %{content_type}", base + path]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.startswith(start)
    # Several requests one after the other, as a browser or a probe with a kept connection sends them.
    done = subprocess.run(
        ["curl", "-sS", "-m", "10", *[f"{base}/healthz"] * 3], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("healthy") == 3


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /healthz\r\n\r\n\0\0",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET " + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\n\r\n",
        b"GET http://[ HTTP/1.0\r\n\r\n",
        b"GET /pictures/line1/station1/\xff HTTP/1.0\r\n\r\n",
    ],
)
def test_garbage_ends_its_own_connection_alone(
    server: HttpServer, capfd: pytest.CaptureFixture[str], request_bytes: bytes
) -> None:
    with contextlib.suppress(ConnectionError):  # closed before all of it was read
        assert b"200" not in raw(server, request_bytes).split(b"\n", 1)[0]
    assert ask(server, "/healthz")[0] == 200
    assert "Traceback" not in "".join(capfd.readouterr())


def test_client_that_leaves_in_the_middle_is_no_trouble(
    server: HttpServer, world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "1.jpg"
    picture.write_bytes(b"x" * 20_000_000)
    world.pictures[("line1", "station1", 1)] = picture
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"GET /pictures/line1/station1/1 HTTP/1.0\r\n\r\n")
            client.recv(10)
    assert ask(server, "/healthz")[0] == 200
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_request_under_way_is_answered_before_the_server_is_gone(world: World) -> None:
    asked, answer = threading.Event(), threading.Event()

    def hold() -> None:
        asked.set()
        answer.wait(10.0)

    world.hold = hold
    running = serve(world)
    with socket.create_connection(("127.0.0.1", running.port)) as client:
        client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        asked.wait(10.0)
        threading.Timer(0.1, answer.set).start()
        running.stop()
        assert answer.is_set(), "it waited"
        assert client.recv(1000).startswith(b"HTTP/1.0 200")


def until_it_answers(server: HttpServer, code: int) -> None:
    """Ask until the answer is `code`; the test's time limit ends a wait for what never comes."""
    answered = 0
    while answered != code:
        with contextlib.suppress(OSError):  # a client turned away may see a reset instead of the 503
            answered = ask(server, "/healthz")[0]


def drip(client: socket.socket) -> bool:
    try:
        client.sendall(b"a")
    except OSError:
        return False
    return True


def test_client_that_drips_its_request_is_cut_off(world: World) -> None:
    server = serve(world, most=4, timeout_s=10.0, longest_s=0.5)
    clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(4)]
    while any(drip(client) for client in clients):
        time.sleep(0.05)
    until_it_answers(server, 200)
    for client in clients:
        client.close()
    server.stop()


def test_silent_client_takes_its_thread_for_a_moment_only(world: World) -> None:
    server = serve(world, most=2, timeout_s=0.5)
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(2)]
    until_it_answers(server, 503)
    until_it_answers(server, 200)
    for client in silent:
        client.close()
    server.stop()


def test_more_clients_than_threads_are_told_to_come_back(world: World) -> None:
    server = serve(world, most=2, timeout_s=10.0)
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(2)]
    until_it_answers(server, 503)
    for client in silent:
        client.close()
    until_it_answers(server, 200)
    server.stop()


def test_server_listens_on_ipv6_as_well(world: World) -> None:
    with contextlib.closing(socket.socket(socket.AF_INET6)) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
    server = serve(world, host="::1")
    with urllib.request.urlopen(f"http://[::1]:{server.port}/healthz", timeout=10) as answer:
        assert answer.status == 200
    server.stop()


def test_callable_that_fails_gives_503_and_no_traceback(
    server: HttpServer, world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise RuntimeError("dictionary changed size during iteration")

    world.hold = fail
    assert ask(server, "/healthz")[0] == 503
    world.hold = lambda: None
    assert ask(server, "/healthz")[0] == 200
    assert "Traceback" not in "".join(capfd.readouterr())


def test_port_in_use_is_tried_again_then_named_with_what_to_do(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = HttpServer(
            host="127.0.0.1", port=port, unhealthy=world.unhealthy, not_ready=lambda: [],
            sources=Sources(version="1", stations=dict), picture=world.picture, bind_within_s=0.3,
        )  # fmt: skip
        with pytest.raises(StartError) as caught:
            server.start()
    assert str(port) in str(caught.value)
    assert "http.port" in str(caught.value)
    assert "\n" not in str(caught.value)
    server.start()
    assert ask(server, "/healthz")[0] == 200
    server.stop()


def test_stop_frees_the_port_at_once(world: World) -> None:
    first = serve(world)
    port = first.port
    ask(first, "/healthz")
    first.stop()
    with socket.create_server(("127.0.0.1", port)):
        pass
