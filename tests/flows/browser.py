"""Chromium as a person at the screen: a list of steps, and what they read."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.flows.node_red import FLOWS, HERE, need_node_red

LIMIT_S = 90.0
NAMES = ("chromium", "chromium-browser", "google-chrome")


def need_chromium() -> str:
    """Give the path of the system's Chromium; skips the test where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("Chromium is not installed")
    return found


def browse(folder: Path, steps: Sequence[Sequence[Any]], *, limit_s: float = LIMIT_S) -> list[Any]:
    """Walk through steps on one page of 1440 x 900 pixels; gives each step's answer (None where it reads nothing).

    The steps: open URL, editor URL TAB (gives how many nodes it shows), wait SELECTOR, wait_gone SELECTOR, wait_text TEXT,
    click SELECTOR, click_text TEXT, type SELECTOR TEXT, press KEY, read SELECTOR, read_all SELECTOR, evaluate JAVASCRIPT,
    size WIDTH HEIGHT, pause MS, shot PATH [SELECTOR].
    """
    profile = folder / "chromium"
    words = [need_node_red(), HERE / "browser.js", FLOWS / "node_modules" / "puppeteer-core", need_chromium(), profile]
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        said, complained = process.communicate(json.dumps(steps, default=str), timeout=limit_s)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # Chromium too, where the script didn't get to close it
        process.wait(10)
        shutil.rmtree(profile, ignore_errors=True)
    assert process.returncode == 0, complained[-3000:]
    answer = json.loads(said)
    assert answer["complaints"] == [], f"errors on the page: {answer['complaints']}"
    answers: list[Any] = answer["answers"]
    return answers
