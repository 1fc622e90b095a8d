"""What can go wrong while a model is made: masks, disks, keys and interruptions, each through the command in a process.

Wanted each time: one clear line, no traceback, nothing half-written, and the work done so far kept for the next run.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.models.bench import Bench
from tests.models.pictures import SIDE, draw_folder

pytestmark = [pytest.mark.models, pytest.mark.timeout(240)]

SMALL = ("--side", 64)
INTERRUPTED = "linegate: interrupted; nothing was left half-written\n"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    draw_folder(tmp_path / "seen", {"good": 8, "spot": 8})
    (tmp_path / "tmp").mkdir()
    return Bench(folder=tmp_path)


def left(bench: Bench) -> list[str]:
    """Name what lies in the folder beside pictures, caches and keys, what hides in it, and what is left of temporary files."""
    ours = {"cache", "config", "seen", "tmp"}
    return sorted(
        path.name for path in [*bench.folder.iterdir(), *(bench.folder / "tmp").iterdir()] if path.name not in ours
    )


@contextmanager
def teaching(bench: Bench, *arguments: object, largest_file: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """Start `linegate model teach seen`, temporary files in `tmp/`, no file larger than that; killed at the end."""

    def settings() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    command = [sys.executable, "-P", "-m", "bridge", "model", "teach", "seen", *map(str, arguments)]
    environment = {**bench.environment, "TMPDIR": str(bench.folder / "tmp")}
    process = subprocess.Popen(
        command, cwd=bench.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=settings,  # noqa: PLW1509 - nothing else runs in this process while it starts
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(process: subprocess.Popen[str], true: Callable[[], bool]) -> None:
    """Wait for what the process brings about."""
    while not true():
        assert process.poll() is None, "it ended too early"
        time.sleep(0.002)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for the end; gives exit code and what it said on stderr."""
    _, told = process.communicate(timeout=120)
    return process.returncode, told


def kept(bench: Bench) -> dict[Path, tuple[int, int]]:
    """Give the kept features, each with what changes when it is computed anew."""
    found = {}
    for path in (bench.folder / "cache").rglob("*.npy"):
        about = path.stat()
        found[path] = (about.st_ino, about.st_mtime_ns)
    return found


def draw_masks(bench: Bench, side: int = SIDE) -> Path:
    folder = bench.folder / "seen" / "spot" / "masks"
    folder.mkdir()
    for path in (bench.folder / "seen" / "spot").glob("*.png"):
        cv2.imwrite(str(folder / path.name), np.full((side, side), 255, np.uint8))
    return folder


