"""A TCP relay that can delay what its clients send, in order; what comes back to them is never delayed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket

CHUNK_BYTES = 65536


class Relay:
    """Stand on a free port between clients and a server; without a delay what comes is handed on at once."""

    def __init__(self, *, host: str, port: int, seed: int = 1) -> None:
        self._host, self._port = host, port
        self._delay_s = self._jitter_s = 0.0
        self._random = random.Random(seed)
        self._listener = socket.create_server((host, 0))
        self.listens_on = int(self._listener.getsockname()[1])
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Take clients."""
        self._server = await asyncio.start_server(self._take, sock=self._listener)

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._server is None:
            self._listener.close()
        else:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def delay(self, delay_ms: float, jitter_ms: float = 0.0) -> None:
        """Delay from now on what clients send, each piece by the delay and up to the jitter more."""
        self._delay_s, self._jitter_s = delay_ms / 1e3, jitter_ms / 1e3

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._join(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry both ways until either end closes; a server that is away closes the client's end at once."""
        try:
            from_server, to_server = await asyncio.open_connection(self._host, self._port)
        except OSError:
            return
        for each in (writer, to_server):
            each.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ways = [
            asyncio.ensure_future(self._delayed(reader, to_server)),
            asyncio.ensure_future(_at_once(from_server, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            to_server.close()

    async def _delayed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hand on each piece when its time has come and all before it are gone."""
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sending = asyncio.ensure_future(_send(pieces, writer))
        loop = asyncio.get_running_loop()
        try:
            with contextlib.suppress(ConnectionError):
                while piece := await reader.read(CHUNK_BYTES):
                    late_s = self._delay_s + self._random.uniform(0.0, self._jitter_s)
                    pieces.put_nowait((loop.time() + late_s, piece))
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def _send(pieces: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due_s, piece = await pieces.get()
        if (wait_s := due_s - loop.time()) > 0:
            await asyncio.sleep(wait_s)
        writer.write(piece)
        await writer.drain()


async def _at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(CHUNK_BYTES):
            writer.write(piece)
            await writer.drain()
