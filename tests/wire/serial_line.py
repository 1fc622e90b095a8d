"""A serial line made of two pseudo-terminals: the server's end, which can be pulled, and the PLC's end."""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import Callable
from pathlib import Path


def checksum(frame: bytes) -> bytes:
    """Give the CRC of Modbus over serial line 1.02, section 6.2.2, bit by bit, low byte first."""
    crc = 0xFFFF
    for byte in frame:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
    return crc.to_bytes(2, "little")


def rtu(unit: int, pdu: bytes) -> bytes:
    frame = bytes([unit]) + pdu
    return frame + checksum(frame)


class SerialLine:
    """`device` is the server's port, `plc` the other end for a client of another program; all on the running loop.

    What the server sends goes to `plc` and is kept in `heard`. `transform` may spoil what goes to the server.
    """

    def __init__(self, folder: Path) -> None:
        self.device, self.plc = folder / "ttyLINE", folder / "ttyPLC"
        self.heard = bytearray()
        self.transform: Callable[[bytes], bytes] = lambda data: data
        self.echoes = False
        self._masters: dict[Path, int] = {}
        self._slaves: dict[Path, int] = {}
        for end in (self.device, self.plc):
            self._plug(end)

    def _plug(self, end: Path) -> None:
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        end.unlink(missing_ok=True)
        end.symlink_to(os.ttyname(slave))
        self._masters[end], self._slaves[end] = master, slave
        asyncio.get_running_loop().add_reader(master, self._move, end)

    def _move(self, end: Path) -> None:
        data = os.read(self._masters[end], 4096)
        if end == self.plc:
            self.say(self.transform(data))
            return
        self.heard += data
        if self.echoes:
            self.say(data)
        os.write(self._masters[self.plc], data)

    def say(self, data: bytes) -> None:
        """Send bytes to the server."""
        if data:
            os.write(self._masters[self.device], data)

    async def answer(self, wait_s: float = 0.15) -> bytes:
        """Give all that the server sends within a while."""
        await asyncio.sleep(wait_s)
        heard = bytes(self.heard)
        self.heard.clear()
        return heard

    async def ask(self, unit: int, pdu: bytes) -> bytes:
        """Give the answer to one request without its unit and its checksum, which must be right."""
        self.heard.clear()
        self.say(rtu(unit, pdu))
        for _ in range(400):
            frame = bytes(self.heard)
            if len(frame) >= 5 and frame == rtu(frame[0], frame[1:-2]):
                assert frame[0] == unit
                self.heard.clear()
                return frame[1:-2]
            await asyncio.sleep(0.005)
        raise AssertionError(f"no answer, heard {bytes(self.heard).hex()!r}")

    def unplug(self) -> None:
        """Pull the server's adapter: its device is gone."""
        self._close(self.device)
        self.device.unlink(missing_ok=True)

    def plug(self) -> None:
        """Put it back: a new device of the same name."""
        self._plug(self.device)

    def _close(self, end: Path) -> None:
        master = self._masters.pop(end)
        asyncio.get_running_loop().remove_reader(master)
        os.close(self._slaves.pop(end))
        os.close(master)

    def close(self) -> None:
        for end in tuple(self._masters):
            self._close(end)
