"""What ten PLCs that poll at 100 Hz cost the station: its latency with them and without, side by side."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.figures import Aim, Findings, Setup, quantile, ratio_of_rounds, table
from benchmarks.load import JUDGED, LIMIT_S, publish, send_at_once
from benchmarks.pictures import Payload
from benchmarks.processes import Pollers, Target, bridge, broker, free_ports, pollers

AIM = 1.1
PARTS = 20
TURNS = 3
"""Short rounds and more of them: what else the machine does then hits both alike."""
WARM_UP = 10
CLIENTS = 10
HZ = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Polled:
    """Latencies in ms of each round, with pollers and without; what the pollers did in all rounds together."""

    with_them: Sequence[Sequence[float]]
    without: Sequence[Sequence[float]]
    reads: int
    torn: int
    slowest_ms: float
    took_s: float


class Sender:
    """Publish parts at a fixed pace and keep the station's own time from trigger to verdict. Use as a context manager."""

    def __init__(self, target: Target, payload: Payload) -> None:
        self._target, self._payload = target, payload
        self._mqtt = Client(CallbackAPIVersion.VERSION2, client_id="pollers", protocol=MQTTv5)
        self._mqtt.on_socket_open = send_at_once
        self._mqtt.on_message = self._hear
        self._sequence = 0
        self._heard = threading.Condition()
        self._totals: list[float] = []
        self._verdicts = 0

    def __enter__(self) -> Self:
        self._mqtt.connect("127.0.0.1", self._target.broker_port)
        self._mqtt.loop_start()
        self._mqtt.subscribe(self._target.verdicts)
        time.sleep(0.3)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._mqtt.disconnect()
        self._mqtt.loop_stop()

    def round(self, parts: int) -> list[float]:
        """Send `parts`, one at each interval of the payload; gives what each took in ms. Raises RuntimeError without."""
        self._totals.clear()
        interval_s, begun = self._payload.size.interval_ms / 1e3, time.monotonic()
        for number in range(parts):
            time.sleep(max(0.0, begun + number * interval_s - time.monotonic()))
            self._sequence += 1
            publish(self._mqtt, self._target.topic, self._payload, self._sequence)
        with self._heard:
            if not self._heard.wait_for(lambda: self._verdicts >= self._sequence, LIMIT_S):
                raise RuntimeError(f"{self._verdicts} verdicts for {self._sequence} parts")
        if not self._totals:
            raise RuntimeError(f"all of {parts} parts were LATE or ERROR: the machine is too busy for a figure")
        return list(self._totals)

    def _hear(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        verdict = json.loads(message.payload)
        with self._heard:
            self._verdicts += 1
            if verdict["code"] in JUDGED:
                self._totals.append(verdict["timing_ms"]["total"])
            self._heard.notify()


def measure(setup: Setup) -> Findings:
    """Measure rounds with pollers and without in turn, on one bridge."""
    (port,) = free_ports(1)
    folder = setup.scratch / "pollers"
    folder.mkdir()
    payload, parts = setup.payloads[0], PARTS // setup.shorter
    with (
        broker(port),
        bridge(folder, broker_port=port, bundle=setup.bundle) as (target,),
        pollers(target.modbus_port, clients=CLIENTS, hz=HZ) as polling,
        Sender(target, payload) as sender,
    ):
        sender.round(WARM_UP)
        polled = _rounds(sender, polling, parts, TURNS * setup.rounds)
    return Findings(text=section(polled, parts), aims=(aim(polled),))


def aim(polled: Polled) -> Aim:
    """Hold the latency with pollers against the one without."""
    ratio = ratio_of_rounds(_by_round(polled.with_them, 0.5), _by_round(polled.without, 0.5))
    return Aim(
        what=f"station latency, p50, with {CLIENTS} pollers at {HZ} Hz : without",
        aim=f"{AIM:g}",
        figure=f"{ratio[0]:.2f} ({ratio[1]:.2f} to {ratio[2]:.2f}), {polled.torn} of {polled.reads} reads torn",
        met=ratio[0] <= AIM and polled.torn == 0,
    )


def section(polled: Polled, parts: int) -> str:
    """Write what was found."""
    rows = []
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        ours, theirs = _pooled(polled.with_them), _pooled(polled.without)
        middle, low, high = ratio_of_rounds(_by_round(polled.with_them, share), _by_round(polled.without, share))
        rows.append(
            (
                name,
                f"{quantile(theirs, share):.1f}",
                f"{quantile(ours, share):.1f}",
                f"{middle:.2f} ({low:.2f} to {high:.2f})",
            )
        )
    return f"""## Ten PLCs that poll

The station's own time from trigger to verdict in ms, {parts} parts of the small payload a round at a fixed pace,
{len(polled.without)} rounds of each in turn, on one bridge:

{table(("", "without", f"{CLIENTS} pollers at {HZ} Hz", "with : without, median of the rounds"), rows)}

Each poller is a connection of its own that reads input registers 0 to 54. They did {polled.reads / polled.took_s:.0f} reads/s,
the slowest took {polled.slowest_ms:.1f} ms; {polled.torn} of {polled.reads} showed two different sequences in registers 2-3 and
36-37. What limits it: the servers' thread shares Python's interpreter lock with the station's loop, and the pollers' own
process shares the cores."""


def _rounds(sender: Sender, polling: Pollers, parts: int, rounds: int) -> Polled:
    latencies: Mapping[bool, list[list[float]]] = {True: [], False: []}
    reads = torn = 0
    slowest_ms = took_s = 0.0
    for number in range(rounds):
        for with_them in (True, False) if number % 2 else (False, True):
            if not with_them:
                latencies[False].append(sender.round(parts))
                continue
            begun = time.monotonic()
            polling.on()
            latencies[True].append(sender.round(parts))
            done = polling.off()
            took_s += time.monotonic() - begun
            reads, torn = reads + int(done["reads"]), torn + int(done["torn"])
            slowest_ms = max(slowest_ms, done["slowest_ms"])
    return Polled(
        with_them=latencies[True],
        without=latencies[False],
        reads=reads,
        torn=torn,
        slowest_ms=slowest_ms,
        took_s=took_s,
    )


def _pooled(rounds: Sequence[Sequence[float]]) -> list[float]:
    return [value for each in rounds for value in each]


def _by_round(rounds: Sequence[Sequence[float]], share: float) -> list[float]:
    return [quantile(each, share) for each in rounds]
