"""What pymodbus' own server gets wrong and this one must not: the same bytes to both.

The second test holds the library to its defects: when it fails, pymodbus has mended one, and the way around it may go.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from tests.outputs.samples import READY, outcome
from tests.ports import free_ports
from tests.wire.modbus_bench import Bench, RawClient, frame, read, write_registers

SILENCE_S = 0.3


@dataclass(frozen=True, kw_only=True)
class Case:
    """Bytes in one segment; the PDUs that must come back, and whether the connection ends then."""

    name: str
    segment: bytes
    answers: tuple[bytes, ...]
    closed: bool = False


CASES = (
    Case(
        name="five requests in one segment",
        segment=b"".join(frame(read(4, 15, 1), transaction=n) for n in range(5)),
        answers=(b"\x04\x02\0\0",) * 5,
    ),
    Case(name="length 0", segment=struct.pack(">HHHB", 1, 0, 0, 1), answers=(), closed=True),
    Case(name="length 65535", segment=struct.pack(">HHHB", 1, 0, 65_535, 1), answers=(), closed=True),
    Case(name="protocol id 1", segment=struct.pack(">HHHB", 1, 1, 6, 1) + read(4, 0, 1), answers=(), closed=True),
    Case(name="read count 2000", segment=frame(read(3, 0, 2_000)), answers=(b"\x83\x03",)),
    Case(name="126 registers", segment=frame(read(4, 0, 126)), answers=(b"\x84\x03",)),
    Case(name="an unknown unit", segment=frame(read(4, 0, 1), unit=9), answers=(b"\x84\x0b",)),
)
ALL = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


async def exchange(port: int, case: Case) -> tuple[tuple[bytes, ...], bool]:
    """Send a segment; gives the answers and whether the connection ended."""
    client = await RawClient.connect(port)
    client.writer.write(case.segment)
    answers = []
    try:
        while True:
            async with asyncio.timeout(SILENCE_S):
                answers.append((await client.answer())[2])
    except TimeoutError:
        return tuple(answers), False
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return tuple(answers), True
    finally:
        client.close()


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    running = await Bench().start(stations=2)
    running.panels[0].show(READY, now_ns=running.now_ns)
    yield running
    await running.stop()


@ALL
async def test_this_server_answers_as_the_standard_says(
    bench: Bench, case: Case, capfd: pytest.CaptureFixture[str]
) -> None:
    assert await exchange(bench.port, case) == (case.answers, case.closed)
    assert await exchange(bench.port, CASES[0]) == (CASES[0].answers, False), "the next client is served"
    assert "Traceback" not in "".join(capfd.readouterr())


@ALL
async def test_the_librarys_own_server_still_does_not(case: Case) -> None:
    (port,) = free_ports(1)
    words = [SimData(0, count=324, values=0, datatype=DataType.REGISTERS)]
    server = ModbusTcpServer(SimDevice(1, simdata=words), address=("127.0.0.1", port))
    await server.serve_forever(background=True)
    try:
        assert await exchange(port, case) != (case.answers, case.closed), "mended: is the way around it needed yet?"
    finally:
        await server.shutdown()


async def test_the_bridge_writes_what_no_client_can(bench: Bench) -> None:
    """A read-only SimData refuses the server's own writes too."""
    client = await RawClient.connect(bench.port)
    for sequence in (1, 2):
        bench.panels[0].publish(outcome(sequence))
        assert await client.registers(3, 1_002, 3) == [0, sequence, 2]
        assert await client.ask(write_registers(1_002, [0, 99, 1])) == b"\x90\x02"
        assert await client.registers(4, 2, 3) == [0, sequence, 2]
    client.close()
