"""The simulated I/O acts at the moment at which a request came, though its process wakes late: real sockets."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pymodbus.client import AsyncModbusTcpClient

from simulators.line.arrivals import MAX_FRAME, Arrivals, StampedSocket
from simulators.truth import read_truth
from tests.simulators.line_process import LineProcess

READ_COIL = bytes.fromhex("0001 0000 0006 01 01 0000 0001")
MS = 1_000_000
STALL_MS = 400
only_linux = pytest.mark.skipif(sys.platform != "linux", reason="receive time stamps of sockets are Linux's")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        accepted.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with accepted:
            yield client, accepted


def test_a_request_in_two_halves_is_one_and_two_at_once_are_two(pair: tuple[socket.socket, socket.socket]) -> None:
    client, accepted = pair
    taker = StampedSocket(accepted)
    client.sendall(READ_COIL[:3])
    assert taker.frames() == []
    client.sendall(READ_COIL[3:9])
    assert taker.frames() == []
    client.sendall(READ_COIL[9:] + READ_COIL)
    time.sleep(0.01)
    assert [data for _moment_ns, data in taker.frames()] == [READ_COIL, READ_COIL]
    assert not taker.ended
    client.close()
    time.sleep(0.01)
    assert taker.frames() == []
    assert taker.ended
    taker.close()


def test_a_header_that_promises_too_much_ends_the_connection(pair: tuple[socket.socket, socket.socket]) -> None:
    client, accepted = pair
    taker = StampedSocket(accepted)
    client.sendall(b"\0\1\0\0" + (MAX_FRAME).to_bytes(2) + b"\1")
    time.sleep(0.01)
    assert taker.frames() == []
    assert taker.ended
    taker.close()


@only_linux
def test_a_request_that_waited_keeps_its_moment(pair: tuple[socket.socket, socket.socket]) -> None:
    client, accepted = pair
    taker = StampedSocket(accepted)
    time.sleep(0.1)  # the kernel begins to stamp soon after it was asked to
    before_ns = time.monotonic_ns()
    client.sendall(READ_COIL)
    after_ns = time.monotonic_ns()
    time.sleep(0.1)
    ((moment_ns, _data),) = taker.frames()
    assert before_ns - MS <= moment_ns <= after_ns + MS
    taker.close()


def test_requests_that_share_a_stamp_stay_in_the_order_in_which_they_were_sent(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    client, accepted = pair
    taker = StampedSocket(accepted)
    time.sleep(0.1)
    client.sendall(b"".join(bytes([0, number]) + READ_COIL[2:] for number in range(200)))
    time.sleep(0.02)
    came = taker.frames()
    assert [data[1] for _moment_ns, data in came] == list(range(200))
    assert [data[1] for _moment_ns, data in sorted(came, key=lambda each: each[0])] == list(range(200))
    taker.close()


@only_linux
async def test_requests_of_several_clients_are_answered_in_the_order_of_their_moments() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        clients = [socket.create_connection(server.getsockname()) for _ in range(3)]
        accepted = [server.accept()[0] for _ in clients]
        arrivals, answered = Arrivals(), list[bytes]()

        async def answer(_moment_ns: int, data: bytes) -> None:
            await asyncio.sleep(0)
            answered.append(data[:2])

        for sock in accepted:
            sock.setblocking(False)
            arrivals.add(sock, answer=answer, ended=lambda: answered.append(b"end"))
        time.sleep(0.1)
        for number in (2, 0, 1):
            clients[number].sendall(bytes([0, number]) + READ_COIL[2:])
            time.sleep(0.002)
        await arrivals.take()
        assert answered == [b"\0\2", b"\0\0", b"\0\1"]
        for client in clients:
            client.close()
        while answered[3:] != [b"end"] * 3:
            await asyncio.sleep(0.001)
        for sock in accepted:
            sock.close()


@only_linux
@pytest.mark.realtime
async def test_the_gate_moves_when_it_was_told_to_though_the_conveyor_stood_still(tmp_path: Path) -> None:
    (tmp_path / "images" / "good").mkdir(parents=True)
    (tmp_path / "images" / "good" / "1.jpg").write_bytes(b"not looked at")
    truth_file = tmp_path / "truth.json"
    options = ("--port", 0, "--trigger", "none", "--images", tmp_path / "images", "--wait", "--truth", truth_file)
    async with LineProcess("simulators.line.server", *options) as process:
        client = AsyncModbusTcpClient("127.0.0.1", port=(await process.event("ready"))["port"])
        assert await client.connect()
        for _ in range(10):  # the kernel begins to stamp soon after it was asked to
            assert not (await client.read_coils(0)).isError()
            await asyncio.sleep(0.01)
        process.process.send_signal(signal.SIGSTOP)
        told_ns = time.monotonic_ns()
        writing = asyncio.create_task(client.write_coil(0, True))
        await asyncio.sleep(STALL_MS / 1e3)
        process.process.send_signal(signal.SIGCONT)
        assert not (await writing).isError()
        told_off_ns = time.monotonic_ns()
        assert not (await client.write_coil(0, False)).isError()
        moved = [event["at_ns"] for event in process.events if event["event"] == "gate"]
        client.close()
        await process.end()
    ((away_ns, _rest_ns),) = read_truth(truth_file).gate_sweeps
    assert told_ns <= away_ns < told_ns + STALL_MS / 2 * MS
    assert moved[0] == away_ns
    assert told_off_ns - told_ns >= STALL_MS * MS
