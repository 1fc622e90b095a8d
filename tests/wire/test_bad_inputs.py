"""Whatever arrives by MQTT, a whole bridge says what is wrong with it, passes nothing that was bad, and judges on."""

from __future__ import annotations

import base64
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.cli.processes import STATION, eventually
from tests.wire.bad_messages import ODD, PARTS, PICTURES, REFUSED, Build, path, raw
from tests.wire.judging_bench import Bench, judging_bridge


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with judging_bridge(tmp_path_factory.mktemp("bridge")) as bench:
        yield bench


@pytest.mark.parametrize("case", PICTURES)
def test_a_picture_that_is_none_is_an_error(bench: Bench, case: str) -> None:
    says, build = PICTURES[case]
    check_error(bench, build, says, dead_letter=False)


@pytest.mark.parametrize("case", ODD)
def test_an_unusual_picture_is_judged(bench: Bench, case: str) -> None:
    picture, media_type = ODD[case]
    sequence = next(bench.sequences)
    bench.good.add(sequence)
    bench.send(raw(picture, media_type=media_type)(sequence))
    assert bench.publisher.verdict_of(sequence)["verdict"] == "PASS"
    bench.judges_on()


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
