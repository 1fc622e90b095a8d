"""What the tests of several flows start alike: a bridge whose gate is far away, and a client that tells as the bridge does."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from bridge.setup_files import write_project
from tests.cli.processes import Bridge, Ports, eventually, running
from tests.flows.node_red import NodeRed
from tests.wire.conftest import MosquittoBroker

ROOT = "linegate/line1/station1"
CODES = {"PASS": 1, "FAIL": 2, "UNCERTAIN": 3, "ERROR": 4, "LATE": 5}


def verdict(sequence: int, word: str, *, decided_utc: str, **other: Any) -> dict[str, Any]:
    """Give a verdict's document as the bridge publishes it."""
    plain = {
        "line": "line1", "station": "station1", "part_id": f"A-{sequence}", "sequence": sequence, "epoch": 1,
        "verdict": word, "code": CODES[word], "disposition": "LET_PASS" if word == "PASS" else "REJECT",
        "reason": "", "label": "crack" if word == "FAIL" else None, "score": 0.93, "regions": [],
        "recipe": "bracket-a@3", "model": "surface@1.2.0", "replayed": False, "decided_utc": decided_utc,
        "timing_ms": {"inference": 4.1, "total": 6.0}, "gate": {"state": "none"},
    }  # fmt: skip
    return plain | other


@contextlib.contextmanager
def client_of(broker: MosquittoBroker) -> Iterator[Client]:
    """Run a client that stays connected."""
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.connect(broker.host, broker.port)
    client.loop_start()
    try:
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


@dataclass(kw_only=True)
class MqttRig:
    """A broker, a Node-RED with one flow, and a client that publishes as the bridge does."""

    broker: MosquittoBroker
    red: NodeRed
    client: Client

    def tell(self, topic: str, document: Any) -> MQTTMessageInfo:
        """Publish on one of the station's topics: a text as it is, everything else as JSON; a status is kept."""
        text = document if isinstance(document, str) else json.dumps(document)
        return self.client.publish(f"{ROOT}/{topic}", text, qos=1, retain=topic == "status")

    def lamp(self, name: str, what: str = "text") -> str:
        """Give the text of a node's lamp, or its fill."""
        return str(self.red.statuses().get(name, {}).get(what, ""))

    def subscribed(self) -> None:
        """Wait until the flow hears verdicts."""
        eventually(lambda: self.lamp("verdict", "fill") == "green", 20)


@contextlib.contextmanager
def bridge_far_from_the_gate(
    folder: Path, *, settings: dict[str, str], prepare: Callable[[Path], None] = lambda _project: None
) -> Iterator[Bridge]:
    """Run a broker and a bridge with the PLC's belt speed; the gate is so far away that a busy machine is in time."""
    (folder / "mosquitto").mkdir()
    broker = MosquittoBroker(folder / "mosquitto")
    broker.start()
    ports = Ports.free()
    ports.mqtt = broker.port
    write_project(folder / "bridge")
    config = folder / "bridge" / "linegate.toml"
    config.write_text(re.sub(r"^gate_distance_mm = .*$", "gate_distance_mm = 6000.0", config.read_text(), flags=re.M))
    prepare(folder / "bridge")
    try:
        with running(
            Bridge(folder=folder / "bridge", ports=ports, settings={"belt__speed_source": "plc", **settings})
        ) as bridge:
            yield bridge
    finally:
        broker.kill()
