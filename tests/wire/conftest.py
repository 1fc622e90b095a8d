"""Real brokers on loopback: mosquitto, which keeps its sessions over a restart."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ports import free_ports


class MosquittoBroker:
    """A mosquitto on a port and a folder of its own; `stop` saves its sessions, `kill` loses what was not saved."""

    def __init__(self, folder: Path, *, extra: str = "") -> None:
        self.host = "127.0.0.1"
        (self.port,) = free_ports(1)
        self._folder = folder
        self._log = folder / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\n"
            f"persistence_location {folder}/\nlog_dest file {self._log}\nlog_type all\n{extra}\n"
        )

    def start(self) -> None:
        executable = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
        assert executable is not None, "mosquitto is not installed: apt-get install mosquitto mosquitto-clients"
        for _ in range(5):
            self._process = subprocess.Popen(
                [executable, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            if self._answers():
                return
            self.kill()
        pytest.fail(f"mosquitto does not start: {self.log()}")

    def _answers(self) -> bool:
        assert self._process is not None
        limit = time.monotonic() + 5
        while time.monotonic() < limit and self._process.poll() is None:
            try:
                socket.create_connection((self.host, self.port), timeout=1).close()
            except OSError:
                time.sleep(0.01)
            else:
                return True
        return False

    def stop(self) -> None:
        """End it in good order: what it holds for absent clients goes to the disk."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[MosquittoBroker]:
    folder = tmp_path / "mosquitto"
    folder.mkdir()
    broker = MosquittoBroker(folder)
    broker.start()
    yield broker
    broker.kill()
