"""What befalls processes from outside, on real ones."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulators.demo.processes import frozen, full_disk, model_process

WRITER = """
import sys, time
path = sys.argv[1]
while True:
    try:
        with open(path, "a") as file:
            file.write("x")
        print("written", flush=True)
    except OSError as exc:
        print("failed", exc.errno, flush=True)
    time.sleep(0.01)
"""
CHILD = "import time; print(1, flush=True); time.sleep(60)"
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', {!r}, {!r}])"


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    yield from started(WRITER, str(tmp_path / "grows"))


def started(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def says(process: subprocess.Popen[str], start: str) -> None:
    assert process.stdout is not None
    while not process.stdout.readline().startswith(start):
        pass


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def test_a_frozen_process_stands_still_and_goes_on(writer: subprocess.Popen[str]) -> None:
    says(writer, "written")
    with frozen(writer.pid):
        while state_of(writer.pid) != "T":
            time.sleep(0.01)
    while state_of(writer.pid) == "T":
        time.sleep(0.01)
    says(writer, "written")


def test_a_full_disk_fails_writes_until_there_is_room_again(writer: subprocess.Popen[str]) -> None:
    says(writer, "written")
    with full_disk(writer.pid):
        says(writer, "failed 27")
    says(writer, "written")


@pytest.mark.parametrize(("argument", "is_child"), [("bridge.inference.child", True), ("bridge.dashboard", False)])
def test_the_model_runs_in_the_bridge_s_child_for_it_if_there_is_one(argument: str, is_child: bool) -> None:
    for parent in started(PARENT.format(CHILD, argument)):
        says(parent, "1")
        found = model_process(parent.pid)
        assert (found != parent.pid) is is_child
        if is_child:
            assert argument in Path(f"/proc/{found}/cmdline").read_text()
            subprocess.run(["kill", str(found)], check=True)
        else:
            child = int(Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text())
            subprocess.run(["kill", str(child)], check=True)
