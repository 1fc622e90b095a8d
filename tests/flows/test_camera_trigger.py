"""The flow camera-trigger.json: each part at the eye becomes one trigger with its own picture, or is told as not sent."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.cli.processes import LINEGATE, environment, eventually
from tests.flows.trigger_line import BAD, GOOD, Line, trigger_line
from tests.wire.camera_servers import reply

pytestmark = [pytest.mark.flows, pytest.mark.timeout(120)]

PATIENT = {"LIMIT_MS": 3000}
"""For tests that aren't about time: a loaded machine may need longer than a line would."""


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    with trigger_line(tmp_path_factory.mktemp("line")) as made:
        yield made


@pytest.mark.parametrize(
    ("eye", "form", "picture"),
    list(itertools.product(("mqtt", "modbus", "inject"), ("raw", "json"), ("folder", "http"))),
)
def test_each_part_gets_the_verdict_of_its_own_picture(line: Line, eye: str, form: str, picture: str) -> None:
    line.deploy(EYE=eye, FORM=form, PICTURE=picture, **PATIENT)
    refused, sent = len(line.refused()), len(line.triggers.seen)
    sequences = []
    for number, wanted in enumerate(("PASS", "FAIL", "PASS")):
        line.camera.picture = BAD if wanted == "FAIL" else GOOD
        verdict = line.judged(f"{eye}-{form}-{picture}-{number}")
        sequences.append(verdict["sequence"])
        known = str(verdict["sequence"]) if eye == "modbus" else f"{eye}-{form}-{picture}-{number}"
        assert (verdict["part_id"], verdict["verdict"]) == (known, wanted)
        matched = line.verdicts()[-1]
        assert (matched["sequence"], matched["verdict"]) == (verdict["sequence"], wanted)
        assert 0 < matched["ms"] < 5000
        message = line.triggers.seen[sent + number]
        kind = "image/jpeg" if form == "raw" else "application/json"
        assert message.properties.ContentType == kind
        assert (message.payload == (BAD if wanted == "FAIL" else GOOD)) == (form == "raw")
    assert sequences == list(range(sequences[0], sequences[0] + 3))
    assert len(line.triggers.seen) == sent + 3
    assert line.refused()[refused:] == []
    assert line.red.problems() == []


def test_what_is_known_of_a_part_goes_with_its_trigger(line: Line) -> None:
    line.deploy(EYE="inject", FORM="raw", PICTURE="http", **PATIENT)
    line.camera.picture = GOOD
    before = datetime.now(UTC)
    verdict = line.judged("A-1", encoder=4294967295, length_mm=80.5)
    told = line.triggers.properties(-1)
    assert (told["part_id"], told["encoder"], told["length_mm"]) == ("A-1", "4294967295", "80.5")
    assert "recipe" not in told
    moment = datetime.fromisoformat(told["ts"])
    assert timedelta(seconds=-1) < moment - before < timedelta(seconds=5)
    assert verdict["encoder"] == 4294967295
    properties = line.triggers.seen[-1].properties
    assert properties.ResponseTopic == "linegate/line1/station1/reply/camera-trigger"
    assert properties.CorrelationData.decode() == f"{told['sequence']} {told['ts']}"
    line.deploy(EYE="inject", FORM="json", PICTURE="http", **PATIENT)
    line.judged("A-2", encoder=7)
    document = json.loads(line.triggers.seen[-1].payload)
    assert (document["part_id"], document["encoder"]) == ("A-2", 7)
    assert (document.keys() & {"length_mm", "recipe"}, document["image"]["media_type"]) == (set(), "image/jpeg")


CAMERAS = {
    "too slow": (lambda request: (time.sleep(0.8), reply(request, 200, GOOD)), "no picture within 300 ms"),
    "an error": (lambda request: reply(request, 500), "the camera answers 500"),
    "not found": (lambda request: reply(request, 404, b"<html>"), "the camera answers 404"),
    "no picture": (lambda request: reply(request, 200, b"<html>sorry</html>"), "what came is no JPEG or PNG"),
    "nothing": (lambda request: reply(request, 200, b""), "what came is no JPEG or PNG"),
}


