"""What guards the line, as a PLC on Modbus, a client of OPC UA and a flow on MQTT see it; each on a whole bridge."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from asyncua.sync import Client
from asyncua.ua import VariantType

from tests.cli.processes import eventually, linegate
from tests.cli.test_gate import coils, module
from tests.ports import free_ports
from tests.wire.bad_messages import BRIGHT, DARK, Message, raw
from tests.wire.judging_bench import Bench, judging_bridge

READY, ERROR, DEGRADED, HEARTBEAT_LOST, STOP_REQUEST, UNGUARDED = 1, 7, 9, 10, 11, 12
HEARTBEAT, CONFIRM, INHIBIT = 1, 8, 10
TO_BIN_S, WINDOW_S, PART_S = 1.5, 0.25, 100 / 1200
STATION: dict[str, Any] = {
    "recipe": "brightness",
    "gate_distance_mm": 1200,
    "confirm_distance_mm": 1800,
    "confirm_window_ms": WINDOW_S * 1e3,
    "max_consecutive_rejects": 4,
    "max_consecutive_failures": 3,
    "touching_tolerance_mm": 20,
    "challenge_hours": 8,
}

pytestmark = pytest.mark.timeout(60)


@dataclass
class Plc:
    """A PLC by Modbus TCP, one request at a time."""

    port: int
    counted: int = 0
    beats: int = 0
    link: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self.link = socket.create_connection(("127.0.0.1", self.port), timeout=5)

    def ask(self, pdu: bytes) -> bytes:
        self.link.sendall(struct.pack(">HHHB", 1, 0, len(pdu) + 1, 1) + pdu)
        answer = self.link.recv(300)[7:]
        assert answer[0] == pdu[0], answer
        return answer

    def write(self, address: int, *values: int) -> None:
        self.ask(struct.pack(f">BHHB{len(values)}H", 16, address, len(values), 2 * len(values), *values))

    def registers(self, address: int, count: int = 1) -> tuple[int, ...]:
        return struct.unpack(f">{count}H", self.ask(struct.pack(">BHH", 4, address, count))[2:])

    def bit(self, number: int) -> bool:
        return bool(self.registers(0)[0] >> number & 1)

    def beat(self) -> None:
        self.beats += 1
        self.write(HEARTBEAT, self.beats)

    def count(self) -> None:
        """Tell that one more part was seen in the bin."""
        self.counted += 1
        self.write(CONFIRM, 0, self.counted)


@dataclass
class Line:
    """A bridge with everybody who looks at it."""

    bench: Bench
    plc: Plc
    opcua: Client
    sent_s: float = 0.0
    counted: int = 0

    def count_by_opcua(self) -> None:
        """Tell by OPC UA that one more part was seen in the bin."""
        self.counted += 1
        node = self.opcua.get_node("ns=2;s=line1.station1.Control.RejectConfirm")
        node.write_value(self.counted, VariantType.UInt32)

    def tag(self, path: str) -> Any:
        return self.opcua.get_node(f"ns=2;s=line1.station1.{path}").read_value()

    def status(self) -> dict[str, Any]:
        return self.bench.publisher.heard("status")[-1]

    def send(self, picture: bytes, *properties: tuple[str, str]) -> int:
        sequence = next(self.bench.sequences)
        self.bench.send(raw(picture, *properties)(sequence))
        self.sent_s = time.monotonic()
        return sequence

    def verdict(self, picture: bytes, *properties: tuple[str, str]) -> dict[str, Any]:
        return self.bench.publisher.verdict_of(self.send(picture, *properties))

    def command(self, **command: object) -> None:
        self.bench.publisher.send(json.dumps(command).encode(), topic="command")

    def alarms(self, name: str) -> list[dict[str, Any]]:
        heard = self.bench.publisher.heard("alarm")
        return [each for each in heard if (each["name"], each["state"]) == (name, "raised")]

    def events(self, sequence: int) -> list[str]:
        return [each["event"] for each in self.bench.publisher.heard("gate") if each["sequence"] == sequence]

    def clear(self) -> None:
        """Take back what the test before raised, once its last part is past the bin."""
        time.sleep(max(0.0, self.sent_s + TO_BIN_S + WINDOW_S + 0.3 - time.monotonic()))
        self.command(command="clear-error")
        eventually(lambda: self.plc.bit(READY) and not self.plc.bit(STOP_REQUEST))


@contextlib.contextmanager
def line(folder: Path, **changes: object) -> Iterator[Line]:
    settings = {"stations": json.dumps([STATION | changes])}
    with contextlib.ExitStack() as stack:
        bench = stack.enter_context(judging_bridge(folder, **settings))
        opcua = stack.enter_context(Client(bench.bridge.ports.settings["opcua__endpoint"]))
        plc = Plc(bench.bridge.ports.modbus)
        stack.callback(plc.link.close)
        plc.write(CONFIRM, 0, 0)
        yield Line(bench, plc, opcua)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    with line(tmp_path_factory.mktemp("line")) as running:
        yield running


def test_an_inhibit_is_named_to_everybody_and_parts_get_it_as_their_reason(whole: Line) -> None:
    whole.clear()
    whole.plc.write(INHIBIT, 1)
    eventually(lambda: not whole.plc.bit(READY))
    eventually(lambda: whole.status()["inhibited"] == ["bin full"])
    status = whole.status()
    assert (status["state"], status["ready"], status["not_ready"]) == ("DISABLED", False, ["inhibited: bin full"])
    verdict = whole.verdict(DARK)
    assert (verdict["verdict"], verdict["reason"], verdict["disposition"]) == ("ERROR", "inhibited: bin full", "REJECT")
    assert whole.alarms("INHIBITED")[-1]["text"] == "bin full"
    assert whole.tag("Status.State") == "DISABLED"
    assert "bin full" in whole.tag("Status.ErrorText")
    whole.opcua.get_node("ns=2;s=line1.station1.Control.Inhibit").write_value(2, VariantType.UInt16)
    eventually(lambda: whole.status()["inhibited"] == ["air low"])
    assert whole.verdict(DARK)["reason"] == "inhibited: air low"
    whole.plc.write(INHIBIT, 4)
    eventually(lambda: whole.status()["inhibited"] == ["line stopped"])
    for _each in range(5):
        whole.verdict(DARK)
    whole.plc.write(INHIBIT, 0)
    eventually(lambda: whole.plc.bit(READY))  # parts that nobody was to judge make no run of failures
    eventually(lambda: whole.status()["not_ready"] == [])


def test_a_lost_heartbeat_says_that_nobody_guards_the_gate(whole: Line) -> None:
    whole.clear()
    assert whole.plc.bit(UNGUARDED), "no heartbeat was seen yet"
    whole.plc.beat()
    eventually(lambda: not whole.plc.bit(UNGUARDED) and not whole.plc.bit(HEARTBEAT_LOST))
    eventually(lambda: whole.status()["gate_unguarded"] is False)
    eventually(lambda: whole.plc.bit(UNGUARDED) and whole.plc.bit(HEARTBEAT_LOST))
    eventually(lambda: whole.status()["gate_unguarded"] and whole.status()["plc_heartbeat_lost"])
    assert "nobody guards the gate" in whole.alarms("PLC_HEARTBEAT_LOST")[-1]["text"]
    assert "nobody guards the gate" in whole.status()["error_text"]
    assert "nobody guards the gate" in whole.tag("Status.ErrorText")
    assert whole.tag("Status.GateUnguarded")
    assert whole.plc.registers(34) == (21,)
    assert any("PLC_HEARTBEAT_LOST" in each and "nobody guards the gate" in each for each in whole.bench.bridge.log)
    whole.plc.beat()
    eventually(lambda: not whole.plc.bit(UNGUARDED))


@pytest.mark.parametrize("protocol", ["modbus", "opcua"])
def test_the_bin_confirms_a_reject_and_accuses_a_part_let_pass(whole: Line, protocol: str) -> None:
    whole.clear()
    count = whole.plc.count if protocol == "modbus" else whole.count_by_opcua
    before = len(whole.alarms("REJECT_NOT_CONFIRMED"))
    begun = time.monotonic()
    rejected = whole.send(BRIGHT)
    assert whole.bench.publisher.verdict_of(rejected)["disposition"] == "REJECT"
    time.sleep(begun + TO_BIN_S + 0.03 - time.monotonic())
    count()
    eventually(lambda: "confirmed" in whole.events(rejected))
    time.sleep(2 * WINDOW_S)
    assert not whole.plc.bit(STOP_REQUEST)
    begun = time.monotonic()
    passed = whole.send(DARK)
    assert whole.bench.publisher.verdict_of(passed)["disposition"] == "LET_PASS"
    time.sleep(begun + TO_BIN_S + 0.03 - time.monotonic())
    count()
    eventually(lambda: whole.plc.bit(STOP_REQUEST))
    eventually(lambda: [each for each in whole.alarms("PASS_IN_BIN") if f"sequence {passed} " in each["text"]])
    assert whole.plc.registers(34) == (36,)
    assert whole.tag("Status.StopRequest")
    assert len(whole.alarms("REJECT_NOT_CONFIRMED")) == before


def test_a_reject_that_never_reaches_the_bin_asks_for_a_stop_within_a_parts_travel(whole: Line) -> None:
    whole.clear()
    begun = time.monotonic()
    rejected = whole.send(BRIGHT, ("part_id", "lost one"))
    sent = time.monotonic()
    eventually(lambda: whole.plc.bit(STOP_REQUEST))
    risen = time.monotonic()
    assert risen - begun > TO_BIN_S + WINDOW_S
    assert risen - sent < TO_BIN_S + WINDOW_S + PART_S + 0.3, "a loaded machine has 0.3 s more"
    told = "lost one was not seen in the reject bin"
    eventually(lambda: told in [each["text"] for each in whole.alarms("REJECT_NOT_CONFIRMED")])
    assert "confirmed" not in whole.events(rejected)
    whole.clear()
    whole.plc.count()
    time.sleep(0.3)
    assert not whole.plc.bit(STOP_REQUEST), "a count that fits no part accuses nobody"


def test_runs_drop_ready_with_their_reason_and_parts_are_judged_on(whole: Line) -> None:
    whole.clear()
    for _each in range(3):
        assert whole.verdict(DARK, ("recipe", "another"))["verdict"] == "ERROR"
    eventually(lambda: not whole.plc.bit(READY))
    assert whole.plc.registers(34) == (38,)
    assert whole.tag("Status.ErrorText").startswith("CONSECUTIVE_FAILURES: 3 ERROR or LATE in a row")
    eventually(lambda: whole.status()["not_ready"])
    assert whole.status()["not_ready"][0].startswith("CONSECUTIVE_FAILURES")
    assert whole.verdict(DARK)["verdict"] == "PASS"
    assert not whole.plc.bit(READY), "until ClearError"
    whole.plc.write(0, 1 | 1 << 3)
    whole.plc.write(0, 1)
    eventually(lambda: whole.plc.bit(READY))
    for _each in range(4):
        assert whole.verdict(BRIGHT)["verdict"] == "FAIL"
    eventually(lambda: not whole.plc.bit(READY))
    assert whole.alarms("CONSECUTIVE_REJECTS")[-1]["severity"] == "error"
    eventually(lambda: whole.plc.bit(STOP_REQUEST))  # none of them was seen in the bin


def test_a_challenge_part_must_be_rejected_and_reach_the_bin(whole: Line) -> None:
    whole.clear()
    assert whole.alarms("CHALLENGE_DUE"), "never passed: due from the start"
    assert whole.status()["challenge"] == {"state": "idle", "due": True, "passed_utc": None}
    assert whole.plc.bit(DEGRADED)
    whole.command(command="challenge", part_id="bad one")
    eventually(lambda: whole.status()["challenge"]["state"] == "announced")
    whole.verdict(DARK)
    begun = time.monotonic()
    whole.verdict(BRIGHT, ("part_id", "bad one"))
    eventually(lambda: whole.status()["challenge"]["state"] == "under way")
    time.sleep(begun + TO_BIN_S + 0.03 - time.monotonic())
    whole.plc.count()
    shown = eventually(lambda: [s for s in whole.bench.publisher.heard("status") if s["challenge"]["passed_utc"]])[-1]
    assert (shown["challenge"]["state"], shown["challenge"]["due"]) == ("passed", False)
    eventually(lambda: not whole.plc.bit(DEGRADED))
    bridge = whole.bench.bridge
    show = linegate(bridge.folder, "records", "show", "bad one", **bridge.ports.settings, **bridge.settings)
    assert "challenge passed" in show.stdout
    tests = linegate(
        bridge.folder,
        "records",
        "export",
        "--challenge",
        "--format",
        "jsonl",
        **bridge.ports.settings,
        **bridge.settings,
    )
    assert [(row["part_id"], row["challenge"]) for row in map(json.loads, tests.stdout.splitlines())] == [
        ("bad one", "passed")
    ]
    whole.command(command="challenge")
    eventually(lambda: whole.status()["challenge"]["state"] == "announced")
    verdict = whole.verdict(DARK)
    eventually(lambda: whole.plc.bit(STOP_REQUEST))
    told = f"{verdict['part_id']}: its verdict is PASS"
    eventually(lambda: [each for each in whole.alarms("CHALLENGE_FAILED") if each["text"].startswith(told)])
    assert whole.tag("Status.ErrorCode") == 39


def test_a_command_that_is_none_is_refused(whole: Line) -> None:
    letters = len(whole.bench.dead_letters())
    whole.command(command="challenge", sequence="seven")
    eventually(lambda: len(whole.bench.dead_letters()) > letters)
    assert "sequence" in whole.bench.dead_letters()[-1]["why"]


@pytest.mark.parametrize("measured", [("length_mm", "210"), ("eye_on_ms", "175")])
def test_parts_that_touch_are_an_error(whole: Line, measured: tuple[str, str]) -> None:
    whole.clear()
    verdict = whole.verdict(DARK, measured)
    assert (verdict["verdict"], verdict["disposition"]) == ("ERROR", "REJECT")
    assert verdict["reason"] == "parts touch: 210 mm at the photo-eye, a part is 100 mm"
    assert verdict["gate"]["window_ms"] == pytest.approx((210 + 30) / 1.2, abs=0.5), "the gate covers both"
    assert "210 mm" in eventually(lambda: whole.alarms("PARTS_TOUCH"))[-1]["text"]
    sequence = next(whole.bench.sequences)
    document = json.dumps({"sequence": sequence, measured[0]: "x"})
    whole.bench.send(Message(payload=document.encode()))
    assert measured[0] in whole.bench.publisher.verdict_of(sequence)["reason"]


def test_a_passed_challenge_is_remembered_over_a_restart_and_a_dry_run_orders_nothing(tmp_path: Path) -> None:
    with line(tmp_path, max_consecutive_rejects=0) as first:
        first.command(command="challenge")
        eventually(lambda: first.status()["challenge"]["state"] == "announced")
        begun = time.monotonic()
        first.verdict(BRIGHT)
        time.sleep(begun + TO_BIN_S + 0.03 - time.monotonic())
        first.plc.count()
        eventually(lambda: first.status()["challenge"]["state"] == "passed")
        bridge = first.bench.bridge
        assert bridge.stop()[0] == 0
        bridge.settings = {"stations": json.dumps([STATION | {"dry_run": True}])}
        bridge.start()
        bridge.wait_ready()
        eventually(lambda: first.status()["dry_run"])
        assert not first.status()["challenge"]["due"]
        plc = Plc(bridge.ports.modbus)
        for picture, verdict, code in ((DARK, "PASS", 1), (BRIGHT, "FAIL", 2)):
            shown = first.verdict(picture)
            assert (shown["verdict"], shown["disposition"], shown["gate"]) == (verdict, "NONE", None)
            eventually(lambda: plc.registers(4)[0] == code)  # noqa: B023 - called before the loop goes on
            assert plc.registers(5) == (0,), "neither LET_PASS nor REJECT"
            assert plc.registers(9)[0] & 0b11 == 0, "no order"
        assert plc.bit(DEGRADED)
        assert any("dry_run" in each and "warning" in each for each in bridge.log)
        plc.link.close()
        sure = linegate(bridge.folder, "records", "verify", **bridge.ports.settings, **bridge.settings)
        assert sure.returncode == 0, sure.stdout


def test_a_dry_run_leaves_the_gate_that_the_bridge_would_fire_alone(tmp_path: Path) -> None:
    with module(free_ports(1)[0]) as io:
        gate = {"mode": "bridge", "port": io.port, "coil": 2}
        with line(tmp_path, dry_run=True, gate=gate) as dry:
            assert dry.verdict(BRIGHT)["disposition"] == "NONE"
            assert dry.verdict(DARK)["disposition"] == "NONE"
            assert dry.plc.bit(READY)
            assert dry.plc.bit(UNGUARDED)
            time.sleep(1.2)
            assert coils(io) == []
            assert io.writes == []
