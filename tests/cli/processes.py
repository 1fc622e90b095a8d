"""The product as its users meet it: commands, whole bridges and brokers as processes, and a client to talk to them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions
from prometheus_client.parser import text_string_to_metric_families

from tests.ports import free_ports

ROOT = Path(__file__).parent.parent.parent
PICTURES = ROOT / "simulators" / "pictures" / "ball-screw"
STATION = "linegate/line1/station1/"
LINEGATE = (sys.executable, "-P", "-m", "bridge")
MORE_LABELS = ("verdict", "step", "event", "link", "le")
LOST, RETURNED = "mqtt_lost", "mqtt_connected"


def eventually(condition: Callable[[], Any], limit_s: float = 20.0) -> Any:
    """Give the first true value of `condition`."""
    until = time.monotonic() + limit_s
    while not (value := condition()):
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)
    return value


def environment(**settings: str) -> dict[str, str]:
    """Give this process's environment with no setting of Linegate's but these, sections parted by `__`."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("LINEGATE_")}
    ours = {f"LINEGATE_{name.upper()}": value for name, value in settings.items()}
    return {**plain, "COLUMNS": "200", "TERM": "dumb", **ours}


def linegate(folder: Path, *arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [*LINEGATE, *(str(argument) for argument in arguments)],
        cwd=folder,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
    )


def one_line(done: subprocess.CompletedProcess[str], *, code: int) -> str:
    """Give the one line that a refused command wrote; nothing else may have come."""
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout, len(lines)) == (code, "", 1), (done.returncode, done.stdout, done.stderr)
    assert lines[0].startswith("linegate: ")
    assert "Traceback" not in lines[0]
    assert "internal fault" not in lines[0]
    return lines[0]


@dataclass(kw_only=True)
class Ports:
    """One bridge's own ports, as the settings that name them."""

    mqtt: int
    modbus: int
    opcua: int
    http: int

    @classmethod
    def free(cls) -> Ports:
        mqtt, modbus, opcua, http = free_ports(4)
        return cls(mqtt=mqtt, modbus=modbus, opcua=opcua, http=http)

    @property
    def settings(self) -> dict[str, str]:
        return {
            "mqtt__port": str(self.mqtt),
            "modbus__port": str(self.modbus),
            "opcua__endpoint": f"opc.tcp://127.0.0.1:{self.opcua}/linegate/",
            "opcua__anonymous": "true",
            "http__port": str(self.http),
        }


@dataclass(kw_only=True)
class Bridge:
    """A `linegate run` in `folder`; its log is in a file there."""

    folder: Path
    ports: Ports
    settings: Mapping[str, str] = field(default_factory=dict)

    def start(self) -> None:
        self._log = self.folder / "bridge.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*LINEGATE, "run"],
                cwd=self.folder,
                env=environment(**{**self.ports.settings, **self.settings}),
                stdout=log,
                stderr=log,
            )

    @property
    def log(self) -> list[str]:
        return self._log.read_text(errors="replace").splitlines()

    def told(self, event: str) -> int:
        """Count the lines of one kind in the log."""
        return sum(f" {event} " in f"{line} " for line in self.log)

    def get(self, path: str) -> tuple[int, str]:
        """Give status and text of a page; (0, "") while nobody listens."""
        assert self.process.poll() is None, self.log
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports.http}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code, exc.read().decode()
        except OSError:
            return 0, ""

    def wait_ready(self) -> None:
        try:
            eventually(lambda: self.get("/readyz") == (200, '{"ready": true, "reasons": []}'))
        except AssertionError as exc:
            raise AssertionError(f"not ready: {self.log}") from exc

    def metrics(self) -> dict[str, float]:
        """Give every sample of the station by its name; one with more labels as `linegate_verdicts_total/ERROR`."""
        found = {}
        for family in text_string_to_metric_families(self.get("/metrics")[1]):
            for sample in family.samples:
                more = [sample.labels[name] for name in MORE_LABELS if name in sample.labels]
                found["/".join((sample.name, *more))] = sample.value
        return found

    def stop(self) -> tuple[int, float]:
        """Send SIGTERM; gives the exit code and how long the end took, in s."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20), time.monotonic() - begun

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


@contextlib.contextmanager
def running(bridge: Bridge) -> Iterator[Bridge]:
    """Start a bridge, and see to its end."""
    bridge.start()
    try:
        yield bridge
    finally:
        bridge.kill()


@contextlib.contextmanager
def simulated_broker(folder: Path, port: int) -> Iterator[None]:
    """Run `linegate simulate broker` on `port`."""
    command = [*LINEGATE, "simulate", "broker", "--port", str(port)]
    with subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["port"] == port
            yield
        finally:
            process.terminate()


def connects(port: int) -> bool:
    """Tell whether somebody listens on a port of this machine."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _no_delay(_client: Client, _userdata: Any, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Publisher:
    """A paho client that sends triggers to a station and keeps what the station answers."""

    def __init__(self, port: int, *, topics: Sequence[str] = ()) -> None:
        heard = ("verdict", "deadletter", "status", "alarm", *topics)
        self._heard: dict[str, list[dict[str, Any]]] = {topic: [] for topic in heard}
        self._kept: dict[str, bool] = {}
        self._subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._keep
        self._client.on_socket_open = _no_delay
        self._port = port

    def __enter__(self) -> Publisher:
        eventually(lambda: connects(self._port))
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        self._client.subscribe([(STATION + topic, SubscribeOptions(qos=1)) for topic in self._heard])
        assert self._subscribed.wait(10)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _keep(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        topic = message.topic.removeprefix(STATION)
        self._kept[topic] = message.retain
        self._heard[topic].append(json.loads(message.payload))

    def heard(self, topic: str) -> list[dict[str, Any]]:
        """Give every document of one topic so far."""
        return self._heard[topic]

    def kept(self, topic: str) -> bool:
        """Tell whether the newest message of a topic is one that the broker had kept."""
        return self._kept[topic]

    def verdict_of(self, sequence: int) -> dict[str, Any]:
        """Wait for the verdict on one trigger."""
        found: list[dict[str, Any]] = eventually(
            lambda: [each for each in self.heard("verdict") if each["sequence"] == sequence]
        )
        assert len(found) == 1
        return found[0]

    def send(
        self,
        payload: bytes,
        *,
        topic: str = "trigger",
        content_type: str | None = None,
        user_properties: Sequence[tuple[str, str]] = (),
        retain: bool = False,
    ) -> None:
        """Publish one message at QoS 1 and wait until the broker has it."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if content_type is not None:
            properties.ContentType = content_type
        if user_properties:
            properties.UserProperty = list(user_properties)
        sent = self._client.publish(STATION + topic, payload, qos=1, retain=retain, properties=properties)
        sent.wait_for_publish(10)
        assert sent.is_published()
