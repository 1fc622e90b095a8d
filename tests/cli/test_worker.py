"""The process that holds the model, and the watch over the loop, in a whole bridge: stopped, killed, signalled."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import struct
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from asyncua.sync import Client as OpcUaClient

from bridge.domain.alarms import ALARMS
from bridge.setup_files import write_project
from tests.cli.processes import (
    LINEGATE,
    PICTURES,
    Bridge,
    Ports,
    Publisher,
    environment,
    eventually,
    running,
    simulated_broker,
)
from tests.inference.probe import state_of, workers_of

GOOD = sorted((PICTURES / "good").glob("*.jpg"))[0].read_bytes()
PITTED = sorted((PICTURES / "pitting").glob("*.jpg"))[-1].read_bytes()
SLOW_BELT = {"belt__speed_mm_s": "60"}
"""A part has nearly 10 s until its gate: what is late here is late by seconds."""


def send(publisher: Publisher, sequence: int, picture: bytes = GOOD) -> None:
    publisher.send(picture, content_type="image/jpeg", user_properties=[("sequence", str(sequence))])


def error_code(port: int) -> int:
    """Read register 34 by Modbus."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(struct.pack(">HHHBBHH", 7, 0, 6, 1, 4, 34, 1))
        code: int = struct.unpack(">H", client.recv(64)[9:11])[0]
        return code


@contextlib.contextmanager
def opcua_error_code(endpoint: str) -> Iterator[Callable[[], int]]:
    """Stay connected by OPC UA, and give a way to read the station's error code."""
    with OpcUaClient(endpoint) as client:
        node = client.get_node("ns=2;s=line1.station1.Status.ErrorCode")
        yield node.read_value


@contextlib.contextmanager
def line(folder: Path, **settings: str) -> Iterator[tuple[Bridge, Publisher]]:
    """Run a broker, a bridge that is ready, and a client."""
    if not (folder / "linegate.toml").exists():
        write_project(folder)
    ports = Ports.free()
    with contextlib.ExitStack() as stack:
        stack.enter_context(simulated_broker(folder, ports.mqtt))
        bridge = stack.enter_context(running(Bridge(folder=folder, ports=ports, settings=SLOW_BELT | settings)))
        publisher = stack.enter_context(Publisher(ports.mqtt))
        bridge.wait_ready()
        yield bridge, publisher


def alarms(publisher: Publisher, state: str) -> list[dict[str, Any]]:
    return [each for each in publisher.heard("alarm") if (each["name"], each["state"]) == ("WORKER_LOST", state)]


@pytest.mark.soak
@pytest.mark.timeout(90)
@pytest.mark.parametrize("blow", [signal.SIGSTOP, signal.SIGKILL, signal.SIGSEGV])
def test_a_lost_worker_costs_the_parts_of_a_moment_and_lets_none_pass(tmp_path: Path, blow: signal.Signals) -> None:
    endpoint = "opc.tcp://127.0.0.1:{}/linegate/"
    with (
        line(tmp_path) as (bridge, publisher),
        opcua_error_code(endpoint.format(bridge.ports.opcua)) as opcua_code,
    ):
        (worker,) = workers_of(bridge.process.pid)
        for sequence in range(5):
            send(publisher, sequence)
        eventually(lambda: len(publisher.heard("verdict")) == 5)
        os.kill(worker, blow)
        begun, sequence, raised_s, codes = time.monotonic(), 5, None, set()
        while not alarms(publisher, "cleared"):
            send(publisher, sequence)
            sequence += 1
            time.sleep(0.05)
            if raised_s is None and alarms(publisher, "raised"):
                raised_s = time.monotonic() - begun
                codes |= {error_code(bridge.ports.modbus), opcua_code()}
            assert time.monotonic() - begun < 20
        for picture in (GOOD, PITTED):
            send(publisher, sequence, picture)
            sequence += 1
        eventually(lambda: len(publisher.heard("verdict")) >= sequence)
        assert raised_s is not None
        assert raised_s < 3.0
        assert codes
        in_a_row = ("CONSECUTIVE_FAILURES", "CONSECUTIVE_REJECTS")  # its failed parts count as both
        assert codes <= {ALARMS[name].code for name in ("WORKER_LOST", *in_a_row)}, "the newest that stands"
        verdicts = publisher.heard("verdict")
        assert [each["sequence"] for each in verdicts] == list(range(sequence)), "one each, in order"
        assert [each["verdict"] for each in verdicts[:5]] == ["PASS"] * 5
        assert [each["verdict"] for each in verdicts[-2:]] == ["PASS", "FAIL"]
        failed = [each for each in verdicts if each["verdict"] not in ("PASS", "FAIL")]
        assert failed
        for each in failed:
            assert (each["verdict"], each["disposition"]) == ("ERROR", "REJECT")
            assert "the inference worker" in each["reason"]
        judged_s = [each["timing_ms"]["total"] / 1e3 for each in failed]
        assert max(judged_s) < 4.0
        assert len(workers_of(bridge.process.pid)) == 1
        assert bridge.stop()[0] == 0


