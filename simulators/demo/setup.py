"""What the demo writes before it starts: free ports, a configuration, the recipe, the folder camera's pictures."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import socket
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from simulators.demo.options import DemoOptions, OptionsError
from simulators.fault_kinds import ClockWrong, Touching
from simulators.line.geometry import Geometry
from simulators.line.marks import BIN_WAY_MM

DEFAULT_PORTS = {"mqtt": 1883, "modbus": 5020, "opcua": 4840, "field": 5021, "http": 9464}
HOST = "127.0.0.1"


@contextmanager
def claimed_ports() -> Iterator[dict[str, int]]:
    """Take each default port, or a free one where it is busy, for as long as the context lasts.

    Between the look and a child's opening of its port another demo could take it: so demos lock the ports they chose.
    """
    with ExitStack() as claims:
        chosen: dict[str, int] = {}
        for name, default in DEFAULT_PORTS.items():
            port = default
            while not (_is_free(port) and _claim(port, claims)):
                port = _free_port(set(DEFAULT_PORTS.values()) | set(chosen.values()))
            chosen[name] = port
        yield chosen


def _claim(port: int, claims: ExitStack) -> bool:
    """Lock a port among the demos of this machine; another user's lock file can't be opened and locks nothing."""
    try:
        file = claims.enter_context((Path(tempfile.gettempdir()) / f"linegate-port-{port}.lock").open("a"))
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen()
        except OSError:
            return False
    return True


def _free_port(taken: set[int]) -> int:
    while True:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = int(probe.getsockname()[1])
        if port not in taken:
            return port


def write_config(folder: Path, options: DemoOptions, ports: Mapping[str, int]) -> Path:
    """Write `linegate.toml` for this run; gives its path."""
    text = f"""\
# Written by `linegate demo`.
[line]
name = "line1"

[belt]
speed_mm_s = {options.speed_mm_s}
speed_source = "encoder"
counts_per_mm = {Geometry().counts_per_mm}

[mqtt]
host = "{HOST}"
port = {ports["mqtt"]}
trigger_clock = "{"source" if options.expects(ClockWrong) else "arrival"}"

[opcua]
endpoint = "opc.tcp://{HOST}:{ports["opcua"]}/linegate/"
anonymous = true

[modbus]
host = "{HOST}"
port = {ports["modbus"]}

[records]
url = "sqlite:///data/linegate.db"

[http]
host = "{HOST}"
port = {ports["http"]}

{_station_table(options, ports)}"""
    path = folder / "linegate.toml"
    path.write_text(text, encoding="utf-8")
    return path


def unsaid(config: Path) -> dict[str, str]:
    """Give the environment without what the configuration itself says: a real line's addresses are not the demo's."""
    document = tomllib.loads(config.read_text(encoding="utf-8"))
    said = {
        f"LINEGATE_{section}__{key}".upper()
        for section, table in document.items()
        if isinstance(table, dict)
        for key in table
    }
    return {name: value for name, value in os.environ.items() if name.upper() not in said}


def _station_table(options: DemoOptions, ports: Mapping[str, int]) -> str:
    geometry = Geometry()
    camera = '{ kind = "inline" }' if options.trigger == "mqtt" else '{ kind = "folder", folder = "camera" }'
    return f"""\
