"""The I/O module's watchdog: a gate that nobody commands stands open for rejects. A process, with a plain client."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pymodbus.client import AsyncModbusTcpClient

from simulators.line.modbus import Watchdog
from simulators.truth import read_truth
from tests.simulators.line_process import LineProcess


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "images" / "good").mkdir(parents=True)
    (tmp_path / "images" / "good" / "1.jpg").write_bytes(b"not looked at")
    return tmp_path / "images"


def conveyor(images: Path, *more: object) -> LineProcess:
    return LineProcess("simulators.line.server", "--port", 0, "--trigger", "none", "--images", images, "--wait", *more)


async def client_of(process: LineProcess) -> AsyncModbusTcpClient:
    client = AsyncModbusTcpClient("127.0.0.1", port=(await process.event("ready"))["port"])
    assert await client.connect()
    return client


async def is_open(client: AsyncModbusTcpClient) -> bool:
    """Read the limit switch; a read of another client guards nothing."""
    return bool((await client.read_discrete_inputs(2, count=1)).bits[0])


async def test_a_silent_writer_leaves_the_gate_open_until_somebody_writes(images: Path, tmp_path: Path) -> None:
    truth_file = tmp_path / "truth.json"
    async with conveyor(images, "--watchdog-ms", 200, "--truth", truth_file) as process:
        writer, reader = await client_of(process), await client_of(process)
        assert not (await writer.write_coil(0, False)).isError()
        for _ in range(8):  # any request of the writer's says that it lives
            await asyncio.sleep(0.05)
            await writer.read_input_registers(0, count=3)
        assert [event for event in process.events if event["event"] == "unguarded"] == []
        while not await is_open(reader):
            await asyncio.sleep(0.01)
        assert (await process.event("unguarded"))["text"] == "it asked for nothing for 200 ms"
        await writer.write_coil(0, False)
        await process.event("guarded")
        while await is_open(reader):
            await writer.read_input_registers(0, count=1)
        writer.close()
        reader.close()
        process.process.terminate()
        await process.process.wait()

    unguarded = read_truth(truth_file).unguarded
    assert unguarded
    assert all(start < end for start, end in unguarded)


async def test_a_writer_whose_connection_closes_is_gone_at_once(images: Path) -> None:
    async with conveyor(images, "--watchdog-ms", 20_000) as process:
        writer, reader = await client_of(process), await client_of(process)
        await writer.write_coil(0, False)
        writer.close()
        assert (await process.event("unguarded"))["text"] == "its connection closed"
        while not await is_open(reader):
            await asyncio.sleep(0.01)
        reader.close()


async def test_without_a_watchdog_the_coil_stays_as_it_was(images: Path) -> None:
    async with conveyor(images) as process:
        writer, reader = await client_of(process), await client_of(process)
        await writer.write_coil(0, False)
        writer.close()
        await asyncio.sleep(0.3)
        assert not await is_open(reader)
        assert [event for event in process.events if event["event"] == "unguarded"] == []
        reader.close()


async def test_a_watchdog_bites_once_and_watches_the_last_writer_alone() -> None:
    told: list[str] = []
    watchdog = Watchdog(limit_ms=50.0, unguarded=told.append)
    first, second = object(), object()
    watchdog.wrote(first)
    watchdog.wrote(second)
    watchdog.closed(first)
    assert told == []
    watchdog.closed(second)
    await asyncio.sleep(0.1)
    assert told == ["its connection closed"]
    watchdog.wrote(first)
    while len(told) < 2:
        watchdog.heard(second)
        await asyncio.sleep(0.01)
    assert told[1] == "it asked for nothing for 50 ms"
