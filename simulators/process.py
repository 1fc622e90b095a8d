"""What each simulator asks of the operating system: to die with its parent, to run first, to be stopped cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

PR_SET_PDEATHSIG = 1
# Loaded here because the call is made between fork and exec, where as little as possible should happen.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent(parent: int | None) -> None:
    """Ask Linux to kill this process when its parent ends, however that happens; elsewhere, or for None, nothing is done.

    `parent` is the parent's process id as the parent itself knows it: one that is gone already ends us at once.
    """
    if _LIBC is None or parent is None:
        return
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def run_first(priority: int = 20) -> str | None:
    """Put this process under SCHED_FIFO; gives why not where that is not allowed. Children start as ordinary ones."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except (OSError, AttributeError) as exc:
        return f"no SCHED_FIFO ({exc}): timing is that of an ordinary process"
    return None


def settle_memory() -> None:
    """Take what start-up has made out of the garbage collector's sight, so that its passes stay short."""
    gc.collect()
    gc.freeze()


def say(event: str, **values: Any) -> None:
    """Write one event as a line of JSON to stdout; a reader that has gone away ends the process."""
    try:
        sys.stdout.write(json.dumps({"event": event, **values}) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os._exit(0)


@contextlib.contextmanager
def stop_signals(stop: asyncio.Event) -> Iterator[None]:
    """Let SIGTERM and SIGINT set `stop` instead of ending the process."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def read_lines(take: Callable[[str], None], ended: Callable[[], None]) -> None:
    """Hand each line of stdin to `take` on the running loop, and its end to `ended`; works for pipes and terminals."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(take, line.strip())
        with contextlib.suppress(RuntimeError):  # the loop may be closed by the time the pipe is
            loop.call_soon_threadsafe(ended)

    threading.Thread(target=read, name="stdin", daemon=True).start()
