"""`linegate model teach` and what follows it, as a quality engineer types it: real commands, small drawn pictures."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.models.bench import Bench
from tests.models.pictures import draw_folder, plate

pytestmark = [pytest.mark.models, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(folder=tmp_path_factory.mktemp("teach"))
    draw_folder(bench.folder / "seen", {"good": 24, "scratch": 16, "spot": 16})
    draw_folder(bench.folder / "unseen", {"good": 12, "scratch": 8, "spot": 8}, seed=1)
    done = bench.model("teach", "seen", "--out", "plates-1.2.0")
    assert done.returncode == 0, done.stderr
    assert re.search(r"right, of pictures not seen .* of 56", done.stdout), done.stdout
    assert "next: linegate demo --model plates-1.2.0" in done.stdout
    yield bench


def test_a_taught_bundle_judges_pictures_that_it_has_not_seen(bench: Bench) -> None:
    told = bench.json("evaluate", "plates-1.2.0", "unseen")
    assert (told["bundle"], told["n"], told["taught_with_these"]) == ("plates@1.2.0", 28, False)
    assert told["accuracy"] >= 0.95
    assert told["auroc"] == 1.0
    assert (told["escapes"]["count"], told["escapes"]["n"]) == (0, 16)
    assert set(told["per_class"]) == {"good", "scratch", "spot"}
    assert sum(sum(row.values()) for row in told["confusion"].values()) == 28
    low, high = told["accuracy_interval"]
    assert low < told["accuracy"] <= high
    again = bench.json("evaluate", "plates-1.2.0", "seen")
    assert again["taught_with_these"] is True
    assert "the very pictures" in bench.model("evaluate", "plates-1.2.0", "seen").stdout


def test_it_is_signed_by_the_key_of_who_made_it_and_verified(bench: Bench) -> None:
    done = bench.model("verify", "plates-1.2.0")
    assert done.returncode == 0, done.stderr
    assert "plates@1.2.0: good; vouched by key signing.key" in done.stdout
    assert (bench.folder / "config" / "linegate" / "signing.key").stat().st_mode & 0o777 == 0o600
    assert "plates@1.2.0" in bench.model("list", "--folder", ".").stdout


def test_a_changed_bundle_and_one_of_a_stranger_are_refused(bench: Bench, tmp_path: Path) -> None:
    changed = tmp_path / "changed-1.0.0"
    shutil.copytree(bench.folder / "plates-1.2.0", changed)
    (changed / "card.md").write_text("better than it is")
    assert "card.md has been changed" in bench.refusal("verify", changed)
    stranger = Bench(folder=tmp_path)
    assert "by no trusted key" in stranger.refusal("verify", bench.folder / "plates-1.2.0")
    made = stranger.model("keygen", "their.key")
    assert made.returncode == 0, made.stderr
    assert "a key lies there already" in stranger.refusal("keygen", "their.key")
    copy = tmp_path / "plates-1.2.0"
    shutil.copytree(bench.folder / "plates-1.2.0", copy)
    assert stranger.model("sign", copy, "--key", "their.key").returncode == 0
    assert "vouched by key their" in stranger.model("verify", copy, "--keys", tmp_path).stdout


def test_the_report_is_one_page_with_its_figures(bench: Bench) -> None:
    page = (bench.folder / "plates-1.2.0-report.html").read_text()
    assert "plates@1.2.0" in page
    assert "What was taken for what" in page
    assert "<svg" in page and "Average precision" in page
    assert "Few pictures: good 24, scratch 16, spot 16" in page
    assert not re.search(r"(src|href)=['\"](?!data:)", page), "nothing is loaded from elsewhere"


def test_thresholds_follow_what_mistakes_cost(bench: Bench) -> None:
    dear = bench.json("tune", "plates-1.2.0", "unseen", "--escape-cost", 10_000, "--scrap-cost", 1)
    cheap = bench.json("tune", "plates-1.2.0", "unseen", "--escape-cost", 1, "--scrap-cost", 10_000)
    assert dear["threshold"] <= cheap["threshold"]
    assert (dear["escape_rate"], cheap["false_reject_rate"]) == (0.0, 0.0)
    assert dear["recipe"].startswith('[thresholds."good"]\naccept = ')


def test_a_heat_map_shows_the_spot(bench: Bench) -> None:
    pixels = np.full((96, 96, 3), 130, np.uint8)
    cv2.circle(pixels, (70, 28), 9, (30, 30, 30), -1)
    cv2.imwrite(str(bench.folder / "part.png"), pixels)
    done = bench.model("explain", "plates-1.2.0", "part.png", "--out", "heat.png")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("spot ")
    heat = cv2.imread(str(bench.folder / "heat.png")).astype(int)
    rest = np.abs(heat - pixels).sum(axis=2)
    y, x = np.unravel_index(cv2.GaussianBlur(rest.astype(np.float32), (15, 15), 0).argmax(), rest.shape)
    assert abs(x - 70) < 20 and abs(y - 28) < 20


def test_the_demo_runs_a_taught_bundle_at_once(bench: Bench) -> None:
    pictures = bench.folder / "jpeg"
    draw_folder(pictures, {"good": 6, "spot": 4}, seed=2, suffix=".jpg")
    done = bench.linegate(
        "demo", "--no-dashboard", "--parts", 12, "--images", "jpeg", "--model", "plates-1.2.0", "--report", "demo.json"
    )
    report = json.loads((bench.folder / "demo.json").read_text())
    assert report["judgement"]["escapes"] == 0, done.stdout
    assert (report["triggers"], report["verdicts"]["ERROR"]) == (12, 0)
    assert report["verdicts"]["PASS"] > 0


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        ("empty", "no pictures (JPEG, PNG or BMP) in any sub-folder"),
        ("one class", "one class only, 'good'"),
        ("broken", "good/good000.png: "),
        ("few", "spot: 3 pictures: wanted are at least 5"),
        ("same", "pictures lie in two classes: good/good000.png = spot/good000.png"),
        ("good", "--good fine: no such class"),
    ],
)
def test_pictures_that_no_model_can_be_made_of_are_refused_in_a_sentence(tmp_path: Path, spoil: str, told: str) -> None:
    bench, folder = Bench(folder=tmp_path), tmp_path / "seen"
    counts = {"empty": {}, "one class": {"good": 5}, "few": {"good": 5, "spot": 3}}
    draw_folder(folder, counts.get(spoil, {"good": 5, "spot": 5}))
    folder.mkdir(exist_ok=True)
    if spoil == "broken":
        whole = (folder / "good" / "good000.png").read_bytes()
        (folder / "good" / "good000.png").write_bytes(whole[: len(whole) // 2])
    if spoil == "same":
        for path in (folder / "good").iterdir():
            shutil.copy(path, folder / "spot")
    good = ["--good", "fine"] if spoil == "good" else []
    assert told in bench.refusal("teach", "seen", "--out", "plates", *good)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name not in ("cache", "config")) == ["seen"]


def test_nothing_is_overwritten_and_16_bit_pictures_are_taken(tmp_path: Path) -> None:
    bench, folder, order = Bench(folder=tmp_path), tmp_path / "seen", np.random.default_rng(5)
    for kind in ("good", "spot"):
        (folder / kind).mkdir(parents=True)
        for number in range(8):
            cv2.imwrite(str(folder / kind / f"{number}.png"), plate(order, kind).astype(np.uint16) * 257)
    done = bench.model("teach", "seen", "--out", "deep.lgb")
    assert done.returncode == 0, done.stderr
    assert bench.model("verify", "deep.lgb").returncode == 0
    assert "something lies there already" in bench.refusal("teach", "seen", "--out", "deep.lgb")
