"""The comparison is fair only if the direct script scores the same pictures with the same model alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.floor import Judge, result_of
from bridge.inference.bundle import read_bundle
from bridge.inference.pipeline import Pipeline
from tests.inference.build import OPEN, encoded, graph, picture, write_bundle

FORMS: list[dict[str, Any]] = [
    {},
    {"interpolation": "area"},
    {"dtype": "float32", "layout": "NCHW"},
    {"dtype": "float32", "layout": "NHWC"},
]


@pytest.mark.parametrize("form", FORMS)
def test_the_floor_scores_as_the_bridge_does(tmp_path: Path, form: dict[str, Any]) -> None:
    made = {key: value for key, value in form.items() if key in ("dtype", "layout")}
    extra = "mean = [2.0, 1.0, 3.0]\nstd = [1.5, 1.5, 1.5]" if "dtype" in form else ""
    folder = write_bundle(tmp_path / "b", model=graph(**made), input_extra=extra, **form)
    bundle = read_bundle(folder, OPEN)
    pipeline, judge = Pipeline(bundle), Judge(folder, threads=1)
    for seed in range(3):
        data = encoded(picture(seed=seed))
        ours = pipeline.score(data, thresholds=bundle.thresholds, roi=None, reduction=1).scores.by_label
        values = result_of(judge, data, sequence=seed, part_id="x")
        assert list(ours.values()) == pytest.approx([float(score) for score in judge(data)], abs=1e-6)
        assert (values["Label"], values["Verdict"]) == ("bright", 2 if ours["bright"] >= 0.5 else 1)
        assert values["Score"] == pytest.approx(ours["bright"], abs=1e-6)
