"""The bridge's side of the gate process: starts it, gives it orders, takes its news, starts another when it dies."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict

import structlog

from bridge.domain.gate import GateOrder, Release
from bridge.domain.gate_drive import CallKind, GateCall
from bridge.domain.gate_settings import GateSettings
from bridge.domain.gate_track import PartKey
from bridge.domain.messages import GateNews
from bridge.gate.coil import CoilAddress
from bridge.gate.pipe import decode_news, encode_call
from bridge.ports import Clock

RESTART_S = 0.2
LAST_ORDER_S = 5.0


class GateProcess:
    """Drives one gate through a process of its own. All methods are called on the station's loop; none but `stop` waits.

    `tell` gets every event. Orders that are not over are given again to a process that had to be started anew: their
    moments are absolute, so what has become late is reported missed and nothing is fired late.
    """

    def __init__(
        self, settings: GateSettings, output: CoilAddress, *, clock: Clock, tell: Callable[[GateNews], None]
    ) -> None:
        self._given = json.dumps({"gate": asdict(settings), "output": asdict(output)})
        self._clock = clock
        self._tell = tell
        self._held: dict[tuple[CallKind, PartKey], GateCall] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._connections = 0
        self._log = structlog.get_logger(__name__)

    @property
    def pid(self) -> int | None:
        """The process's id while it runs."""
        return None if self._process is None else self._process.pid

    @property
    def reconnects(self) -> int:
        """How many times the gate's module was connected to anew, by a new process too."""
        return max(0, self._connections - 1)

    def start(self) -> None:
        """Start the process and keep one running until `stop`."""
        self._task = asyncio.get_running_loop().create_task(self._keep_running(), name="gate process")

    def drive(self, key: PartKey, order: GateOrder, release: Release | None) -> None:
        """Give what a part's gate is to do, new or as a change of the belt has made it."""
        self.ordered(key, order)
        if release is not None:
            self.released(key, release)

    def ordered(self, key: PartKey, order: GateOrder) -> None:
        """Give a part's order, or what a change of the belt has made of it; a missed one is withdrawn."""
        if order.state == "ordered":
            self._give(GateCall(kind="reject", key=key, due_ns=order.due_ns, off_ns=order.off_ns))
        elif order.state == "missed":
            self._withdraw(key)

    def released(self, key: PartKey, release: Release) -> None:
        """Give a part's release, or what a change of the belt has made of it; a refused one is withdrawn."""
        if release.refused is None:
            self._give(GateCall(kind="release", key=key, due_ns=release.due_ns, off_ns=release.off_ns))
        else:
            self._withdraw(key)

    async def stop(self) -> None:
        """Let the process carry out what it holds, clear the coil and end."""
        self._stopping = True
        process = self._process
        if process is not None and process.stdin is not None:
            process.stdin.close()
        if self._task is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._task), LAST_ORDER_S)
            self._task.cancel()

    def _give(self, call: GateCall) -> None:
        self._held[call.kind, call.key] = call
        self._send(call)
        self._forget_old()

    def _withdraw(self, key: PartKey) -> None:
        held = [self._held.pop((kind, key), None) for kind in ("reject", "release")]
        if any(held):
            self._send(GateCall(kind="withdraw", key=key))

    def _send(self, call: GateCall) -> None:
        process = self._process
        if process is not None and process.stdin is not None and not process.stdin.is_closing():
            process.stdin.write(encode_call(call))

    def _forget_old(self) -> None:
        """Drop what is over: the oldest come first."""
        now_ns = self._clock.now_ns()
        for place, call in list(self._held.items()):
            if call.off_ns is None or call.off_ns > now_ns:
                break
            del self._held[place]

    async def _keep_running(self) -> None:
        while not self._stopping:
            try:
                self._process = process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-P", "-m", "bridge.gate.firing", self._given),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                )
            except OSError as exc:
                self._tell(GateNews(event="down", text=f"the gate process can't be started: {exc}"))
                await asyncio.sleep(RESTART_S)
                continue
            self._give_again()
            await self._listen(process)
            code = await process.wait()
            self._process = None
            if not self._stopping:
                self._log.error("gate_process_ended", code=code)
                self._tell(GateNews(event="down", text=f"the gate process ended with {code}"))
                await asyncio.sleep(RESTART_S)

    def _give_again(self) -> None:
        now_ns = self._clock.now_ns()
        for call in list(self._held.values()):
            if call.off_ns is None or call.off_ns > now_ns:
                self._send(call)

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        if self._stopping and process.stdin is not None:
            process.stdin.close()
        while line := await process.stdout.readline():
            try:
                news = decode_news(line)
            except ValueError:
                continue  # the last line of a process that was killed
            self._connections += news.event == "up"
            self._tell(news)
