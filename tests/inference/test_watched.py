"""A model in a process of its own: it scores as in ours, is lost, noticed and replaced, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bridge.errors import BundleError, CameraError, InferenceError
from bridge.inference.model import OnnxModel
from bridge.inference.watched import Patience, WatchedModel
from tests.inference.build import encoded, graph, picture, slow_graph, write_bundle
from tests.inference.probe import frame, grey, open_files, part, probe_settings, state_of, until, watched, workers_of

GOLDEN = "tolerance = 0.02\n[[frame]]\nfile = 'grey.png'\nscores = { bright = 0.2353, dark = 0.7647 }\n"
LOSING = Patience(least_s=0.6, most_s=0.6, pause_s=0.05)


# ---- it scores as in our own process --------------------------------------------------------------------------------


async def test_scores_and_errors_are_those_of_the_model_itself(tmp_path: Path) -> None:
    async with watched(
        tmp_path / "b", model=graph(scale=1 / 100), golden=GOLDEN.replace("0.2353", "0.6").replace("0.7647", "0.4")
    ) as model:
        here = OnnxModel(probe_settings(tmp_path / "b"))
        assert (model.reference, model.sha256) == (here.bundle.reference, here.bundle.sha256)
        assert model.golden_deviation == here.golden_deviation
        data = encoded(picture(value=20), ".png")
        there = await model.infer(frame(data), part())
        assert there.scores == here.score(data, thresholds={}, roi=None, reduction=1).scores
        assert sorted(there.timing_ms) == ["decode", "inference", "preprocess"]
        with pytest.raises(InferenceError, match="0 to 1"):
            await model.infer(grey(200), part())
        with pytest.raises(CameraError, match="truncated"):
            await model.infer(frame(data[:-1]), part())
        with pytest.raises(CameraError, match="empty"):
            await model.infer(frame(b""), part())
        with pytest.raises(CameraError, match="does not lie in the picture"):
            await model.infer(frame(data), part(roi=(300, 0, 100, 100)))
        assert (await model.infer(frame(data), part())).scores == there.scores
        assert model.trouble == ""


async def test_a_picture_of_16_mb_arrives_whole_and_the_next_small_one_too(tmp_path: Path) -> None:
    async with watched(tmp_path / "b") as model:
        data = encoded(picture(seed=3))
        expected = (await model.infer(frame(data), part())).scores
        comment = b"\xff\xfe\xff\xff" + os.urandom(65533)  # a segment that a decoder skips
        large = data[:2] + comment * 244 + data[2:]
        assert len(large) > 15_900_000
        assert (await model.infer(frame(large), part())).scores == expected
        assert (await model.infer(frame(data), part())).scores == expected


async def test_a_bundle_that_does_not_load_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    files = open_files()
    with pytest.raises(BundleError, match="can't be loaded"):
        await WatchedModel.load(probe_settings(write_bundle(tmp_path / "b", model=b"no model")))
    with pytest.raises(BundleError, match="absent"):
        await WatchedModel.load(probe_settings(tmp_path / "absent"))
    assert (workers_of(), open_files()) == ([], files)


async def test_a_cancelled_job_that_has_not_begun_is_skipped(tmp_path: Path) -> None:
    async with watched(tmp_path / "b", settings={"warm_up_runs": 1}, model=slow_graph(20), golden=GOLDEN) as model:
        running, stale, fresh = (asyncio.create_task(model.infer(grey(value), part())) for value in (10, 20, 30))
        await asyncio.sleep(0)
        running.cancel()
        stale.cancel()
        assert (await fresh).scores.by_label["bright"] == pytest.approx(30 / 255, abs=1e-3)
        done = await asyncio.gather(running, stale, return_exceptions=True)
        assert all(isinstance(outcome, asyncio.CancelledError) for outcome in done)
        assert model.worker.jobs == 2


# ---- it is lost, noticed and replaced ------------------------------------------------------------------------------


async def works(model: WatchedModel) -> None:
    """Wait until the model judges again, and see that it judges right."""
    await until(lambda: not model.trouble)
    inference = await model.infer(grey(90), part())
    assert inference.scores.by_label["bright"] == pytest.approx(90 / 255, abs=1e-3)


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP])
async def test_a_part_under_a_worker_that_is_lost_gets_an_error_and_later_ones_are_judged(
    tmp_path: Path, blow: signal.Signals
) -> None:
    async with watched(tmp_path / "b", patience=LOSING, model=slow_graph(20), golden=GOLDEN) as model:
        lost = model.worker
        judging = asyncio.create_task(model.infer(grey(60), part()))
        await until(lambda: lost.busy)
        os.kill(lost.pid, blow)
        begun = time.monotonic()
        with pytest.raises(InferenceError, match=r"worker (died|did not answer for 0\.6 s and was killed)"):
            await judging
        await until(lambda: ("did not answer" if blow is signal.SIGSTOP else blow.name) in model.trouble)
        assert time.monotonic() - begun < 3.0
        begun = time.monotonic()
        with pytest.raises(InferenceError, match="is restarting"):
            await model.infer(grey(60), part())
        assert time.monotonic() - begun < 0.2
        await works(model)
        assert state_of(lost.pid) == ""
        assert len(workers_of()) == 1


async def test_a_frozen_worker_that_nobody_asks_is_noticed_too(tmp_path: Path) -> None:
    async with watched(tmp_path / "b") as model:
        os.kill(model.worker.pid, signal.SIGSTOP)
        begun = time.monotonic()
        await until(lambda: model.trouble)
        assert time.monotonic() - begun < 3.0
        await works(model)


async def test_a_cancelled_part_under_a_hung_worker_does_not_keep_the_next_for_ever(tmp_path: Path) -> None:
    async with watched(tmp_path / "b", patience=LOSING) as model:
        os.kill(model.worker.pid, signal.SIGSTOP)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.15):
                    await model.infer(grey(60), part())
        with pytest.raises(InferenceError, match="did not answer"):
            await model.infer(grey(60), part())
        await works(model)


async def test_a_worker_that_is_lost_again_and_again_is_not_trusted_until_it_has_lived_for_a_while(
    tmp_path: Path,
) -> None:
    patience = Patience(pause_s=0.05, steady_s=1.0)
    async with watched(tmp_path / "b", patience=patience) as model:
        for number in range(3):
            lost = model.worker
            os.kill(lost.pid, signal.SIGKILL)
            await until(lambda lost=lost: model.worker is not lost)  # type: ignore[misc]
            assert bool(model.trouble) == (number == 2)
        warm = time.monotonic()
        assert (await model.infer(grey(90), part())).scores, "it judges, though the alarm stands"
        await works(model)
        assert time.monotonic() - warm > 0.9


async def test_what_lies_there_now_is_not_started_in_place_of_what_was_lost(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    async with watched(folder, patience=Patience(pause_s=0.05, steady_s=0.2)) as model:
        write_bundle(folder, version="1.0.1")
        os.kill(model.worker.pid, signal.SIGKILL)
        await until(lambda: "another bundle" in model.trouble)
        with pytest.raises(InferenceError, match="another bundle"):
            await model.infer(grey(60), part())
        write_bundle(folder)
        await works(model)


def test_pauses_grow_up_to_their_limit() -> None:
    patience = Patience()
    assert [patience.pause_before(losses) for losses in (1, 2, 3, 4, 5, 6, 99)] == [0, 0.5, 1, 2, 4, 5, 5]


def test_the_limit_follows_what_is_usual() -> None:
    patience = Patience()
    assert [patience.limit_s(usual) for usual in (0.005, 0.1, 0.15, 0.3, 1.0)] == [1.0, 1.0, 1.5, 2.0, 3.0]
    assert [patience.restart_s(first) for first in (0.1, 1.4, 30.0)] == [5.0, 7.0, 60.0]


async def test_a_worker_that_hangs_while_it_is_started_anew_is_replaced(tmp_path: Path) -> None:
    patience = Patience(pause_s=0.05, start_s=20.0, restart_least_s=1.0, steady_s=0.5)
    async with watched(tmp_path / "b", patience=patience) as model:
        lost = model.worker.pid
        os.kill(lost, signal.SIGKILL)
        (started,) = await until(lambda: [pid for pid in workers_of() if pid != lost])
        os.kill(started, signal.SIGSTOP)
        await until(lambda: "was not warm and checked within" in model.trouble, limit_s=25)
        await works(model)
        assert state_of(started) == ""


# ---- it leaves nothing behind --------------------------------------------------------------------------------------


async def change_recipes(folder: Path, changes: int) -> None:
    files, settings = None, probe_settings(write_bundle(folder))
    for number in range(changes):
        model = await WatchedModel.load(settings)
        pid = model.worker.pid
        if number % 3 == 1:
            os.kill(pid, signal.SIGSTOP)
        if number % 3 == 2:
            judging = asyncio.create_task(model.infer(grey(60), part()))
            await asyncio.sleep(0)
            judging.cancel()
        await model.close()
        await model.close()
        assert state_of(pid) == ""
        files = files or open_files()
    assert workers_of() == []
    assert open_files() <= files


async def test_recipe_changes_leave_no_process_and_no_open_file(tmp_path: Path) -> None:
    await change_recipes(tmp_path / "b", 4)


@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_fifty_recipe_changes_leave_no_process_and_no_open_file(tmp_path: Path) -> None:
    await change_recipes(tmp_path / "b", 50)


async def test_closing_while_the_worker_is_started_anew_leaves_nothing(tmp_path: Path) -> None:
    async with watched(tmp_path / "b") as model:
        os.kill(model.worker.pid, signal.SIGKILL)
        await until(lambda: model.trouble)
        await until(workers_of)
    assert workers_of() == []


async def test_signals_of_the_terminal_are_the_bridges_alone(tmp_path: Path) -> None:
    loading = asyncio.create_task(WatchedModel.load(probe_settings(write_bundle(tmp_path / "b"))))
    for _ in range(3):
        (pid,) = await until(workers_of)
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
        await asyncio.sleep(0.05)
    model = await loading
    for each in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, each)
    await works(model)
    assert model.worker.pid == pid
    await model.close()


PARENT = """
import asyncio, sys
from pathlib import Path
from bridge.inference.watched import WatchedModel
from tests.inference.probe import grey, part, probe_settings

async def main():
    if sys.argv[2] == "starting":
        print("loading", flush=True)
    model = await WatchedModel.load(probe_settings(Path(sys.argv[1]), warm_up_runs=1))
    print("loaded", flush=True)
    while True:
        await model.infer(grey(60), part())
        if sys.argv[2] != "busy":
            await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("doing", ["starting", "busy", "idle", "stopped"])
def test_the_worker_dies_with_a_killed_bridge(tmp_path: Path, doing: str) -> None:
    folder = write_bundle(tmp_path / "b", model=slow_graph(60), golden=GOLDEN)
    command = [sys.executable, "-P", "-c", PARENT, str(folder), doing]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        while not (found := workers_of(parent.pid)):
            time.sleep(0.005)
        if doing == "stopped":
            os.kill(found[0], signal.SIGSTOP)
        parent.kill()
        killed = time.monotonic()
        parent.wait(10)
    while state_of(found[0]) not in ("", "Z"):
        assert time.monotonic() - killed < 0.5, "the worker outlives its bridge"
        time.sleep(0.005)
