"""The demo's child processes: started in order, watched, and none of them left behind."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from simulators.process import die_with_parent

Take = Callable[[str, dict[str, Any]], None]
LINE_LIMIT = 1 << 20


class ChildError(Exception):
    """A child that ended or did not become ready; the text says which, and the last it said. `code` is its exit code."""

    def __init__(self, text: str, *, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code


class Child:
    """One process of the demo. Its stdout is taken as events where `take` is given, else goes to its log file."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        log: Path,
        take: Take | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._environment = environment
        self.name, self._arguments, self._log, self._take = name, [sys.executable, "-P", "-m", *arguments], log, take
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._seen: set[str] = set()
        self._news = asyncio.Event()
        self._up = asyncio.Event()
        self._up.set()
        self._log_mode = "wb"

    async def start(self) -> None:
        """Start the process: in a session of its own, so that Ctrl-C reaches the demo alone; it dies with the demo."""
        own_id = os.getpid()
        with self._log.open(self._log_mode) as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=log if self._take is None else asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                limit=LINE_LIMIT,
                env=self._environment,
                preexec_fn=lambda: die_with_parent(own_id),
            )
        if self._take is not None:
            self._reader = asyncio.create_task(self._read(self._take), name=f"read {self.name}")
        self._log_mode = "ab"
        self._up.set()

    async def kill(self) -> None:
        """Kill the process as a fault does: that it has ended is no failure until it is started again."""
        if self._process is None or not self.running:
            return
        self._up.clear()
        self._process.kill()
        await self._process.wait()
        if self._reader is not None:
            await self._reader
        self._seen.clear()

    @property
    def pid(self) -> int | None:
        """The process id while it lives."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.returncode is None

    async def ended(self) -> None:
        """Return when the process has ended by itself."""
        while self._process is not None:
            await self._process.wait()
            if self._up.is_set():
                return
            await self._up.wait()

    async def seen(self, event: str, *, within_s: float) -> None:
        """Wait until the child has told of an event; raises ChildError."""
        try:
            async with asyncio.timeout(within_s):
                while event not in self._seen:
                    if not self.running:
                        raise self.failure()
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError as exc:
            raise ChildError(f"{self.name} was not ready within {within_s:g} s (no {event!r}); {self.tail()}") from exc

    def tell(self, line: str) -> None:
        """Write a line to the child's stdin."""
        if self._process is not None and self._process.stdin is not None and self.running:
            self._process.stdin.write(line.encode() + b"\n")

    def failure(self) -> ChildError:
        """Say that the process ended by itself."""
        code = None if self._process is None else self._process.returncode
        return ChildError(f"{self.name} ended with code {code}; {self.tail()}", code=code)

    def tail(self, lines: int = 4) -> str:
        """Give the last lines that the child wrote to its log."""
        try:
            text = self._log.read_text(encoding="utf-8", errors="replace")
        except OSError as exc:
            return f"no log: {exc}"
        last = deque((line.strip() for line in text.splitlines() if line.strip()), maxlen=lines)
        return "it said: " + " | ".join(last) if last else "it said nothing"

    async def stop(self, *, within_s: float = 5.0) -> int | None:
        """Ask the process to end, insist after `within_s`; gives its exit code."""
        process = self._process
        if process is None:
            return None
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(within_s):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._reader is not None:
            await self._reader
        return process.returncode

    async def _read(self, take: Take) -> None:
        stream = self._process.stdout if self._process is not None else None
        while stream is not None and (line := await stream.readline()):
            try:
                event = json.loads(line)
            except ValueError:
                event = {"event": "said", "text": line.decode(errors="replace").strip()}
            self._seen.add(event["event"])
            self._news.set()
            take(self.name, event)
        self._news.set()
