"""`make flows`: Node-RED with all flows beside the demo's line, until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from simulators.process import die_with_parent

FLOWS = Path(__file__).parent.parent / "flows"
HOST = "127.0.0.1"
DEFAULT_PORT = 1880
LEAST_NODE = 20
READY_S, INSTALL_S, END_S = 90.0, 900.0, 40.0
DAY_S = "86400"


class FlowsError(Exception):
    """Why the flows can't run here; the text says what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until Ctrl-C, or until the demo ends by itself; gives the exit code."""
    parser = argparse.ArgumentParser(prog="make flows", description="Node-RED with all flows beside `linegate demo`.")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help=f"of editor and dashboard [{DEFAULT_PORT}]")
    options, for_demo = parser.parse_known_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="linegate-flows-") as folder:
            return _run(Path(folder), options.port, for_demo)
    except FlowsError as exc:
        sys.stderr.write(f"make flows: {exc}\n")
        return 1
    except KeyboardInterrupt:
        _say("ended")
        return 0


def _run(folder: Path, port: int, for_demo: Sequence[str]) -> int:
    node = find_node()
    install()
    demo_log, red_log = folder / "demo.log", folder / "node-red.log"
    words = ["--no-dashboard", "--keep", str(folder / "demo"), *_defaults(for_demo), *for_demo]
    _say(f"starting the line and Node-RED; their logs are {demo_log} and {red_log}")
    demo = [sys.executable, "-P", "-m", "simulators.demo", *words]
    with _child(demo, demo_log, environment=os.environ, name="the demo") as line:
        addresses = _wait(lambda: addresses_of(folder / "demo" / "linegate.toml"), {"the demo": (line, demo_log)})
        if not _named(for_demo) & {"--model", "--recipe"}:
            add_recipe(folder / "demo")
        port = free_port(port)
        variables = {**folders_of(folder / "demo" / "linegate.toml"), **os.environ, **addresses}
        home = prepare(folder / "node-red", variables, node)
        environment = {**variables, "LINEGATE_FLOWS_PORT": str(port)}
        red = [node, str(FLOWS / "node_modules/node-red/red.js"), "-u", str(home), "-s", str(FLOWS / "settings.js")]
        with _child(red, red_log, environment=environment, name="Node-RED") as running:
            children = {"the demo": (line, demo_log), "Node-RED": (running, red_log)}
            url = f"http://{HOST}:{port}"
            _wait(lambda: answers(f"{url}/dashboard"), children)
            _say(
                f"dashboard  {url}/dashboard/line\neditor     {url}/  (what you change there is lost at the end: export it)"
            )
            _say("Ctrl-C ends both")
            return _until_one_ends(children)


def _defaults(given: Sequence[str]) -> list[str]:
    """Let the line run for a day unless told.

    Slowly, two parts a second: a browser that starts on the same two cores takes them for some tenths of a second.
    """
    names = _named(given)
    length = [] if names & {"--parts", "--seconds"} else ["--seconds", DAY_S]
    pace = [] if names & {"--speed", "--spacing"} else ["--speed", "400", "--spacing", "200"]
    return length + pace


def _named(given: Sequence[str]) -> set[str]:
    """Give the options that are on a command line, without their values."""
    return {word.split("=", 1)[0] for word in given}


def find_node() -> str:
    """Give the path of node; raises FlowsError where there is none, or too old a one."""
    node = shutil.which("node")
    needed = f"Node.js {LEAST_NODE} or newer with npm (https://nodejs.org); the rest of Linegate runs without"
    if node is None or shutil.which("npm") is None:
        raise FlowsError(f"{'node' if node is None else 'npm'} is not installed; Node-RED needs {needed}")
    told = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=20, check=False).stdout.strip()
    if int(told.removeprefix("v").split(".")[0] or 0) < LEAST_NODE:
        raise FlowsError(f"node is {told}; Node-RED needs {needed}")
    return node


def install() -> None:
    """Install the packages of flows/package-lock.json where they are missing or others; raises FlowsError."""
    wanted, present = FLOWS / "package-lock.json", FLOWS / "node_modules" / ".package-lock.json"
    if not wanted.is_file():
        raise FlowsError(f"{FLOWS} holds no flows; run it in a checkout of Linegate")
    if present.is_file() and _versions(present) == _versions(wanted):
        return
    _say("installing Node-RED and its nodes into flows/node_modules: one to three minutes, 430 MB")
    try:
        done = subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=FLOWS, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        raise FlowsError(f"`npm ci` in {FLOWS} did not end within {INSTALL_S:.0f} s") from None
    if done.returncode != 0:
        raise FlowsError(f"`npm ci` in {FLOWS} failed with code {done.returncode}, see above")