def test_a_mask_of_another_size_is_named(bench: Bench) -> None:
    draw_masks(bench, side=SIDE // 2)
    told = bench.refusal("teach", "seen", "--out", "plates")
    assert "seen/spot/masks/spot000.png: a mask of 48 x 48 pixels, its picture spot000.png has 96 x 96" in told
    assert left(bench) == []


def test_a_mask_that_is_no_picture_is_named(bench: Bench) -> None:
    (draw_masks(bench) / "spot003.png").write_text("white")
    assert "masks/spot003.png: no picture that can be read" in bench.refusal("teach", "seen", "--out", "plates")
    assert left(bench) == []


def test_masks_that_show_nothing_are_said_to(bench: Bench) -> None:
    for path in draw_masks(bench).iterdir():
        cv2.imwrite(str(path), np.zeros((SIDE, SIDE), np.uint8))
    told = bench.refusal("teach", "seen", "--out", "plates")
    assert "no mask with a defect among the pictures to learn from" in told


def test_the_same_parts_in_both_classes_are_told_of_though_their_files_differ(bench: Bench) -> None:
    shutil.rmtree(bench.folder / "seen" / "spot")
    (bench.folder / "seen" / "spot").mkdir()
    for path in (bench.folder / "seen" / "good").iterdir():
        cv2.imwrite(str(bench.folder / "seen" / "spot" / f"{path.stem}.bmp"), cv2.imread(str(path)))
    done = bench.model("teach", "seen", "--out", "plates-1.0.0", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "No better than guessing" in done.stdout
    assert "8 pictures are nearly the same as one of another class: good/good000.png and" in done.stdout


def test_where_nothing_can_be_written_is_found_before_any_work(bench: Bench) -> None:
    (bench.folder / "file").write_text("")
    for out in ("file/plates", "/proc/plates"):
        told = bench.refusal("teach", "seen", "--out", out, *SMALL)
        assert f"--out {out}: nothing can be written in " in told
    assert kept(bench) == {}


@pytest.mark.parametrize(
    ("largest_file", "told_of"),
    [
        (1000, "features can't be kept there: File too large"),
        (500_000, "temporary files can't be written: File too large"),
    ],
)
def test_a_full_disk_ends_it_in_one_line(bench: Bench, largest_file: int, told_of: str) -> None:
    with teaching(bench, "--out", "plates", *SMALL, largest_file=largest_file) as process:
        code, told = ended(process)
    assert code == 1
    assert told_of in told and told.count("\n") == 1
    assert left(bench) == []
    assert not [path for path in (bench.folder / "cache").rglob("*") if path.suffix == ".part"]


def test_no_place_for_a_key_or_for_features_is_named(bench: Bench) -> None:
    (bench.folder / "config").write_text("")
    told = bench.refusal("teach", "seen", "--out", "plates", *SMALL)
    assert "config/linegate/signing.key: the key can't be written: " in told
    shutil.rmtree(bench.folder / "cache")
    (bench.folder / "cache").write_text("")
    assert "features can't be kept there: Not a directory; set XDG_CACHE_HOME" in bench.refusal(
        "teach", "seen", "--out", "p"
    )
    assert left(bench) == []


@pytest.mark.parametrize(
    ("end", "told"), [(signal.SIGINT, (130, INTERRUPTED)), (signal.SIGKILL, (-signal.SIGKILL, ""))]
)
def test_what_is_stopped_half_way_leaves_nothing_and_the_next_run_goes_on_from_there(
    bench: Bench, end: signal.Signals, told: tuple[int, str]
) -> None:
    shutil.rmtree(bench.folder / "seen")
    draw_folder(bench.folder / "seen", {"good": 60, "spot": 60})
    with teaching(bench, "--out", "plates") as process:
        until(process, lambda: len(kept(bench)) >= 10)
        process.send_signal(end)
        assert ended(process) == told
    done = kept(bench)
    assert 10 <= len(done) < 120, "interrupted during the features"
    assert left(bench) == []
    with teaching(bench, "--out", "plates") as process:
        until(process, lambda: any((bench.folder / "tmp").iterdir()))
        process.send_signal(signal.SIGINT)
        assert ended(process) == (130, INTERRUPTED)
    assert left(bench) == [], "interrupted while it was quantized"
    whole = kept(bench)
    assert len(whole) == 120
    assert {path: whole[path] for path in done} == done, "what was kept was not computed again"


def locked(bench: Bench) -> Path:
    """Put a pipe where the signing key is: who writes a bundle stands still there, before it is signed."""
    key = bench.folder / "config" / "linegate" / "signing.key"
    key.parent.mkdir(parents=True)
    os.mkfifo(key)
    return key


def test_ctrl_c_while_the_bundle_is_written_leaves_nothing(bench: Bench) -> None:
    locked(bench)
    with teaching(bench, "--out", "plates.lgb", *SMALL) as process:
        until(process, lambda: any(bench.folder.glob(".plates.lgb.*.part/bundle.toml")))
        process.send_signal(signal.SIGINT)
        assert ended(process) == (130, INTERRUPTED)
    assert left(bench) == []


def test_after_a_kill_while_the_bundle_is_written_the_next_run_works_and_clears_up(bench: Bench) -> None:
    key = locked(bench)
    with teaching(bench, "--out", "plates", *SMALL) as process:
        until(process, lambda: any(bench.folder.glob(".plates.*.part/bundle.toml")))
        process.kill()
        assert ended(process)[0] == -signal.SIGKILL
    assert len(left(bench)) == 1, "nothing where the bundle should lie, a hidden folder beside it"
    before = kept(bench)
    assert len(before) == 32, "16 pictures, in float and in INT8"
    key.unlink()
    done = bench.model("teach", "seen", "--out", "plates", *SMALL)
    assert done.returncode == 0, done.stderr
    assert left(bench) == ["plates", "plates-report.html"]
    assert kept(bench) == before, "nothing was computed twice"
    assert bench.model("verify", "plates").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("anomaly", "nowhere", "--out", "a"), "nowhere: no such folder; wanted is one with pictures of good parts"),
        (("anomaly", "seen", "--out", "a"), "seen: no pictures in it, but in its sub-folders good, spot: name the one of"),
        (("anomaly", "seen/good", "--out", "a"), "8 pictures (JPEG, PNG or BMP) in it or its images/: wanted are at least 10"),
        (("evaluate", "nowhere", "seen"), "nowhere"),
        (("explain", "BALL", "nowhere.png", "--out", "heat.png"), "nowhere.png: "),
        (("explain", "BALL", "seen/good/good000.png", "--out", "no/heat.png"), "--out no/heat.png: can't be written"),
        (("tune", "BALL", "seen/spot"), "no pictures (JPEG, PNG or BMP) in any sub-folder"),
        (("evaluate", "BALL", "seen", "--good", "fine"), "--good fine: no such class in seen; there are good, spot"),
        (("verify", "seen"), "seen"),
        (("sign", "BALL", "--key", "nowhere.key"), "nowhere.key"),
        (("inspect", "seen/good/good000.png"), "good000.png"),
    ],
)  # fmt: skip
def test_every_command_refuses_in_one_line(bench: Bench, arguments: tuple[str, ...], told: str) -> None:
    ball = Path(__file__).resolve().parents[2] / "models" / "bundles" / "ball-screw-1.0.0"
    shutil.copytree(ball, bench.folder / "BALL")
    assert told in bench.refusal(*arguments)
    assert left(bench) == ["BALL"]
