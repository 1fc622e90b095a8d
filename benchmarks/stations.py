"""One station and two stations of one bridge, flat out: what a second model on the same cores is worth."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import threading
import time
from types import TracebackType
from typing import Self

from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.figures import Aim, Findings, Setup, ratio_of_rounds, table
from benchmarks.load import JUDGED, publish, send_at_once
from benchmarks.pictures import Payload
from benchmarks.processes import Target, bridge, broker, free_ports

AIM = 1.7
ROUNDS = 2
THREADS = 1
WARM_UP_S = 1.0
WINDOW_S = 3.0


class Feeder:
    """Keep `in_flight` parts of one station under way: each verdict brings the next trigger. Use as a context manager."""

    def __init__(self, target: Target, payload: Payload, *, in_flight: int) -> None:
        self._target, self._payload, self._in_flight = target, payload, in_flight
        self._mqtt = Client(CallbackAPIVersion.VERSION2, client_id=f"feed-{target.station}", protocol=MQTTv5)
        self._mqtt.on_socket_open = send_at_once
        self._mqtt.on_connect = self._listen
        self._mqtt.on_subscribe = self._begin
        self._mqtt.on_message = self._hear
        self._sequence = 0
        self._fed = True
        self._under_way = 0
        self._empty = threading.Event()
        self.judged = 0

    def __enter__(self) -> Self:
        self._mqtt.connect("127.0.0.1", self._target.broker_port)
        self._mqtt.loop_start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._fed = False
        self._empty.wait(5.0)
        self._mqtt.disconnect()
        self._mqtt.loop_stop()

    def _listen(self, *_arguments: object) -> None:
        self._mqtt.subscribe(self._target.verdicts)

    def _begin(self, *_arguments: object) -> None:
        for _ in range(self._in_flight):
            self._publish()

    def _publish(self) -> None:
        self._sequence += 1
        self._under_way += 1
        publish(self._mqtt, self._target.topic, self._payload, self._sequence)

    def _hear(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        self.judged += json.loads(message.payload)["code"] in JUDGED
        self._under_way -= 1
        if self._fed:
            self._publish()
        elif not self._under_way:
            self._empty.set()


def measure(setup: Setup) -> Findings:
    """Measure one and two stations in turns, each time with a bridge of its own."""
    rounds = 1 if setup.quick else ROUNDS
    rates: dict[int, list[float]] = {1: [], 2: []}
    for number in range(rounds):
        for stations in sorted(rates, reverse=bool(number % 2)):
            rates[stations].append(_rate(setup, stations, number))
    ratio = ratio_of_rounds(rates[2], rates[1])
    aim = Aim(
        what="parts/s of two stations : one station",
        aim=f"{AIM:g}",
        figure=f"{ratio[0]:.2f} ({ratio[1]:.2f} to {ratio[2]:.2f})",
        met=ratio[0] >= AIM,
    )
    return Findings(text=section(rates, ratio, setup), aims=(aim,))


def section(rates: dict[int, list[float]], ratio: tuple[float, float, float], setup: Setup) -> str:
    """Write what was found."""
    rows = [(f"{number}", f"{statistics.median(rates[number]):.1f}") for number in rates]
    return f"""## One station and two stations

Judged parts/s flat out of one bridge, the small payload, `[models] threads = {THREADS}` for both:

{table(("stations", "parts/s"), rows)}

Two : one = {ratio[0]:.2f} (rounds {ratio[1]:.2f} to {ratio[2]:.2f}).

Rounds in turn: {len(rates[1])}, a fresh bridge each time, {WINDOW_S:g} s each after {WARM_UP_S:g} s of running in. Each
station has a publisher of its own that keeps {setup.in_flight} parts in flight and sends the next when a verdict comes;
nobody reads registers. Each station's model has a worker of its own, on one thread. What limits it: {os.cpu_count()}
cores. One station keeps one of them busy with inference; broker, publisher and the bridge's own work (MQTT, journal,
registers, tags, pictures) take from the other, which a second station's inference has to share with twice of that."""


def _rate(setup: Setup, stations: int, number: int) -> float:
    (port,) = free_ports(1)
    folder = setup.scratch / f"stations-{number}-{stations}"
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        stack.enter_context(broker(port))
        targets = stack.enter_context(
            bridge(folder, broker_port=port, bundle=setup.bundle, stations=stations, threads=THREADS)
        )
        payload = setup.payloads[0]
        feeders = [stack.enter_context(Feeder(each, payload, in_flight=setup.in_flight)) for each in targets]
        time.sleep(WARM_UP_S)
        before, start = sum(feeder.judged for feeder in feeders), time.perf_counter()
        time.sleep(WINDOW_S)
        judged, took = sum(feeder.judged for feeder in feeders) - before, time.perf_counter() - start
    if not judged:
        raise RuntimeError(f"{stations} station(s): no part was judged within {WINDOW_S:g} s")
    return judged / took
