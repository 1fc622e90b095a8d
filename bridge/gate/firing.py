"""The gate process: `python -P -m bridge.gate.firing SETTINGS`, started by the bridge, one for each gate it fires.

It takes orders from stdin, sleeps until shortly before the next moment, spins the rest, and writes the coil: nothing
else runs in it. It reports each firing with its measured error on stdout. When stdin ends, however the bridge ended, it
carries out the orders it holds, clears the coil and ends. Signals of the terminal leave it alone for that reason.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
import time

from bridge.domain.gate_drive import GateCall, GateDrive, Step
from bridge.domain.gate_settings import GateSettings
from bridge.domain.gate_track import PartKey
from bridge.domain.messages import GateEventName, GateNews
from bridge.gate.coil import Coil, CoilAddress
from bridge.gate.pipe import decode_call, encode_news

SPIN_NS = 1_000_000
"""The last stretch before a moment is spent awake: a sleep ends up to a fraction of a millisecond late."""
REFRESH_NS = 100_000_000
"""The coil is written anew so long after it was last written, for the module's watchdog and to find a lost one."""
QUIET_NS = 5_000_000
LAST_WORD_NS = 250_000_000
FIFO_PRIORITY = 20
NEVER_NS = 2**62


class Firing:
    """One gate: its orders, its releases, its coil."""

    def __init__(self, settings: GateSettings, address: CoilAddress, *, orders: int, reports: int) -> None:
        self._coil = Coil(address)
        self._drive = GateDrive(settings)
        self._orders, self._reports = orders, reports
        self._received = b""
        self._orphaned = False
        self._trouble = self._coil.trouble
        self._shown: bool | None = None
        self._refresh_ns = 0

    def run(self) -> None:
        """Fire until stdin has ended and the last order is carried out; then clear the coil."""
        while not (self._orphaned and self._drive.idle):
            now_ns = time.monotonic_ns()
            due_ns = self._drive.next_due() or NEVER_NS
            if due_ns - now_ns > SPIN_NS:
                refresh_ns = self._refresh_ns if due_ns - now_ns > QUIET_NS else NEVER_NS
                self._wait(min(due_ns - SPIN_NS, self._coil.next_ns(), refresh_ns) - now_ns)
                self._keep_coil(due_ns)
                continue
            self._coil.prepare()
            while time.monotonic_ns() < due_ns:
                pass
            self._fire(time.monotonic_ns())
        self._clear()

    def _wait(self, for_ns: int) -> None:
        """Sleep, and take what comes meanwhile. `select` and not epoll, whose time-out counts whole milliseconds."""
        readers: list[int | socket.socket] = [*self._coil.reading]
        if not self._orphaned:
            readers.append(self._orders)
        ready, _, _ = select.select(readers, self._coil.connecting, [], max(0, min(for_ns, REFRESH_NS)) / 1e9)
        if self._orders in ready:
            self._take_calls()

    def _keep_coil(self, due_ns: int) -> None:
        """Look after the connection, and show the module that somebody is there."""
        now_ns = time.monotonic_ns()
        self._coil.look(now_ns)
        returned = self._trouble is not None and self._coil.trouble is None
        if self._coil.trouble != self._trouble:
            self._trouble = self._coil.trouble
            self._tell("down" if self._trouble else "up", text=self._trouble or "")
        if returned or (now_ns >= self._refresh_ns and due_ns - now_ns > QUIET_NS):
            self._write(now_ns)

    def _take_calls(self) -> None:
        data = os.read(self._orders, 65536)
        if not data:
            self._orphaned = True
            self._drive.drop_untimed()
            return
        *lines, self._received = (self._received + data).split(b"\n")
        now_ns = time.monotonic_ns()
        for line in lines:
            call = decode_call(line)
            if not self._drive.take(call, now_ns):
                self._tell("missed", (call.key,), text="the order reached the gate process too late")

    def _fire(self, now_ns: int) -> None:
        """Carry out what is due by one write, and report it."""
        steps = self._drive.poll(now_ns)
        sent_ns = self._write(now_ns)
        for step in steps:
            self._report(step, sent_ns)

    def _report(self, step: Step, sent_ns: int | None) -> None:
        command = step.command
        if command.kind == "missed":
            self._tell("missed", command.keys, text="the gate process woke too late")
        elif command.kind == "stuck":
            self._tell("stuck", command.keys)
        elif command.kind == "on" and sent_ns is not None:
            event: GateEventName = "fired" if step.kind == "reject" else "released"
            self._tell(event, command.keys, error_ms=(sent_ns - command.due_ns) / 1e6)
        elif command.kind == "on":
            # Written when the module is back, it would be late: the gate stays as it is.
            for key in command.keys:
                self._drive.take(GateCall(kind="withdraw", key=key), command.due_ns)
            self._tell("missed", command.keys, text=f"the gate's output can't be written: {self._coil.trouble}")

    def _write(self, now_ns: int) -> int | None:
        """Write the coil, and tell of a change; gives the moment at which the request had left, None if it could not."""
        level = self._drive.level
        self._refresh_ns = now_ns + REFRESH_NS
        if not self._coil.write(on=level, now_ns=now_ns):
            return None
        sent_ns = time.monotonic_ns()
        if level != self._shown:
            self._shown = level
            self._tell("on" if level else "off")
        return sent_ns

    def _clear(self) -> None:
        """Leave the coil off, and see the answer if it comes soon."""
        end_ns = time.monotonic_ns() + LAST_WORD_NS
        self._coil.write(on=False, now_ns=time.monotonic_ns())
        while self._coil.reading and self._coil.next_ns() < NEVER_NS and time.monotonic_ns() < end_ns:
            select.select(self._coil.reading, [], [], 0.01)
            self._coil.look(time.monotonic_ns())
        self._coil.close()

    def _tell(
        self, event: GateEventName, keys: tuple[PartKey, ...] = (), *, error_ms: float | None = None, text: str = ""
    ) -> None:
        try:
            os.write(self._reports, encode_news(GateNews(event=event, keys=keys, error_ms=error_ms, text=text)))
        except (BlockingIOError, BrokenPipeError):
            return  # a bridge that does not read, or is gone, must not hold the gate up


def run_first() -> str | None:
    """Put this process under SCHED_FIFO; gives why not where that is not allowed."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(FIFO_PRIORITY))
    except (OSError, AttributeError) as exc:
        return f"no real-time scheduling ({exc}): allow rtprio or CAP_SYS_NICE"
    return None


def main() -> None:
    """Run one gate by the settings in the command line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    given = json.loads(sys.argv[1])
    orders, reports = sys.stdin.fileno(), sys.stdout.fileno()
    os.set_blocking(reports, False)
    ordinary = run_first()
    gc.collect()
    gc.freeze()
    gc.disable()  # nothing here makes cycles, and a collection takes longer than a firing may be late
    os.write(reports, encode_news(GateNews(event="ordinary" if ordinary else "realtime", text=ordinary or "")))
    Firing(GateSettings(**given["gate"]), CoilAddress(**given["output"]), orders=orders, reports=reports).run()


if __name__ == "__main__":
    main()