@pytest.mark.parametrize("case", CAMERAS)
def test_without_a_picture_in_time_nothing_is_sent(line: Line, case: str) -> None:
    line.deploy(EYE="inject", PICTURE="http")
    page, why = CAMERAS[case]
    good, sent, refused = line.camera.pages["/snapshot.jpg"], len(line.triggers.seen), len(line.refused())
    line.camera.pages["/snapshot.jpg"] = page
    try:
        line.part("lost")
        told = line.refusal(refused)
        assert told["why"] == why
        time.sleep(1)  # the slow picture came meanwhile
        assert len(line.triggers.seen) == sent
    finally:
        line.camera.pages["/snapshot.jpg"] = good
    assert line.red.statuses()["count what isn't sent"]["fill"] == "red"


def test_a_camera_that_is_away_is_told_and_the_bridge_alarms_the_gap(line: Line) -> None:
    line.deploy(EYE="inject", PICTURE="http", **PATIENT)
    line.camera.picture = GOOD
    first = line.judged("before")["sequence"]
    sent, refused = len(line.triggers.seen), len(line.refused())
    missed = line.bridge.metrics()["linegate_missed_triggers_total"]
    line.camera.stop()
    line.part("lost")
    told = line.refusal(refused)
    assert (told["sequence"], "ECONNREFUSED" in told["why"]) == (first + 1, True)
    assert len(line.triggers.seen) == sent
    line.camera.start()
    line.camera.picture = BAD
    verdict = line.judged("after")
    assert (verdict["sequence"], verdict["verdict"]) == (first + 2, "FAIL")
    assert line.bridge.metrics()["linegate_missed_triggers_total"] == missed + 1
    alarms = [alarm["name"] for alarm in line.publisher.heard("alarm") if alarm["state"] == "raised"]
    assert "TRIGGER_MISSED" in alarms
    assert eventually(lambda: line.red.statuses()["count what isn't sent"]["fill"] == "yellow")


def test_an_empty_folder_sends_nothing(line: Line) -> None:
    line.deploy(EYE="inject", PICTURE="folder", **PATIENT)
    refused, sent = len(line.refused()), len(line.triggers.seen)
    away = line.images.rename(line.images.with_name("away"))
    try:
        line.images.mkdir()
        line.red.inject("every 10 s")
        eventually(lambda: line.shown("keep the list").startswith("0 pictures"))
        line.part("lost")
        assert line.refusal(refused)["why"].startswith("no picture in the folder ")
        assert len(line.triggers.seen) == sent
    finally:
        line.images.rmdir()
        away.rename(line.images)


def test_the_sequence_rolls_over(line: Line) -> None:
    line.deploy(EYE="inject", PICTURE="folder", **PATIENT)
    line.red.inject("count from 1", payload=4294967294)
    assert [line.judged(f"roll-{number}")["sequence"] for number in range(4)] == [4294967294, 4294967295, 0, 1]


def test_a_burst_of_ten_parts_a_second(line: Line) -> None:
    line.deploy(EYE="mqtt", FORM="raw", PICTURE="folder", **PATIENT)
    matched, refused = len(line.verdicts()), len(line.refused())
    begun, start = time.monotonic(), datetime.now(UTC)
    for number in range(10):
        time.sleep(max(0.0, begun + number / 10 - time.monotonic()))
        line.part(f"burst-{number}", ts=(start + timedelta(seconds=number / 10)).isoformat())
    eventually(lambda: len(line.verdicts()) + len(line.refused()) >= matched + refused + 10)
    told = line.verdicts()[matched:]
    assert [one["part_id"] for one in told] == [f"burst-{number}" for number in range(10)]
    assert [one["verdict"] for one in told] == ["PASS", "FAIL"] * 5
    assert line.refused()[refused:] == []


def test_an_io_module_that_was_away_is_told_as_a_gap(line: Line) -> None:
    line.deploy(EYE="modbus", ENCODER="modbus", PICTURE="folder", **PATIENT)
    line.module.count = 0x0001_0002
    time.sleep(0.2)
    first = line.judged("before")
    assert first["encoder"] == 0x0001_0002
    refused = len(line.refused())
    line.module.stop()
    eventually(lambda: line.shown("ask for count and eye") == "the I/O module doesn't answer")
    begun = time.monotonic()
    line.module.start()
    told = line.refusal(refused)
    assert time.monotonic() - begun < 10
    assert told["sequence"] == first["sequence"] + 1
    assert told["why"].startswith("the I/O module was away for ")
    assert line.judged("after")["sequence"] == first["sequence"] + 2


