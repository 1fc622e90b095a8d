"""A whole bridge that fires its own gate, on a real module; and the gate fired by hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.setup_files import write_project
from tests.cli.processes import (
    LINEGATE,
    Bridge,
    Ports,
    Publisher,
    environment,
    eventually,
    linegate,
    one_line,
    running,
    simulated_broker,
)
from tests.cli.test_run import GOOD, PITTED, send_picture
from tests.ports import free_ports
from tests.wire.remote_io import RemoteIo


@contextlib.contextmanager
def module(port: int) -> Iterator[RemoteIo]:
    """Run a remote I/O module on a loop of its own."""
    loop, io = asyncio.new_event_loop(), RemoteIo(port)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(io.start(), loop).result(10)
    try:
        yield io
    finally:
        asyncio.run_coroutine_threadsafe(io.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def station(io: RemoteIo, **gate: Any) -> dict[str, str]:
    """Give the settings of a slow belt with a gate that the bridge fires."""
    fires = {"mode": "bridge", "port": io.port, "coil": 2, **gate}
    return {"belt__speed_mm_s": "300", "stations": json.dumps([{"gate": fires}])}


def coils(io: RemoteIo) -> list[bool]:
    return [on for _moment, coil, on in io.edges if coil == 2]


def asked(port: int, request: bytes) -> bytes:
    """Ask the bridge's own Modbus server."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(struct.pack(">HHHB", 1, 0, len(request) + 1, 1) + request)
        return client.recv(300)[7:]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("rest", ["pass", "reject"])
def test_the_bridge_fires_the_gate_for_the_bad_part_and_lets_the_good_one_pass(tmp_path: Path, rest: str) -> None:
    write_project(tmp_path)
    ports = Ports.free()
    with contextlib.ExitStack() as stack:
        io = stack.enter_context(module(free_ports(1)[0]))
        stack.enter_context(simulated_broker(tmp_path, ports.mqtt))
        bridge = stack.enter_context(running(Bridge(folder=tmp_path, ports=ports, settings=station(io, rest=rest))))
        publisher = stack.enter_context(Publisher(ports.mqtt, topics=("gate",)))
        bridge.wait_ready()
        assert coils(io) == []
        send_picture(ports.mqtt, GOOD if rest == "reject" else PITTED, sequence=1, part_id="A")
        expected = "LET_PASS" if rest == "reject" else "REJECT"
        assert publisher.verdict_of(1)["disposition"] == expected
        eventually(lambda: coils(io) == [True])
        eventually(lambda: asked(ports.modbus, b"\x01\x00\x00\x00\x01") == b"\x01\x01\x01")
        eventually(lambda: coils(io) == [True, False])
        eventually(lambda: asked(ports.modbus, b"\x01\x00\x00\x00\x01") == b"\x01\x01\x00")
        send_picture(ports.mqtt, PITTED, sequence=2, part_id="B")
        fired = eventually(lambda: [each for each in publisher.heard("gate") if each["event"] == "fired"])[-1]
        assert fired["part_id"] == ("B" if rest == "reject" else "A")
        assert fired["error_ms"] >= 0
        eventually(lambda: publisher.heard("status")[-1]["counters"]["gate_fired"] == (1 if rest == "reject" else 2))
        assert asked(ports.modbus, b"\x04\x00\x36\x00\x01")[2:] != b"\x80\x00", "a firing error in register 54"
        check_firing_errors(bridge.metrics(), rest, fired["error_ms"])
        assert bridge.stop()[0] == 0
        eventually(lambda: io.writes[-1][1:] == (2, False))
        assert not [each for each in publisher.heard("gate") if each["event"] == "missed"]
    warned = any("gate_not_fail_safe" in line for line in bridge.log)
    assert warned == (rest == "pass")


