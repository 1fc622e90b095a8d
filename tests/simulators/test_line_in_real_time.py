"""Broker, conveyor and PLC as processes, with a small bridge between them: identities and counts, never times."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import pytest
from pymodbus.client import AsyncModbusTcpClient

from simulators.plc.record import read_plc_record
from simulators.truth import read_truth
from tests.simulators.fake_bridge import FakeBridge
from tests.simulators.line_process import ROOT, LineProcess

PARTS = 12


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number, label in enumerate(("good", "pitting", "good", "pitting", "good")):
        folder = tmp_path / "images" / label
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.jpg").write_bytes(b"not looked at")
    return tmp_path / "images"


@pytest.mark.realtime
@pytest.mark.timeout(60)
async def test_the_line_rejects_what_the_bridge_says_and_what_it_says_nothing_of(images: Path, tmp_path: Path) -> None:
    faults = tmp_path / "faults.toml"
    faults.write_text(
        '[[fault]]\nkind = "duplicate_trigger"\nat_part = 3\n[[fault]]\nkind = "missing_trigger"\nat_part = 7\n'
    )
    truth_file, log = tmp_path / "truth.json", tmp_path / "plc.json"
    bridge = FakeBridge()
    async with LineProcess("simulators.broker", "--port", 0) as broker:
        mqtt_port = (await broker.event("ready"))["port"]
        await listening(mqtt_port)
        await bridge.start(mqtt_port=mqtt_port)
        conveyor_options = (
            "--port", 0, "--mqtt-port", mqtt_port, "--images", images, "--image-form", "path", "--parts", PARTS,
            "--spacing", 240, "--wait", "--truth", truth_file, "--faults", faults, "--first-sequence", 2**32 - 5,
        )  # fmt: skip
        async with LineProcess("simulators.line.server", *conveyor_options) as conveyor:
            field_port = (await conveyor.event("ready"))["port"]
            plc_options = ("--field-port", field_port, "--bridge-port", bridge.port, "--opcua", "", "--log", log)
            async with LineProcess("simulators.plc.run", *plc_options) as plc:
                await plc.event("linked")
                conveyor.tell("start")
                await conveyor.event("finished")
                binned = sum(event["event"] == "in_bin" for event in conveyor.events)
                while bridge.holding[9] != binned:
                    await asyncio.sleep(0.01)
                assert await plc.end() == (0, "")
            assert await conveyor.end() == (0, "")
        await bridge.stop()

    truth, record = read_truth(truth_file), read_plc_record(log)
    sequences = [(2**32 - 5 + n) % 2**32 for n in range(PARTS)]
    lost = sequences[6]
    assert [part.sequence for part in truth.parts] == sequences
    assert [part.copies for part in truth.parts] == [2 if n == 2 else 0 if n == 6 else 1 for n in range(PARTS)]
    assert sorted(record.modbus) == sorted(set(sequences) - {lost})
    assert bridge.sequences == [sequence for sequence in sequences if sequence != lost]
    rejected = {p.sequence for p in truth.parts if p.outcome == "binned"}
    assert rejected == {p.sequence for p in truth.parts if not p.good} | {lost}
    assert [p.sequence for p in truth.parts if p.outcome == "swept"] == []
    assert record.decisions[lost]["by"] == "release"
    assert bridge.holding[9] == len(rejected)
    assert bridge.holding[15] == len(record.firings)


async def listening(port: int) -> None:
    """Wait until somebody accepts connections."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        return


async def test_any_modbus_client_can_read_the_field_and_fire_the_gate(images: Path) -> None:
    options = ("--port", 0, "--trigger", "none", "--images", images, "--wait", "--first-count", 2**32 - 1000)
    async with LineProcess("simulators.line.server", *options) as conveyor:
        client = AsyncModbusTcpClient("127.0.0.1", port=(await conveyor.event("ready"))["port"])
        assert await client.connect()
        first = (await client.read_input_registers(0, count=3)).registers
        assert first[2] == 1200
        assert not (await client.read_discrete_inputs(2, count=1)).bits[0]
        assert not (await client.write_coil(0, True)).isError()
        await conveyor.event("gate", on=True)
        await asyncio.sleep(0.06)
        assert (await client.read_discrete_inputs(2, count=1)).bits[0]
        assert (await client.read_coils(0, count=1)).bits[0]
        assert (await client.write_coil(1, True)).isError()
        assert (await client.write_register(0, 1)).isError()
        assert (await client.read_input_registers(40, count=10)).isError()
        client.close()


async def test_a_conveyor_that_nobody_commands_lays_its_parts_and_ends(images: Path, tmp_path: Path) -> None:
    truth_file = tmp_path / "truth.json"
    options = ("--port", 0, "--trigger", "none", "--images", images, "--parts", 2, "--truth", truth_file)
    async with LineProcess("simulators.line.server", *options) as conveyor:
        assert await conveyor.process.wait() == 0
    assert len(read_truth(truth_file).parts) == 2


async def test_the_conveyor_names_a_busy_port(images: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with LineProcess("simulators.line.server", "--port", port, "--images", images) as conveyor:
            await conveyor.process.wait()
            code, said = await conveyor.end()

    assert code == 1
    assert str(port) in said
    assert "Traceback" not in said


async def test_the_broker_ends_with_its_parent() -> None:
    shell = (
        "import subprocess, sys, os, time\n"
        "child = subprocess.Popen([sys.executable, '-P', '-m', 'simulators.broker', '--port', '0',"
        " '--parent', str(os.getpid())], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\nprint(child.pid, flush=True)\ntime.sleep(60)\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", shell, stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    parent.kill()
    await parent.wait()
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split(")")[1][:3]:
        await asyncio.sleep(0.02)