def _versions(lock: Path) -> dict[str, str]:
    packages = json.loads(lock.read_text(encoding="utf-8"))["packages"]
    return {name: one.get("version", "") for name, one in packages.items() if name and not one.get("optional")}


def addresses_of(config: Path) -> dict[str, str]:
    """Give where a line's bridge serves, as the flows name it; empty while its configuration is not there."""
    try:
        told = tomllib.loads(config.read_text(encoding="utf-8"))
        return {
            "LINEGATE_MQTT_HOST": told["mqtt"]["host"],
            "LINEGATE_MQTT_PORT": str(told["mqtt"]["port"]),
            "LINEGATE_HTTP": f"http://{told['http']['host']}:{told['http']['port']}",
            "LINEGATE_MODBUS_HOST": told["modbus"]["host"],
            "LINEGATE_MODBUS_PORT": str(told["modbus"]["port"]),
            "LINEGATE_OPCUA": told["opcua"]["endpoint"],
        }
    except (FileNotFoundError, KeyError, tomllib.TOMLDecodeError):
        return {}


def folders_of(config: Path) -> dict[str, str]:
    """Give the flows' folders: good parts of the line's own pictures, and reports where the caller stands."""
    station = tomllib.loads(config.read_text(encoding="utf-8"))["stations"][0]
    return {
        "LINEGATE_IMAGES": str(Path(station["image_folder"]) / "good"),
        "REPORT_FOLDER": str(Path.cwd() / "reports"),
    }


def add_recipe(project: Path) -> None:
    """Put a second recipe, ball-screw-strict, beside a line's configuration, so that there is one to change over to."""
    text = (files("models") / "recipes" / "ball-screw.toml").read_text(encoding="utf-8")
    text = text.replace('name = "ball-screw"', 'name = "ball-screw-strict"').replace("number = 1", "number = 2")
    (project / "recipes").mkdir(exist_ok=True)
    strict = f"{text}\n[thresholds.pitting]\nreject = 0.1\ndoubt = 0.005\n"
    (project / "recipes" / "ball-screw-strict.toml").write_text(strict, encoding="utf-8")


def prepare(home: Path, addresses: Mapping[str, str], node: str) -> Path:
    """Make Node-RED's folder with all flows in it; raises FlowsError for files that don't go together."""
    (home / "node_modules").mkdir(parents=True)
    for own in FLOWS.glob("node-red-contrib-*"):
        (home / "node_modules" / own.name).symlink_to(own)
    flows = [str(file) for file in sorted(FLOWS.glob("*.json")) if not file.name.startswith("package")]
    command = [node, str(FLOWS / "load.js"), str(home / "flows.json"), *flows]
    done = subprocess.run(command, env={**os.environ, **addresses}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise FlowsError(done.stderr.strip())
    return home


def free_port(wanted: int) -> int:
    """Give a port of this machine that nobody listens on: the one wanted, if it can be."""
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError, OverflowError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            taken: int = probe.getsockname()[1]
            if port != wanted:
                _say(f"port {wanted} is busy: taking {taken}")
            return taken
    raise FlowsError(f"no port is free; asked for {wanted}")


def answers(url: str) -> bool:
    """Tell whether a page is served."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


@contextlib.contextmanager
def _child(
    command: Sequence[str], log: Path, *, environment: Mapping[str, str], name: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program that Ctrl-C doesn't reach by itself, and see to its end."""
    dies = functools.partial(die_with_parent, os.getpid())
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=environment,
            start_new_session=True,
            preexec_fn=dies,  # noqa: PLW1509 - there are no threads here
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(END_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            _say(f"{name} does not end: killed")
            process.kill()
            process.wait()


def _wait(found: Any, children: Mapping[str, tuple[subprocess.Popen[bytes], Path]]) -> Any:
    """Wait for a first true value; raises FlowsError when a child ends before, or it takes too long."""
    until_s = time.monotonic() + READY_S
    while not (value := found()):
        for name, (process, log) in children.items():
            if process.poll() is not None:
                raise FlowsError(f"{name} ended with code {process.returncode}:\n{_tail(log)}")
        if time.monotonic() > until_s:
            raise FlowsError(
                f"no dashboard after {READY_S:.0f} s:\n{''.join(_tail(log) for _, log in children.values())}"
            )
        time.sleep(0.2)
    return value


def _until_one_ends(children: Mapping[str, tuple[subprocess.Popen[bytes], Path]]) -> int:
    """Give the exit code of the first child that ends by itself, having shown the end of its log."""
    while True:
        for name, (process, log) in children.items():
            if process.poll() is not None:
                _say(f"{name} ended with code {process.returncode}:\n{_tail(log)}")
                return process.returncode
        time.sleep(0.2)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-30:])


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
