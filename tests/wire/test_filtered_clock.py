"""A line whose photo-eye stamps by a clock hours off, over a network that holds triggers up; no encoder, nothing synchronised."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from pymodbus.client import ModbusTcpClient

from bridge.domain.rfc3339 import format_utc
from tests.cli.processes import eventually, linegate
from tests.wire.bad_messages import BRIGHT, raw
from tests.wire.judging_bench import Bench, judging_bridge

THREE_HOURS_NS = 3 * 3600 * 10**9
PITCH_NS = 250_000_000
DUE = timedelta(milliseconds=(6000.0 - 15.0) / 1.2 - 40.0)
"""From the true moment to the on-command: to the window's start at 1200 mm/s, less the open lead."""
CLOCK_OK = 1 << 13


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with judging_bridge(tmp_path_factory.mktemp("filtered"), mqtt__trigger_clock="filtered") as bench:
        yield bench


def run_line(bench: Bench, held_ms: list[float], *, clock_ns: int) -> dict[int, int]:
    """Let parts pass, the trigger of each held up for so long; gives the true moments, ns since 1970."""
    begin_ns = time.time_ns() + PITCH_NS
    moments = {}
    for place, held in enumerate(held_ms):
        true_ns, sequence = begin_ns + place * PITCH_NS, next(bench.sequences)
        message = raw(BRIGHT, ("ts", format_utc(true_ns + clock_ns)))(sequence)
        time.sleep(max(0.0, true_ns + held * 1e6 - time.time_ns()) / 1e9)
        bench.send(message)
        moments[sequence] = true_ns
    return moments


def errors_ms(bench: Bench, moments: dict[int, int]) -> list[float | None]:
    """How much later than right each gate order is due; None for a part in doubt, which must then be so in every way."""
    found: list[float | None] = []
    for sequence, true_ns in moments.items():
        verdict = bench.publisher.verdict_of(sequence)
        assert verdict["disposition"] == "REJECT"
        if verdict["verdict"] == "ERROR":
            assert verdict["reason"].startswith("clock: ")
            assert (verdict["gate"]["state"], verdict["gate"]["due_utc"]) == ("missed", None)
            found.append(None)
        else:
            assert (verdict["verdict"], verdict["gate"]["state"]) == ("FAIL", "ordered")
            due = datetime.fromisoformat(verdict["gate"]["due_utc"]) - DUE
            found.append((due - datetime.fromisoformat(format_utc(true_ns))) / timedelta(milliseconds=1))
    return found


def clock_ok(bench: Bench) -> bool:
    with ModbusTcpClient("127.0.0.1", port=bench.bridge.ports.modbus) as client:
        return bool(client.read_input_registers(0, count=1).registers[0] & CLOCK_OK)


def raised(bench: Bench, name: str) -> list[str]:
    return [each["state"] for each in bench.publisher.heard("alarm") if each["name"] == name]


@pytest.mark.realtime
def test_held_up_triggers_are_gated_from_their_true_moments(bench: Bench) -> None:
    assert not clock_ok(bench), "nothing is known of the source yet"
    rng = random.Random(9)
    held = [0.0] * 4 + [rng.choice((0.0, 0.0, rng.uniform(30.0, 200.0))) for _ in range(16)]
    found = errors_ms(bench, run_line(bench, held, clock_ns=-THREE_HOURS_NS))
    assert sum(each > 30 for each in held) >= 4
    assert found[:2] == [None, None]
    assert None not in found[5:], "three agree, be the very first a little slow"
    assert all(error is None or -2.0 < error < 15.0 for error in found), found
    eventually(lambda: clock_ok(bench))
    eventually(lambda: raised(bench, "CLOCK_UNSURE")[-1:] == ["cleared"])


@pytest.mark.realtime
def test_a_source_that_is_restarted_with_another_clock_is_learned_anew(bench: Bench) -> None:
    before = errors_ms(bench, run_line(bench, [0.0] * 5, clock_ns=-THREE_HOURS_NS))
    assert before[-1] is not None
    found = errors_ms(bench, run_line(bench, [0.0, 0.0, 0.0, 0.0, 150.0, 0.0], clock_ns=-2 * THREE_HOURS_NS))
    assert found[:2] == [None, None]
    assert all(error is None or -2.0 < error < 15.0 for error in found), found
    assert found[-1] is not None
    assert raised(bench, "CLOCK_STEPPED") == ["raised"]
    eventually(lambda: clock_ok(bench))


@pytest.mark.realtime
def test_a_trigger_without_a_stamp_is_an_error(bench: Bench) -> None:
    sequence = next(bench.sequences)
    bench.send(raw(BRIGHT)(sequence))
    verdict = bench.publisher.verdict_of(sequence)
    assert (verdict["verdict"], verdict["disposition"]) == ("ERROR", "REJECT")
    assert "no ts" in verdict["reason"] and "filtered" in verdict["reason"]


def test_check_config_says_what_the_clock_means(bench: Bench) -> None:
    done = linegate(bench.bridge.folder, "check-config", mqtt__trigger_clock="filtered", mqtt__transport_ms="3")
    assert "triggers: placed by their ts, whose clock may stand anywhere" in done.stdout, done.stdout + done.stderr
    assert "less 3 ms" in done.stdout
    wrong = linegate(bench.bridge.folder, "check-config", mqtt__trigger_clock="ntp")
    assert wrong.returncode == 2
    assert "'arrival', 'source' or 'filtered'" in wrong.stderr
    assert json.dumps("filtered") in linegate(bench.bridge.folder, "check-config", "--schema").stdout
