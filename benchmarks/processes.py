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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_START_S = 60.0
_STOP_S = 15.0
_RECIPE = "bench"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
"""Children import the tree that this file lies in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One program under test as its clients see it: topics, ports, and the OPC UA names of its result.

    `verdicts` is the topic of its verdicts; `unjudged` the input register where its counts of ERROR and LATE begin (two
    u32). A program that judges everything or nothing has neither; its `own_timing` gives the mean of each step in ms
    over so many parts.
    """

    name: str
    pid: int
    station: str = ""
    topic: str
    verdicts: str = ""
    unjudged: int | None = None
    own_timing: Callable[[int], Mapping[str, float]] | None = None
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
def floor(bundle: Path, *, name: str, broker_port: int, threads: int, images: Path) -> Iterator[Target]:
    """Run the direct script as `name`."""
    modbus_port, opcua_port = free_ports(2)
    ports = ["--broker-port", str(broker_port), "--modbus-port", str(modbus_port), "--opcua-port", str(opcua_port)]
    words = ["--bundle", str(bundle), "--images", str(images), "--threads", str(threads), "--name", name]
    with _child(["-m", "benchmarks.floor", *words, *ports]) as process:
        if _line(process) != "ready":
            raise RuntimeError("the direct script did not start: see its message above")

        def own_timing(last: int) -> Mapping[str, float]:
            assert process.stdin is not None
            process.stdin.write(f"{last}\n")
            process.stdin.flush()
            means: Mapping[str, float] = json.loads(_line(process))
            return means

        yield Target(
            name=name,
            pid=process.pid,
            topic=f"{name}/trigger",
            own_timing=own_timing,
            broker_port=broker_port,
            modbus_port=modbus_port,
            endpoint=f"opc.tcp://127.0.0.1:{opcua_port}/floor/",
            namespace="urn:floor",
            result="floor.Result",
        )


@contextlib.contextmanager
def bridge(
    folder: Path,
    *,
    broker_port: int,
    bundle: Path | None,
    images: Path | None = None,
    stations: int = 1,
    threads: int | None = None,
) -> Iterator[tuple[Target, ...]]:
    """Run the bridge in `folder`, with the shipped recipe or a bare one for `bundle`; gives a target for each station."""
    modbus_port, opcua_port, http_port = free_ports(3)
    names = [f"station{number}" for number in range(1, stations + 1)]
    config, log = folder / "linegate.toml", folder / "bridge.log"
    config.write_text(
        f"[mqtt]\nport = {broker_port}\n[modbus]\nport = {modbus_port}\n[http]\nport = {http_port}\n"
        f'[opcua]\nendpoint = "opc.tcp://127.0.0.1:{opcua_port}/linegate/"\nanonymous = true\n'
        + _models(bundle, threads)
        + "".join(_station(name, bundle, images) for name in names),
        encoding="utf-8",
    )
    if bundle:
        recipe = folder / "recipes" / f"{_RECIPE}.toml"
        recipe.parent.mkdir()
        recipe.write_text(f'name = "{_RECIPE}"\nnumber = 1\nbundle = "{bundle.absolute()}"\n', encoding="utf-8")
    with _child(["-m", "bridge", "run", "--config", str(config)], log=log) as process:
        try:
            _until(lambda: _ready(http_port), process, "the bridge")
        except RuntimeError as exc:
            words = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-5:]
            raise RuntimeError(f"{exc}: {' | '.join(words)}") from exc
        yield tuple(
            Target(
                name="bridge",
                pid=process.pid,
                station=name,
                topic=f"linegate/line1/{name}/trigger",
                verdicts=f"linegate/line1/{name}/verdict",
                unjudged=24,
                broker_port=broker_port,
                modbus_port=modbus_port,
                endpoint=f"opc.tcp://127.0.0.1:{opcua_port}/linegate/",
                namespace="urn:linegate",
                result=f"line1.{name}.Result",
            )
            for name in names
        )


@contextlib.contextmanager
def sink(port: int) -> Iterator[None]:
    """Run a Modbus module with coils."""
    with _child(["-m", "benchmarks.sink", "--port", str(port)]) as process:
        _until(lambda: _connects(port), process, "the Modbus module")
        yield


class Pollers:
    """Modbus clients in a process of their own, which poll between `on` and `off`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def on(self) -> None:
        """Let them begin."""
        self._say("on")

    def off(self) -> Mapping[str, float]:
        """Stop them; gives `reads`, `torn` and `slowest_ms` since `on`. Raises RuntimeError if one of them failed."""
        self._say("off")
        told = _line(self._process)
        if not told:
            raise RuntimeError("the Modbus pollers failed: see their message above")
        done: Mapping[str, float] = json.loads(told)
        return done

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()


@contextlib.contextmanager
def pollers(port: int, *, clients: int, hz: float) -> Iterator[Pollers]:
    """Run Modbus clients that poll the live block of the bridge at `port`, each at `hz`."""
    arguments = ["--port", str(port), "--clients", str(clients), "--hz", str(hz)]
    with _child(["-m", "benchmarks.poller", *arguments]) as process:
        yield Pollers(process)


def _models(bundle: Path | None, threads: int | None) -> str:
    keys = ["require_signature = false"] if bundle else []
    keys += [f"threads = {threads}"] if threads else []
    return "\n".join(["[models]", *keys, ""])


def _station(name: str, bundle: Path | None, images: Path | None) -> str:
    keys = [f'name = "{name}"']
    keys += [f'recipe = "{_RECIPE}"'] if bundle else []
    keys += [f'image_folder = "{images.absolute()}"'] if images else []
    return "\n".join(["[[stations]]", *keys, ""])


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


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
            env=ENVIRONMENT,
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


def _until(ready: Callable[[], bool], process: subprocess.Popen[str], what: str) -> None:
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
