"""The Modbus server on a serial line (RTU): one line, all stations, and an adapter that may be pulled and plugged in."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import termios
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import serial
import structlog
from pymodbus.framer.rtu import FramerRTU
from pymodbus.pdu import DecodePDU

from bridge.outputs.modbus.requests import ModbusStations
from bridge.outputs.modbus.rtu import RtuFrames, frame_gap_s

_log = structlog.get_logger(__name__)

Parity = Literal["even", "odd", "none"]

READ_SIZE = 512
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 5.0
_PARITIES = {"even": serial.PARITY_EVEN, "odd": serial.PARITY_ODD, "none": serial.PARITY_NONE}


@dataclass(frozen=True, slots=True, kw_only=True)
class SerialSettings:
    """A serial line with 8 data bits. `local_echo`: the adapter hands back what it sends."""

    device: Path
    baud_rate: int = 19_200
    parity: Parity = "even"
    stop_bits: int = 1
    local_echo: bool = False

    @property
    def gap_s(self) -> float:
        """Silence that ends a frame: start bit, 8 data bits, parity and stop bits make a character."""
        return frame_gap_s(baud_rate=self.baud_rate, bits=9 + (self.parity != "none") + self.stop_bits)


class ModbusSerial:
    """Serve all stations on one line: unit 1 is the first, 2 the second; any other unit is left to other devices.

    `tell` hears why the line can't be used, and an empty text when it can again. A device that is absent or lost is
    tried again without end.
    """

    def __init__(self, stations: ModbusStations, settings: SerialSettings, *, tell: Callable[[str], None]) -> None:
        self._stations = stations
        self._settings = settings
        self._tell = tell
        self._trouble: str | None = None
        self._framer = FramerRTU(DecodePDU(is_server=True))
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to serve; the device need not be there yet."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="modbus serial line")

    async def stop(self) -> None:
        """Leave the line."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                port = await asyncio.to_thread(_open, self._settings)
            except (OSError, ValueError, termios.error) as exc:
                self._now(_reason(exc))
                pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
            else:
                self._now("")
                pause_s = FIRST_PAUSE_S
                try:
                    await self._serve(port.fileno())
                except (OSError, EOFError) as exc:
                    self._now(_reason(exc))
                finally:
                    self._stations.forget(self)
                    await asyncio.to_thread(_close, port)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))

    def _now(self, trouble: str) -> None:
        """Log and tell a loss once and a return once."""
        if trouble and not self._trouble:
            _log.warning("modbus_serial_lost", device=str(self._settings.device), reason=trouble)
            self._tell(f"{self._settings.device}: {trouble}")
        elif self._trouble != trouble and not trouble:
            _log.info("modbus_serial_open", device=str(self._settings.device))
            self._tell("")
        self._trouble = trouble

    async def _serve(self, fd: int) -> None:
        """Answer what is asked until the device is gone; raises OSError or EOFError then."""
        loop = asyncio.get_running_loop()
        arrived: asyncio.Queue[bytes | OSError] = asyncio.Queue()
        frames = RtuFrames(range(1, len(self._stations) + 1))
        echo = b""
        loop.add_reader(fd, _take, fd, arrived)
        try:
            while True:
                chunk: bytes | None = _bytes(await arrived.get())
                while chunk is not None:
                    chunk, echo = _without_echo(chunk, echo)
                    frames.feed(chunk, at_s=loop.time())
                    chunk = await self._more(arrived)
                echo = b""
                if request := frames.at_silence():
                    sent = _send(fd, self._answer(*request))
                    echo = sent if self._settings.local_echo else b""
        finally:
            loop.remove_reader(fd)

    async def _more(self, arrived: asyncio.Queue[bytes | OSError]) -> bytes | None:
        """Give what comes next, or None when the line has been silent for long enough to end a frame."""
        try:
            async with asyncio.timeout(self._settings.gap_s):
                return _bytes(await arrived.get())
        except TimeoutError:
            return None

    def _answer(self, unit: int, request: bytes) -> bytes:
        return self._framer.encode(self._stations.answer(unit - 1, request, client=self), unit, 0)


def _open(settings: SerialSettings) -> serial.Serial:
    return serial.Serial(
        str(settings.device),
        baudrate=settings.baud_rate,
        parity=_PARITIES[settings.parity],
        stopbits=settings.stop_bits,
        timeout=0,
        exclusive=True,
    )


def _close(port: serial.Serial) -> None:
    """Close without waiting for what nobody takes."""
    with contextlib.suppress(OSError, termios.error):  # it is gone: there is nothing to throw away
        port.reset_output_buffer()
    with contextlib.suppress(OSError, termios.error):
        port.close()


def _take(fd: int, arrived: asyncio.Queue[bytes | OSError]) -> None:
    """Pass on what the device has, or why it has no more: a device that is gone is readable and empty."""
    found: bytes | OSError
    try:
        found = os.read(fd, READ_SIZE)
    except BlockingIOError:
        return
    except OSError as exc:
        found = exc
    if not isinstance(found, bytes) or not found:
        asyncio.get_running_loop().remove_reader(fd)
    arrived.put_nowait(found)


def _bytes(arrived: bytes | OSError) -> bytes:
    if isinstance(arrived, OSError):
        raise arrived
    if not arrived:
        raise EOFError("the device is gone")
    return arrived


def _without_echo(chunk: bytes, echo: bytes) -> tuple[bytes, bytes]:
    """Take the echo of what was sent off what came; gives the rest, and what of the echo is still to come."""
    length = min(len(chunk), len(echo))
    return (chunk[length:], echo[length:]) if chunk[:length] == echo[:length] else (chunk, b"")


def _send(fd: int, answer: bytes) -> bytes:
    """Give what was sent of an answer: the rest is dropped where nobody takes it."""
    try:
        return answer[: os.write(fd, answer)]
    except BlockingIOError:
        return b""


def _reason(exc: Exception) -> str:
    return os.strerror(exc.errno) if isinstance(exc, OSError) and exc.errno else str(exc)
