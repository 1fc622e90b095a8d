"""What the benchmark measures with: its pictures, its stopwatches on processes, the driver of the gate."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from paho.mqtt.client import MQTTMessage

from benchmarks.floor import read_trigger
from benchmarks.gate_driver import Firings
from benchmarks.memory import resident_mb
from benchmarks.pictures import LARGE, SHIPPED, SMALL, make_payloads
from benchmarks.processes import ENVIRONMENT, sink
from tests.ports import free_ports

MODEL = Path(__file__).parent.parent.parent / "models" / "bundles" / "ball-screw-1.0.0"


def test_the_pictures_have_a_cameras_size_and_are_the_same_by_every_way(tmp_path: Path) -> None:
    small, large, path = make_payloads(SHIPPED, tmp_path)
    for payload, size in ((small, SMALL), (large, LARGE)):
        body, content_type = payload.message(1)
        shown = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
        assert shown is not None and shown.shape == (size.height, size.width, 3)
        assert content_type == "image/jpeg"
        assert [len(each) for each in payload.pictures] == pytest.approx([size.jpeg_bytes] * 4, rel=0.1)
    body, content_type = path.message(6)
    assert content_type is None and json.loads(body)["sequence"] == 6
    message = MQTTMessage()
    message.payload = body
    assert read_trigger(message, tmp_path) == (6, "P-6", large.message(6)[0])


def test_memory_counts_the_children_of_a_program() -> None:
    filled = f"import sys; held = bytearray(b'x' * {40_000_000}); print('on', flush=True); sys.stdin.read()"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {filled!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        held = resident_mb(parent.pid)
        parent.communicate("")
    assert 45.0 < held < 120.0


def test_the_driver_gives_up_real_time_and_tells_of_each_firing() -> None:
    (port,) = free_ports(1)
    words = ["--model", str(MODEL), "--port", str(port), "--firings", "20", "--class", "ordinary"]
    with sink(port):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "benchmarks.gate_driver", *words],
            capture_output=True,
            text=True,
            timeout=25,
            env=ENVIRONMENT,
            check=True,
        )
    given = Firings(**json.loads(done.stdout.splitlines()[-1]))
    assert given.class_ == "ordinary" and "rtprio" in given.why
    assert given.ordered == 20 and given.pictures > 0
    assert given.errors_ms and min(given.errors_ms) >= 0, "never early"
