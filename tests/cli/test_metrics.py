"""A whole bridge scraped as Prometheus does: what it measured against what its verdicts say."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from bridge.setup_files import write_project
from tests.cli.processes import Bridge, Ports, Publisher, eventually, running, simulated_broker
from tests.cli.test_gate import module, station
from tests.cli.test_run import GOOD, PITTED, send_picture
from tests.ports import free_ports
from tests.wire.conftest import MosquittoBroker

pytestmark = pytest.mark.soak

LATENCY, SLACK = "linegate_part_latency_seconds", "linegate_deadline_slack_seconds"
JUDGED_STEPS = ("decode", "preprocess", "inference")


def spent_s(verdicts: list[dict[str, Any]], step: str) -> list[float]:
    """Give what the verdicts' documents say of one step."""
    return [each["timing_ms"][step] / 1e3 for each in verdicts if each["timing_ms"][step] is not None]


@pytest.mark.timeout(60)
def test_histograms_hold_every_part_and_agree_with_the_verdicts(tmp_path: Path) -> None:
    write_project(tmp_path)
    ports = Ports.free()
    with contextlib.ExitStack() as stack:
        stack.enter_context(simulated_broker(tmp_path, ports.mqtt))
        slow_belt = {"belt__speed_mm_s": "120"}
        bridge = stack.enter_context(running(Bridge(folder=tmp_path, ports=ports, settings=slow_belt)))
        publisher = stack.enter_context(Publisher(ports.mqtt))
        bridge.wait_ready()
        assert bridge.metrics()[f"{LATENCY}_count/total"] == 0
        for sequence, picture in enumerate((GOOD, PITTED, GOOD), 1):
            send_picture(ports.mqtt, picture, sequence=sequence, part_id=str(sequence))
        publisher.send(b'{"sequence": 4}')  # without a picture: ERROR
        late = {"sequence": 5, "recipe": "another"}
        publisher.send(json.dumps(late).encode())  # ERROR at once, without inference
        verdicts = [publisher.verdict_of(sequence) for sequence in range(1, 6)]
        assert [each["verdict"] for each in verdicts] == ["PASS", "FAIL", "PASS", "ERROR", "ERROR"]
        metrics = eventually(lambda: (found := bridge.metrics())[f"{LATENCY}_count/total"] == 5 and found)
        check_latencies(metrics, verdicts)
        assert metrics[f"{SLACK}_bucket/+Inf"] == 5
        assert metrics[f"{SLACK}_bucket/0.0"] == 0, "nothing was late"
        assert metrics["linegate_verdicts_total/ERROR"] == 2
        assert metrics["linegate_parts_waiting"] == metrics["linegate_parts_in_flight"] == 0
        assert 1 <= metrics["linegate_parts_in_flight_max"] <= 5
        assert metrics["linegate_reconnects_total/mqtt"] == 0
        assert "linegate_reconnects_total/gate" not in metrics
        assert f"{SLACK}_sum" not in metrics
        assert metrics["linegate_journal_commit_failures_total"] == metrics["linegate_journal_rows_lost_total"] == 0
        assert metrics["process_resident_memory_bytes"] > 10e6
        assert bridge.get("/healthz") == (200, '{"healthy": true, "reasons": []}')


def check_latencies(metrics: dict[str, float], verdicts: list[dict[str, Any]]) -> None:
    """Compare counts, sums and buckets of each step with the documents."""
    for step in ("queue", *JUDGED_STEPS, "total"):
        spent = spent_s(verdicts, step)
        assert len(spent) == (3 if step in JUDGED_STEPS else 5)
        assert metrics[f"{LATENCY}_count/{step}"] == len(spent)
        assert metrics[f"{LATENCY}_sum/{step}"] == pytest.approx(sum(spent), abs=5e-6)
        for bound in (0.001, 0.005, 0.02, 0.1, 1.0):
            # the documents are rounded to a microsecond
            fewest, most = (sum(value <= bound + slip for value in spent) for slip in (-1e-6, 1e-6))
            assert fewest <= metrics[f"{LATENCY}_bucket/{step}/{bound}"] <= most
    assert metrics[f"{LATENCY}_count/publish"] == 5
    assert 0 < metrics[f"{LATENCY}_sum/publish"] < 1


