"""A simulator's process as its tests start it: events from stdout, a line to stdin, gone at the end."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent


class LineProcess:
    """Start `python -P -m MODULE ARGUMENTS` and listen to it."""

    def __init__(self, module: str, *arguments: object) -> None:
        self._command = [sys.executable, "-P", "-m", module, *(str(argument) for argument in arguments)]
        self.events: list[dict[str, Any]] = []
        self._news = asyncio.Condition()

    async def __aenter__(self) -> LineProcess:
        self.process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self.process.returncode is None:
            self.process.terminate()
        await self.process.wait()
        await self._reader

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            async with self._news:
                self.events.append(json.loads(line))
                self._news.notify_all()

    async def event(self, name: str, **values: Any) -> dict[str, Any]:
        """Wait for an event with these values."""

        def found() -> dict[str, Any] | None:
            wanted = {"event": name, **values}
            return next((e for e in self.events if wanted.items() <= e.items()), None)

        async with self._news:
            await self._news.wait_for(lambda: found() is not None)
        event = found()
        assert event is not None
        return event

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")

    async def end(self) -> tuple[int, str]:
        """Terminate; gives the exit code and what it wrote to stderr."""
        if self.process.returncode is None:
            self.process.terminate()
        code = await self.process.wait()
        assert self.process.stderr is not None
        return code, (await self.process.stderr.read()).decode()
