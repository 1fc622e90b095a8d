"""The Modbus server on a serial line: pseudo-terminals with pymodbus, mbpoll and raw frames at the other end."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
import structlog
from pymodbus import FramerType
from pymodbus.client import AsyncModbusSerialClient

from bridge.domain.messages import PlcEnable
from bridge.outputs.modbus.serial import ModbusSerial, SerialSettings
from tests.outputs.samples import READY, outcome
from tests.wire.mbpoll import needs_mbpoll, over_serial
from tests.wire.modbus_bench import Bench, RawClient, read, write_registers
from tests.wire.serial_line import SerialLine, rtu

PDUS = (
    read(4, 0, 55),
    read(3, 1_000, 125),
    write_registers(0, [0, 0, 0, 5]),
    struct.pack(">BHH", 5, 101, 0xFF00),
    b"\x07",
)


@dataclass
class Rig:
    bench: Bench
    line: SerialLine
    server: ModbusSerial
    told: list[str] = field(default_factory=list)


@pytest_asyncio.fixture
async def rig(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    bench = await Bench().start(stations=2)
    bench.panels[0].show(READY, now_ns=bench.now_ns)
    bench.panels[0].publish(outcome())
    line, told = SerialLine(tmp_path), []
    settings = SerialSettings(device=line.device, **getattr(request, "param", {}))
    server = ModbusSerial(bench.stations, settings, tell=told.append)
    server.start()
    while not told:
        await asyncio.sleep(0.005)
    yield Rig(bench, line, server, told)
    await server.stop()
    line.close()
    await bench.stop()


async def test_units_are_the_stations(rig: Rig) -> None:
    assert struct.unpack(">4H", (await rig.line.ask(1, read(4, 2, 4)))[2:]) == (1, 57_920, 2, 2)
    assert (await rig.line.ask(2, read(4, 1, 2)))[2:] == bytes(4)


@pytest.mark.parametrize("unit", [0, 3, 17, 247, 255])
async def test_any_other_unit_and_a_broadcast_are_silence_and_write_nothing(rig: Rig, unit: int) -> None:
    for pdu in (read(4, 0, 1), write_registers(0, [0]), struct.pack(">BHH", 5, 100, 0), b"\x07"):
        rig.line.say(rtu(unit, pdu))
        assert await rig.line.answer(0.05) == b""
    assert rig.bench.posted == []
    assert await rig.line.ask(1, read(3, 0, 1)) == b"\x03\x02\x00\x01"


async def test_a_wrong_checksum_is_silence_and_writes_nothing(rig: Rig) -> None:
    good = rtu(1, write_registers(0, [0]))
    for at in range(len(good)):
        rig.line.say(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        assert await rig.line.answer(0.06) == b""
    assert rig.bench.posted == []
    assert (await rig.line.ask(1, write_registers(0, [0])))[0] == 16
    assert rig.bench.posted == [PlcEnable(enabled=False)]


@pytest.mark.parametrize(
    ("pdu", "answer"),
    [
        (b"\x07", "8701"), (b"\x11", "9101"), (b"\x2b\x0d\x01\x00", "ab01"), (read(4, 324, 1), "8402"),
        (write_registers(16, [1]), "9002"), (read(4, 0, 2_000), "8403"), (read(3, 0, 126), "8303"),
        (struct.pack(">BHHB", 16, 0, 2, 2) + bytes(2), "9003"),
    ],
)  # fmt: skip
async def test_exceptions_are_those_of_tcp(rig: Rig, pdu: bytes, answer: str) -> None:
    assert (await rig.line.ask(1, pdu)).hex() == answer


async def test_pymodbus_reads_and_writes_by_every_function(rig: Rig) -> None:
    # a pseudo-terminal has no parity, and pyserial's second setting of one fails there
    client = AsyncModbusSerialClient(
        str(rig.line.plc), framer=FramerType.RTU, baudrate=19_200, parity="N", stopbits=1, timeout=2
    )
    assert await client.connect()
    assert (await client.read_input_registers(2, count=4, device_id=1)).registers == [1, 57_920, 2, 2]
    assert len((await client.read_input_registers(100, count=112, device_id=1)).registers) == 112
    assert (await client.read_discrete_inputs(16, count=4, device_id=1)).bits[:4] == [False, True, False, True]
    assert not (await client.write_registers(2, [1, 2, 3, 4], device_id=1)).isError()
    assert not (await client.write_register(7, 12, device_id=1)).isError()
    assert not (await client.write_coil(103, value=True, device_id=1)).isError()
    assert not (await client.write_coils(104, [True, True], device_id=1)).isError()
    assert (await client.read_coils(100, count=8, device_id=1)).bits == [i in {0, 3, 4, 5} for i in range(8)]
    assert not (await client.mask_write_register(address=0, and_mask=0xFFF6, or_mask=0, device_id=1)).isError()
    both = await client.readwrite_registers(read_address=0, read_count=8, write_address=10, values=[5], device_id=1)
    assert both.registers == [0b110000, 0, 1, 2, 3, 4, 65_535, 12]
    told = await client.read_device_information(read_code=1, object_id=0, device_id=1)
    assert told.information[0] == b"Linegate"
    client.close()


@needs_mbpoll
async def test_mbpoll_reads_and_writes(rig: Rig) -> None:
    told = await over_serial(rig.line.plc, "-t", "3", "-r", 0, "-c", 55)
    assert told.code == 0, told.text
    assert sorted(told.values) == list(range(55))
    assert (told.values[4], told.values[5], told.values[7]) == (2, 2, 9_300)
    assert (await over_serial(rig.line.plc, "-t", "4", "-r", 7, values=(12,))).code == 0
    assert (await over_serial(rig.line.plc, "-t", "4", "-r", 7, unit=1)).values == {7: 12}
    assert (await over_serial(rig.line.plc, "-t", "4", "-r", 7, unit=2)).values == {7: 0}
    for arguments, words in (
        (("-t", "3", "-r", 324), "Illegal data address"),
        (("-u",), "Illegal function"),
    ):
        assert words in (await over_serial(rig.line.plc, *arguments)).text
    told = await over_serial(rig.line.plc, "-t", "3", "-o", "0.3", unit=3)
    assert "timed out" in told.text


async def test_what_is_written_on_the_line_is_read_over_tcp(rig: Rig) -> None:
    assert (await rig.line.ask(1, write_registers(10, [5])))[0] == 16
    client = await RawClient.connect(rig.bench.port)
    assert await client.registers(3, 10, 1) == [5]
    client.close()


@pytest.mark.parametrize("size", [1, 3, 7])
async def test_a_frame_that_comes_in_pieces_is_answered(rig: Rig, size: int) -> None:
    frame = rtu(1, read(4, 2, 2))
    for at in range(0, len(frame), size):
        rig.line.say(frame[at : at + size])
        await asyncio.sleep(0.004)  # longer than the silence between frames: adapters cut them so
    assert (await rig.line.answer())[3:7] == struct.pack(">I", 123_456)


async def test_the_talk_of_other_devices_and_noise_do_not_make_it_deaf(rig: Rig) -> None:
    other = rtu(17, read(3, 0x6B, 3)), rtu(17, bytes.fromhex("0306AE4156524340"))
    for talk in (b"".join(other), *other, b"\x00", b"\xff" * 300, rtu(1, read(4, 0, 1))[:6]):
        rig.line.say(talk)
        await asyncio.sleep(0.01)
        assert rig.line.heard == b""
        assert struct.unpack(">I", (await rig.line.ask(1, read(4, 2, 2)))[2:]) == (123_456,)


@pytest.mark.parametrize("rig", [{"local_echo": True}], indirect=True)
async def test_the_echo_of_an_answer_is_no_request(rig: Rig) -> None:
    rig.line.echoes = True
    request = struct.pack(">BHH", 6, 1, 77)  # its answer reads as the same request
    for _ in range(3):
        rig.line.say(rtu(1, request))
        assert await rig.line.answer() == rtu(1, request)


async def test_an_adapter_that_is_pulled_and_plugged_in_again_serves_on(rig: Rig) -> None:
    assert (await rig.line.ask(1, write_registers(0, [1])))[0] == 16
    with structlog.testing.capture_logs() as logs:
        for turn in range(2):
            rig.line.unplug()
            while len(rig.told) < 2 + 2 * turn:
                await asyncio.sleep(0.005)
            assert str(rig.line.device) in rig.told[-1]
            assert not rig.bench.stations.has_client_that_wrote(0), "the PLC's handshake starts anew"
            await asyncio.sleep(0.5)
            rig.line.plug()
            while len(rig.told) < 3 + 2 * turn:
                await asyncio.sleep(0.005)
            assert rig.told[-1] == ""
            assert (await rig.line.ask(1, write_registers(0, [1])))[0] == 16
    events = [each["event"] for each in logs if each["log_level"] != "debug"]
    assert events == ["modbus_serial_lost", "modbus_serial_open"] * 2


FRAMES = 10_000


@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_fuzzed_frames_write_nothing_and_keep_no_request_from_its_answer(rig: Rig) -> None:
    chance = random.Random(8)
    other = rtu(17, bytes.fromhex("0306AE4156524340"))
    good = 0
    for _ in range(FRAMES):
        wrong = bytearray(rtu(chance.randrange(256), chance.choice(PDUS) + chance.randbytes(chance.randrange(3))))
        wrong[chance.randrange(len(wrong))] ^= 1 << chance.randrange(8)
        rig.line.say(
            chance.choice((bytes(wrong), bytes(wrong[: chance.randrange(len(wrong))]), other, chance.randbytes(60)))
        )
        if chance.random() < 0.5:
            await asyncio.sleep(chance.choice((0.0005, 0.003, 0.02)))
        if chance.random() < 0.05:
            assert await rig.line.ask(1, read(4, 4, 2)) == b"\x04\x04\0\x02\0\x02"
            good += 1
    assert good > FRAMES // 40
    assert rig.bench.posted == []
    assert (rig.told, rig.bench.panels[0].view.trigger_ack) == ([""], False)


async def test_a_device_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    bench = await Bench().start()
    told: list[str] = []
    server = ModbusSerial(bench.stations, SerialSettings(device=tmp_path / "ttyLINE"), tell=told.append)
    server.start()
    while not told:
        await asyncio.sleep(0.005)
    assert told == [f"{tmp_path}/ttyLINE: No such file or directory"]
    line = SerialLine(tmp_path)
    while len(told) < 2:
        await asyncio.sleep(0.005)
    assert await line.ask(1, read(4, 1, 1)) == b"\x04\x02\x00\x00"
    await server.stop()
    line.close()
    await bench.stop()


async def test_a_master_that_reads_nothing_costs_nothing(rig: Rig) -> None:
    asyncio.get_running_loop().remove_reader(rig.line._masters[rig.line.device])
    for _ in range(60):
        rig.line.say(rtu(1, read(4, 0, 125)))
        await asyncio.sleep(0.004)
    asyncio.get_running_loop().add_reader(rig.line._masters[rig.line.device], rig.line._move, rig.line.device)
    await rig.line.answer()
    assert (await rig.line.ask(1, read(4, 4, 1))) == b"\x04\x02\x00\x02"