@pytest.mark.timeout(60)
def test_late_parts_have_a_negative_slack(tmp_path: Path) -> None:
    write_project(tmp_path)
    ports = Ports.free()
    with contextlib.ExitStack() as stack:
        stack.enter_context(simulated_broker(tmp_path, ports.mqtt))
        near = {"stations": json.dumps([{"gate_distance_mm": 112.0}])}  # the deadline is 0.8 ms after the trigger
        bridge = stack.enter_context(running(Bridge(folder=tmp_path, ports=ports, settings=near)))
        publisher = stack.enter_context(Publisher(ports.mqtt))
        bridge.wait_ready()
        for sequence in (1, 2):
            send_picture(ports.mqtt, GOOD, sequence=sequence, part_id=str(sequence))
            assert publisher.verdict_of(sequence)["verdict"] == "LATE"
        metrics = eventually(lambda: (found := bridge.metrics())[f"{SLACK}_bucket/+Inf"] == 2 and found)
        assert metrics[f"{SLACK}_bucket/0.0"] == 2
        assert metrics["linegate_verdicts_total/LATE"] == 2
        assert metrics[f"{LATENCY}_count/total"] == 2


@pytest.mark.timeout(60)
def test_each_new_connection_to_the_broker_and_to_the_gate_is_counted(tmp_path: Path) -> None:
    write_project(tmp_path)
    ports, broker, (port,) = Ports.free(), MosquittoBroker(tmp_path), free_ports(1)
    ports.mqtt = broker.port
    with contextlib.ExitStack() as stack:
        stack.callback(broker.stop)
        broker.start()
        with module(port) as io:
            bridge = stack.enter_context(running(Bridge(folder=tmp_path, ports=ports, settings=station(io))))
            bridge.wait_ready()
            eventually(lambda: io.writes)
            assert reconnects(bridge) == {"mqtt": 0, "gate": 0}
        with module(port):
            eventually(lambda: reconnects(bridge) == {"mqtt": 0, "gate": 1})
        broker.stop()
        eventually(lambda: bridge.get("/readyz")[0] == 503)
        assert bridge.get("/healthz")[0] == 200, "without a broker no part is due"
        broker.start()
        eventually(lambda: reconnects(bridge) == {"mqtt": 1, "gate": 1})


def reconnects(bridge: Bridge) -> dict[str, float]:
    """Give the count of each link."""
    name = "linegate_reconnects_total/"
    return {each.removeprefix(name): value for each, value in bridge.metrics().items() if each.startswith(name)}


@pytest.mark.timeout(60)
def test_a_locked_database_is_in_the_metrics_and_a_verdict_does_not_wait_for_it(tmp_path: Path) -> None:
    write_project(tmp_path)
    ports = Ports.free()
    with contextlib.ExitStack() as stack:
        stack.enter_context(simulated_broker(tmp_path, ports.mqtt))
        slow_belt = {"belt__speed_mm_s": "120"}
        bridge = stack.enter_context(running(Bridge(folder=tmp_path, ports=ports, settings=slow_belt)))
        publisher = stack.enter_context(Publisher(ports.mqtt))
        bridge.wait_ready()
        blocker = stack.enter_context(
            contextlib.closing(sqlite3.connect(tmp_path / "data" / "linegate.db", isolation_level=None))
        )
        blocker.execute("BEGIN IMMEDIATE")
        send_picture(ports.mqtt, GOOD, sequence=1, part_id="A")
        assert publisher.verdict_of(1)["verdict"] == "PASS"
        metrics = eventually(
            lambda: (found := bridge.metrics())["linegate_journal_commit_failures_total"] > 0 and found
        )
        assert metrics["linegate_journal_rows_waiting"] == 2, "the trigger's and the verdict's"
        blocker.execute("ROLLBACK")
        eventually(lambda: bridge.metrics()["linegate_journal_rows_waiting"] == 0)
        assert bridge.metrics()["linegate_journal_rows_lost_total"] == 0
