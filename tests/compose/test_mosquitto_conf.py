"""The shipped mosquitto.conf in a real broker: what waits for an absent bridge, what a kill costs, how large a picture may be."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.cli.processes import eventually
from tests.compose.containers import SBIN, localized_mosquitto
from tests.ports import free_ports

pytestmark = [pytest.mark.timeout(60), pytest.mark.soak]
TOPIC = "linegate/line1/station1/trigger"
AUTOSAVE_S = 10
NEVER_LATER_S = 20


class ShippedBroker:
    """mosquitto with docker/mosquitto.conf."""

    def __init__(self, folder: Path) -> None:
        (self.port,) = free_ports(1)
        self.config = localized_mosquitto(folder, self.port)
        self.saved = folder / "mosquitto-data" / "mosquitto.db"
        self.start()

    def start(self) -> None:
        executable = shutil.which("mosquitto", path=SBIN)
        assert executable is not None, "mosquitto is not installed: apt-get install mosquitto mosquitto-clients"
        self.process = subprocess.Popen(
            [executable, "-c", str(self.config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        eventually(self._listens)

    def _listens(self) -> bool:
        assert self.process.poll() is None
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)

    def session(self, *words: str) -> list[bytes]:
        """Take up the bridge's kept session with `mosquitto_sub`; gives the lines that it prints."""
        command = ["mosquitto_sub", "-V", "5", "-p", str(self.port), "-c", "-x", "86400", "-i", "linegate-line1-station1",
                   "-q", "1", "-t", TOPIC, *words]  # fmt: skip
        return subprocess.run(command, capture_output=True, timeout=NEVER_LATER_S + 5, check=False).stdout.splitlines()

    def publish(self, numbers: range, *, pad: int = 10_000) -> None:
        """Send one message a number, with `pad` bytes behind it, and wait until all are acknowledged."""
        lines = "".join(f"{number} {'x' * pad}\n" for number in numbers)
        command = ["mosquitto_pub", "-V", "5", "-p", str(self.port), "-q", "1", "-t", TOPIC, "-l"]
        subprocess.run(command, input=lines.encode(), check=True, timeout=NEVER_LATER_S)

    def received(self, most: int, *, within_s: int) -> list[int]:
        """Receive what the session holds, `most` messages or what comes in that time; gives their numbers."""
        return [int(line.split()[0]) for line in self.session("-C", str(most), "-W", str(within_s))]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[ShippedBroker]:
    made = ShippedBroker(tmp_path)
    yield made
    made.kill()


def test_a_kill_costs_what_was_not_saved_yet_and_nothing_else(broker: ShippedBroker) -> None:
    broker.session("-E")
    broker.publish(range(1500))
    acknowledged = time.time()
    eventually(lambda: broker.saved.exists() and broker.saved.stat().st_mtime > acknowledged, limit_s=AUTOSAVE_S + 5)
    broker.publish(range(1500, 1510))
    broker.kill()
    broker.start()
    kept = broker.received(1510, within_s=3)
    assert kept[:1500] == list(range(1500))
    assert kept == list(range(len(kept)))


def test_a_clean_stop_costs_nothing(broker: ShippedBroker) -> None:
    broker.session("-E")
    broker.publish(range(1500))
    broker.stop()
    broker.start()
    assert broker.received(1500, within_s=20) == list(range(1500))


def test_a_full_queue_keeps_the_oldest(broker: ShippedBroker) -> None:
    broker.session("-E")
    broker.publish(range(10_300), pad=10)
    assert broker.received(10_300, within_s=3) == list(range(10_000))


def test_messages_as_large_as_the_bridge_takes_and_larger_get_through(broker: ShippedBroker) -> None:
    payloads = (os.urandom(16_000_000), os.urandom(20_000_000), b"next")
    taken: list[bytes] = []
    up, lost = threading.Event(), threading.Event()
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.on_message = lambda _client, _data, message: taken.append(hashlib.sha256(message.payload).digest())
    client.on_subscribe = lambda *_: up.set()
    client.on_disconnect = lambda *_: lost.set()
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    try:
        client.subscribe(TOPIC, qos=1)
        assert up.wait(10)
        for payload in payloads:
            client.publish(TOPIC, payload, qos=1)
        eventually(lambda: len(taken) == len(payloads))
        assert taken == [hashlib.sha256(payload).digest() for payload in payloads]
        assert not lost.is_set()
    finally:
        client.disconnect()
        client.loop_stop()
