"""The Modbus server on the wire: framing, function codes, exceptions, connections, with raw sockets and foreign clients."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from pymodbus.client import AsyncModbusTcpClient

from bridge.errors import StartError
from bridge.outputs.plc.listening import listen
from tests.outputs.samples import READY, outcome
from tests.wire.modbus_bench import MS, Bench, RawClient, frame, read, write_registers


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    running = await Bench().start(stations=2)
    running.panels[0].show(READY, now_ns=running.now_ns)
    running.panels[0].publish(outcome())
    yield running
    await running.stop()


@pytest_asyncio.fixture
async def client(bench: Bench) -> AsyncIterator[RawClient]:
    connected = await RawClient.connect(bench.port)
    yield connected
    connected.close()


async def test_requests_of_one_segment_are_answered_in_order(client: RawClient) -> None:
    segment = b"".join(frame(read(4, at, 1), transaction=100 + at) for at in range(30))
    client.writer.write(segment)
    answers = [await client.answer() for _ in range(30)]
    assert [transaction for transaction, _, _ in answers] == list(range(100, 130))
    assert all(body[0] == 4 for _, _, body in answers)


async def test_a_frame_in_single_bytes_is_answered(client: RawClient) -> None:
    for byte in frame(read(4, 2, 2)):
        client.writer.write(bytes([byte]))
        await client.writer.drain()
        await asyncio.sleep(0.001)
    _, _, body = await client.answer()
    assert struct.unpack(">I", body[2:]) == (123_456,)


async def test_an_eight_byte_frame_does_not_eat_the_first_byte_of_the_next(client: RawClient) -> None:
    client.writer.write(frame(b"\x07", transaction=1) + frame(read(4, 0, 1), transaction=2))
    assert [(await client.answer())[0] for _ in range(2)] == [1, 2]


@pytest.mark.parametrize(
    "header",
    [
        struct.pack(">HHHB", 1, 0, 0, 1),
        struct.pack(">HHHB", 1, 0, 1, 1),
        struct.pack(">HHHB", 1, 0, 270, 1),
        struct.pack(">HHHB", 1, 0, 65_535, 1),
        struct.pack(">HHHB", 1, 7, 6, 1),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
async def test_a_malformed_header_closes_the_socket_after_what_came_before(client: RawClient, header: bytes) -> None:
    client.writer.write(frame(read(4, 0, 1), transaction=9) + header)
    assert (await client.answer())[0] == 9
    assert await client.is_closed()


@pytest.mark.parametrize(
    ("pdu", "code"),
    [
        (read(3, 0, 126), 3), (read(4, 0, 126), 3), (read(4, 0, 2000), 3), (read(4, 0, 0), 3), (read(1, 100, 2001), 3),
        (read(2, 0, 0), 3), (b"\x04\x00", 3), (read(4, 0, 1) + b"\x00", 3),
        (write_registers(0, [0] * 16)[:5] + b"\x1f" + bytes(32), 3),
        (struct.pack(">BHHB", 16, 0, 124, 248) + bytes(248), 3),
        (struct.pack(">BHH", 5, 100, 1), 3),
        (struct.pack(">BHHHHB", 23, 0, 1, 0, 122, 244) + bytes(244), 3),
        (struct.pack(">BHHHHB", 23, 0, 126, 0, 1, 2) + bytes(2), 3),
        (read(4, 324, 1), 2), (read(4, 323, 2), 2), (read(4, 65_535, 1), 2), (read(3, 16, 1), 2), (read(3, 15, 2), 2),
        (read(3, 999, 2), 2), (read(3, 1_323, 2), 2), (read(2, 20, 1), 2), (read(1, 1, 1), 2), (read(1, 99, 2), 2),
        (read(1, 116, 1), 2),
        (write_registers(16, [1]), 2), (write_registers(15, [1, 2]), 2), (write_registers(1_000, [1]), 2),
        (struct.pack(">BHH", 6, 1_004, 1), 2), (struct.pack(">BHH", 5, 0, 0xFF00), 2), (struct.pack(">BHH", 5, 116, 0xFF00), 2),
        (struct.pack(">BHHH", 22, 1_000, 0, 1), 2),
        (struct.pack(">BHHHHBH", 23, 0, 1, 1_004, 1, 2, 1), 2), (struct.pack(">BHHHHBH", 23, 400, 1, 0, 1, 2, 1), 2),
        (b"\x07", 1), (b"\x08\x00\x04\x00\x00", 1), (b"\x11", 1), (b"\x2b\x0d\x01\x00", 1), (b"\x63", 1), (b"\x00", 1),
    ],
)  # fmt: skip
async def test_what_is_not_allowed_gets_its_exception(client: RawClient, pdu: bytes, code: int) -> None:
    assert await client.ask(pdu) == bytes([pdu[0] | 0x80, code])
    assert (await client.registers(4, 2, 2))[1] == 123_456 & 0xFFFF, "the connection lives on"
    assert await client.registers(3, 0, 8) == [1, 0, 0, 0, 0, 0, 65_535, 0], "nothing was written"


@pytest.mark.parametrize(("unit", "heartbeat"), [(0, 4_465), (1, 4_465), (255, 4_465), (2, 0)])
async def test_unit_ids_choose_the_station(client: RawClient, unit: int, heartbeat: int) -> None:
    assert await client.registers(4, 1, 1, unit=unit) == [heartbeat]


@pytest.mark.parametrize("unit", [3, 17, 247, 254])
async def test_an_unknown_unit_gets_exception_0b(
    client: RawClient, unit: int, capfd: pytest.CaptureFixture[str]
) -> None:
    assert await client.ask(read(4, 0, 1), unit=unit) == b"\x84\x0b"
    assert await client.ask(b"\x2b\x0e\x01\x00", unit=unit) == b"\xab\x0b"
    assert "Traceback" not in "".join(capfd.readouterr())


async def test_the_mirror_shows_input_registers_as_holding_registers(client: RawClient) -> None:
    for start, count in ((0, 100), (100, 112), (212, 112), (90, 20)):
        assert await client.registers(3, 1_000 + start, count) == await client.registers(4, start, count)


async def test_the_mirror_can_be_switched_off() -> None:
    bench = await Bench().start(mirror=False)
    client = await RawClient.connect(bench.port)
    assert await client.ask(read(3, 1_000, 1)) == b"\x83\x02"
    client.close()
    await bench.stop()


async def test_clock_and_ms_until_open_are_of_the_moment_of_the_answer(bench: Bench, client: RawClient) -> None:
    seen = []
    for now_ms in (5_010, 5_400, 6_000):
        bench.now_ns = now_ms * MS
        words = await client.registers(4, 12, 30)
        seen.append((words[0], words[28] << 16 | words[29]))
    assert seen == [(471, 5_010), (81, 5_400), (0, 6_000)]


async def test_device_identification_names_linegate(bench: Bench) -> None:
    client = AsyncModbusTcpClient("127.0.0.1", port=bench.port)
    assert await client.connect()
    answer = await client.read_device_information(read_code=1, object_id=0, device_id=1)
    assert answer.information[0] == b"Linegate"
    client.close()


async def test_every_function_code_reads_and_writes_through_a_foreign_client(bench: Bench) -> None:
    client = AsyncModbusTcpClient("127.0.0.1", port=bench.port)
    assert await client.connect()
    assert (await client.read_input_registers(2, count=4, device_id=1)).registers == [1, 57_920, 2, 2]
    assert (await client.read_discrete_inputs(0, count=20, device_id=1)).bits[16:20] == [False, True, False, True]
    assert not (await client.write_registers(2, [1, 2, 3, 4], device_id=1)).isError()
    assert not (await client.write_register(7, 12, device_id=1)).isError()
    assert not (await client.write_coil(103, value=True, device_id=1)).isError()
    assert not (await client.write_coils(104, [True, True], device_id=1)).isError()
    assert (await client.read_coils(100, count=16, device_id=1)).bits[:8] == [
        True,
        False,
        False,
        True,
        True,
        True,
        False,
        False,
    ]
    assert not (await client.mask_write_register(address=0, and_mask=0xFFF6, or_mask=0x0000, device_id=1)).isError()
    both = await client.readwrite_registers(read_address=0, read_count=8, write_address=10, values=[5], device_id=1)
    assert both.registers == [0b110000, 0, 1, 2, 3, 4, 65_535, 12]
    assert (await client.read_holding_registers(10, count=1, device_id=1)).registers == [5]
    client.close()


async def test_an_address_that_is_not_allowed_is_closed_at_once() -> None:
    bench = await Bench().start(allow=("127.0.0.1", "10.0.0.0/8"))
    stranger = await RawClient.connect(bench.port, source="127.0.0.2")
    assert await stranger.is_closed()
    friend = await RawClient.connect(bench.port)
    assert await friend.registers(4, 1, 1) == [0]
    for each in (stranger, friend):
        each.close()
    await bench.stop()


async def test_a_network_can_be_allowed() -> None:
    bench = await Bench().start(allow=("127.0.0.0/24",))
    client = await RawClient.connect(bench.port, source="127.0.0.9")
    assert await client.registers(4, 1, 1) == [0]
    client.close()
    await bench.stop()


async def test_connections_over_the_cap_are_closed_and_a_place_that_falls_free_is_used() -> None:
    bench = await Bench().start(max_connections=3)
    clients = [await RawClient.connect(bench.port) for _ in range(3)]
    for each in clients:
        assert await each.registers(4, 1, 1) == [0]
    surplus = await RawClient.connect(bench.port)
    assert await surplus.is_closed()
    clients[0].close()
    await clients[0].writer.wait_closed()
    for _ in range(100):
        late = await RawClient.connect(bench.port)
        late.writer.write(frame(read(4, 1, 1)))
        try:
            await late.answer()
        except (asyncio.IncompleteReadError, ConnectionResetError):
            await asyncio.sleep(0.01)
        else:
            break
    else:
        pytest.fail("the freed place was not given to anybody")
    for each in (*clients, surplus, late):
        each.close()
    await bench.stop()


async def test_random_bytes_are_answered_or_closed(
    bench: Bench, client: RawClient, capfd: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(6)
    for _ in range(300):
        pdu = bytes([chance.choice([1, 2, 3, 4, 5, 6, 15, 16, 22, 23, 43, chance.randrange(256)])])
        pdu += chance.randbytes(chance.randrange(12))
        answer = await client.ask(pdu)
        assert answer[0] in {pdu[0], pdu[0] | 0x80}
    for _ in range(50):
        stranger = await RawClient.connect(bench.port)
        stranger.writer.write(chance.randbytes(chance.randrange(1, 400)))
        stranger.writer.write_eof()
        with contextlib.suppress(ConnectionResetError):
            await asyncio.wait_for(stranger.reader.read(), 5)
        stranger.close()
    assert (await client.registers(4, 2, 2))[1] == 123_456 & 0xFFFF
    assert "Traceback" not in "".join(capfd.readouterr())


async def test_a_client_that_reads_nothing_does_not_stop_the_others(bench: Bench, client: RawClient) -> None:
    deaf = await RawClient.connect(bench.port)
    deaf.writer.write(frame(read(4, 0, 125)) * 20_000)
    await asyncio.sleep(0.05)
    assert (await client.registers(4, 1, 1)) == [4_465]
    deaf.writer.transport.abort()


async def test_a_port_in_use_is_one_line_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupant:
        port = occupant.getsockname()[1]
        with pytest.raises(StartError, match=rf"Modbus can't open port {port} on 127.0.0.1: .*\[modbus\] port"):
            await listen("127.0.0.1", port, what="Modbus", key="[modbus] port", patience_s=0.2)


async def test_a_port_that_falls_free_in_time_is_taken() -> None:
    occupant = socket.create_server(("127.0.0.1", 0))
    port = occupant.getsockname()[1]
    waiting = asyncio.create_task(listen("127.0.0.1", port, what="Modbus", key="[modbus] port"))
    await asyncio.sleep(0.15)
    occupant.close()
    taken = await waiting
    assert taken.getsockname()[1] == port
    taken.close()


async def test_stopping_closes_connections_and_port() -> None:
    bench = await Bench().start()
    client = await RawClient.connect(bench.port)
    assert await client.registers(4, 1, 1) == [0]
    await bench.stop()
    assert await client.is_closed()
    client.close()
    with pytest.raises(OSError, match="Connect"):
        await RawClient.connect(bench.port)
