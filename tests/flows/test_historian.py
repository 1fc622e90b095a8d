"""The flow "Historian" in a real Node-RED, between a real broker and a real InfluxDB."""

from __future__ import annotations

import http.server
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.processes import eventually
from tests.flows import rigs
from tests.flows.functions import function_of
from tests.flows.influx import Influx, influx
from tests.flows.node_red import node_red, read_flow
from tests.wire.conftest import MosquittoBroker

pytestmark = [pytest.mark.flows, pytest.mark.timeout(120)]
FLOW = "historian.json"


def verdict(sequence: int, **other: Any) -> dict[str, Any]:
    decided_utc = f"2026-11-21T08:00:00.{sequence % 1_000_000:06d}Z"
    reason = {"reason": "crack 0.93 >= 0.50", "gate": {"state": "ordered"}}
    return rigs.verdict(sequence, "FAIL", decided_utc=decided_utc, **reason | other)


@dataclass(kw_only=True)
class Rig(rigs.MqttRig):
    """The same with a database."""

    database: Influx

    def count(self) -> int:
        rows = self.database.ask("SELECT count(sequence) FROM verdict")
        return int(rows[0]["count"]) if rows else 0


@contextmanager
def rig(folder: Path) -> Iterator[Rig]:
    with ExitStack() as stack:
        broker = MosquittoBroker(folder, extra="max_queued_messages 0")
        stack.callback(broker.kill)
        broker.start()
        database = stack.enter_context(influx(folder))
        environment = {
            "LINEGATE_MQTT_HOST": broker.host, "LINEGATE_MQTT_PORT": str(broker.port),
            "INFLUX_URL": database.url, "INFLUX_BUCKET": "line", "REPORT_FOLDER": str(folder / "reports"),
        }  # fmt: skip
        red = stack.enter_context(node_red(folder, flows=[first_version()], environment=environment))
        client = stack.enter_context(rigs.client_of(broker))
        running = Rig(broker=broker, database=database, red=red, client=client)
        running.subscribed()
        yield running


def first_version() -> list[dict[str, Any]]:
    """Give the flow, set for InfluxDB 1."""
    nodes = read_flow(FLOW)
    for entry in next(node for node in nodes if node["type"] == "tab")["env"]:
        if entry["name"] == "INFLUX_API":
            entry["value"] = "1"
    return nodes


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig(tmp_path_factory.mktemp("historian")) as running:
        yield running


def test_a_verdict_can_be_read_back_as_it_was(line: Rig) -> None:
    odd = 'a "quoted", \\ back=slash text'
    line.tell("verdict", verdict(41, label="rolled in, scale=1", reason=odd, part_id='P "1"')).wait_for_publish(5)
    eventually(lambda: line.count() >= 1, 10)
    (row,) = line.database.ask("SELECT * FROM verdict WHERE sequence = 41")
    assert (row["label"], row["reason"], row["part_id"]) == ("rolled in, scale=1", odd, 'P "1"')
    assert (row["verdict"], row["disposition"], row["score"], row["code"]) == ("FAIL", "REJECT", 0.93, 2)
    assert (row["replayed"], row["total_ms"], row["inference_ms"], row["gate_state"]) == (False, 6.0, 4.1, "ordered")
    assert row["time"] == 1_795_248_000_000_041_041, (
        "2026-11-21T08:00:00.000041Z, and the sequence behind the microseconds"
    )


def test_gate_alarm_and_counters_have_measurements_of_their_own(line: Rig) -> None:
    line.tell(
        "gate", {"event": "fired", "sequence": 9, "part_id": "A-9", "error_ms": -0.2, "delay_ms": None, "reason": None}
    )
    line.tell("alarm", {"code": 3, "name": "ORDER_MISSED", "state": "raised", "severity": "error", "text": "late",
                        "ts": "2026-11-21T08:00:00Z"})  # fmt: skip
    line.tell("status", {"online": False, "counters": None})
    line.tell("status", {"online": True, "counters": {"triggers": 7, "pass": 5}, "belt_speed_mm_s": 1200.0})
    eventually(lambda: line.database.ask("SELECT * FROM counters"), 10)
    (fired,) = line.database.ask("SELECT * FROM gate")
    assert (fired["event"], fired["sequence"], fired["error_ms"], fired.get("delay_ms")) == ("fired", 9, -0.2, None)
    (alarm,) = line.database.ask("SELECT * FROM alarm")
    assert (alarm["name"], alarm["raised"], alarm["code"], alarm["text"]) == ("ORDER_MISSED", True, 3, "late")
    (counters,) = line.database.ask("SELECT * FROM counters")
    assert (counters["triggers"], counters["pass"], counters["belt_speed_mm_s"]) == (7, 5, 1200.0)


