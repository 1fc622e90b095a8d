"""`linegate model teach` with masks and `linegate model anomaly`, as a quality engineer types them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.models.bench import Bench
from tests.models.pictures import SIDE, draw_folder

pytestmark = [pytest.mark.models, pytest.mark.timeout(300)]


def draw_masks(folder: Path) -> None:
    """Write a mask beside each plate with a spot: what is darker than any good plate."""
    (folder / "masks").mkdir()
    for path in folder.glob("*.png"):
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert grey is not None
        cv2.imwrite(
            str(folder / "masks" / path.name), ((cv2.GaussianBlur(grey, (5, 5), 0) < 70) * 255).astype(np.uint8)
        )


def test_masks_teach_where_the_defect_is(tmp_path: Path) -> None:
    bench = Bench(folder=tmp_path)
    draw_folder(tmp_path / "seen", {"good": 24, "spot": 16})
    draw_masks(tmp_path / "seen" / "spot")
    draw_folder(tmp_path / "unseen", {"good": 10, "spot": 10}, seed=1)
    done = bench.model("teach", "seen", "--out", "spots")
    assert done.returncode == 0, done.stderr
    told = bench.json("evaluate", "spots", "unseen")
    assert (told["judged"], told["auroc"]) == ("verdicts", 1.0)
    assert told["escapes"]["count"] == 0
    assert bench.json("inspect", "spots")["manifest"]["head"] == "cells"
    assert "vouched by key signing.key" in bench.model("verify", "spots").stdout


def test_a_mask_of_another_size_is_refused_by_name(tmp_path: Path) -> None:
    bench = Bench(folder=tmp_path)
    draw_folder(tmp_path / "seen", {"good": 6, "spot": 6})
    draw_masks(tmp_path / "seen" / "spot")
    cv2.imwrite(str(tmp_path / "seen" / "spot" / "masks" / "spot003.png"), np.zeros((SIDE, SIDE // 2), np.uint8))
    told = bench.refusal("teach", "seen", "--out", "spots")
    assert "spot003.png: a mask of 48 x 96 pixels, its picture spot003.png has 96 x 96" in told
    assert not (tmp_path / "spots").exists()


@pytest.mark.parametrize("kind", ["patchcore", "padim"])
def test_good_parts_alone_teach_what_is_strange(tmp_path: Path, kind: str) -> None:
    bench = Bench(folder=tmp_path)
    draw_folder(tmp_path / "parts", {"good": 40})
    draw_folder(tmp_path / "unseen", {"good": 10, "spot": 10}, seed=1)
    good = tmp_path / "parts" / "good"
    done = bench.model("anomaly", good, "--out", "strange", "--kind", kind, "--groups", r"good(\d\d)")
    assert done.returncode == 0, done.stderr
    told = bench.json("evaluate", "strange", "unseen")
    assert told["auroc"] >= 0.98
    assert told["escapes"]["count"] <= 1
    assert "strange@1.0.0: good" in bench.model("verify", "strange").stdout


def test_too_few_good_parts_and_an_unknown_kind_are_refused(tmp_path: Path) -> None:
    bench = Bench(folder=tmp_path)
    draw_folder(tmp_path / "parts", {"good": 3})
    assert "3 pictures" in bench.refusal("anomaly", tmp_path / "parts" / "good", "--out", "strange")
    assert "--kind best: allowed is patchcore or padim" in bench.refusal(
        "anomaly", "parts", "--out", "x", "--kind", "best"
    )
