"""docker-compose.yml, the Dockerfile and the files that they mount fit each other and the product."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from ipaddress import ip_network
from json import loads
from pathlib import Path

import pytest

from bridge.config import Config
from bridge.config_file import load_config
from bridge.inputs.mqtt_client import SESSION_EXPIRY_S, Broker
from simulators.line.geometry import Geometry
from simulators.process import run_first
from tests.compose.containers import ROOT, compose_file, read_dockerfile

COMPOSE = compose_file()
SERVICES = COMPOSE["services"]
IMAGE = read_dockerfile()
EXACT = re.compile(r".+:\d+\.\d+\.\d+(-slim-bookworm)?")


def mosquitto_settings() -> dict[str, str]:
    lines = (ROOT / "docker" / "mosquitto.conf").read_text(encoding="utf-8").splitlines()
    return dict(line.split(maxsplit=1) for line in lines if line and not line.startswith(("#", "log_type")))


def test_compose_accepts_the_file() -> None:
    command = shutil.which("docker-compose")
    if command is None:
        pytest.skip("docker-compose is not installed: apt-get install docker-compose")
    plain = {
        name: value for name, value in os.environ.items() if not name.startswith(("COMPOSE_", "LINEGATE_", "PYTHON"))
    }
    done = subprocess.run(
        [command, "config"], cwd=ROOT, env=plain, capture_output=True, text=True, timeout=25, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    for service in SERVICES:
        assert re.search(rf"^  {service}:$", done.stdout, re.MULTILINE)


def test_images_are_pinned_and_one_service_builds() -> None:
    assert EXACT.fullmatch(SERVICES["mosquitto"]["image"])
    assert len(IMAGE.bases) == 2
    assert len(set(IMAGE.bases)) == 1
    assert EXACT.fullmatch(IMAGE.bases[0])
    # two builds of one name end in "image already exists" with some builders
    assert [name for name, service in SERVICES.items() if "build" in service] == ["bridge"]
    assert {service["image"] for name, service in SERVICES.items() if name != "mosquitto"} == {"linegate:local"}


def test_the_image_is_made_of_files_that_are_there() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(IMAGE.copied) == sent
    assert [source for source in IMAGE.copied if not (ROOT / source).exists()] == []
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert IMAGE.entrypoint[0] in scripts
    installs = [run for run in IMAGE.runs if " install " in run and run.startswith("pip")]
    assert installs
    assert all("--constraint constraints.txt" in run for run in installs)


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_few_rights_and_comes_back(name: str) -> None:
    service = SERVICES[name]
    user = str(service.get("user", IMAGE.user))
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert (service["init"], service["read_only"], service["restart"]) == (True, True, "unless-stopped")
    assert service["cap_drop"] == ["ALL"]
    assert set(service.get("cap_add", [])) <= {"SYS_NICE"}
    assert int(service["stop_grace_period"].removesuffix("s")) > 10
    assert [port for port in service.get("ports", []) if not port.startswith("127.0.0.1:")] == []
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        assert (ROOT / source).exists() if source.startswith("./") else source in COMPOSE["volumes"]


def test_real_time_priority_may_be_taken() -> None:
    (wanted,) = run_first.__defaults__ or ()
    for name in ("bridge", "conveyor", "plc"):
        assert SERVICES[name]["ulimits"]["rtprio"] >= wanted


@pytest.mark.parametrize("subnet", ["172.31.248.0/24", "10.99.0.0/28"])
def test_the_allow_list_is_the_containers_own_network(subnet: str) -> None:
    document = compose_file(LINEGATE_SUBNET=subnet)
    (network,) = document["networks"]["line"]["ipam"]["config"]
    allowed = loads(document["services"]["bridge"]["environment"]["LINEGATE_MODBUS__ALLOW"])
    assert network["subnet"] == subnet
    assert [ip_network(each) for each in allowed] == [ip_network("127.0.0.1"), ip_network(subnet)]


def test_the_bridge_and_the_simulated_line_have_the_same_measures(tmp_path: Path) -> None:
    path = ROOT / "docker" / "bridge" / "linegate.toml"
    environment = {**IMAGE.environment, **SERVICES["bridge"]["environment"]}
    config = load_config(path, {name: value for name, value in environment.items() if name.startswith("LINEGATE_")})
    (station,), line = config.stations, Geometry()
    for measure in ("gate_distance_mm", "part_length_mm", "guard_mm", "open_lead_ms", "close_lead_ms"):
        assert getattr(station, measure) == getattr(line, measure)
    assert config.belt.counts_per_mm == line.counts_per_mm
    assert (station.gate.mode, config.belt.speed_source) == ("plc", "encoder")


def test_the_broker_holds_what_the_bridge_may_be_sent() -> None:
    settings, plain = mosquitto_settings(), Config()
    assert plain.mqtt.max_payload_bytes * 4 <= int(settings["message_size_limit"])
    assert int(settings["max_inflight_messages"]) == Broker(host="", port=1).receive_maximum
    days = int(settings["persistent_client_expiration"].removesuffix("d"))
    assert days * 86_400 > SESSION_EXPIRY_S
    assert int(settings["max_queued_messages"]) > 1000
    assert settings["persistence_location"] in [v.split(":")[1] + "/" for v in SERVICES["mosquitto"]["volumes"]]