def test_the_simulated_conveyor_is_an_eye(line: Line) -> None:
    line.deploy(EYE="modbus", ENCODER="modbus", PICTURE="folder", **PATIENT)
    line.module.stop()
    eventually(lambda: line.shown("ask for count and eye") == "the I/O module doesn't answer")
    heard, refused = len(line.verdicts()), len(line.refused())
    command = [*LINEGATE, "simulate", "conveyor", "--port", str(line.module.port), "--trigger", "none", "--wait"]
    more = ["--parts", "4", "--speed", "300", "--first-count", "4294965000"]
    with subprocess.Popen(
        [*command, *more], env=environment(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as conveyor:
        try:
            told = eventually(lambda: line.refused()[refused:], 60)
            assert "was away" in told[0]["why"]
            assert conveyor.stdin is not None
            conveyor.stdin.write("start\n")
            conveyor.stdin.flush()
            eventually(lambda: len(line.verdicts()) >= heard + 4, 30)
        finally:
            conveyor.terminate()
    line.module.start()
    told = line.verdicts()[heard:]
    sequences = [one["sequence"] for one in told]
    assert sequences == list(range(sequences[0], sequences[0] + 4))
    counts = [one["encoder"] for one in told]
    steps = [(after - before) % 2**32 for before, after in itertools.pairwise(counts)]
    assert all(abs(step - 1800) < 450 for step in steps), (
        steps
    )  # 180 mm of 10 counts; 450 are 150 ms of a loaded machine


def test_a_connection_that_broke_sends_nothing_late(line: Line) -> None:
    line.deploy(EYE="inject", PICTURE="http", **PATIENT)
    matched, refused = len(line.verdicts()), len(line.refused())
    line.part("before")
    eventually(lambda: len(line.verdicts()) + len(line.refused()) > matched + refused)
    refused = len(line.refused())
    process = line.broker._process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    line.part("on the way")
    assert line.refusal(refused)["why"] == "the broker takes nothing"
    line.part("while it stands")
    assert eventually(lambda: line.refused()[refused + 1 :])[0]["why"] == "the broker is away"
    line.broker.kill()
    line.part("while it is gone")
    assert eventually(lambda: line.refused()[refused + 2 :])[0]["why"] == "the broker is away"
    seen = len(line.triggers.seen)
    begun = time.monotonic()
    line.broker.start()
    eventually(lambda: line.red.statuses()["trigger"]["fill"] == "green")
    assert time.monotonic() - begun < 10
    time.sleep(2)
    assert len(line.triggers.seen) == seen
    matched = len(line.verdicts())
    for number in range(20):  # until the bridge is back too
        line.part(f"after-{number}")
        time.sleep(0.5)
        if len(line.verdicts()) > matched:
            break
    assert line.verdicts()[matched]["part_id"].startswith("after-")
    assert time.monotonic() - begun < 15
    late = {"on the way", "while it stands", "while it is gone"}
    assert not late & {line.triggers.properties(place)["part_id"] for place in range(seen, len(line.triggers.seen))}


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_the_sequence_goes_on_after_a_restart(line: Line, kill: bool) -> None:
    line.deploy(EYE="inject", PICTURE="folder", **PATIENT)
    line.part(f"before-{kill}")
    first = line.matched(f"before-{kill}")["sequence"]
    if kill:
        line.red.process.kill()
        line.red.process.wait(10)
    line.red.stop()
    line.restart()
    line.part(f"after-{kill}")
    assert line.matched(f"after-{kill}")["sequence"] == (first + 1) % 2**32


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_no_part_is_lost_at_twenty_a_second(line: Line) -> None:
    count = int(os.environ.get("FLOWS_COUNT", "400"))
    line.deploy(EYE="mqtt", FORM="raw", PICTURE="folder", **PATIENT)
    matched, refused, memory = len(line.verdicts()), len(line.refused()), []
    begun, start = time.monotonic(), datetime.now(UTC)
    for number in range(count):
        time.sleep(max(0.0, begun + number / 20 - time.monotonic()))
        line.part(f"many-{number}", ts=(start + timedelta(seconds=number / 20)).isoformat())
        if number % (count // 10) == count // 20:
            memory.append(line.red.memory() // 2**20)
    eventually(lambda: len(line.verdicts()) + len(line.refused()) >= matched + refused + count)
    first = min(one["sequence"] for one in line.verdicts()[matched:])
    assert [one for one in line.refused()[refused:] if one["sequence"] >= first] == [], (
        "an earlier part may end here too"
    )
    assert [one["part_id"] for one in line.verdicts()[matched:]] == [f"many-{number}" for number in range(count)]
    print(f"{count} parts in {time.monotonic() - begun:.0f} s, memory in MiB: {memory}")
    assert max(memory[5:]) < 1.3 * max(memory[:5])
