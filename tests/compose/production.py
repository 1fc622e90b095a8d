"""What the tests of the profile `production` share: secrets, clients that log in, and PostgreSQL as its image makes it."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.cli.processes import eventually
from tests.compose.containers import ROOT, Containers
from tests.records.servers import ADMIN, PASSWORD, PostgresServer


def make_secrets(folder: Path, *words: str) -> str:
    """Run docker/make_secrets.py; gives what it says."""
    command = [sys.executable, str(ROOT / "docker" / "make_secrets.py"), "--folder", str(folder), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=25, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


class Member:
    """A client of the broker, logged in as one of its users by TLS; `heard` are the topics that came."""

    def __init__(self, line: Containers, user: str) -> None:
        self._port = line.ports[8883]
        self.heard: list[str] = []
        self.refusal: str | None = None
        self._up, self._subscribed = threading.Event(), threading.Event()
        self._results: dict[int, str] = {}
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.tls_set(str(line.secrets / "ca_cert"), tls_version=ssl.PROTOCOL_TLS_CLIENT)
        if user:
            self._client.username_pw_set(user, (line.secrets / f"mqtt_{user}_password").read_text())
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_publish = self._published
        self._client.on_message = self._take

    def log_in_with(self, user: str, password: str) -> None:
        self._client.username_pw_set(user, password)

    def __enter__(self) -> Member:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        assert self._up.wait(10)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, _client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self.refusal = str(reason) if reason.is_failure else None
        self._up.set()

    def _published(self, _client: Client, _data: Any, mid: int, reason: Any, _properties: Any) -> None:
        self._results[mid] = str(reason)

    def _take(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self.heard.append(message.topic)

    def subscribe(self, *topics: str) -> None:
        self._subscribed.clear()
        self._client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in topics])
        assert self._subscribed.wait(10)

    def publish(self, topic: str, payload: bytes = b"{}", **properties: Any) -> bool:
        """Publish at QoS 1; gives whether the broker took it."""
        sent = self._client.publish(topic, payload, qos=1, **properties)
        eventually(lambda: sent.mid in self._results)
        result = self._results[sent.mid]
        assert result in {"Success", "No matching subscribers", "Not authorized"}
        return result != "Not authorized"


def make_database(server: PostgresServer, secrets: Path) -> subprocess.CompletedProcess[str]:
    """Run the script that the image runs when its volume is empty, against a server of ours."""
    return subprocess.run(
        [ROOT / "docker" / "postgres" / "linegate.sh"],
        env={
            "PATH": os.environ["PATH"],
            "PGHOST": "127.0.0.1",
            "PGPORT": str(server.port),
            "PGPASSWORD": PASSWORD,
            "POSTGRES_USER": ADMIN,
            "SECRETS": str(secrets),
        },
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
