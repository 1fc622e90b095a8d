"""One thread that does one job after the other, and an idle job when nobody asked for a while.

A thread of its own, not an executor's: it is a daemon, so a job that hangs in native code can't hold up the end of the
process. A job that was cancelled before it began is skipped; one that has begun runs to its end.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import cv2

from bridge.errors import BridgeError, InferenceError

T = TypeVar("T")
# all that a job may raise without the worker dying of it
JOB_ERRORS = (
    BridgeError,
    cv2.error,
    ArithmeticError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


class Worker:
    """Runs jobs in the order they came. `idle` runs on the same thread after each `idle_s` without one (0 = never)."""

    def __init__(self, *, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._idle: Callable[[], None] | None = None
        self._idle_s: float | None = None
        self._thread = self._start()

    def when_idle(self, job: Callable[[], None], *, after_s: float) -> None:
        """Run `job` each time nothing came for `after_s`; call this from a job, before others are queued."""
        self._idle, self._idle_s = (job, after_s) if after_s > 0 else (None, None)

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Queue `job`; its error, or InferenceError for one that nobody foresaw, ends up in the future."""
        future: Future[T] = Future()
        self._jobs.put((future, job))
        if not self._thread.is_alive():
            self._thread = self._start()
        return future

    def stop(self, *, wait_s: float) -> bool:
        """End the thread after the job at hand; False where it is still busy after `wait_s`."""
        self._jobs.put(None)
        self._thread.join(wait_s)
        return not self._thread.is_alive()

    def _start(self) -> threading.Thread:
        thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        thread.start()
        return thread

    def _work(self) -> None:
        while True:
            try:
                item = self._jobs.get(timeout=self._idle_s)
            except queue.Empty:
                self._rest()
                continue
            if item is None:
                return
            future, job = item
            if future.set_running_or_notify_cancel():
                _run(future, job)

    def _rest(self) -> None:
        try:
            if self._idle is not None:
                self._idle()
        except JOB_ERRORS:
            # a model that fails here fails on the next part too, and that part's ERROR tells of it
            self._idle, self._idle_s = None, None


def _run(future: Future[T], job: Callable[[], T]) -> None:
    try:
        future.set_result(job())
    except JOB_ERRORS as exc:
        future.set_exception(exc)
    finally:
        if not future.done():
            future.set_exception(InferenceError("the model's worker died"))
