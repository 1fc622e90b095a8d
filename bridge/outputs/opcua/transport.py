"""The OPC UA library's connections, closed at the first thing they can't make sense of, as the standard asks.

The library writes a traceback into the log instead, waits for the rest of a message of any announced length, and goes on
with the next: a stranger could fill the disk with it. An array of two thousand million nulls, or a length below zero,
would keep it busy until the memory is gone, one of a million for ten seconds.
"""

from __future__ import annotations

import logging
from typing import Any

from asyncua.common.utils import Buffer, NotEnoughData
from asyncua.server.binary_server_asyncio import OPCUAProtocol
from asyncua.server.uaprocessor import UaProcessor

_HEADER = 8
_LENGTH = 4
_ARRAY = 0x80  # in a variant's first byte
MAX_ARRAY = 1_000
MAX_REQUEST = 2**19  # what is announced is more, for some clients take no longer answers than they may send requests
_KINDS = frozenset({b"HEL", b"OPN", b"MSG", b"CLO", b"ERR", b"ACK"})


def quieten() -> None:
    """Let the library say nothing of what strangers send; what a user must know the bridge says itself."""
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)


class StrictBuffer(Buffer):
    """Bytes to be worked out in no more time than they are worth.

    No length below zero steps back, and no variant has an array of more than 1,000: nothing that can be written has one.
    """

    def __init__(self, data: bytes, start_pos: int = 0, size: int = -1) -> None:
        super().__init__(data, start_pos, size)
        self._of_array = False

    @classmethod
    def of(cls, buffer: Buffer) -> StrictBuffer:
        """Give the rest of a buffer of the library's."""
        return cls(buffer._data, buffer.cur_pos, len(buffer))

    def read(self, size: int) -> bytes:
        """Give the next bytes; raises NotEnoughData."""
        if size < 0:
            raise NotEnoughData(f"a length of {size}")
        data = super().read(size)
        if self._of_array and size == _LENGTH and int.from_bytes(data, "little", signed=True) > MAX_ARRAY:
            raise NotEnoughData(f"an array of more than {MAX_ARRAY}")
        self._of_array = size == 1 and bool(data[0] & _ARRAY)
        return data

    def skip(self, size: int) -> None:
        """Pass over bytes; raises NotEnoughData."""
        if size < 0:
            raise NotEnoughData(f"a length of {size}")
        super().skip(size)

    def copy(self, size: int = -1) -> StrictBuffer:
        """Give the next bytes, or all, to be worked out by themselves."""
        return StrictBuffer.of(super().copy(size))


class StrictProcessor(UaProcessor):
    """One connection's messages, none longer than 512 kB, and none of lengths that lie."""

    async def process_message(self, seqhdr: Any, body: Buffer) -> Any:
        """Take a message that was decrypted; raises NotEnoughData."""
        if len(body) > MAX_REQUEST:
            raise NotEnoughData(f"a request of more than {MAX_REQUEST} bytes")
        return await super().process_message(seqhdr, StrictBuffer.of(body))  # type: ignore[no-untyped-call]


class StrictProtocol(OPCUAProtocol):
    """One connection. It ends with the first message that is none, is longer than was agreed, or can't be worked out."""

    def data_received(self, data: bytes) -> None:
        """Take bytes as they come."""
        if self.transport is None or self.transport.is_closing():
            return
        super().data_received(data)
        left = self._buffer[:_HEADER]
        announced = int.from_bytes(left[4:], "little") if len(left) == _HEADER else _HEADER
        foreign = len(left) >= 3 and left[:3] not in _KINDS
        if foreign or not _HEADER <= announced <= self.limits.max_recv_buffer:
            self._buffer = b""
            self.transport.abort()

    async def _process_one_msg(self, header: Any, buf: Any) -> bool:
        """Work out one message; whatever goes wrong in that ends the connection."""
        if self.transport is None or self.transport.is_closing():
            return False
        understood = False
        try:
            goes_on = await super()._process_one_msg(header, StrictBuffer.of(buf))
            understood = True
        finally:
            if not understood and self.transport is not None:
                self.transport.abort()
        return goes_on
