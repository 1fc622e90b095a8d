"""Fire a gate many times beside a busy model: `python -P -m benchmarks.gate_driver --port N --firings N --class C`.

A process of its own: it starts the gate process as the bridge does and gives it orders, while in it the shipped model
judges pictures in a loop and a thread of pure Python never rests. With `--class ordinary` it first gives up the right to
SCHED_FIFO, for itself and its children. It prints what was found as one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import math
import resource
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

from benchmarks.figures import quantile
from benchmarks.floor import Judge
from bridge.app import SWITCH_INTERVAL_S, SystemClock
from bridge.domain.gate import GateOrder
from bridge.domain.gate_settings import GateSettings
from bridge.domain.messages import GateNews
from bridge.gate.coil import CoilAddress
from bridge.gate.link import GateProcess

MS = 1_000_000
SHORTEST_MS = 3.0
AHEAD_MS = 300.0
REFILL_NS = 30_000_000
UP_S = 20.0
MODEL_THREADS = 2
"""What `[models] threads` is by default."""
PR_CAPBSET_DROP = 24
CAP_SYS_NICE = 23


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often an order is due, and after how long it is missed: later than is aimed at, or the limit is measured.

    The period leaves room for on, off and the jitter, and for so late a firing that the next order does not merge.
    """

    period_ms: float
    jitter_ms: float


PACES: Mapping[str, Pace] = MappingProxyType(
    {"realtime": Pace(period_ms=15.0, jitter_ms=5.0), "ordinary": Pace(period_ms=25.0, jitter_ms=10.0)}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Firings:
    """What became of all orders: an error for each that was fired. `class_` is how the gate process ran, `why` why so."""

    class_: str
    why: str
    ordered: int
    pictures: int
    errors_ms: Sequence[float]

    def error(self, share: float) -> float:
        """Give a quantile over all orders: one that was not fired counts as endlessly late."""
        return quantile([*self.errors_ms, *[math.inf] * (self.ordered - len(self.errors_ms))], share)


class Driver:
    """Gives orders to a gate process and gathers its news."""

    def __init__(self, port: int, class_: str) -> None:
        self._class, self._pace = class_, PACES[class_]
        self._clock = SystemClock()
        self._up = asyncio.Event()
        self._lost: list[str] = []
        self.why = ""
        self.errors_ms: list[float] = []
        settings = GateSettings(
            mode="bridge",
            rest="pass",
            open_lead_ms=0.0,
            close_lead_ms=0.0,
            min_on_ms=SHORTEST_MS,
            min_off_ms=SHORTEST_MS,
            firing_jitter_ms=self._pace.jitter_ms,
        )
        address = CoilAddress(host="127.0.0.1", port=port, coil=0)
        self._gate = GateProcess(settings, address, clock=self._clock, tell=self._take)

    async def fire(self, firings: int) -> int:
        """Have the gate fired so often; gives how many orders were given, none if it is not in its class."""
        self._gate.start()
        try:
            async with asyncio.timeout(UP_S):
                await self._up.wait()
            if self.why and self._class == "realtime":
                return 0
            await self._give(firings)
            return firings
        finally:
            await self._gate.stop()

    async def _give(self, firings: int) -> None:
        period_ns, ahead_ns = round(self._pace.period_ms * MS), round(AHEAD_MS * MS)
        due_ns = self._clock.now_ns() + ahead_ns
        for sequence in range(1, firings + 1):
            if due_ns - self._clock.now_ns() > ahead_ns + REFILL_NS:
                await asyncio.sleep(REFILL_NS / 1e9)
            order = GateOrder(state="ordered", due_ns=due_ns, off_ns=due_ns + round(SHORTEST_MS * MS))
            self._gate.ordered((1, sequence), order)
            due_ns += period_ns
            if self._lost:
                raise RuntimeError(f"the gate's output was lost: {self._lost[0]}")
        await asyncio.sleep((due_ns - self._clock.now_ns()) / 1e9)  # the last news come while the gate is stopped

    def _take(self, news: GateNews) -> None:
        if news.event == "up":
            self._up.set()
        elif news.event == "ordinary":
            self.why = news.text
        elif news.event == "down" and self._up.is_set():
            self._lost.append(news.text)
        elif news.event == "fired" and news.error_ms is not None:
            self.errors_ms.extend([round(news.error_ms, 4)] * len(news.keys))


@contextmanager
def _busy(model: Path, pictures: Iterable[bytes]) -> Iterator[list[int]]:
    """Judge pictures and count in pure Python, each in a thread, meanwhile; gives how many pictures as its only entry."""
    judge, shown, judged, stop = Judge(model, threads=MODEL_THREADS), list(pictures), [0], threading.Event()

    def infer() -> None:
        while not stop.is_set():
            judge(shown[judged[0] % len(shown)])
            judged[0] += 1

    def count() -> None:
        number = 0
        while not stop.is_set():
            number += 1

    threads = [threading.Thread(target=each, daemon=True) for each in (infer, count)]
    for thread in threads:
        thread.start()
    try:
        yield judged
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _give_up_real_time() -> None:
    """Take SCHED_FIFO from whatever this process starts: a capability off the bounding set is gone after an exec."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_CAPBSET_DROP, CAP_SYS_NICE, 0, 0, 0)  # only root can, and need
    resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))


def main() -> None:
    """Drive one gate by the command line, and print what was found as JSON."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.gate_driver", description="Fire a gate many times beside a busy model."
    )
    parser.add_argument("--model", type=Path, required=True, help="bundle whose golden frames are judged meanwhile")
    parser.add_argument("--port", type=int, required=True, help="Modbus module on this machine")
    parser.add_argument("--firings", type=int, required=True)
    parser.add_argument("--class", dest="class_", choices=list(PACES), required=True, help="with SCHED_FIFO or without")
    options = parser.parse_args()
    if options.class_ == "ordinary":
        _give_up_real_time()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    pictures = [path.read_bytes() for path in sorted((options.model / "golden").glob("*.jpg"))]

    async def drive() -> tuple[Driver, int]:
        driver = Driver(options.port, options.class_)
        return driver, await driver.fire(options.firings)

    with _busy(options.model, pictures) as judged:
        driver, ordered = asyncio.run(drive())
    given = Firings(
        class_="ordinary" if driver.why else "realtime",
        why=driver.why,
        ordered=ordered,
        pictures=judged[0],
        errors_ms=driver.errors_ms,
    )
    print(json.dumps(asdict(given)))


if __name__ == "__main__":
    main()
