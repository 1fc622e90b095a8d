"""Whatever arrives by MQTT, a whole bridge says what is wrong with it, passes nothing that was bad, and judges on."""

from __future__ import annotations

import base64
import itertools
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.cli.processes import STATION, Bridge, Ports, Publisher, eventually, running
from tests.line.tiny_bundle import write_bundle
from tests.wire.bad_messages import BRIGHT, DARK, MAX_PAYLOAD, PARTS, PICTURES, REFUSED, Build, Message, path, raw
from tests.wire.conftest import MosquittoBroker

CONFIG = f"""\
[mqtt]
max_payload_bytes = {MAX_PAYLOAD}
[models]
require_signature = false
[records]
keep = "all"
[[stations]]
recipe = "brightness"
gate_distance_mm = 6000.0   # 4.9 s for a verdict: this is about what is judged, not how fast
"""
RECIPE = 'name = "brightness"\nnumber = 7\nbundle = "brightness"\n[thresholds.pitting]\nreject = 0.6\ndoubt = 0.5\n'


@dataclass(kw_only=True)
class Bench:
    """One bridge, its broker's port and what was sent to it."""

    bridge: Bridge
    publisher: Publisher
    sequences: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    good: set[int] = field(default_factory=set)

    def send(self, message: Message) -> None:
        self.publisher.send(message.payload, content_type=message.content_type, user_properties=message.user_properties)

    def judges_on(self) -> None:
        """Send a good picture of a good and of a pitted part, and see that they, and no others, were judged."""
        for picture, expected in ((DARK, "PASS"), (BRIGHT, "FAIL")):
            sequence = next(self.sequences)
            self.good.add(sequence)
            self.send(raw(picture)(sequence))
            assert self.publisher.verdict_of(sequence)["verdict"] == expected
        judged = {each["sequence"] for each in self.publisher.heard("verdict") if each["verdict"] != "ERROR"}
        assert judged == self.good
        assert self.bridge.process.poll() is None, self.bridge.log

    def errors(self) -> float:
        return self.bridge.metrics()["linegate_verdicts_total/ERROR"]

    def dead_letters(self) -> list[dict[str, Any]]:
        return self.publisher.heard("deadletter")

    def clear(self) -> None:
        """Let the operator take the StopRequest back."""
        self.publisher.send(b'{"command": "clear-error"}', topic="command")
        eventually(lambda: self.bridge.metrics()["linegate_stop_request"] == 0)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("bridge")
    write_bundle(folder / "models" / "brightness")
    (folder / "linegate.toml").write_text(CONFIG)
    (folder / "recipes").mkdir()
    (folder / "recipes" / "brightness.toml").write_text(RECIPE)
    lay_out_pictures(folder)
    broker = MosquittoBroker(tmp_path_factory.mktemp("mosquitto"))
    broker.start()
    ports = Ports.free()
    ports.mqtt = broker.port
    try:
        with running(Bridge(folder=folder, ports=ports)) as bridge, Publisher(broker.port) as publisher:
            bridge.wait_ready()
            yield Bench(bridge=bridge, publisher=publisher)
            assert bridge.stop()[0] == 0, bridge.log
            assert not [line for line in bridge.log if "Traceback" in line or "Error(" in line or "fault" in line]
    finally:
        broker.kill()


def lay_out_pictures(folder: Path) -> None:
    """Put good pictures inside and outside of the image folder, and ways from the one to the other."""
    images = folder / "images"
    (images / "below").mkdir(parents=True)
    for file in (folder / "outside.jpg", images / "good.jpg", images / "below" / "good.jpg"):
        file.write_bytes(DARK)
    (images / "link.jpg").symlink_to("../outside.jpg")
    (images / "within.jpg").symlink_to("good.jpg")
    (images / "away").symlink_to("..")
    os.mkfifo(images / "pipe.jpg")
    (images / "short.jpg").write_bytes(DARK[:-2])
    (images / "big.jpg").write_bytes(DARK + bytes(MAX_PAYLOAD))


@pytest.mark.parametrize("case", PICTURES)
def test_a_picture_that_is_none_is_an_error(bench: Bench, case: str) -> None:
    says, build = PICTURES[case]
    check_error(bench, build, says, dead_letter=False)


@pytest.mark.parametrize("case", PARTS)
def test_a_message_with_a_legible_sequence_is_an_error_and_a_dead_letter(bench: Bench, case: str) -> None:
    says, build = PARTS[case]
    check_error(bench, build, says, dead_letter=True)


