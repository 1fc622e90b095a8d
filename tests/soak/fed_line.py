"""Mosquitto, a bridge that is ready, and a flow of parts into it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.cli.processes import Bridge, Ports, running
from tests.soak.flow import Flow
from tests.soak.rig import MOSQUITTO, write_line
from tests.wire.conftest import MosquittoBroker


@contextlib.contextmanager
def fed_line(folder: Path, pictures: Sequence[bytes]) -> Iterator[tuple[Bridge, Flow]]:
    """Run broker and bridge, and give the bridge with a flow that sends these pictures by turns."""
    write_line(folder)
    (folder / "mosquitto").mkdir()
    ports = Ports.free()
    broker = MosquittoBroker(folder / "mosquitto", extra=MOSQUITTO)
    ports.mqtt = broker.port
    with contextlib.ExitStack() as stack:
        stack.callback(broker.kill)
        broker.start()
        bridge = stack.enter_context(running(Bridge(folder=folder, ports=ports)))
        bridge.wait_ready()
        yield bridge, stack.enter_context(Flow(ports.mqtt, pictures))
