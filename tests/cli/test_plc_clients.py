"""A whole bridge that writes into PLCs, instead of being polled by them; and what it says to a wrong configuration."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from bridge.config_file import load_config
from bridge.errors import ConfigError
from bridge.setup_files import write_project
from tests.cli.processes import Bridge, Ports, Publisher, eventually, linegate, one_line, running, simulated_broker
from tests.cli.test_run import GOOD, PITTED, send_picture
from tests.wire.opcua_twin import OpcUaTwin, nodes
from tests.wire.plc_twin import PlcTwin


class Twin(Protocol):
    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Loop:
    """A loop in a thread of its own, for PLCs that a test looks at from outside."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextlib.contextmanager
def loop() -> Iterator[Loop]:
    one = Loop()
    try:
        yield one
    finally:
        one.end()


@contextlib.contextmanager
def served(where: Loop, twin: Twin) -> Iterator[None]:
    where.do(twin.start())
    try:
        yield
    finally:
        where.do(twin.stop())


def alarms(publisher: Publisher, name: str) -> list[str]:
    return [each["state"] for each in publisher.heard("alarm") if each["name"] == name]


@pytest.mark.timeout(90)
def test_verdicts_arrive_in_the_plcs_registers_and_nodes_and_a_loss_is_told(tmp_path: Path) -> None:
    write_project(tmp_path)
    ports, plc, display = Ports.free(), PlcTwin(), OpcUaTwin()
    station = {
        "modbus_client": {"host": "127.0.0.1", "port": plc.port, "address": 100, "control_address": 0},
        "opcua_client": {
            "endpoint": display.url,
            "drives_gate": False,
            "nodes": nodes("Result.Verdict", "Result.Sequence"),
        },
    }
    settings = {"belt__speed_mm_s": "60", "modbus__enabled": "false", "stations": json.dumps([station])}
    plc.preset = {0: 1}  # Enable
    with contextlib.ExitStack() as stack:
        where = stack.enter_context(loop())
        stack.enter_context(served(where, display))
        stack.enter_context(simulated_broker(tmp_path, ports.mqtt))
        bridge = stack.enter_context(running(Bridge(folder=tmp_path, ports=ports, settings=settings)))
        publisher = stack.enter_context(Publisher(ports.mqtt, topics=("gate",)))
        eventually(lambda: "the PLC at the gate gets no orders" in bridge.get("/readyz")[1], limit_s=40.0)
        with served(where, plc):
            bridge.wait_ready()
            eventually(lambda: plc.words(100)[0] & 0b10)
            send_picture(ports.mqtt, PITTED, sequence=7, part_id="A")
            eventually(lambda: plc.words(138, 2) == [0, 1])
            assert plc.words(102, 4) == [0, 7, 2, 2]
            assert plc.words(109)[0] & 0b1001 == 0b1001, "a valid order with its moment"
            eventually(lambda: where.do(display.value("sequence")) == 7)
            assert where.do(display.value("verdict")) == 2
            # the PLC beats: the gate is guarded
            for beat in range(1, 4):
                where.do(plc.put({1: beat}))
                eventually(lambda: not plc.words(100)[0] >> 12 & 1)
        eventually(lambda: alarms(publisher, "PLC_LINK_LOST")[-1] == "raised")
        lost = eventually(lambda: [each for each in publisher.heard("status") if each["degraded"]])[-1]
        assert lost["online"] is True
        assert "gets no orders" in bridge.get("/readyz")[1]
        send_picture(ports.mqtt, GOOD, sequence=8, part_id="B")
        assert publisher.verdict_of(8)["verdict"] == "PASS", "parts are judged on"
        with served(where, plc):
            eventually(lambda: alarms(publisher, "PLC_LINK_LOST")[-1] == "cleared")
            eventually(lambda: plc.words(102, 3) == [0, 8, 1])
            assert bridge.metrics()["linegate_reconnects_total/modbus_client"] == 1
            assert bridge.stop()[0] == 0
            assert not plc.words(100)[0] & 1, "the last that the PLC is told: not online"
            assert plc.words(104, 2) == [0, 0], "and no result"
    assert [bridge.told(event) for event in ("plc_lost", "plc_written")] == [2, 3], bridge.log
    assert not [line for line in bridge.log if "Traceback" in line]


@pytest.mark.timeout(60)
def test_an_order_that_cannot_reach_the_plc_is_missed(tmp_path: Path) -> None:
    write_project(tmp_path)
    ports, plc = Ports.free(), PlcTwin()
    settings = {
        "belt__speed_mm_s": "120",
        "stations": json.dumps([{"modbus_client": {"host": "127.0.0.1", "port": plc.port, "read_ms": 0}}]),
    }
    with contextlib.ExitStack() as stack:
        where = stack.enter_context(loop())
        stack.enter_context(simulated_broker(tmp_path, ports.mqtt))
        bridge = stack.enter_context(running(Bridge(folder=tmp_path, ports=ports, settings=settings)))
        publisher = stack.enter_context(Publisher(ports.mqtt, topics=("gate",)))
        with served(where, plc):
            bridge.wait_ready()
        eventually(lambda: alarms(publisher, "PLC_LINK_LOST") == ["raised"])
        send_picture(ports.mqtt, PITTED, sequence=3, part_id="C")
        missed = eventually(lambda: [each for each in publisher.heard("gate") if each["event"] == "missed"])
        assert [each["part_id"] for each in missed] == ["C"]
        assert f"127.0.0.1:{plc.port}: the PLC did not get it in time" in missed[0]["reason"]
        eventually(lambda: publisher.heard("status")[-1]["stop_request"])
        with served(where, plc):
            eventually(lambda: plc.words(2, 2) == [0, 3])
            assert plc.words(9)[0] & 0b11 == 0b10, "do not fire"
        assert publisher.verdict_of(3)["disposition"] == "REJECT"


