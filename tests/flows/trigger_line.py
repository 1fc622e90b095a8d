"""A line for the flow camera-trigger.json: Node-RED, mosquitto, a bridge, an I/O module and a camera, all of them real."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.cli.processes import PICTURES, STATION, Bridge, Ports, Publisher, eventually, linegate, running
from tests.flows.field_module import FieldModule, field_module
from tests.flows.node_red import NodeRed, node_red, read_flow
from tests.wire.camera_servers import SnapshotCamera
from tests.wire.conftest import MosquittoBroker

FLOW = "camera-trigger.json"
GOOD = sorted((PICTURES / "good").glob("*.jpg"))[0].read_bytes()
BAD = sorted((PICTURES / "pitting").glob("*.jpg"))[-1].read_bytes()
SLOW_BELT = {"belt__speed_mm_s": "120"}
"""5 s from the eye to the gate: a verdict is not late because the machine that runs the tests is."""


class Triggers:
    """What goes over the topic `trigger`: messages with their properties, as they arrive."""

    def __init__(self, port: int) -> None:
        self.seen: list[MQTTMessage] = []
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_connect = lambda client, *_: client.subscribe(STATION + "trigger", qos=1)
        self._client.on_message = lambda _client, _userdata, message: self.seen.append(message)
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def properties(self, number: int) -> dict[str, str]:
        """Give the user properties of one message; each name may stand once."""
        pairs = getattr(self.seen[number].properties, "UserProperty", [])
        assert len({name for name, _ in pairs}) == len(pairs)
        return dict(pairs)


@dataclass(kw_only=True)
class Line:
    """What stands at one belt."""

    broker: MosquittoBroker
    red: NodeRed
    publisher: Publisher
    triggers: Triggers
    module: FieldModule
    camera: SnapshotCamera
    bridge: Bridge
    images: Path
    eye: str = "inject"

    def deploy(self, **settings: object) -> None:
        """Deploy the flow anew with other values of the tab's variables."""
        flow = read_flow(FLOW)
        tab = next(node for node in flow if node["type"] == "tab")
        known = {one["name"] for one in tab["env"]}
        assert settings.keys() <= known
        tab["env"] = [one for one in tab["env"] if one["name"] not in settings]
        tab["env"] += [{"name": name, "value": str(value), "type": "str"} for name, value in settings.items()]
        self.eye = str(settings.get("EYE", "inject"))
        self.red.import_flow(flow)
        self.wait_ready()
        if settings.get("PICTURE", "folder") == "folder":
            eventually(lambda: self.shown("keep the list").startswith("4 pictures"))
        if self.eye == "mqtt":
            self.publisher.send(b"0", topic="eye")
        if self.eye == "modbus":
            eventually(lambda: self.shown("read count and eye") == "free")

    def wait_ready(self) -> None:
        wanted = ("photo-eye", "trigger", "verdict back")
        eventually(lambda: all(self.red.statuses().get(name, {}).get("fill") == "green" for name in wanted))

    def shown(self, node: str) -> str:
        return str(self.red.statuses().get(node, {}).get("text", ""))

    def part(self, part_id: str, **more: Any) -> None:
        """Let one part go by the chosen eye."""
        if self.eye == "modbus":
            self.module.part()
        elif self.eye == "mqtt":
            self.publisher.send(json.dumps({"state": 1, "part_id": part_id, **more}).encode(), topic="eye")
            passed = timedelta(milliseconds=20)
            at = {"ts": (datetime.fromisoformat(more["ts"]) + passed).isoformat()} if "ts" in more else {}
            time.sleep(0.01)
            free = {"state": 0, **at}
            self.publisher.send(json.dumps(free).encode(), topic="eye")
        else:
            self.red.inject("one part", payload={"part_id": part_id, **more})

    def judged(self, part_id: str, **more: Any) -> dict[str, Any]:
        """Let a part go by, and give its only verdict once the flow has matched it."""
        heard, matched = self.publisher.heard("verdict"), self.verdicts()
        before, refused = len(heard), len(self.refused())
        self.part(part_id, **more)
        eventually(lambda: len(self.verdicts()) + len(self.refused()) > len(matched) + refused)
        assert len(self.refused()) == refused, self.refused()[refused:]
        assert len(heard) == before + 1, heard[before:]
        assert len(self.verdicts()) == len(matched) + 1
        return heard[-1]

    def verdicts(self) -> list[dict[str, Any]]:
        return self.red.debug("verdicts")

    def matched(self, part_id: str) -> dict[str, Any]:
        """Wait for the verdict of one part, as the flow shows it."""
        (told,) = eventually(lambda: [one for one in self.verdicts() if one["part_id"] == part_id])
        return dict(told)

    def refused(self) -> list[dict[str, Any]]:
        return self.red.debug("not sent")

    def refusal(self, after: int) -> dict[str, Any]:
        """Wait for the one refusal that comes after so many."""
        (told,) = eventually(lambda: self.refused()[after:])
        return dict(told)

    def restart(self) -> None:
        """Start Node-RED again after its end, with the flows and the stored counter that it finds."""
        self.red.start()
        self.wait_ready()
        eventually(lambda: self.shown("keep the list").startswith("4 pictures"))


def pictures(folder: Path) -> Path:
    """Make a folder of four pictures, good and bad in turn by their names; a file that is no picture lies beside them."""
    folder.mkdir()
    for number, picture in enumerate((GOOD, BAD, GOOD, BAD)):
        (folder / f"{number}.jpg").write_bytes(picture)
    (folder / "notes.txt").write_text("no picture")
    return folder


@contextlib.contextmanager
def trigger_line(folder: Path) -> Iterator[Line]:
    """Run everything at one belt, with a bridge that judges by the shipped model."""
    ports = Ports.free()
    (folder / "mosquitto").mkdir()
    broker = MosquittoBroker(folder / "mosquitto")
    broker.start()
    ports.mqtt = broker.port
    site = folder / "site"
    assert linegate(folder, "init", site).returncode == 0
    images = pictures(folder / "it's pictures")
    camera = SnapshotCamera(GOOD)
    with contextlib.ExitStack() as stack:
        stack.callback(broker.kill)
        bridge = stack.enter_context(running(Bridge(folder=site, ports=ports, settings=SLOW_BELT)))
        module = stack.enter_context(field_module())
        stack.enter_context(camera.running())
        bridge.wait_ready()
        publisher = stack.enter_context(Publisher(broker.port))
        triggers = Triggers(broker.port)
        stack.callback(triggers.close)
        environment = {
            "LINEGATE_MQTT_HOST": broker.host, "LINEGATE_MQTT_PORT": str(broker.port), "LINEGATE_IMAGES": str(images),
            "LINEGATE_CAMERA_URL": camera.url("/snapshot.jpg"),
            "LINEGATE_IO_HOST": "127.0.0.1", "LINEGATE_IO_PORT": str(module.port),
        }  # fmt: skip
        red = stack.enter_context(node_red(folder, environment=environment))
        yield Line(
            broker=broker, red=red, publisher=publisher, triggers=triggers, module=module, camera=camera, bridge=bridge,
            images=images,
        )  # fmt: skip
