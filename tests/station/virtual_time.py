"""An event loop whose clock stands still while it has something to do and jumps to the next timer when it has not.

What takes 400 ms on the line then takes exactly 400 ms on the bench, in no time at all, whatever else the machine does.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any


class _JumpingSelector(selectors.DefaultSelector):
    """Does not wait for a timer: it tells how long the wait would have been."""

    def __init__(self, waited: Callable[[float], None]) -> None:
        super().__init__()
        self._waited = waited

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select(None)  # nothing is due: only the outside can go on
        ready = super().select(0)
        if not ready and timeout > 0:
            self._waited(timeout)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Starts at 1000 s. What would run in a thread runs at once, so that no thread is outrun by the clock."""

    def __init__(self) -> None:
        self._now_s = 1000.0
        super().__init__(_JumpingSelector(self._wait))

    def time(self) -> float:
        return self._now_s

    def run_in_executor(self, _executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        done = self.create_future()
        done.set_result(func(*args))
        return done

    def _wait(self, seconds: float) -> None:
        self._now_s += seconds
