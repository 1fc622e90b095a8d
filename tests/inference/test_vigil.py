"""When a worker is pinged, and when its silence kills it: on a clock that the test moves."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import closing

import pytest

from bridge.inference.exchange import Job, PictureRoom, Ping, Pong, Unpacker, pack, receive
from bridge.inference.watched import Patience, Vigil

LOOK_S = 0.1


class FakeWorker:
    """A worker that answers pings at once unless it is frozen; jobs are answered by the test."""

    def __init__(self) -> None:
        self.jobs = self.pings = 0
        self.busy = self.frozen = False
        self.usual_s = 0.02
        self.runs: list[bool] = []
        self.killed = ""

    def ping(self, *, run: bool) -> None:
        assert not self.busy
        self.pings += 1
        self.busy = self.frozen
        self.runs.append(run)

    def ask(self) -> None:
        self.jobs += 1
        self.busy = True

    def kill(self, reason: str) -> None:
        self.killed = reason


class Watch:
    """A vigil over one fake worker, moved on by looks."""

    def __init__(self, *, keep_warm_s: float = 0.0) -> None:
        self.worker, self.now_s = FakeWorker(), 100.0
        self.vigil = Vigil(Patience(), keep_warm_s=keep_warm_s, now_s=self.now_s)

    def pass_s(self, seconds: float) -> None:
        for _ in range(round(seconds / LOOK_S)):
            self.jump_s(LOOK_S)

    def jump_s(self, seconds: float) -> None:
        self.now_s += seconds
        self.vigil.look(self.now_s, self.worker)  # type: ignore[arg-type]


def test_a_worker_that_owes_an_answer_for_a_second_is_killed() -> None:
    watch = Watch()
    watch.worker.ask()
    watch.pass_s(0.9)
    assert not watch.worker.killed
    watch.pass_s(0.3)
    assert "did not answer for 1.0 s" in watch.worker.killed


def test_a_slow_model_is_given_what_is_usual_for_it() -> None:
    watch = Watch()
    watch.worker.usual_s = 0.5
    watch.worker.ask()
    watch.pass_s(1.9)
    assert not watch.worker.killed
    watch.pass_s(0.3)
    assert "did not answer for 2.0 s" in watch.worker.killed


def test_each_request_has_the_whole_limit() -> None:
    watch = Watch()
    for _ in range(10):
        watch.worker.ask()
        watch.pass_s(0.8)
    assert not watch.worker.killed


def test_a_bridge_that_was_stopped_hears_its_worker_before_it_judges_it() -> None:
    watch = Watch()
    watch.worker.ask()
    watch.pass_s(0.3)
    watch.jump_s(3600.0)
    assert not watch.worker.killed
    watch.worker.busy = False  # the answer lay in the socket all the time
    watch.pass_s(2.0)
    assert not watch.worker.killed


def test_an_idle_worker_is_pinged_twice_a_second_and_a_frozen_one_is_found_within_three() -> None:
    watch = Watch()
    watch.pass_s(5.0)
    assert watch.worker.pings in (8, 9, 10)
    watch.worker.frozen = True
    watch.pass_s(2.9)
    assert watch.worker.killed


def test_an_idle_model_is_run_now_and_then_and_not_while_parts_come() -> None:
    watch = Watch(keep_warm_s=1.0)
    watch.pass_s(6.0)
    assert watch.worker.runs.count(True) in (4, 5)
    watch.worker.runs.clear()
    for _ in range(6):
        watch.worker.ask()
        watch.worker.busy = False
        watch.pass_s(0.9)
    assert set(watch.worker.runs) <= {False}


@pytest.mark.parametrize("size", [0, 1, 70_000, 16_000_000, 40_000_000])
def test_a_picture_crosses_by_the_shared_file(size: int) -> None:
    room = PictureRoom.make()
    other = PictureRoom(os.dup(room.fileno()))
    with closing(room), closing(other):
        room.lay(b"\xaa" * 16_000_000)
        assert other.take(3) == b"\xaa\xaa\xaa"
        picture = bytes(range(256)) * (size // 256) + b"\x01" * (size % 256)
        room.lay(picture)
        assert other.take(size) == picture


def test_messages_are_whole_whatever_pieces_they_come_in() -> None:
    sent = [
        Pong(),
        Ping(run=True),
        Job(thresholds={}, roi=(1, 2, 3, 4), reduction=2, length=9, ours=False),
        "x" * 100_000,
    ]
    stream = b"".join(pack(message) for message in sent)
    for size in (1, 3, 4, 1000, len(stream)):
        unpacker = Unpacker()
        pieces = (stream[at : at + size] for at in range(0, len(stream), size))
        assert [message for piece in pieces for message in unpacker.feed(piece)] == sent


def test_the_end_of_the_socket_is_no_message() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        writer = threading.Thread(target=lambda: (ours.sendall(pack("a" * 500_000) + pack("b")[:-1]), ours.close()))
        writer.start()
        assert receive(theirs) == "a" * 500_000
        assert receive(theirs) is None
        writer.join()
