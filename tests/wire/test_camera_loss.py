"""A whole bridge with a camera of its own: a trigger without a picture is judged, and a lost camera is told at once."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import pytest

from bridge.setup_files import write_project
from tests.cli.processes import PICTURES, Bridge, Ports, Publisher, eventually, running, simulated_broker
from tests.wire.camera_servers import CameraServer, MjpegCamera, SnapshotCamera

pytestmark = pytest.mark.soak

GOOD = sorted((PICTURES / "good").glob("*.jpg"))[0]


def camera_of(kind: str) -> tuple[CameraServer, dict[str, Any]]:
    """Make a camera that sees a good part, and the settings that name it."""
    if kind == "http":
        snapshots = SnapshotCamera(GOOD.read_bytes())
        return snapshots, {
            "kind": "http",
            "url": snapshots.url("/snapshot.jpg"),
            "timeout_ms": 1000,
            "max_late_ms": 1000,
        }
    shown = cv2.imread(str(GOOD))
    assert shown is not None
    stream = MjpegCamera(lambda _number: shown)
    return stream, {"kind": "video", "source": stream.url("/video"), "timeout_ms": 1000, "max_late_ms": 1000}


class Line:
    """A bridge in a folder with its broker, its camera and somebody who sends triggers."""

    def __init__(self, bridge: Bridge, publisher: Publisher, camera: CameraServer) -> None:
        self.bridge, self.publisher, self.camera = bridge, publisher, camera

    def judge(self, sequence: int) -> dict[str, Any]:
        self.publisher.send(json.dumps({"sequence": sequence, "part_id": f"A-{sequence}"}).encode())
        return self.publisher.verdict_of(sequence)

    def lost_alarms(self) -> list[dict[str, Any]]:
        return [alarm for alarm in self.publisher.heard("alarm") if alarm["name"] == "CAMERA_LOST"]


@pytest.fixture(params=["http", "video"])
def line(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Line]:
    write_project(tmp_path)
    ports = Ports.free()
    camera, settings = camera_of(request.param)
    stations = json.dumps([{"name": "station1", "camera": settings, "camera_offset_mm": 60.0}])
    extra = {"belt__speed_mm_s": "120", "stations": stations}
    with contextlib.ExitStack() as stack:
        stack.enter_context(camera.running())
        stack.enter_context(simulated_broker(tmp_path, ports.mqtt))
        bridge = stack.enter_context(running(Bridge(folder=tmp_path, ports=ports, settings=extra)))
        publisher = stack.enter_context(Publisher(ports.mqtt))
        bridge.wait_ready()
        yield Line(bridge, publisher, camera)


@pytest.mark.timeout(90)
def test_parts_without_a_picture_are_judged_and_a_lost_camera_is_told(line: Line) -> None:
    bridge, publisher, camera = line.bridge, line.publisher, line.camera
    check_judged(line.judge(1), bridge)
    assert line.lost_alarms() == []

    camera.stop()
    stopped_s = time.monotonic()
    eventually(line.lost_alarms)
    assert time.monotonic() - stopped_s < 3.0
    raised = line.lost_alarms()[0]
    assert (raised["code"], raised["state"], raised["severity"]) == (34, "raised", "error")
    assert camera.url("/") in raised["text"]
    eventually(lambda: publisher.heard("status")[-1]["degraded"])
    assert publisher.heard("status")[-1]["state"] == "FAULT"
    assert publisher.heard("status")[-1]["stop_request"] is False
    status, text = bridge.get("/readyz")
    assert status == 503
    assert any("the camera is lost: " in reason for reason in json.loads(text)["reasons"]), text

    lost = line.judge(2)
    assert (lost["verdict"], lost["disposition"], lost["picture"]) == ("ERROR", "REJECT", None)
    assert "camera lost: " in lost["reason"]
    assert camera.url("/") in lost["reason"]

    camera.start()
    eventually(lambda: len(line.lost_alarms()) == 2)
    assert line.lost_alarms()[-1]["state"] == "cleared"
    bridge.wait_ready()
    check_judged(line.judge(3), bridge)
    assert sum("CAMERA_LOST" in entry for entry in bridge.log) == 2, "one line on loss and one on return"
    camera.stop()
    code, seconds = bridge.stop()
    assert (code, seconds < 10) == (0, True), bridge.log
    assert not any("Traceback" in entry for entry in bridge.log)


def check_judged(verdict: dict[str, Any], bridge: Bridge) -> None:
    """See that the picture is of the moment at which the part was at the camera, and that it was kept."""
    assert (verdict["verdict"], verdict["disposition"]) == ("PASS", "LET_PASS"), verdict
    moments = [datetime.fromisoformat(verdict[f"{name}_utc"]) for name in ("triggered", "captured")]
    travelled_s = (moments[1] - moments[0]).total_seconds()
    assert 0.5 - 0.030 < travelled_s < 1.5, "60 mm at 120 mm/s; a frame may be 20 ms older"
    url = f"http://127.0.0.1:{bridge.ports.http}/pictures/line1/station1/{verdict['sequence']}"
    assert verdict["picture"].endswith(f"/{verdict['sequence']}.jpg")
    eventually(lambda: bridge.get("/readyz") and (bridge.folder / "data" / "pictures" / verdict["picture"]).exists())
    with urllib.request.urlopen(url, timeout=5) as answer:
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert answer.read()[:3] == b"\xff\xd8\xff"
