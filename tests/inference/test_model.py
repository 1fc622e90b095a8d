"""A model is loaded only when it is what its bundle says, and answers every frame with scores or an error."""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from bridge.domain.part import Part
from bridge.domain.recipe import Threshold
from bridge.domain.verdict import Inference
from bridge.errors import BundleError, CameraError, InferenceError
from bridge.inference.bundle import find_bundle
from bridge.inference.model import OnnxModel
from bridge.inference.settings import OnnxSettings
from bridge.inference.trust import shipped_hashes
from bridge.ports import Frame
from tests.inference.build import COLUMNS, HEIGHT, ROWS, WIDTH, encoded, graph, picture, write_bundle
from tests.inference.probe import frame as _frame
from tests.inference.probe import part as _part
from tests.inference.probe import probe_settings as _settings


class _Model(OnnxModel):
    """The model as its worker has it, asked in this process."""

    async def infer(self, frame: Frame, part: Part) -> Inference:
        recipe = part.recipe
        return self.score(frame.data, thresholds=recipe.thresholds, roi=recipe.roi, reduction=recipe.decode_reduction)


@asynccontextmanager
async def _loaded(folder: Path, settings: dict[str, Any] | None = None, **options: Any) -> AsyncIterator[_Model]:
    yield _Model(_settings(write_bundle(folder, **options), **(settings or {})))


FLOAT: dict[str, Any] = {"dtype": "float32", "layout": "NCHW"}


@pytest.mark.parametrize("form", [{}, FLOAT])
async def test_a_frame_gets_its_scores(tmp_path: Path, form: dict[str, Any]) -> None:
    async with _loaded(tmp_path / "b", model=graph(**form), **form) as model:
        for value in (0, 60, 200):
            inference = await model.infer(_frame(encoded(picture(value=value), ".png")), _part())
            assert inference.scores.by_label["bright"] == pytest.approx(value / 255, abs=1e-3)
            assert inference.scores.by_label["dark"] == pytest.approx(1 - value / 255, abs=1e-3)
            assert sorted(inference.timing_ms) == ["decode", "inference", "preprocess"]
        assert model.bundle.reference == "probe@1.0.0"
        assert len(model.bundle.sha256) == 64
        assert model.golden_deviation < 0.001


async def test_normalisation_is_the_manifests(tmp_path: Path) -> None:
    extra = "mean = [60.0, 60.0, 60.0]\nstd = [2.0, 2.0, 2.0]"
    golden = "tolerance = 0.02\n[[frame]]\nfile = 'grey.png'\nscores = { bright = 0.0 }\n"
    made = graph(**FLOAT, scale=1 / 100)
    async with _loaded(tmp_path / "b", model=made, input_extra=extra, golden=golden, **FLOAT) as model:
        inference = await model.infer(_frame(encoded(picture(value=160), ".png")), _part())
    assert inference.scores.by_label["bright"] == pytest.approx(0.5, abs=1e-3)


async def test_cells_become_regions_in_the_original_picture(tmp_path: Path) -> None:
    pixels = picture(value=0)
    pixels[80:160, 120:160] = 255
    cells: dict[str, Any] = {"model": graph(head="cells"), "head": "cells"}
    async with _loaded(tmp_path / "b", **cells, extra="[thresholds.bright]\nregion = 0.9") as model:
        frame = _frame(encoded(pixels, ".png"))
        whole = await model.infer(frame, _part(thresholds=model.bundle.thresholds))
        part = await model.infer(frame, _part(thresholds=model.bundle.thresholds, roi=(40, 40, 240, 180)))
        blind = await model.infer(
            frame, _part(thresholds={"bright": Threshold(region=1.0), "dark": Threshold()}, roi=(0, 0, 40, 40))
        )
    assert (ROWS, COLUMNS, WIDTH, HEIGHT) == (6, 8, 64, 48)
    assert [(r.label, r.box) for r in whole.scores.regions] == [("bright", (120, 80, 40, 80))]
    assert [(r.label, r.box) for r in part.scores.regions] == [("bright", (130, 100, 30, 60))]
    assert blind.scores.regions == ()


@pytest.mark.parametrize("reduction", [2, 4, 8])
async def test_a_reduced_decode_scores_nearly_the_same(tmp_path: Path, reduction: int) -> None:
    data = encoded(picture(seed=5))
    async with _loaded(tmp_path / "b", {"reductions": (reduction,)}) as model:
        full = await model.infer(_frame(data), _part())
        reduced = await model.infer(_frame(data), _part(decode_reduction=reduction))
    assert reduced.scores.by_label["bright"] == pytest.approx(full.scores.by_label["bright"], abs=0.02)


@pytest.mark.parametrize(("kind", "words"), [("nan", "nan"), ("high", "0 to 1"), ("narrow", r"\[1, 1\]")])
async def test_a_model_with_odd_scores_never_loads(tmp_path: Path, kind: str, words: str) -> None:
    with pytest.raises(BundleError, match=f"golden frame grey.png: .*{words}"):
        async with _loaded(tmp_path / "b", model=graph(kind=kind)):
            pass


