"""Which class is good, what the report says of it, and whether a recipe does what `tune` says of its threshold."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from bridge.domain.verdict import VerdictCode, decide
from bridge.recipe_files import RecipeFile, build_recipe
from models.toolkit.evaluation.tune import tune
from models.toolkit.figures.costs import Costs
from tests.models.bench import Bench
from tests.models.pictures import draw_folder, plate

pytestmark = [pytest.mark.models, pytest.mark.timeout(240)]

SMALL = ("--side", 64)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A bundle taught with good parts in a folder that is not named like them."""
    bench = Bench(folder=tmp_path_factory.mktemp("brav"))
    (draw_folder(bench.folder / "seen", {"good": 10, "spot": 10}) / "good").rename(bench.folder / "seen" / "brav")
    done = bench.model("teach", "seen", "--out", "plates-1.0.0", "--good", "brav", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "lets pass from" in done.stdout
    return bench


@pytest.mark.parametrize("name", ["brav", "prima"])
def test_the_good_class_need_not_be_named_twice(bench: Bench, name: str) -> None:
    folder = draw_folder(bench.folder / f"{name}-and-spots", {"good": 6, "spot": 6}, seed=1)
    (folder / "good").rename(folder / name)
    told = bench.json("evaluate", "plates-1.0.0", folder.name)
    assert (told["good"], told["auroc"]) == (name, 1.0)
    assert (told["escapes"]["n"], told["false_rejects"]["n"]) == (6, 6)


def test_two_classes_that_the_bundle_never_saw_are_not_guessed_at(bench: Bench) -> None:
    folder = draw_folder(bench.folder / "strange", {"good": 5, "spot": 5, "scratch": 5}, seed=2)
    (folder / "good").rename(folder / "prima")
    assert bench.json("evaluate", "plates-1.0.0", "strange")["good"] is None
    assert (
        "none known: if there is one, name it with --good" in bench.model("evaluate", "plates-1.0.0", "strange").stdout
    )
    assert "name the good class with --good" in bench.refusal("tune", "plates-1.0.0", "strange")


def test_a_model_that_lets_nothing_pass_says_so(tmp_path: Path) -> None:
    bench = Bench(folder=tmp_path)
    (draw_folder(tmp_path / "seen", {"good": 6, "spot": 6}) / "good").rename(tmp_path / "seen" / "IO")
    done = bench.model("teach", "seen", "--out", "plates-1.0.0", *SMALL)
    assert "No class of good parts is known among IO, spot: every class is a defect, and nothing passes." in done.stdout


@pytest.fixture(scope="module")
def guessing(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A bundle taught with two classes that don't differ: its scores mean nothing, and lie everywhere."""
    bench, order = Bench(folder=tmp_path_factory.mktemp("guessing")), np.random.default_rng(7)
    for folder in ("seen", "unseen"):
        for kind in ("good", "spot"):
            (bench.folder / folder / kind).mkdir(parents=True)
            for number in range(12):
                cv2.imwrite(str(bench.folder / folder / kind / f"{number}.png"), plate(order, "good"))
    done = bench.model("teach", "seen", "--out", "plates-1.0.0", *SMALL)
    assert "No better than guessing" in done.stdout, done.stdout + done.stderr
    assert "of the good parts are rejected. The limit is the cheapest one if 50% of the parts" in done.stdout
    return bench


@pytest.mark.parametrize(("escape", "scrap"), [(1.0, 2.0), (1.0, 1.0), (2.0, 1.0)])
def test_the_recipe_does_what_tune_says_of_its_threshold(guessing: Bench, escape: float, scrap: float) -> None:
    costs = Costs(escape=escape, scrap=scrap)
    bundle, unseen = guessing.folder / "plates-1.0.0", guessing.folder / "unseen"
    tuned = tune(bundle, unseen, good=None, costs=costs, parts_a_year=1000)
    file = RecipeFile.model_validate({"name": "r", "number": 1, "bundle": "b", **tomllib.loads(tuned.recipe)})
    own = tuned.evaluation.bundle
    recipe = build_recipe(file, labels=own.labels, good_labels=own.good_labels, suggested=own.thresholds)
    passed = {
        label: [
            decide(picture.scores, recipe).code is VerdictCode.PASS
            for picture in tuned.evaluation.pictures
            if picture.sample.label == label
        ]
        for label in ("good", "spot")
    }
    assert np.mean(passed["spot"]) == pytest.approx(tuned.document["escape_rate"])
    assert 1 - np.mean(passed["good"]) == pytest.approx(tuned.document["false_reject_rate"])
