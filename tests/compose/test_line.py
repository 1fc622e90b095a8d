"""The services of docker-compose.yml run: started in the wrong order, seen from the PLC's side, stopped."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from asyncua import Client
from pymodbus.client import ModbusTcpClient

from tests.cli.processes import Publisher, eventually
from tests.compose.containers import Containers, containers

pytestmark = [pytest.mark.timeout(120), pytest.mark.soak]
WRONG_ORDER = ("plc", "conveyor", "bridge", "mosquitto")
STATION = "ns=2;s=line1.station1"


def u32s(line: Containers, *addresses: int) -> list[int]:
    """Read u32 input registers of the bridge with somebody else's client."""
    first, count = min(addresses), max(addresses) + 2 - min(addresses)
    command = ["mbpoll", "-m", "tcp", "-p", str(line.ports[502]), "-a", "1", "-0", "-t", "3", "-r", str(first), "-c",
               str(count), "-1", "127.0.0.1"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    found = {
        int(at): int(value) % 2**16 for at, value in re.findall(r"^\[(\d+)\]:\s+(-?\d+)", done.stdout, re.MULTILINE)
    }
    return [found[address] << 16 | found[address + 1] for address in addresses]


def written(line: Containers) -> int:
    return u32s(line, 38)[0]


def all_healthy(line: Containers, limit_s: float = 60.0) -> None:
    """Wait until every service's own health check succeeds."""
    until = time.monotonic() + limit_s
    waiting = set(line.processes)
    while waiting:
        waiting = {service for service in waiting if not line.healthy(service)}
        ended = [service for service in line.processes if not line.running(service)]
        told = {service: line.log(service)[-1500:] for service in waiting | set(ended)}
        assert ended == [] and time.monotonic() < until, told
        time.sleep(0.2)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    """Start the services, each before those that it needs."""
    with containers(tmp_path_factory.mktemp("compose")) as services:
        assert [service for service in WRONG_ORDER if services.healthy(service)] == []
        for service in WRONG_ORDER:
            services.start(service)
            time.sleep(0.7)
        all_healthy(services)
        yield services


def test_started_in_the_wrong_order_all_become_healthy(line: Containers) -> None:
    assert {service: line.healthy(service) for service in line.processes} == dict.fromkeys(line.processes, True)
    assert line.check(line.image.healthcheck, "bridge")  # the image's own check, /healthz
    assert "does not answer" in line.log("plc")


async def test_verdicts_arrive_on_the_plcs_side(line: Containers) -> None:
    eventually(lambda: written(line) > 5)
    eventually(lambda: sum(u32s(line, 18, 20)) > 0)  # judged, PASS or FAIL
    async with Client(f"opc.tcp://127.0.0.1:{line.ports[4840]}/linegate/") as client:
        before = await client.get_node(f"{STATION}.Result.Written").read_value()
        verdict = await client.get_node(f"{STATION}.Result.Verdict").read_value()
        assert before > 5
        assert verdict in range(1, 6)
        eventually(lambda: written(line) > before)
        assert await client.get_node(f"{STATION}.Result.Written").read_value() > before
    assert '"event": "opcua_result"' in line.log("plc")


def test_the_plc_moves_the_conveyors_gate(line: Containers) -> None:
    commanded: set[bool] = set()
    fully_open: set[bool] = set()
    client = ModbusTcpClient("127.0.0.1", port=line.ports[5021])
    assert client.connect()
    try:

        def both_seen() -> bool:
            commanded.add(client.read_coils(0, count=1).bits[0])
            fully_open.add(client.read_discrete_inputs(2, count=1).bits[0])
            return commanded == fully_open == {False, True}

        eventually(both_seen)
    finally:
        client.close()


def test_records_and_pictures_are_in_their_volume(line: Containers) -> None:
    assert (line.folder / "records" / "linegate.db").is_file()
    eventually(lambda: list((line.folder / "records" / "pictures").rglob("*.jpg")))
    assert list(line.home.iterdir()) == []  # the rest of a container can't be written


@pytest.mark.soak
def test_killed_services_find_each_other_again(line: Containers) -> None:
    for killed in (("mosquitto",), ("bridge",), ("conveyor",), ("plc",), ("bridge", "mosquitto")):
        for service in killed:
            line.kill(service)
        time.sleep(0.5)
        line.start(*killed)
        all_healthy(line)
        count = written(line)
        eventually(lambda count=count: written(line) > count)


def test_each_service_ends_by_itself_when_asked(line: Containers) -> None:
    assert {service: line.stop(service) for service in line.processes} == dict.fromkeys(line.processes, 0)


@pytest.mark.soak
def test_a_name_that_nobody_knows_yet_ends_nobody(tmp_path: Path) -> None:
    clients = ("bridge", "conveyor", "plc")
    with containers(tmp_path, names_known=False) as services:
        services.start(*clients)
        eventually(lambda: services.healthy("conveyor"))
        eventually(lambda: services.check(services.image.healthcheck, "bridge"))
        eventually(lambda: "does not answer" in services.log("plc") and "mqtt_lost" in services.log("bridge"))
        time.sleep(1.0)
        assert not services.healthy("bridge")
        assert {each: services.stop(each) for each in clients} == dict.fromkeys(clients, 0)


@pytest.mark.soak
def test_a_picture_of_sixteen_megabytes_is_judged(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (2304, 2304, 3), dtype=np.uint8)
    _, picture = cv2.imencode(".png", noise, [cv2.IMWRITE_PNG_COMPRESSION, 0])
    assert 15_900_000 < len(picture) <= 16_000_000
    with containers(tmp_path) as services:
        services.start("mosquitto", "bridge")
        eventually(lambda: services.healthy("bridge"), limit_s=45)
        with Publisher(services.ports[1883]) as publisher:
            publisher.send(picture.tobytes(), content_type="image/png", user_properties=[("sequence", "1")])
            assert publisher.verdict_of(1)["verdict"] in {"PASS", "FAIL", "UNCERTAIN"}