[[stations]]
name = "station1"
recipe = {json.dumps(options.recipe)}
image_folder = {json.dumps(str(options.images))}
camera = {camera}
gate_distance_mm = {geometry.gate_distance_mm}
part_length_mm = {geometry.part_length_mm}
guard_mm = {geometry.guard_mm}
open_lead_ms = {geometry.open_lead_ms}
close_lead_ms = {geometry.close_lead_ms}
# The simulated PLC acts at the scan nearest to the moment: half of its 10 ms on either side.
firing_jitter_ms = 5.0
# The bin's sensor counts a part as its rear edge is {BIN_WAY_MM:g} mm behind the gate.
confirm_distance_mm = {geometry.gate_distance_mm + geometry.part_length_mm + BIN_WAY_MM}
confirm_window_ms = 100.0
# Nobody is here to press ClearError: pictures are drawn at random, and faults make whole runs of ERROR and LATE.
max_consecutive_rejects = 0
max_consecutive_failures = 0
# Where the line is to bring parts that touch, what holds the beam for longer than one part is two.
touching_tolerance_mm = {geometry.touching_mm if options.expects(Touching) else 0.0}
gate = {{ mode = "{options.gate}", port = {ports["field"]} }}
"""


def fill_camera_folder(folder: Path, options: DemoOptions, *, first_sequence: int) -> None:
    """Copy the pictures in the conveyor's own order, so that the station's folder camera shows each part's picture.

    It gives sequence 1 the first by name; the conveyor gives the first picture to its first part, `first_sequence`.
    """
    camera = folder / "camera"
    shutil.rmtree(camera, ignore_errors=True)
    camera.mkdir()
    for number, picture in enumerate(options.pictures):
        place = (first_sequence - 1 + number) % len(options.pictures)
        shutil.copyfile(picture.path, camera / f"{place:06d}-{picture.label}{picture.path.suffix.lower()}")


def prepare_recipe(folder: Path, options: DemoOptions) -> frozenset[str]:
    """Put the recipe beside the configuration where it is not a shipped one as it is; gives the labels of good parts.

    With a bundle of the caller's own, the recipe is copied with that bundle, and without thresholds of labels that the
    bundle doesn't have. Raises OptionsError.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,31}", options.recipe):
        raise OptionsError(f"--recipe {options.recipe}: allowed is a name, letters, digits, - and _")
    own, shipped = Path("recipes") / f"{options.recipe}.toml", files("models") / "recipes" / f"{options.recipe}.toml"
    if own.is_file():
        text = own.read_text(encoding="utf-8")
    elif shipped.is_file():
        text = shipped.read_text(encoding="utf-8")
    else:
        known = sorted(entry.name.removesuffix(".toml") for entry in (files("models") / "recipes").iterdir())
        raise OptionsError(
            f"--recipe {options.recipe}: no such recipe in recipes/ here or among the shipped: {', '.join(known)}"
        )
    try:
        recipe = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise OptionsError(f"--recipe {options.recipe}: not TOML: {exc}") from exc
    bundle = str(options.model or recipe.get("bundle", ""))
    if options.model is None and own.is_file() and (Path.cwd() / bundle).exists():
        bundle = str(Path.cwd() / bundle)
    manifest = _manifest(bundle)
    if options.model is not None or own.is_file():
        recipe["bundle"] = bundle
        thresholds = recipe.get("thresholds", {})
        labels = manifest.get("labels", list(thresholds))
        recipe["thresholds"] = {label: limits for label, limits in thresholds.items() if label in labels}
        (folder / "recipes").mkdir(exist_ok=True)
        (folder / "recipes" / f"{options.recipe}.toml").write_text(_toml(recipe), encoding="utf-8")
    told = manifest.get("training", {}).get("good")  # of a model that knows its defects alone
    return frozenset({"good", *manifest.get("good_labels", ()), *([told] if isinstance(told, str) and told else [])})


def _manifest(bundle: str) -> dict[str, Any]:
    """Read a bundle's manifest for its labels; what is wrong with a bundle is the bridge's to say."""
    path, shipped = Path(bundle), files("models") / "bundles" / bundle / "bundle.toml"
    try:
        if path.is_file() and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                name = next(name for name in archive.namelist() if name.rsplit("/", 1)[-1] == "bundle.toml")
                return tomllib.loads(archive.read(name).decode())
        if path.is_dir():
            return tomllib.loads((path / "bundle.toml").read_text(encoding="utf-8"))
        if shipped.is_file():
            return tomllib.loads(shipped.read_text(encoding="utf-8"))
    except (OSError, StopIteration, UnicodeDecodeError, tomllib.TOMLDecodeError, zipfile.BadZipFile):
        return {}
    return {}


def _toml(table: Mapping[str, Any], prefix: str = "") -> str:
    """Write a table of plain values, lists and tables as TOML."""
    lines = [f"{_key(key)} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, dict)]
    for key, value in table.items():
        if isinstance(value, dict):
            name = f"{prefix}{_key(key)}"
            lines += ["", f"[{name}]", _toml(value, f"{name}.").rstrip("\n")]
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)
