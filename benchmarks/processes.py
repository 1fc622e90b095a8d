"""Start what a benchmark needs, each a process of its own on free loopback ports, and end it again."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_START_S = 60.0
_STOP_S = 15.0
_RECIPE = "bench"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One program under test as its clients see it: topics, ports, and the OPC UA names of its result.

    `verdicts` is the topic of its verdicts; `unjudged` the input register where its counts of ERROR and LATE begin (two
    u32). A program that judges everything or nothing has neither.
    """

    name: str
    topic: str
    verdicts: str | None = None
    unjudged: int | None = None
    broker_port: int
    modbus_port: int
    endpoint: str
    namespace: str
    result: str


def free_ports(count: int) -> list[int]:
    """Give `count` different ports that are free now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(each.getsockname()[1]) for each in sockets]


@contextlib.contextmanager
def broker(port: int) -> Iterator[None]:
    """Run the demo's broker."""
    with _child(["-m", "simulators.broker", "--port", str(port)]) as process:
        _until(lambda: _connects(port), process, "the broker")
        yield


@contextlib.contextmanager
def floor(
    bundle: Path, *, name: str, broker_port: int, threads: int, last: int, report: dict[str, float]
) -> Iterator[Target]:
    """Run the direct script as `name`; its own timing of the `last` parts is put into `report` when it ends."""
    modbus_port, opcua_port = free_ports(2)
    ports = ["--broker-port", str(broker_port), "--modbus-port", str(modbus_port), "--opcua-port", str(opcua_port)]
    with _child(
        ["-m", "benchmarks.floor", "--bundle", str(bundle), *ports, "--threads", str(threads), "--name", name]
    ) as process:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise RuntimeError("the direct script did not start: see its message above")
        yield Target(
            name=name,
            topic=f"{name}/trigger",
            broker_port=broker_port,
            modbus_port=modbus_port,
            endpoint=f"opc.tcp://127.0.0.1:{opcua_port}/floor/",
            namespace="urn:floor",
            result="floor.Result",
        )
        output, _ = process.communicate(str(last), timeout=_STOP_S)
        report.update(json.loads(output.strip().splitlines()[-1]))


@contextlib.contextmanager
def bridge(folder: Path, *, broker_port: int, bundle: Path | None) -> Iterator[Target]:
    """Run the bridge on a configuration of its own in `folder`, with the shipped recipe or a bare one for `bundle`."""
    modbus_port, opcua_port, http_port = free_ports(3)
    config = folder / "linegate.toml"
    config.write_text(
        f"[mqtt]\nport = {broker_port}\n[modbus]\nport = {modbus_port}\n[http]\nport = {http_port}\n"
        f'[opcua]\nendpoint = "opc.tcp://127.0.0.1:{opcua_port}/linegate/"\nanonymous = true\n'
        + (
            f'[models]\nrequire_signature = false\n[[stations]]\nname = "station1"\nrecipe = "{_RECIPE}"\n'
            if bundle
            else '[[stations]]\nname = "station1"\n'
        ),
        encoding="utf-8",
    )
    if bundle:
        recipe = folder / "recipes" / f"{_RECIPE}.toml"
        recipe.parent.mkdir()
        recipe.write_text(f'name = "{_RECIPE}"\nnumber = 1\nbundle = "{bundle.absolute()}"\n', encoding="utf-8")
    log = folder / "bridge.log"
    with _child(["-m", "bridge", "run", "--config", str(config)], log=log) as process:
        try:
            _until(lambda: _ready(http_port), process, "the bridge")
        except RuntimeError as exc:
            words = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-5:]
            raise RuntimeError(f"{exc}: {' | '.join(words)}") from exc
        yield Target(
            name="bridge",
            topic="linegate/line1/station1/trigger",
            verdicts="linegate/line1/station1/verdict",
            unjudged=24,
            broker_port=broker_port,
            modbus_port=modbus_port,
            endpoint=f"opc.tcp://127.0.0.1:{opcua_port}/linegate/",
            namespace="urn:linegate",
            result="line1.station1.Result",
        )


@contextlib.contextmanager
def _child(arguments: list[str], *, log: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    with contextlib.ExitStack() as stack:
        out = subprocess.PIPE if log is None else stack.enter_context(log.open("w"))
        process = subprocess.Popen(
            [sys.executable, "-P", *arguments],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=None if log is None else subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(_STOP_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def _until(ready: object, process: subprocess.Popen[str], what: str) -> None:
    assert callable(ready)
    end = time.monotonic() + _START_S
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"{what} did not start")
        time.sleep(0.05)


def _connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
