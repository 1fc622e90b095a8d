"""docker-compose.yml, the Dockerfile and the files that they mount fit each other and the product."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from ipaddress import ip_network
from pathlib import Path

import pytest
import yaml

from bridge.config import Config
from bridge.config_file import load_config
from bridge.inputs.mqtt_client import SESSION_EXPIRY_S, Broker
from simulators.line.geometry import Geometry
from simulators.process import run_first
from tests.compose.containers import ROOT, compose_file, read_dockerfile, services_of

COMPOSE = compose_file()
SERVICES = COMPOSE["services"]
PROFILES = {
    "demo": {"mosquitto", "bridge", "conveyor", "plc", "node-red"},
    "production": {
        "mosquitto-tls", "bridge-production", "node-red-production", "postgres", "prometheus", "grafana"
    },
}  # fmt: skip
IMAGE = read_dockerfile()
FLOWS_IMAGE = read_dockerfile(ROOT / "docker" / "node-red" / "Dockerfile")
OURS = {"linegate:local": IMAGE, "linegate-flows:local": FLOWS_IMAGE}
EXACT = re.compile(r".+:v?\d+\.\d+(\.\d+)?(-(slim-)?bookworm|-slim-bookworm|-bookworm-slim)?")
SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|KEY")


def mosquitto_settings(path: str = "mosquitto.conf") -> dict[str, str]:
    lines = (ROOT / "docker" / path).read_text(encoding="utf-8").splitlines()
    return dict(line.split(maxsplit=1) for line in lines if line and not line.startswith(("#", "log_type")))


def docker_compose(*words: str, **settings: str) -> str:
    """Run one command of docker-compose on the file; gives what it prints."""
    command = shutil.which("docker-compose")
    if command is None:
        pytest.skip("docker-compose is not installed: apt-get install docker-compose")
    plain = {
        name: value for name, value in os.environ.items() if not name.startswith(("COMPOSE_", "LINEGATE_", "PYTHON"))
    }
    done = subprocess.run(
        [command, *words], cwd=ROOT, env=plain | settings, capture_output=True, text=True, timeout=25, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("profile", PROFILES)
def test_compose_accepts_each_profile(profile: str) -> None:
    document = yaml.safe_load(docker_compose("--profile", profile, "config"))
    started = {name for name, service in document["services"].items() if profile in service["profiles"]}
    assert started == PROFILES[profile]
    for name in started:
        assert set(document["services"][name].get("depends_on", {})) <= started


def test_a_plain_up_starts_the_demo_and_no_service_is_in_both_profiles() -> None:
    assert (ROOT / ".env").read_text().splitlines()[-1] == "COMPOSE_PROFILES=demo"
    assert all(len(service["profiles"]) == 1 for service in SERVICES.values())
    for profile, names in PROFILES.items():
        assert set(services_of(COMPOSE, profile)) == names


@pytest.mark.parametrize("profile", PROFILES)
def test_images_are_pinned_and_one_service_of_a_profile_builds_each_of_ours(profile: str) -> None:
    services = services_of(COMPOSE, profile)
    foreign = [service["image"] for service in services.values() if service["image"] not in OURS]
    assert [image for image in foreign if not EXACT.fullmatch(image)] == []
    # two builds of one name end in "image already exists" with some builders
    assert sorted(service["image"] for service in services.values() if "build" in service) == sorted(OURS)
    for image in OURS.values():
        assert len(image.bases) == 2
        assert len(set(image.bases)) == 1
        assert EXACT.fullmatch(image.bases[0])


def test_the_image_is_made_of_files_that_are_there() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {*IMAGE.copied, *FLOWS_IMAGE.copied}
    assert copied == sent
    assert [source for source in copied if not (ROOT / source).exists()] == []
    assert next(run for run in FLOWS_IMAGE.runs if "npm" in run).startswith("npm ci --omit=dev")
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert IMAGE.entrypoint[0] in scripts
    installs = [run for run in IMAGE.runs if " install " in run and run.startswith("pip")]
    assert installs
    assert all("--constraint constraints.txt" in run for run in installs)


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_few_rights_and_comes_back(name: str) -> None:
    service = SERVICES[name]
    image = OURS.get(service["image"])
    user = str(service.get("user", image.user if image else ""))
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert (service["init"], service["read_only"], service["restart"]) == (True, True, "unless-stopped")
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service.get("cap_add", [])) <= ({"SYS_NICE"} if service["image"] == "linegate:local" else set())
    assert int(service["stop_grace_period"].removesuffix("s")) > 10
    assert [port for port in service.get("ports", []) if not port.startswith("127.0.0.1:")] == []
    for volume in service.get("volumes", []):
        source, _, *mode = volume.split(":")
        assert (ROOT / source).exists() if source.startswith("./") else source in COMPOSE["volumes"]
        assert mode == (["ro"] if source.startswith("./") else [])


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_is_watched_and_bounded(name: str) -> None:
    service = SERVICES[name]
    check = service["healthcheck"]
    assert check["test"][0] == "CMD"
    assert {"interval", "timeout", "start_period"} <= set(check)
    assert re.fullmatch(r"[1-9]\d*[mg]", service["mem_limit"])
    assert 0 < service["cpus"] <= 2
    assert 16 <= service["pids_limit"] <= 128


def test_limits_of_a_machine_with_4_gigabytes_and_more() -> None:
    megabytes = {"m": 1, "g": 1024}
    for profile in PROFILES:
        limits = [service["mem_limit"] for service in services_of(COMPOSE, profile).values()]
        assert sum(int(limit[:-1]) * megabytes[limit[-1]] for limit in limits) <= 4096


def test_no_secret_stands_in_the_file_or_in_an_environment() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if SECRET_NAME.search(variable):
                mounted = re.fullmatch(r"/run/secrets/(\w+)", value)
                assert value == "" or (mounted and mounted[1] in service["secrets"]), f"{name}: {variable}"
        text = json.dumps(service)
        assert not re.search(r"://[^/@\s\"]+:[^/@\s\"]+@", text)  # a password in an address
        assert set(re.findall(r"/run/secrets/(\w+)", text)) <= set(service.get("secrets", []))
    assert all(set(entry) == {"file"} for entry in COMPOSE["secrets"].values())
    given = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert given == set(COMPOSE["secrets"])
    ignored = subprocess.run(
        ["git", "check-ignore", "docker/secrets/ca_key"], cwd=ROOT, capture_output=True, check=False
    )
    assert ignored.returncode in {0, 128}  # 128: no repository here


def test_only_who_needs_the_database_reaches_it() -> None:
    networks = {name: set(service["networks"]) for name, service in SERVICES.items()}
    assert {name for name, on in networks.items() if "records" in on} == {"postgres", "bridge-production", "grafana"}
    assert networks["postgres"] == {"records"}
    assert COMPOSE["networks"]["records"]["internal"] is True
    assert "ports" not in SERVICES["postgres"]


def test_real_time_priority_may_be_taken() -> None:
    (wanted,) = run_first.__defaults__ or ()
    for name in ("bridge", "bridge-production", "conveyor", "plc"):
        assert SERVICES[name]["ulimits"]["rtprio"] >= wanted


@pytest.mark.parametrize("subnet", ["172.31.248.0/24", "10.99.0.0/28"])
def test_the_allow_list_is_the_containers_own_network(subnet: str) -> None:
    document = compose_file(LINEGATE_SUBNET=subnet)
    (network,) = document["networks"]["line"]["ipam"]["config"]
    assert network["subnet"] == subnet
    for bridge in ("bridge", "bridge-production"):
        allowed = json.loads(document["services"][bridge]["environment"]["LINEGATE_MODBUS__ALLOW"])
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


@pytest.mark.parametrize(
    ("path", "service"), [("mosquitto.conf", "mosquitto"), ("production/mosquitto.conf", "mosquitto-tls")]
)
def test_the_broker_holds_what_the_bridge_may_be_sent(path: str, service: str) -> None:
    settings, plain = mosquitto_settings(path), Config()
    assert plain.mqtt.max_payload_bytes * 4 <= int(settings["message_size_limit"])
    assert int(settings["max_inflight_messages"]) == Broker(host="", port=1).receive_maximum
    days = int(settings["persistent_client_expiration"].removesuffix("d"))
    assert days * 86_400 > SESSION_EXPIRY_S
    assert int(settings["max_queued_messages"]) > 1000
    assert settings["persistence_location"] in [v.split(":")[1] + "/" for v in SERVICES[service]["volumes"]]


def test_both_brokers_keep_the_same() -> None:
    access = {"listener", "allow_anonymous", "certfile", "keyfile", "tls_version", "password_file", "acl_file"}
    more = {"max_keepalive", "max_connections"}
    demo, production = mosquitto_settings(), mosquitto_settings("production/mosquitto.conf")
    assert {key: production[key] for key in demo.keys() - access} == {key: demo[key] for key in demo.keys() - access}
    assert production.keys() - access - more == demo.keys() - access
    assert production["allow_anonymous"] == "false"


def test_the_production_line_is_valid_and_lets_nobody_in_without_a_log_in() -> None:
    config = load_config(ROOT / "docker" / "production" / "bridge" / "linegate.toml", {})
    assert config.opcua.anonymous is False
    assert config.models.require_signature is True
    (station,) = config.stations
    assert not {"dry_run", "max_consecutive_rejects", "max_consecutive_failures"} & station.model_fields_set