def check_error(bench: Bench, build: Build, says: str, *, dead_letter: bool) -> None:
    before, letters, sequence = bench.errors(), len(bench.dead_letters()), next(bench.sequences)
    message = build(sequence)
    bench.send(message)
    verdict = bench.publisher.verdict_of(sequence)
    assert (verdict["verdict"], verdict["code"], verdict["disposition"]) == ("ERROR", 4, "REJECT")
    assert re.search(says, verdict["reason"]), verdict["reason"]
    assert verdict["reason"].isprintable()
    assert len(verdict["reason"]) < 400
    assert (verdict["label"], verdict["score"], verdict["regions"]) == (None, None, [])
    bench.judges_on()
    eventually(lambda: bench.errors() == before + 1)
    if dead_letter:
        check_letter(bench, message.payload, says, letters)
    else:
        assert len(bench.dead_letters()) == letters


def check_letter(bench: Bench, payload: bytes, says: str, before: int, *, topic: str = "trigger") -> None:
    """See that exactly one more dead letter came, with the reason and the first bytes of what was sent."""
    letter = eventually(lambda: bench.dead_letters()[before:])[0]
    assert len(bench.dead_letters()) == before + 1
    assert letter["count"] == before + 1
    assert re.search(says, letter["why"]), letter["why"]
    assert len(letter["why"]) < 1000
    assert (letter["topic"], letter["size"]) == (STATION + topic, len(payload))
    assert base64.b64decode(letter["head"], validate=True) == payload[:256]


@pytest.mark.parametrize("case", REFUSED)
def test_a_message_without_a_legible_sequence_is_refused_and_stops_the_line(bench: Bench, case: str) -> None:
    says, build = REFUSED[case]
    letters, verdicts = len(bench.dead_letters()), len(bench.publisher.heard("verdict"))
    message = build(next(bench.sequences))
    bench.send(message)
    check_letter(bench, message.payload, says, letters)
    eventually(lambda: bench.bridge.metrics()["linegate_stop_request"] == 1)
    bench.judges_on()
    assert len(bench.publisher.heard("verdict")) == verdicts + 2
    bench.clear()


@pytest.mark.parametrize(
    ("arguments", "sent", "says"),
    [
        (("-n",), b"", "the payload is empty"),
        (("-m", "good part"), b"good part", "not JSON"),
        (("-r", "-m", '{"sequence": 4000}'), b'{"sequence": 4000}', "retained"),
    ],
)
def test_mosquitto_pub_is_refused_as_well(bench: Bench, arguments: tuple[str, ...], sent: bytes, says: str) -> None:
    letters = len(bench.dead_letters())
    publish = ["mosquitto_pub", "-p", str(bench.bridge.ports.mqtt), "-q", "1", "-t", f"{STATION}trigger"]
    subprocess.run([*publish, *arguments], check=True, timeout=10)
    check_letter(bench, sent, says, letters)
    eventually(lambda: bench.bridge.metrics()["linegate_stop_request"] == 1)
    bench.judges_on()
    if "-r" in arguments:
        subprocess.run([*publish, "-r", "-n"], check=True, timeout=10)
        eventually(lambda: len(bench.dead_letters()) == letters + 2)
    bench.clear()


@pytest.mark.parametrize(
    ("topic", "payload", "says"),
    [
        ("speed", b"fast", "not JSON"),
        ("speed", b'{"mm_s": NaN}', "NaN"),
        ("speed", b'{"mm_s": -1}', "mm_s is -1"),
        ("encoder", b'{"counts": 1e99}', "counts is 1e"),
        ("encoder", b"", "empty"),
        ("command", b'{"command": "explode"}', "explode.*allowed are"),
        ("command", b"[" * 100_000, "brackets|more than"),
    ],
)
def test_rubbish_beside_the_triggers_is_a_dead_letter(bench: Bench, topic: str, payload: bytes, says: str) -> None:
    letters = len(bench.dead_letters())
    bench.publisher.send(payload, topic=topic)
    check_letter(bench, payload, says, letters, topic=topic)
    bench.judges_on()
    assert bench.bridge.metrics()["linegate_stop_request"] == 0


def test_a_file_below_the_image_folder_is_judged(bench: Bench) -> None:
    """The measure of the refused ones: the same picture, by an honest path."""
    for name in ("good.jpg", "below/good.jpg"):
        sequence = next(bench.sequences)
        bench.good.add(sequence)
        bench.send(path(name)(sequence))
        assert bench.publisher.verdict_of(sequence)["verdict"] == "PASS"
    bench.judges_on()


def test_the_metrics_count_the_dead_letters(bench: Bench) -> None:
    letters = len(bench.dead_letters())
    bench.publisher.send(b"fast", topic="speed")
    eventually(lambda: len(bench.dead_letters()) == letters + 1)
    assert bench.bridge.metrics()["linegate_dead_letters_total"] == letters + 1
