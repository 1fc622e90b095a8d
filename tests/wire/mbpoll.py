"""mbpoll, a Modbus master of another maker (libmodbus), as the tests call it."""

from __future__ import annotations

import asyncio
import re
import shutil
from dataclasses import dataclass

import pytest

needs_mbpoll = pytest.mark.skipif(shutil.which("mbpoll") is None, reason="mbpoll (Debian package) is not installed")


@dataclass(frozen=True, kw_only=True)
class Told:
    """What one call wrote. `values` by address, as it prints them: with a sign where it adds the unsigned in brackets."""

    code: int
    text: str

    @property
    def values(self) -> dict[int, int]:
        lines = re.findall(r"^\[(\d+)\]:\s+(-?\d+)(?: \((-?\d+)\))?", self.text, re.MULTILINE)
        return {int(at): int(plain) for at, plain, _ in lines}


async def mbpoll(*arguments: object) -> Told:
    call = await asyncio.create_subprocess_exec(
        "mbpoll",
        "-0",
        "-1",
        *(str(argument) for argument in arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(call.communicate(), 10)
    return Told(code=call.returncode or 0, text=out.decode())


async def over_tcp(port: int, *arguments: object, values: tuple[int, ...] = (), unit: int = 1) -> Told:
    """Call it once at a port of this machine, zero-based; `values` are written."""
    return await mbpoll("-m", "tcp", "-p", port, "-a", unit, *arguments, "127.0.0.1", *values)


async def over_serial(device: object, *arguments: object, values: tuple[int, ...] = (), unit: int = 1) -> Told:
    """Call it once on a serial line of 19,200 baud, 8E1."""
    return await mbpoll("-m", "rtu", "-b", 19200, "-P", "even", "-o", 2, "-a", unit, *arguments, device, *values)
