"""The process that holds a model, as the bridge sees it: started, asked one thing at a time, killed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from bridge.domain.recipe import Recipe
from bridge.domain.verdict import Inference
from bridge.errors import BridgeError, BundleError, InferenceError
from bridge.inference.exchange import Job, PictureRoom, Ping, Ready, Unpacker, pack
from bridge.inference.settings import OnnxSettings

COMMAND = (sys.executable, "-P", "-m", "bridge.inference.child")
_LOOK_S = 0.005
_REAP_S = 2.0
_GROUP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Worker(asyncio.Protocol):
    """One child process. All its methods are called on the loop of the thread that started it.

    `ready` tells what it has loaded; `usual_s` how long a picture has lately taken; `jobs` and `pings` count what was
    asked. `gone` is done, with the reason, once it can answer nothing any more; `died` says that nobody here killed it.
    """

    ready: Ready
    usual_s: float

    def __init__(self, process: subprocess.Popen[bytes], room: PictureRoom) -> None:
        self._process, self._room = process, room
        self._unpacker = Unpacker()
        self._answer: asyncio.Future[Any] | None = None
        self._asked: tuple[type, float] = (type(None), 0.0)
        self._transport: asyncio.Transport | None = None
        self._closed = asyncio.get_running_loop().create_future()
        self.gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.died = False
        self.jobs = self.pings = 0

    @classmethod
    async def start(cls, settings: OnnxSettings, *, limit_s: float) -> Worker:
        """Start a process and load the model there, warm and checked; raises BundleError.

        Linux ends the process with the thread that started it, which must be the one that lives as long as the bridge.
        """
        worker, loaded = await cls._started(settings.bundle.name), False
        try:
            async with asyncio.timeout(limit_s):
                await worker._free()
                answer = await worker._ask(settings)
            if isinstance(answer, BridgeError):
                raise answer
            worker.ready, worker.usual_s = answer, answer.usual_s
            loaded = True
        except TimeoutError as exc:
            raise BundleError(f"{settings.bundle}: the model was not warm and checked within {limit_s:.0f} s") from exc
        except InferenceError as exc:
            raise BundleError(f"{settings.bundle}: while it loaded the model, {exc}") from exc
        finally:
            if not loaded:
                await worker.close()
        return worker

    @classmethod
    async def _started(cls, name: str) -> Worker:
        ours, process, room = _spawn(name)
        worker = cls(process, room)
        await asyncio.get_running_loop().create_unix_connection(lambda: worker, sock=ours)
        return worker

    async def infer(self, recipe: Recipe, picture: bytes, *, ours: bool = False) -> Inference:
        """Score a picture by a recipe, BMP only if it is `ours`; raises CameraError, InferenceError.

        When the caller is cancelled before the worker has begun, nothing is asked; a job that has begun is waited for
        by the next.
        """
        await self._free()
        try:
            self._room.lay(picture)
        except (OSError, ValueError) as exc:
            raise InferenceError(f"the picture can't be handed to the inference worker: {exc}") from exc
        self.jobs += 1
        answer = await self._ask(
            Job(
                thresholds=dict(recipe.thresholds),
                roi=recipe.roi,
                reduction=recipe.decode_reduction,
                length=len(picture),
                ours=ours,
            )
        )
        if isinstance(answer, BridgeError):
            raise answer
        assert isinstance(answer, Inference)
        return answer

    def ping(self, *, run: bool) -> None:
        """Ask for a sign of life; call it only while the worker is not busy."""
        self.pings += 1
        self._send(Ping(run=run))

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def busy(self) -> bool:
        """Whether an answer is due."""
        return self._answer is not None and not self._answer.done()

    def kill(self, reason: str) -> None:
        """End the process at once, whatever it does; whoever waits for an answer is told `reason`."""
        self._lose(reason)
        self._process.kill()
        if self._transport is not None:
            self._transport.abort()

    async def close(self) -> int | None:
        """End the process and leave nothing of it; gives its exit code, None for one that even SIGKILL doesn't end."""
        self.kill("the inference worker was closed")
        await asyncio.wait({self._closed})
        return await self.reaped()

    async def reaped(self) -> int | None:
        """Wait until the process is gone from the process table; gives its exit code, None when it isn't after 2 s."""
        until = time.monotonic() + _REAP_S
        while self._process.poll() is None and time.monotonic() < until:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(_LOOK_S)
        return self._process.returncode

    # -- asyncio.Protocol ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the way to the process."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take a piece of an answer."""
        for answer in self._unpacker.feed(data):
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(answer)
            request, since = self._asked
            if request is Job:
                # an hour for which both processes were stopped is no sign of a slow model
                took_s = min(time.monotonic() - since, 2 * self.usual_s)
                self.usual_s += (took_s - self.usual_s) / 8

    def connection_lost(self, exc: Exception | None) -> None:
        """Learn that the process has ended, or that we have closed the socket."""
        self.died = not self.gone.done()
        self._lose("the inference worker died")
        self._room.close()
        self._closed.set_result(None)

    # ------------------------------------------------------------------------------------------------------------

    async def _free(self) -> None:
        """Wait until the worker has answered what others have asked; raises InferenceError when it is gone."""
        while self.busy:
            assert self._answer is not None
            await asyncio.wait({self._answer})
        if self.gone.done():
            raise InferenceError(self.gone.result())

    async def _ask(self, message: Any) -> Any:
        answer = self._send(message)
        await asyncio.wait({answer})
        return answer.result()

    def _send(self, message: Any) -> asyncio.Future[Any]:
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._asked = type(message), time.monotonic()
        self._transport.write(pack(message))
        return self._answer

    def _lose(self, reason: str) -> None:
        if not self.gone.done():
            self.gone.set_result(reason)
        if self.busy:
            assert self._answer is not None
            self._answer.set_result(InferenceError(self.gone.result()))


def _spawn(name: str) -> tuple[socket.socket, subprocess.Popen[bytes], PictureRoom]:
    """Start the process, which takes a few ms; gives our end of its socket and the shared file. Raises BundleError."""
    with ExitStack() as undo:
        try:
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            with theirs:
                room = PictureRoom.make()
                undo.callback(room.close)
                command = [*COMMAND, str(os.getpid()), str(room.fileno()), name]
                with _held_back(_GROUP_SIGNALS):
                    process = subprocess.Popen(
                        command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, pass_fds=(room.fileno(),)
                    )
        except OSError as exc:
            raise BundleError(f"the inference worker can't be started: {exc}") from exc
        undo.pop_all()
    ours.setblocking(False)
    return ours, process, room


@contextmanager
def _held_back(signals: tuple[signal.Signals, ...]) -> Iterator[None]:
    """Keep signals from this thread, and for good from a process started meanwhile: Python takes a while to ignore them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
