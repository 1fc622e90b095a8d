"""The comparison is fair only if the direct script scores the same pictures with the same model alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.floor import Judge, result_of
from benchmarks.report import Figures, Setting, page, quantile
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


def _figures(latencies: list[float], rates: list[float], to_tags: float) -> Figures:
    each = [[latency] * 9 for latency in latencies]
    return Figures(
        latencies=each, rates=rates, to_registers=[to_tags / 2], to_tags=[to_tags], steps={"decode": to_tags}
    )


def test_each_line_of_the_page_compares_with_the_better_floor() -> None:
    floors = {"floor": _figures([10.0, 20.0], [50.0, 40.0], 2.0), "floor1": _figures([10.0, 40.0], [60.0, 55.0], 1.0)}
    bridge = _figures([8.0, 18.0], [60.0, 44.0], 3.0)
    bridge.unjudged = 7
    setting = Setting(
        bundle="b-1.0.0",
        pictures="3",
        rounds=2,
        parts=9,
        interval_ms=100,
        in_flight=4,
        flat_out=9,
        shipped=True,
        load_before=3.2,
    )
    text = page(floors, bridge, setting)
    for line in (
        "| trigger published to registers, p50, ms | 20.0 | 40.0 | 18.0 | 0.90 (rounds 0.85, 0.80 to 0.90) |",
        "| flat out, judged parts/s (more is better) | 45.0 | 57.5 | 52.0 | 0.90 (0.80 to 1.00) |",
        "| verdict to ten tags, p50, ms | 2.0 | 1.0 | 3.0 | +2.0 ms |",
        "| decode | 2.00 | 1.00 | 3.00 |",
        "(ERROR, LATE) in all of this: 7.",
        "OTHER WORK RAN",
    ):
        assert line in text
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