def test_what_is_no_verdict_is_told_and_not_written(line: Rig) -> None:
    before = line.count()
    line.tell("verdict", "PASS")
    line.tell("verdict", verdict(50, verdict="PASS")).wait_for_publish(5)
    eventually(lambda: "FAIL" in json.dumps(line.red.statuses()) or line.red.debug("refused verdicts"), 10)
    assert line.count() == before


def test_nothing_is_lost_while_the_database_or_the_broker_is_away(tmp_path: Path) -> None:
    with rig(tmp_path) as line:
        for sequence in range(50):
            line.tell("verdict", verdict(sequence))
        eventually(lambda: line.count() == 50, 10)
        line.database.stop()
        for sequence in range(50, 150):
            line.tell("verdict", verdict(sequence)).wait_for_publish(5)
        eventually(lambda: "database away (ECONNREFUSED), 100 points waiting" in line.lamp("lamp"), 20)
        line.database.start()
        eventually(lambda: line.count() == 150, 15)
        eventually(lambda: line.lamp("lamp") == "0 points waiting", 5)
        line.broker.stop()
        line.broker.start()
        began = time.monotonic()
        for sequence in range(150, 250):
            line.tell("verdict", verdict(sequence))
        eventually(lambda: line.count() == 250, 20)
        assert time.monotonic() - began < 15
        assert line.red.problems() == []


def test_what_waits_outlives_a_restart_of_node_red(tmp_path: Path) -> None:
    with rig(tmp_path) as line:
        line.database.stop()
        for sequence in range(20):
            line.tell("verdict", verdict(sequence)).wait_for_publish(5)
        eventually(lambda: "20 points waiting" in line.lamp("lamp"), 20)
        line.red.stop()
        for sequence in range(20, 30):
            line.tell("verdict", verdict(sequence)).wait_for_publish(5)
        line.database.start()
        line.red.start()
        eventually(lambda: line.count() == 30, 30)


class Refusing(http.server.BaseHTTPRequestHandler):
    """Answer as InfluxDB 2 does to a token, and with 400 to lines that hold the word `bad`."""

    heard: list[tuple[str, str, str]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.heard.append((self.path, self.headers["Authorization"], body))
        self.send_response(400 if "bad" in body else 204)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


def test_version_2_gets_bucket_and_token_and_what_it_refuses_is_kept_in_a_file(tmp_path: Path) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Heard", (Refusing,), {"heard": []}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    heard = server.RequestHandlerClass.heard  # type: ignore[attr-defined]
    environment = {"INFLUX_URL": f"http://127.0.0.1:{server.server_port}/", "INFLUX_TOKEN": "t0p", "INFLUX_ORG": "a&b",
                   "REPORT_FOLDER": str(tmp_path / "reports")}  # fmt: skip
    broker = MosquittoBroker(tmp_path)
    broker.start()
    try:
        environment |= {"LINEGATE_MQTT_HOST": broker.host, "LINEGATE_MQTT_PORT": str(broker.port)}
        with node_red(tmp_path, flows=[FLOW], environment=environment) as red, rigs.client_of(broker) as client:
            line = rigs.MqttRig(broker=broker, red=red, client=client)
            line.subscribed()
            line.tell("verdict", verdict(1, reason="bad"))
            kept = tmp_path / "reports" / "historian-refused.txt"
            eventually(kept.exists, 15)
            line.tell("verdict", verdict(2))
            eventually(lambda: len(heard) == 2, 15)
    finally:
        broker.kill()
        server.shutdown()
        server.server_close()
    assert {(path, token) for path, token, _ in heard} == {
        ("/api/v2/write?org=a%26b&bucket=linegate&precision=ns", "Token t0p")
    }
    assert "sequence=1i" in kept.read_text()
    assert heard[1][2].startswith("verdict,") and "sequence=2i" in heard[1][2] and "\n" not in heard[1][2]


def test_a_full_store_drops_the_oldest_and_says_so() -> None:
    forward = function_of(FLOW, "store and forward")
    points = [{"topic": "point", "payload": f"p{each}"} for each in range(5)]
    run = forward.run(points, env={"MOST_WAITING": 3, "REPORT_FOLDER": "r"})
    assert run.context["queue"] == ["p2", "p3", "p4"]
    assert run[4].outputs[2][0]["lost"] == 2


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_10000_verdicts_are_written_and_node_red_stays_level(tmp_path: Path) -> None:
    """200 a second; FLOWS_RATE=20 takes 500 s."""
    rate = float(os.environ.get("FLOWS_RATE", "200"))
    with rig(tmp_path) as line:
        began, memory = time.monotonic(), 0
        for sequence in range(10_000):
            line.tell("verdict", verdict(sequence))
            time.sleep(max(0.0, began + sequence / rate - time.monotonic()))
            if sequence == 3_000:
                memory = line.red.memory()
        eventually(lambda: line.count() == 10_000, 60)
        assert "10000 verdicts, 0 missing" in json.dumps(line.red.statuses())
        assert line.red.memory() < memory * 1.3
