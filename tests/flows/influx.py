"""A real InfluxDB on loopback, of the 1.x line, as Debian has it."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.processes import eventually
from tests.ports import free_ports

CONFIG = """\
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  log-enabled = false
"""


@dataclass
class Influx:
    """One server; what it holds outlives `stop`."""

    folder: Path
    executable: str
    port: int = field(init=False)

    def __post_init__(self) -> None:
        self.port, rpc = free_ports(2)
        text = CONFIG.format(folder=self.folder, port=self.port, rpc=rpc)
        (self.folder / "influxdb.conf").write_text(text)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [self.executable, "-config", str(self.folder / "influxdb.conf")]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(self._answers, 20)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)

    def ask(self, query: str, **more: str) -> list[dict[str, Any]]:
        """Give the rows of one query, as {column: value}."""
        answer = httpx.post(f"{self.url}/query", params={"db": "line", "q": query, "epoch": "ns", **more}).json()
        found = []
        for series in answer["results"][0].get("series", []):
            found += [dict(zip(series["columns"], row, strict=True)) for row in series["values"]]
        return found

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/ping").status_code == 204
        except httpx.TransportError:
            return False


@contextlib.contextmanager
def influx(folder: Path) -> Iterator[Influx]:
    """Run one with an empty database `line`; skips the test where there is none."""
    executable = shutil.which("influxd")
    if executable is None:
        pytest.skip("influxd is not installed: apt-get install influxdb")
    server = Influx(folder, executable)
    server.start()
    server.ask("CREATE DATABASE line")
    try:
        yield server
    finally:
        server.stop()