async def test_scores_that_turn_odd_later_are_errors_and_the_next_part_is_judged(tmp_path: Path) -> None:
    async with _loaded(tmp_path / "b", model=graph(scale=1 / 100), golden=_golden(0.6, 0.4)) as model:
        with pytest.raises(InferenceError, match="0 to 1"):
            await model.infer(_frame(encoded(picture(value=200), ".png")), _part())
        inference = await model.infer(_frame(encoded(picture(), ".png")), _part())
    assert inference.scores.by_label["bright"] == pytest.approx(0.6, abs=1e-3)


def _golden(bright: float, dark: float, tolerance: float = 0.02) -> str:
    return f"tolerance = {tolerance}\n[[frame]]\nfile = 'grey.png'\nscores = {{ bright = {bright}, dark = {dark} }}\n"


async def test_a_model_off_its_golden_scores_never_loads(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"golden frame grey\.png: dark scores 0\.7647, not 0\.8000 \+- 0\.02"):
        async with _loaded(tmp_path / "b", golden=_golden(0.2353, 0.8)):
            pass


async def test_a_reduction_that_erases_the_defect_never_loads(tmp_path: Path) -> None:
    pixels = picture(value=0, width=WIDTH * 8, height=HEIGHT * 8)
    pixels[4::8, 4::8] = 255  # points that full decoding samples and a reduced one averages away
    pixels[3::8, 3::8] = pixels[3::8, 4::8] = pixels[4::8, 3::8] = 255
    data = encoded(pixels)
    golden = _golden(1.0, 0.0).replace("grey.png", "dots.jpg")
    frames = {"dots.jpg": data}
    settings = {"reductions": (1, 8)}
    with pytest.raises(BundleError, match=r"dots\.jpg at decode_reduction = 8"):
        async with _loaded(tmp_path / "b", settings, golden=golden, frames=frames):
            pass


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": graph(size=(32, 24))}, r"takes uint8 \[1, 24, 32, 3\], bundle\.toml says uint8 \[1, 48, 64, 3\]"),
        ({"model": graph(dtype="float32")}, "takes float32"),
        ({"model": graph(layout="NCHW")}, r"\[1, 3, 48, 64\]"),
        ({"head": "cells"}, "no output 'cells'"),
        ({"model": b"no model"}, "can't be loaded"),
        ({"model": graph()[:-100]}, "can't be loaded"),
    ],
)
async def test_a_model_that_is_not_what_its_manifest_says_never_loads(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(BundleError, match=words):
        async with _loaded(tmp_path / "b", **options):
            pass


async def test_a_picture_that_is_cut_off_is_the_cameras_error(tmp_path: Path) -> None:
    data = encoded(picture(seed=6))
    async with _loaded(tmp_path / "b") as model:
        for cut in (data[:-1], data[: len(data) // 2], data[: len(data) // 2] + b"\xff\xd9", data[:3], b""):
            with pytest.raises(CameraError):
                await model.infer(_frame(cut), _part())
        assert (await model.infer(_frame(data), _part())).scores.by_label["bright"] > 0


async def test_a_region_of_interest_outside_the_picture_is_an_error(tmp_path: Path) -> None:
    async with _loaded(tmp_path / "b") as model:
        with pytest.raises(CameraError, match="does not lie in the picture"):
            await model.infer(_frame(encoded(picture())), _part(roi=(300, 0, 100, 100)))


def _with_external_scale(location: str) -> bytes:
    model = onnx.load_from_string(graph())
    for tensor in model.graph.initializer:
        if tensor.name == "one":
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", location), ("offset", "0"), ("length", "4")):
                entry = tensor.external_data.add()
                entry.key, entry.value = key, value
    return bytes(model.SerializeToString())


ONE = np.ones(1, np.float32).tobytes()


async def test_external_data_comes_from_listed_files(tmp_path: Path) -> None:
    made = _with_external_scale("model.onnx.data")
    async with _loaded(tmp_path / "b", model=made, more={"model.onnx.data": ONE}) as model:
        assert model.golden_deviation < 0.001


@pytest.mark.parametrize("location", ["secret.bin", "../secret.bin", "b/../secret.bin", "/secret.bin"])
async def test_external_data_from_anywhere_else_is_refused(
    tmp_path: Path, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cwd" / "b").mkdir(parents=True)
    for place in (tmp_path, tmp_path / "cwd"):
        (place / "secret.bin").write_bytes(ONE)
    monkeypatch.chdir(tmp_path / "cwd")
    absolute = str(tmp_path / "secret.bin") if location.startswith("/") else location
    with pytest.raises(BundleError, match="can't be loaded"):
        async with _loaded(tmp_path / "cwd" / "b", model=_with_external_scale(absolute)):
            pass


@pytest.mark.parametrize("name", sorted(shipped_hashes()))
def test_what_ships_loads_and_holds_its_golden_scores(name: str) -> None:
    path = find_bundle(name, base=Path(), folder=None)
    assert OnnxModel(OnnxSettings(bundle=path)).bundle.vouched_by == "shipped"


def test_another_bundle_at_the_same_place_is_refused(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b")
    settings = _settings(folder, sha256=OnnxModel(_settings(folder)).bundle.sha256)
    assert OnnxModel(settings).bundle.sha256 == settings.sha256
    write_bundle(folder, version="1.0.1")
    with pytest.raises(BundleError, match="another bundle"):
        OnnxModel(settings)


def test_settings_can_be_sent_to_another_process() -> None:
    settings = _settings(Path("b"), trusted_keys=Path("keys"), reductions=(1, 4))
    assert pickle.loads(pickle.dumps(settings)) == settings