@pytest.mark.parametrize(
    ("station", "named"),
    [
        ({"opcua_client": {"endpoint": "opc.tcp://10.0.0.9:4840", "nodes": {"Result.Verdct": "ns=3;s=x"}}},
         ["stations.0.opcua_client.nodes: unknown tag 'Result.Verdct'", "'Result.Verdict'"]),
        ({"opcua_client": {"endpoint": "http://10.0.0.9"}}, ["opcua_client.endpoint = 'http://10.0.0.9'"]),
        ({"opcua_client": {"endpoint": "opc.tcp://10.0.0.9:4840"}}, ["nodes is empty"]),
        ({"opcua_client": {"nodes": {"Result.Verdict": "DB1.x"}}}, ["Result.Verdict = 'DB1.x'", "ns=3;s=NAME"]),
        ({"opcua_client": {"security": "Basic256Sha256"}}, ["certificate and private_key"]),
        ({"opcua_client": {"password_file": "gone"}}, ["stations.0.opcua_client.password_file", "No such file"]),
        ({"modbus_client": {"hots": "10.0.0.9"}}, ["unknown key 'stations.0.modbus_client.hots'", "'host'"]),
        ({"modbus_client": {"control_address": 320}}, ["control_address = 320", "0 to 323", "324 and above"]),
        ({"modbus_client": {"max_registers": 124}}, ["max_registers = 124", "123"]),
    ],
)  # fmt: skip
def test_a_mistake_is_named(tmp_path: Path, station: dict[str, Any], named: list[str]) -> None:
    (tmp_path / "linegate.toml").write_text("")
    line = one_line(linegate(tmp_path, "check-config", stations=json.dumps([station])), code=2)
    for each in named:
        assert each in line


def test_two_stations_never_write_over_each_other(tmp_path: Path) -> None:
    (tmp_path / "linegate.toml").write_text("")
    stations = [{"name": name, "modbus_client": {"host": "10.0.0.8", "address": at, "control_address": 2000}}
                for name, at in (("east", 0), ("west", 300))]  # fmt: skip
    line = one_line(linegate(tmp_path, "check-config", stations=json.dumps(stations)), code=2)
    assert "east and west write into the same registers of 10.0.0.8:502" in line


def test_check_config_says_what_is_written_where(tmp_path: Path) -> None:
    (tmp_path / "linegate.toml").write_text("")
    own = {"host": "10.0.0.8", "address": 100, "control_address": 0}
    other = {
        "endpoint": "opc.tcp://10.0.0.9:4840",
        "username": "linegate",
        "password": "4711",
        "nodes": nodes("Result.Verdict"),
    }
    settings = {"stations": json.dumps([{"modbus_client": own, "opcua_client": other}])}
    done = linegate(tmp_path, "check-config", **settings)
    assert (done.returncode, done.stderr) == (0, "")
    for told in (
        "writes registers 100 to 423 of 10.0.0.8:502, unit 1, and reads 0 to 15 every 50 ms",
        "writes 1 tags into opc.tcp://10.0.0.9:4840 and reads 0, security none, as linegate",
        'opcua_client.security = "none" may send the password readably',
        "has no Control.PlcHeartbeat that is read",
    ):
        assert told in done.stdout
    assert "4711" not in done.stdout


def test_nested_tables_of_a_station_are_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("swordfish\n")
    (tmp_path / "linegate.toml").write_text(
        '[[stations]]\nname = "east"\n[stations.modbus_client]\nhost = "10.0.0.8"\n'
        '[stations.opcua_client]\nendpoint = "opc.tcp://10.0.0.9:4840"\npassword_file = "secret"\ncertificate = "own.der"\n'
        '[stations.opcua_client.nodes]\n"Result.Verdict" = "ns=3;s=\\"DB1\\".\\"verdict\\""\n[[stations]]\nname = "west"\n'
    )
    east, west = load_config(tmp_path / "linegate.toml", {}).stations
    assert (east.modbus_client.host, east.modbus_client.control_address) == ("10.0.0.8", 400)
    assert east.opcua_client.nodes == {"Result.Verdict": 'ns=3;s="DB1"."verdict"'}
    assert (east.opcua_client.password, east.opcua_client.certificate) == ("swordfish", tmp_path / "own.der")
    assert (west.modbus_client.host, west.opcua_client.endpoint) == ("", "")
    with pytest.raises(ConfigError, match=r"stations\.0\.modbus_client\.port = 0"):
        (tmp_path / "linegate.toml").write_text("[[stations]]\n[stations.modbus_client]\nport = 0\n")
        load_config(tmp_path / "linegate.toml", {})