def check_firing_errors(metrics: dict[str, float], rest: str, last_ms: float) -> None:
    """Compare the histogram with what was heard of the gate: each command was measured once."""
    name = "linegate_gate_firing_error_seconds"
    assert metrics[f"{name}_count/fired"] == metrics["linegate_gate_fired_total"] == (1 if rest == "reject" else 2)
    assert metrics[f"{name}_count/released"] == (1 if rest == "reject" else 0)
    assert metrics[f"{name}_bucket/fired/+Inf"] == metrics[f"{name}_count/fired"]
    if rest == "reject":
        assert metrics[f"{name}_sum/fired"] == pytest.approx(last_ms / 1e3, abs=1e-6)
    assert metrics["linegate_reconnects_total/gate"] == 0


@pytest.mark.timeout(60)
def test_a_lost_gate_output_is_an_alarm_and_ready_falls(tmp_path: Path) -> None:
    write_project(tmp_path)
    ports, port = Ports.free(), free_ports(1)[0]
    with contextlib.ExitStack() as stack:
        stack.enter_context(simulated_broker(tmp_path, ports.mqtt))
        with module(port) as io:
            bridge = stack.enter_context(running(Bridge(folder=tmp_path, ports=ports, settings=station(io))))
            publisher = stack.enter_context(Publisher(ports.mqtt, topics=("gate",)))
            bridge.wait_ready()
            eventually(lambda: asked(ports.modbus, b"\x04\x00\x00\x00\x01")[3] & 2)
        alarm = eventually(lambda: [a for a in publisher.heard("alarm") if a["name"] == "GATE_OUTPUT_LOST"])[0]
        assert (alarm["state"], alarm["severity"]) == ("raised", "critical")
        assert f"127.0.0.1:{port}" in alarm["text"]
        eventually(lambda: publisher.heard("status")[-1]["stop_request"])
        bits = int.from_bytes(asked(ports.modbus, b"\x04\x00\x00\x00\x01")[2:], "big")
        assert not bits >> 1 & 1, "not Ready"
        assert bits >> 11 & 1, "StopRequest"
        assert bits >> 12 & 1, "GateUnguarded"
        send_picture(ports.mqtt, GOOD, sequence=1, part_id="A")
        assert publisher.verdict_of(1)["verdict"] == "PASS", "parts are judged on"
        eventually(lambda: [a for a in publisher.heard("alarm") if a["name"] == "COLLATERAL"])


def test_gate_test_fires_once_and_tells_the_error(tmp_path: Path) -> None:
    write_project(tmp_path)
    with module(free_ports(1)[0]) as io:
        done = linegate(tmp_path, "gate", "test", "--ms", "100", **station(io, rest="pass"))
        assert (done.returncode, done.stderr) == (0, "")
        assert coils(io) == [True, False]
        assert "ms after its moment" in done.stdout
        assert "off after 100 ms" in done.stdout


def test_gate_test_says_what_keeps_it_from_firing(tmp_path: Path) -> None:
    write_project(tmp_path)
    assert "gate.mode" in one_line(linegate(tmp_path, "gate", "test"), code=2)
    (port,) = free_ports(1)
    settings = {"stations": json.dumps([{"gate": {"mode": "bridge", "port": port}}])}
    done = linegate(tmp_path, "gate", "test", **settings)
    assert done.returncode == 1
    assert f"127.0.0.1:{port}: ECONNREFUSED" in done.stderr
    unknown = linegate(tmp_path, "gate", "test", "--station", "other", **settings)
    assert "allowed is one of station1" in one_line(unknown, code=2)


def test_gate_test_leaves_the_gate_alone_when_told_so(tmp_path: Path) -> None:
    write_project(tmp_path)
    with module(free_ports(1)[0]) as io:
        command = [*LINEGATE, "gate", "test"]
        settings = environment(**station(io))
        done = subprocess.run(
            command, cwd=tmp_path, env=settings, input="n\n", capture_output=True, text=True, timeout=25, check=False
        )
        assert done.returncode == 1
        assert io.writes == []
