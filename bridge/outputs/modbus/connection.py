"""One client of the Modbus server: bytes in, answers out, in the loop's own step.

PLCs poll a hundred times a second, so a request costs no task, no future and no timer: it is answered within the step in
which its last byte came, and requests that came together go out in one write. Time is only taken where a client owes
something: the rest of a request, a handshake, or to take its answers.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from typing import Protocol, cast

import structlog

from bridge.errors import first_line
from bridge.outputs.modbus.requests import ModbusStations
from bridge.outputs.plc.listening import keep_alive

_log = structlog.get_logger(__name__)

_HEADER = struct.Struct(">HHH")  # transaction, protocol, length; the unit is the first byte of what the length counts
_ANSWER = struct.Struct(">HHHB")
# 254 is the longest legal one; a write of 124 registers or a little more is answered with exception 03 all the same.
LENGTHS = range(2, 270)
# For the longest request, and little more: who sends many at once has its next turn when the others had theirs.
_ROOM = 2 * (_HEADER.size + LENGTHS.stop)
FIRST_STATION = frozenset({0, 1, 255})


class Door(Protocol):
    """Who lets clients in and hears that they went."""

    def admits(self, client: ServedClient) -> bool:
        """Whether this one may stay; it counts from now on."""

    def complain(self, peer: str, reason: str) -> None:
        """Log why a client was closed."""

    def gone(self, client: ServedClient) -> None:
        """Free the place of a client; may come more than once."""


class ServedClient(asyncio.BufferedProtocol):
    """Answer one client's requests in their order, after its handshake where there is a `context`.

    Whoever takes longer than `patience_s` over a handshake, a request, or to take its answers, is closed.
    """

    def __init__(
        self, stations: ModbusStations, door: Door, *, patience_s: float, context: ssl.SSLContext | None
    ) -> None:
        self._stations, self._door = stations, door
        self._patience_s, self._context = patience_s, context
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._handshake: asyncio.Task[None] | None = None
        self._room = memoryview(bytearray(_ROOM))
        self._filled = 0
        self._limit: asyncio.TimerHandle | None = None
        self.peer = "unknown"
        self.last_s = self._loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Stay if the door lets it in, and shake hands where that is asked for."""
        plain = cast("asyncio.Transport", transport)
        self.peer = str(plain.get_extra_info("peername", ("unknown",))[0])
        if not self._door.admits(self):
            plain.abort()
            return
        keep_alive(plain.get_extra_info("socket"))
        if self._context is None:
            self._transport = plain
        else:
            # Nothing may be read before the handshake begins: its first bytes would be taken for a request.
            plain.pause_reading()
            self._handshake = self._loop.create_task(self._shake_hands(plain, self._context))

    async def _shake_hands(self, plain: asyncio.Transport, context: ssl.SSLContext) -> None:
        try:
            self._transport = await self._loop.start_tls(
                plain, self, context, server_side=True, ssl_handshake_timeout=self._patience_s
            )
        except OSError as exc:
            reason = exc.reason if isinstance(exc, ssl.SSLError) else first_line(exc)
            self._door.complain(self.peer, f"no TLS: {reason}")
        finally:
            self._handshake = None
            if self._transport is None:  # it failed, or was cancelled: nobody else tells of the end
                plain.abort()
                self._door.gone(self)
        if self._transport is not None and self._filled:
            self._answer(self._transport)  # requests that came with the last bytes of the handshake

    def get_buffer(self, sizehint: int) -> memoryview:
        """Give the room behind what has not been answered yet."""
        return self._room[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Answer what has come, once there has been a handshake where one is due."""
        self._filled += nbytes
        if self._transport is not None:
            self._answer(self._transport)

    def _answer(self, transport: asyncio.Transport) -> None:
        """Answer every whole request; wait for the rest of the last one, but not for long."""
        begun, answers, is_malformed = 0, [], False
        while self._filled - begun >= _HEADER.size:
            transaction, protocol, length = _HEADER.unpack_from(self._room, begun)
            is_malformed = protocol != 0 or length not in LENGTHS
            body = begun + _HEADER.size
            if is_malformed or body + length > self._filled:
                break
            unit, request = self._room[body], bytes(self._room[body + 1 : body + length])
            answer = self._stations.answer(0 if unit in FIRST_STATION else unit - 1, request, client=self)
            answers.append(_ANSWER.pack(transaction, 0, len(answer) + 1, unit) + answer)
            begun = body + length
        if begun:
            self.last_s = self._loop.time()
            self._owes_nothing()
            transport.write(b"".join(answers))
            self._drop(begun)
        if is_malformed:
            header = bytes(self._room[: _HEADER.size]).hex()
            self._door.complain(self.peer, f"malformed header {header}")
            self._leave(transport)
        elif self._filled:
            self._owes()

    def _drop(self, answered: int) -> None:
        rest = self._filled - answered
        if rest:
            self._room[:rest] = bytes(self._room[answered : self._filled])
        self._filled = rest

    def pause_writing(self) -> None:
        """Read no more of a client that takes no answers, and wait for it, but not for long."""
        if self._transport is not None:
            self._transport.pause_reading()
        self._owes_nothing()
        self._owes()

    def resume_writing(self) -> None:
        """Read on: it has taken its answers."""
        self._owes_nothing()
        if self._filled:
            self._owes()
        if self._transport is not None:
            self._transport.resume_reading()

    def eof_received(self) -> None:
        """Let it have its answers, if it takes them; then the connection ends."""
        if self._transport is not None:
            self._leave(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Free its place."""
        self._owes_nothing()
        _log.debug("modbus client gone", client=self.peer, reason=str(exc) if exc else "closed")
        self._door.gone(self)

    def abort(self) -> None:
        """Close at once; what it has not taken is dropped."""
        if self._handshake is not None:
            self._handshake.cancel()
        if self._transport is not None:
            self._transport.abort()

    def _leave(self, transport: asyncio.Transport) -> None:
        if self._context is not None:
            transport.abort()  # `close` would wait half a minute for the client's farewell
            return
        transport.close()
        self._owes()

    def _owes(self) -> None:
        if self._limit is None:
            self._limit = self._loop.call_later(self._patience_s, self.abort)

    def _owes_nothing(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