@pytest.mark.timeout(60)
def test_the_workers_end_with_the_bridge_and_not_by_its_signals(tmp_path: Path) -> None:
    write_project(tmp_path)
    config = tmp_path / "linegate.toml"
    text = config.read_text()
    station = text[text.index("[[stations]]") :]
    config.write_text(f"{text}\n{station.replace('station1', 'station2')}")
    with line(tmp_path) as (bridge, publisher):
        first, second = workers_of(bridge.process.pid)
        os.kill(first, signal.SIGKILL)
        reasons = eventually(lambda: (answer := bridge.get("/readyz"))[0] == 503 and answer[1])
        assert reasons.count("inference worker") == 1, "the other station has its own"
        bridge.wait_ready()
        (third,) = set(workers_of(bridge.process.pid)) - {second}
        for worker in (second, third):
            os.kill(worker, signal.SIGINT)
            os.kill(worker, signal.SIGTERM)
        send(publisher, 1)
        assert publisher.verdict_of(1)["verdict"] == "PASS"
        code, seconds = bridge.stop()
        assert (code, bridge.told("inference_worker_lost")) == (0, 1), bridge.log
        assert seconds < 10
        assert state_of(second) + state_of(third) == ""


@pytest.mark.timeout(60)
def test_a_killed_bridge_leaves_no_worker(tmp_path: Path) -> None:
    with line(tmp_path) as (bridge, publisher):
        (worker,) = workers_of(bridge.process.pid)
        for sequence in range(20):
            send(publisher, sequence)
        bridge.process.kill()
        killed = time.monotonic()
        while state_of(worker) not in ("", "Z"):
            assert time.monotonic() - killed < 0.5
            time.sleep(0.005)


# ---- a loop that stands still --------------------------------------------------------------------------------------


@pytest.mark.soak
@pytest.mark.timeout(90)
def test_a_bridge_whose_loop_stands_still_says_so_and_ends_with_code_1(tmp_path: Path) -> None:
    """Its log goes into a pipe that nobody reads: once that is full, the loop hangs in writing a line."""
    write_project(tmp_path)
    ports = Ports.free()
    with contextlib.ExitStack() as stack:
        stack.enter_context(simulated_broker(tmp_path, ports.mqtt))
        bridge = subprocess.Popen(
            [*LINEGATE, "run"], cwd=tmp_path, env=environment(**(ports.settings | SLOW_BELT)), stderr=subprocess.PIPE
        )
        stack.callback(bridge.wait, 10)
        stack.callback(bridge.kill)
        assert bridge.stderr is not None
        stack.callback(bridge.stderr.close)
        fcntl.fcntl(bridge.stderr, fcntl.F_SETPIPE_SZ, 4096)
        publisher = stack.enter_context(Publisher(ports.mqtt))
        eventually(lambda: health(ports.http) == 200)
        eventually(lambda: publisher.heard("status") and publisher.heard("status")[-1]["state"] == "READY")
        for _ in range(100):
            with contextlib.suppress(AssertionError):
                publisher.send(b'{"sequence": 7, "part_id": "the same again"}')
        hung = time.monotonic()
        eventually(lambda: health(ports.http) == 503)
        assert time.monotonic() - hung < 6
        assert bridge.wait(20) == 1
        assert time.monotonic() - hung < 16


def health(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as exc:
        with exc:
            assert b"stood still" in exc.read()
            return exc.code
    except OSError:
        return 0


@pytest.mark.soak
@pytest.mark.timeout(90)
def test_a_bridge_that_was_stopped_for_longer_than_its_watchdog_waits_goes_on(tmp_path: Path) -> None:
    with line(tmp_path) as (bridge, publisher):
        (worker,) = workers_of(bridge.process.pid)
        bridge.process.send_signal(signal.SIGSTOP)
        time.sleep(14)
        bridge.process.send_signal(signal.SIGCONT)
        bridge.wait_ready()
        send(publisher, 1)
        assert publisher.verdict_of(1)["verdict"] == "PASS"
        time.sleep(3)
        assert bridge.get("/healthz")[0] == 200
        assert workers_of(bridge.process.pid) == [worker]
        assert bridge.stop()[0] == 0
