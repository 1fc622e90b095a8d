"""A line whose broker speaks TLS and asks for a log-in, with mosquitto's own clients as camera and as listener."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path

import pytest

from bridge.setup_files import write_project
from tests.cli.processes import PICTURES, STATION, Bridge, Ports, eventually, running
from tests.wire.conftest import MosquittoBroker
from tests.wire.test_mqtt_brokers import self_signed

PASSWORD = "s3cret of the line"
GOOD = sorted((PICTURES / "good").glob("*.jpg"))[0]


@pytest.mark.timeout(60)
def test_trigger_and_verdict_go_by_tls_alone(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    passwords, word = tmp_path / "passwords", tmp_path / "password"
    subprocess.run(["mosquitto_passwd", "-c", "-b", str(passwords), "bridge", PASSWORD], check=True)
    passwords.chmod(0o600)
    word.write_text(PASSWORD + "\n")
    (tmp_path / "broker").mkdir()
    broker = MosquittoBroker(
        tmp_path / "broker", extra=f"certfile {certificate}\nkeyfile {key}\npassword_file {passwords}"
    )
    config = tmp_path / "broker" / "mosquitto.conf"
    config.write_text(config.read_text().replace("allow_anonymous true", "allow_anonymous false"))
    write_project(tmp_path)
    ports = Ports.free()
    settings = {
        "mqtt__host": "localhost", "mqtt__port": str(broker.port), "mqtt__tls_ca": str(certificate), "mqtt__username": "bridge",
        "mqtt__password_file": str(word), "belt__speed_mm_s": "120",
    }  # fmt: skip
    login = ("-V", "5", "-h", "localhost", "-p", str(broker.port), "-q", "1", "-u", "bridge", "-P", PASSWORD)
    secured = (*login, "--cafile", str(certificate))
    broker.start()
    with contextlib.ExitStack() as stack:
        stack.callback(broker.kill)
        bridge = stack.enter_context(running(Bridge(folder=tmp_path, ports=ports, settings=settings)))
        bridge.wait_ready()
        listener = subprocess.Popen(
            ["mosquitto_sub", *secured, "-t", f"{STATION}verdict", "-C", "1", "-W", "20"], stdout=subprocess.PIPE
        )
        stack.callback(listener.kill)
        trigger = ("-t", f"{STATION}trigger", "-f", str(GOOD), "-D", "PUBLISH", "content-type", "image/jpeg")
        numbered = ("-D", "PUBLISH", "user-property", "sequence")
        in_the_clear = subprocess.run(
            ["mosquitto_pub", *login, *trigger, *numbered, "6"], capture_output=True, timeout=10, check=False
        )
        assert in_the_clear.returncode != 0
        eventually(lambda: f"{STATION}verdict (QoS 1)" in broker.log())
        subprocess.run(["mosquitto_pub", *secured, *trigger, *numbered, "7"], check=True, timeout=10)
        told, _ = listener.communicate(timeout=20)
        verdict = json.loads(told)
        assert (verdict["sequence"], verdict["verdict"], verdict["disposition"]) == (7, "PASS", "LET_PASS")
        assert not any(PASSWORD in line for line in bridge.log)
