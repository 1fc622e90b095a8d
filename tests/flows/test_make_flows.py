"""`make flows` from the outside: within a minute a person sees the line, and Ctrl-C leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.recipe_files import read_recipe
from simulators.flows import FLOWS, add_recipe, folders_of, prepare
from tests.cli.processes import ROOT, connects, environment, eventually
from tests.flows.browser import browse
from tests.flows.node_red import merged, need_node_red, read_flow
from tests.ports import free_ports

pytestmark = [pytest.mark.flows, pytest.mark.timeout(200)]

COMMAND = (sys.executable, "-P", "-m", "simulators.flows")


@contextlib.contextmanager
def started(folder: Path, *arguments: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    """Run it as `make flows` does; its output is in a file."""
    variables = {**environment(), "PYTHONPATH": str(ROOT), "TMPDIR": str(folder), **more}
    with (folder / "told.txt").open("w") as told:
        process = subprocess.Popen(
            [*COMMAND, *arguments], stdout=told, stderr=told, env=variables, text=True, start_new_session=True
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)


def left(folder: Path) -> list[str]:
    """Give the command lines of processes that have to do with a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            place = (entry / "environ").read_bytes().decode(errors="replace")
            if f"TMPDIR={folder}\0" in place and int(entry.name) != os.getpid():
                found.append(words)
    return found


def test_the_line_is_shown_within_a_minute_and_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    begun = time.monotonic()
    with started(tmp_path, "--port", str(port), "--speed", "200", "--spacing", "400") as process:
        told = tmp_path / "told.txt"
        eventually(lambda: "Ctrl-C ends both" in told.read_text() or process.poll() is not None, 90)
        url = re.findall(r"http://\S+/dashboard/line", told.read_text())
        assert url == [f"http://127.0.0.1:{port}/dashboard/line"], told.read_text()
        answers = browse(tmp_path, [["open", url[0]], ["wait", ".lg-id"], ["read", ".lg-id"], ["read", "#lg-belt"]])
        shown_s = time.monotonic() - begun
        assert re.fullmatch(r"P-\d+", answers[2])
        assert shown_s < 60, f"the line was shown after {shown_s:.0f} s"
        choice = "[...document.querySelectorAll('#lg-recipe-choice option')].map((one) => one.value)"
        strict = "!!document.querySelector('#lg-recipe-choice option[value=ball-screw-strict]')"
        there = ["evaluate", f"new Promise((done) => setInterval(() => {strict} && done(), 100))"]
        folder = ["evaluate", "document.querySelector('#lgm-folder').innerText"]
        mes = url[0].replace("/line", "/mes")
        steps = [["open", url[0]], there, ["evaluate", choice], ["open", mes], ["wait", "#lgm-folder"], folder]
        answers = browse(tmp_path, steps)
        assert (answers[2], answers[5]) == (["ball-screw", "ball-screw-strict"], str(Path.cwd() / "reports"))
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, told.read_text()
    assert not connects(port)
    eventually(lambda: not left(tmp_path), 10)
    assert not list(tmp_path.glob("linegate-flows-*"))


def test_the_flows_are_told_of_pictures_and_reports_and_there_is_a_second_recipe(tmp_path: Path) -> None:
    (tmp_path / "linegate.toml").write_text('[[stations]]\nimage_folder = "/pictures/screws"\n')
    assert folders_of(tmp_path / "linegate.toml") == {
        "LINEGATE_IMAGES": "/pictures/screws/good", "REPORT_FOLDER": str(Path.cwd() / "reports"),
    }  # fmt: skip
    add_recipe(tmp_path)
    strict = read_recipe("ball-screw-strict", tmp_path / "recipes")
    assert (strict.name, strict.number, strict.thresholds["pitting"].reject) == ("ball-screw-strict", 2, 0.1)


def test_without_node_it_says_what_is_missing(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    with started(tmp_path, PATH=str(tools)) as process:
        assert process.wait(30) == 1
    line = (tmp_path / "told.txt").read_text().splitlines()
    assert line == [
        "make flows: node is not installed; Node-RED needs Node.js 20 or newer with npm (https://nodejs.org); "
        "the rest of Linegate runs without"
    ]


def test_the_flows_are_merged_as_the_tests_merge_them(tmp_path: Path) -> None:
    files = [file for file in sorted(FLOWS.glob("*.json")) if not file.name.startswith("package")]
    home = prepare(tmp_path / "home", {"LINEGATE_HTTP": "http://127.0.0.1:1"}, need_node_red())
    found = json.loads((home / "flows.json").read_text())
    assert found == merged([read_flow(file) for file in files], {"LINEGATE_HTTP"})
