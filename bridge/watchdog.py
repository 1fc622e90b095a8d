"""A watch over the stations' loop, from a thread of its own: when the loop stands still, the process ends.

A service manager starts it again, and the PLC, whose watch of the heartbeat register has struck by then, has rejected
meanwhile. What is watched are counters that the loop moves on. The watch counts its own looks, not the time: after the
process was stopped or the machine suspended, the loop has as many turns as always to move before it is judged.
A native call that keeps the interpreter to itself stops this thread, too.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import structlog

LOOK_S = 0.5
_LOG_S = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """A counter that moves while `what` is alive; unhealthy when it has stood for `sick_s`, dead after `dead_s`."""

    what: str
    count: Callable[[], int]
    sick_s: float = 3.0
    dead_s: float = 10.0


class Watchdog:
    """Looks at the pulses every `look_s` while it is entered; `end` is called, once, when one is dead."""

    def __init__(
        self,
        pulses: Sequence[Pulse],
        *,
        end: Callable[[str], None] | None = None,
        look_s: float = LOOK_S,
    ) -> None:
        self._pulses = pulses
        self._end = end or end_process
        self._look_s = look_s
        self._seen = [(pulse.count(), 0) for pulse in pulses]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _exc: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(self._look_s)

    @property
    def troubles(self) -> list[str]:
        """What has not moved lately; any thread may ask."""
        seen = zip(self._pulses, self._seen, strict=True)
        return [f"{pulse.what} stands still" for pulse, (_, looks) in seen if looks * self._look_s >= pulse.sick_s]

    def look(self) -> str:
        """Look once; gives what is dead, empty when nothing is."""
        dead = ""
        for place, pulse in enumerate(self._pulses):
            count, (before, looks) = pulse.count(), self._seen[place]
            looks = looks + 1 if count == before else 0
            self._seen[place] = count, looks
            if looks * self._look_s >= pulse.dead_s:
                dead = f"{pulse.what} has stood still for {pulse.dead_s:.0f} s"
        return dead

    def _watch(self) -> None:
        while not self._over.wait(self._look_s):
            if dead := self.look():
                self._end(dead)
                return


def end_process(why: str) -> None:
    """End this process with code 1, at once: nothing that needs the loop can be tidied up any more."""
    # what blocks the loop may be the log itself, a pipe that nobody reads: it must not hold this up
    telling = threading.Thread(target=_tell, args=(why,), daemon=True)
    telling.start()
    telling.join(_LOG_S)
    os._exit(1)


def _tell(why: str) -> None:
    main = sys._current_frames().get(threading.main_thread().ident or 0)
    at = traceback.extract_stack(main)[-1] if main else None
    place = f"{Path(at.filename).name}:{at.lineno} in {at.name}" if at else "unknown"
    log.critical("process_ended_by_watchdog", cause=why, at=place, text="start it again: the records are complete")
