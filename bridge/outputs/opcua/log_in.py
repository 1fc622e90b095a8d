"""Log-ins: passwords are tried one at a time beside the servers' loop, and whoever guesses has to wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import structlog

from bridge.outputs.opcua.users import NOBODY, PASSWORD_BYTES, UserRecord

_log = structlog.get_logger(__name__)

FREE_TRIES = 5
LOCKED_S = 30.0
MAX_ADDRESSES = 1_000


@dataclass(slots=True)
class _Tries:
    failed: int
    last_s: float


class LogIns:
    """Check names and passwords; after 5 failures in a row an address is refused for 30 s without a look."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._tries: dict[str, _Tries] = {}
        # One at a time: a crowd of guessers gets one core and 32 MiB, and the loop that serves PLCs waits for none.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="opcua-password")

    async def check(
        self, users: Mapping[str, UserRecord], *, name: str, password: str, address: str
    ) -> UserRecord | None:
        """Give the user whose name and password these are; None for anybody else, and for an address that is locked."""
        if self._is_locked(address):
            return None
        user = users.get(name, NOBODY)
        fits = len(password.encode("utf-8", "surrogatepass")) in PASSWORD_BYTES
        loop = asyncio.get_running_loop()
        right = await loop.run_in_executor(self._thread, user.admits, password if fits else "") and fits
        if right and user is not NOBODY and not self._is_locked(address):
            self._tries.pop(address, None)
            return user
        self._note(address, name)
        return None

    def close(self) -> None:
        """End the thread; what waits is not tried any more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _is_locked(self, address: str) -> bool:
        tries = self._tries.get(address)
        if tries is None or tries.failed < FREE_TRIES:
            return False
        if self._clock_s() - tries.last_s < LOCKED_S:
            return True
        del self._tries[address]
        return False

    def _note(self, address: str, name: str) -> None:
        tries = self._tries.pop(address, None) or _Tries(0, 0.0)
        tries.failed, tries.last_s = tries.failed + 1, self._clock_s()
        while len(self._tries) >= MAX_ADDRESSES:
            del self._tries[next(iter(self._tries))]
        self._tries[address] = tries
        if tries.failed <= FREE_TRIES:
            _log.warning("opcua_log_in_refused", user=name[:64], client=address)
        if tries.failed == FREE_TRIES:
            _log.warning("opcua_client_locked", client=address, failures=FREE_TRIES, for_s=LOCKED_S)
