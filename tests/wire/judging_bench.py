"""A whole bridge with its broker, to be fed with good and bad at once: what is good must be judged all the while."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cli.processes import Bridge, Ports, Publisher, eventually, running
from tests.line.tiny_bundle import write_bundle
from tests.wire.bad_messages import BRIGHT, DARK, MAX_PAYLOAD, Message, raw
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


UNWANTED = ("Traceback", "Error(", "fault", "Corrupt JPEG", "libpng", "exception was never retrieved")


@dataclass(kw_only=True)
class Bench:
    """One bridge, its broker's port and what was sent to it."""

    bridge: Bridge
    publisher: Publisher
    sequences: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    good: set[int] = field(default_factory=set)
    clock: str = "arrival"

    def send(self, message: Message) -> None:
        self.publisher.send(message.payload, content_type=message.content_type, user_properties=message.user_properties)

    def judges_on(self) -> None:
        """Send a good picture of a good and of a pitted part, and see that they, and no others, were judged."""
        for picture, expected in ((DARK, "PASS"), (BRIGHT, "FAIL")):
            sequence = next(self.sequences)
            self.good.add(sequence)
            self.send(raw(picture)(sequence))
            assert self.publisher.verdict_of(sequence)["verdict"] == expected
        judged = {
            each["sequence"] for each in self.publisher.heard("verdict") if each["verdict"] not in {"ERROR", "LATE"}
        }
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


@contextlib.contextmanager
def judging_bridge(folder: Path, **settings: str) -> Iterator[Bench]:
    """Run a bridge and a mosquitto in `folder`, and see that neither a fault nor a library's own words were logged."""
    write_bundle(folder / "models" / "brightness")
    (folder / "linegate.toml").write_text(CONFIG)
    (folder / "recipes").mkdir()
    (folder / "recipes" / "brightness.toml").write_text(RECIPE)
    lay_out_pictures(folder)
    (folder / "mosquitto").mkdir()
    broker = MosquittoBroker(folder / "mosquitto")
    broker.start()
    ports = Ports.free()
    ports.mqtt = broker.port
    try:
        with (
            running(Bridge(folder=folder, ports=ports, settings=settings)) as bridge,
            Publisher(broker.port, topics=("gate",)) as publisher,
        ):
            bridge.wait_ready()
            yield Bench(bridge=bridge, publisher=publisher)
            assert bridge.stop()[0] == 0, bridge.log
            assert [line for line in bridge.log for word in UNWANTED if word in line] == []
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
