"""The walk of the guide, by its own commands: what is indented in docs/models/walk.md is run as it stands there.

Only the download is left out: a small part of the same pictures lies where it would put them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
WALK = PROJECT / "docs" / "models" / "walk.md"
PICTURES = Path(os.environ.get("XSDD_IMAGES", PROJECT.parent / "shared" / "data" / "xsdd" / "images"))
KINDS = ("finishing_roll_printing", "iron_sheet_ash", "surface_scratch")
OF_EACH_KIND = 12
INDENT = "    "

pytestmark = [
    pytest.mark.models,
    pytest.mark.timeout(240),
    pytest.mark.skipif(
        not PICTURES.is_dir(), reason=f"no pictures of X-SDD in {PICTURES}; XSDD_IMAGES names their folder"
    ),
]


def commands() -> str:
    """Give the indented lines, a blank line between two of them included, without the download."""
    lines = WALK.read_text(encoding="utf-8").split("\n")
    inside = [
        line.startswith(INDENT)
        or (not line and lines[number + 1 : number + 2] != [] and lines[number + 1].startswith(INDENT))
        for number, line in enumerate(lines)
    ]
    found = [line.removeprefix(INDENT) for line, ours in zip(lines, inside, strict=True) if ours]
    return "\n".join(line for line in found if not line.startswith("git clone"))


def put_pictures(folder: Path) -> None:
    """Lay a few pictures of some kinds where the download has them, by its names."""
    for kind in KINDS:
        place = folder / "X-SDD-A-New-benchmark" / "X-SDD" / "datas" / kind.replace("_", " ")
        place.mkdir(parents=True)
        pictures = sorted((PICTURES / kind).iterdir())
        for picture in pictures[:: len(pictures) // OF_EACH_KIND][:OF_EACH_KIND]:
            shutil.copyfile(picture, place / picture.name)


def put_command(folder: Path) -> Path:
    """Put a `linegate` on the path; it teaches at a small side, which takes a fifth of the time."""
    command = folder / "bin" / "linegate"
    command.parent.mkdir()
    command.write_text(
        f'#!/bin/sh\n[ "$2" = teach ] && set -- "$@" --side 96\nexec {sys.executable} -P -m bridge "$@"\n',
        encoding="utf-8",
    )
    command.chmod(0o755)
    return command.parent


def test_the_walk_can_be_walked(tmp_path: Path) -> None:
    put_pictures(tmp_path)
    environment = {"PATH": f"{put_command(tmp_path)}:/usr/bin:/bin", "HOME": str(tmp_path / "home"), "COLUMNS": "160"}
    script = commands()
    for name in ("teach", "evaluate", "tune", "explain", "sign", "verify", "inspect", "keygen", "check-config", "demo"):
        assert f"linegate {name} " in script or f"linegate model {name} " in script
    (tmp_path / "walk.sh").write_text(script, encoding="utf-8")
    walking = subprocess.Popen(
        ["/bin/bash", "-eu", "walk.sh"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=tmp_path, env=environment, start_new_session=True,
    )  # fmt: skip
    try:
        out, err = walking.communicate(timeout=200)
    finally:
        if walking.poll() is None:
            os.killpg(walking.pid, signal.SIGKILL)
    assert walking.returncode == 0, out[-2000:] + err
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert (figures["good"], figures["n"], figures["taught_with_these"]) == ("iron sheet ash", 9, False)
    assert figures["accuracy"] > 0.6, "9 pictures of each kind, and a small side"
    assert "verdict against its label" in out and "every part accounted for" in out
    assert "vouched by key plant" in out
    assert "recipe strip@1, model strip@1.0.0" in out
    assert (tmp_path / "strip-1.0.0-report.html").is_file() and (tmp_path / "scratch-heat.png").is_file()
