"""What a station publishes, as a foreign client sees it."""

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.domain.alarms import ALARMS
from bridge.domain.gate import NO_ORDER, GateOrder
from bridge.domain.messages import Inbound, LinkChange
from bridge.domain.part import Part, ReplyTo, Result, Trigger
from bridge.domain.recipe import Recipe
from bridge.domain.report import encode, verdict_document
from bridge.domain.status import Counters, StationState, StationStatus
from bridge.domain.verdict import Disposition, Judgement, VerdictCode
from bridge.inputs.mqtt import MqttLink
from bridge.inputs.mqtt_client import Broker
from bridge.outputs.mqtt import MqttVerdictOutput
from bridge.ports import Alarm, Outcome

RECIPE = Recipe(name="r", number=1, revision=1, bundle="b-1.0.0", labels=("x",))


class Inbox:
    def __init__(self) -> None:
        self.messages: list[Inbound] = []

    def post(self, message: Inbound) -> None:
        self.messages.append(message)


class Listener:
    """mosquitto_sub, one JSON object for each message: topic, retain, payload."""

    def __init__(self, port: int, folder: Path, topic: str) -> None:
        self._path = folder / "heard"
        with self._path.open("wb") as file:
            command = [
                "mosquitto_sub",
                "-p",
                str(port),
                "-V",
                "5",
                "-q",
                "1",
                "-t",
                topic,
                "-t",
                "answers/#",
                "-F",
                "%t %r %D|%p",
            ]
            self._process = subprocess.Popen(command, stdout=file)
        self._path.touch()

    def heard(self) -> list[tuple[str, str, Any]]:
        found = []
        for line in self._path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                head, payload = line.split("|", 1)
                topic, retain = head.split(" ", 2)[:2]
                found.append((topic.removeprefix("linegate/line1/station1/"), retain, json.loads(payload)))
        return found

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)


async def eventually(condition: Callable[[], Any], limit_s: float = 10.0) -> None:
    until = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        await asyncio.sleep(0.02)


@pytest.fixture
def listener(mosquitto: Any, tmp_path: Path) -> Iterator[Listener]:
    listener = Listener(mosquitto.port, tmp_path, "linegate/line1/station1/#")
    yield listener
    listener.close()


@pytest.fixture
async def output(mosquitto: Any, listener: Listener) -> AsyncIterator[MqttVerdictOutput]:
    inbox = Inbox()
    broker = Broker(host="127.0.0.1", port=mosquitto.port)
    link = MqttLink(line="line1", station="station1", broker=broker, inbox=inbox)
    link.start()
    await eventually(lambda: LinkChange(link="mqtt", up=True) in inbox.messages)
    # the listener is there once it hears this
    while not listener.heard():
        link.publish("deadletter", "{}")
        await asyncio.sleep(0.02)
    yield MqttVerdictOutput(link)
    await link.stop()


def outcome(sequence: int, *, reply: ReplyTo | None = None, order: GateOrder = NO_ORDER) -> Outcome:
    trigger = Trigger(sequence=sequence, part_id=f"A-{sequence}", arrived_ns=0, reply=reply)
    part = Part(
        line="line1", station="station1", trigger=trigger, epoch=1, triggered_ns=0, triggered_utc_ns=10**18,
        length_mm=100.0, recipe=RECIPE,
    )  # fmt: skip
    result = Result(
        part=part, judgement=Judgement(code=VerdictCode.LATE, reason="late – zu spät"), disposition=Disposition.REJECT,
        order=order, captured_utc_ns=None, decided_ns=0, decided_utc_ns=10**18, timing_ms={}, model=None,
        model_sha256=None,
    )  # fmt: skip
    return Outcome(result=result, document=encode(verdict_document(result)))


def status(**changes: Any) -> StationStatus:
    facts: dict[str, Any] = {
        "state": StationState.READY, "online": True, "ready": True, "busy": False, "error": False, "recipe_ok": True,
        "degraded": False, "plc_heartbeat_lost": False, "stop_request": False, "gate_unguarded": False,
        "clock_ok": True, "heartbeat": 1, "error_code": 0, "error_text": "", "recipe": "r", "recipe_number": 1,
        "model": "m@1.0.0", "model_sha256": "ab", "belt_speed_mm_s": 1200.0, "counters": Counters(), "last_sequence": 0,
    }  # fmt: skip
    return StationStatus(**(facts | changes))


async def test_verdicts_in_order_and_to_who_asked(output: MqttVerdictOutput, listener: Listener) -> None:
    for sequence in range(200):
        reply = ReplyTo(topic=f"answers/{sequence}", correlation=b"c") if sequence % 50 == 0 else None
        output.publish(outcome(sequence, reply=reply))
    await eventually(lambda: len([topic for topic, _, _ in listener.heard() if topic == "verdict"]) == 200)
    verdicts = [document for topic, _, document in listener.heard() if topic == "verdict"]
    assert [document["sequence"] for document in verdicts] == list(range(200))
    assert verdicts[0]["reason"] == "late – zu spät"
    answers = [(topic, document) for topic, _, document in listener.heard() if topic.startswith("answers/")]
    assert answers == [(f"answers/{sequence}", verdicts[sequence]) for sequence in (0, 50, 100, 150)]


async def test_gate_alarm_status_and_model(output: MqttVerdictOutput, listener: Listener) -> None:
    late = outcome(5).result
    output.gate_report("missed", late, GateOrder(state="missed", reason="too late"), None)
    output.gate_report("fired", late, GateOrder(state="ordered", open_count=1), "by the PLC", error_ms=0.25)
    output.alarm(Alarm(kind=ALARMS["ORDER_MISSED"], raised=True, text="", at_utc_ns=10**18))
    output.show(status())
    for heartbeat in range(2, 12):
        output.show(status(heartbeat=heartbeat))
    output.show(status(degraded=True, heartbeat=12))
    output.revise(5, NO_ORDER)
    output.remember(5, "{}")
    await eventually(lambda: any(document.get("degraded") for _, _, document in listener.heard()))
    heard = [item for item in listener.heard() if item[0] not in {"deadletter", "sync"}]
    gate = [document for topic, _, document in heard if topic == "gate"]
    assert [(item["event"], item["reason"], item["error_ms"]) for item in gate] == [
        ("missed", "too late", None),
        ("fired", "by the PLC", 0.25),
    ]
    (alarm,) = [document for topic, _, document in heard if topic == "alarm"]
    assert (alarm["code"], alarm["state"], alarm["severity"]) == (1, "raised", "critical")
    shown = [document for topic, _, document in heard if topic == "status"]
    assert [(item["heartbeat"], item["degraded"]) for item in (shown[0], shown[-1])] == [(1, False), (12, True)]
    assert len(shown) <= 4
    models = [document for topic, _, document in heard if topic == "model"]
    assert models == [{"active": {"model": "m@1.0.0", "sha256": "ab", "state": "active"}, "shadow": None, "last": None}]


async def test_status_and_model_are_retained(output: MqttVerdictOutput, mosquitto: Any, listener: Listener) -> None:
    output.show(status())
    await eventually(lambda: {"status", "model"} <= {topic for topic, _, _ in listener.heard()})
    for topic in ("status", "model"):
        command = ["mosquitto_sub", "-p", str(mosquitto.port), "-C", "1", "-W", "5", "-F", "%r", "-t",
                   f"linegate/line1/station1/{topic}"]  # fmt: skip
        assert subprocess.run(command, capture_output=True, check=True).stdout == b"1\n"
