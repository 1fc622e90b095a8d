"""Do the same to many things, with as many threads as there are processors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from models.toolkit.progress import Progress

Thing = TypeVar("Thing")
Result = TypeVar("Result")


def cores() -> int:
    """Give how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each_in_threads(
    one: Callable[[Thing], Result], things: Iterable[Thing], *, progress: Progress = lambda _done, _of: None
) -> list[Result]:
    """Give `one` of each thing, in their order; raises what `one` raises, and begins no more of them then."""
    todo = list(things)
    found: list[Result] = []
    pool = ThreadPoolExecutor(cores())
    try:
        for result in pool.map(one, todo):
            found.append(result)
            progress(len(found), len(todo))
    finally:
        # one that can't be done, or Ctrl-C, ends it: the rest need not be done first
        pool.shutdown(cancel_futures=True)
    return found
