"""A loop that stands still ends the process; one that was only stopped does not."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

from bridge.watchdog import Pulse, Watchdog

HUNG = """
import asyncio, sys, time
from bridge.watchdog import Pulse, Watchdog

turns = 0

async def main():
    global turns
    with Watchdog([Pulse(what="the loop", count=lambda: turns, sick_s=0.1, dead_s=0.3)], look_s=0.05):
        for _ in range(20):
            turns += 1
            await asyncio.sleep(0.02)
        print("hangs", flush=True)
        time.sleep(60)

asyncio.run(main())
"""


def watchdog(count: list[int]) -> Watchdog:
    pulse = Pulse(what="the loop of station station1", count=lambda: count[0], sick_s=3.0, dead_s=10.0)
    return Watchdog([Pulse(what="another", count=time.monotonic_ns), pulse], look_s=0.5)


def test_a_counter_that_stands_is_unhealthy_and_then_dead() -> None:
    count = [0]
    dog = watchdog(count)
    assert not dog.troubles
    for _ in range(5):
        assert dog.look() == ""
    assert not dog.troubles
    dog.look()
    assert dog.troubles
    for _ in range(13):
        assert dog.look() == ""
    assert dog.look() == "the loop of station station1 has stood still for 10 s"


def test_a_counter_that_moves_again_starts_afresh() -> None:
    count = [0]
    dog = watchdog(count)
    for _ in range(10):
        for _ in range(15):
            assert dog.look() == ""
        assert dog.troubles
        count[0] += 1
        assert dog.look() == ""
        assert not dog.troubles


def test_what_is_dead_is_told_once_from_the_thread() -> None:
    told: list[str] = []
    done = threading.Event()

    def end(why: str) -> None:
        told.append(why)
        done.set()

    with Watchdog([Pulse(what="x", count=lambda: 1, sick_s=0.02, dead_s=0.05)], end=end, look_s=0.01) as dog:
        assert done.wait(5)
        time.sleep(0.1)
        assert dog.troubles
    assert told == ["x has stood still for 0 s"]


def test_it_sleeps_no_longer_than_it_is_entered() -> None:
    told: list[str] = []
    with Watchdog([Pulse(what="x", count=lambda: 1, sick_s=0.1, dead_s=0.2)], end=told.append, look_s=0.1):
        pass
    time.sleep(0.4)
    assert told == []


def test_a_hung_loop_ends_its_process_with_code_1_and_one_line() -> None:
    command = [sys.executable, "-P", "-c", HUNG]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "hangs"
    assert len(lines) == 2
    assert "process_ended_by_watchdog" in lines[1]
    assert "the loop has stood still" in lines[1]
    assert "in main" in lines[1], "where it hangs"
