"""Where in a picture a model sees what decides: by its own cells, class activation, occlusion or Shapley values.

Each gives what the places of the picture speak for the deciding label; what speaks against it is left out of the heat map.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast, get_args

import cv2
import numpy as np
import numpy.typing as npt
import onnx

from bridge.inference.bundle import Bundle, read_bundle
from bridge.inference.preprocess import Placement, Preprocessor
from bridge.inference.trust import Trust
from models.toolkit.bundles.files import write_whole
from models.toolkit.evaluation.class_activation import ClassActivation
from models.toolkit.evaluation.occlusion import Heat, Tensor, log_odds, occlude
from models.toolkit.graphs.pooled_head import NotPooledError
from models.toolkit.graphs.session import open_model
from models.toolkit.pictures.folder import DataError, read_picture

Method = Literal["cells", "cam", "occlusion", "shap"]
WORDS: dict[Method, str] = {
    "cells": "the model's own cells", "cam": "class activation", "occlusion": "occlusion", "shap": "Shapley values",
}  # fmt: skip
EVALUATIONS, LEAST_EVALUATIONS = 500, 20
HEAT = 0.55
_NEARLY_HIGHEST = 0.98
_SMOOTHING = 0.05
"""Of class activation, the share of the map's shorter side that a place's part is spread over (one standard deviation)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """The deciding label with its score, and how much each place of the picture (rows x columns, 0 to 1) spoke for it.

    `heat` covers the picture, `width` x `height` pixels, on a grid of its own. Class activation tells the label's `logit`
    and how much of it is `bias`, the same for every picture.
    """

    label: str
    score: float
    heat: Heat
    how: Method
    width: int
    height: int
    logit: float | None = None
    bias: float | None = None

    @property
    def peak(self) -> tuple[int, int] | None:
        """Middle (x, y) of the place that spoke most, in pixels of the picture; None where none spoke for the label."""
        highest = float(self.heat.max())
        if highest <= 0:
            return None
        near = (self.heat >= _NEARLY_HIGHEST * highest).astype(np.uint8)
        places, middles = cv2.connectedComponentsWithStats(near)[1::2]
        row, column = np.unravel_index(int(self.heat.argmax()), self.heat.shape)
        x, y = middles[places[row, column]]
        rows, columns = self.heat.shape
        return int((x + 0.5) * self.width / columns), int((y + 0.5) * self.height / rows)

    def as_json(self) -> dict[str, Any]:
        """Give what is told in a file beside the picture."""
        sums = {} if self.logit is None or self.bias is None else {"logit": self.logit, "bias": self.bias}
        return {
            "label": self.label, "score": round(self.score, 6), "how": self.how,
            "peak": None if self.peak is None else list(self.peak), "picture": [self.width, self.height],
            **{name: round(value, 4) for name, value in sums.items()},
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """The heat of the model's input and how it was found."""

    heat: Heat
    how: Method
    logit: float | None = None
    bias: float | None = None


class Explainer:
    """One bundle's model, opened for many runs."""

    def __init__(self, bundle: Bundle) -> None:
        self._manifest, self._where = bundle.manifest, bundle.reference
        self._model = onnx.ModelProto.FromString(bundle.model)
        self._session = open_model(self._model)

    @cached_property
    def _activation(self) -> ClassActivation:
        return ClassActivation(self._model, image=self._manifest.input.name, scores=self._manifest.output.scores)

    def explain(self, path: Path, *, how: str = "auto", evaluations: int = EVALUATIONS) -> Explained:
        """Explain the decision on one picture; `auto` takes cells, else cam, else occlusion, whichever the model allows.

        `evaluations` is about how often `shap` asks the model. Raises DataError for a method that is not known, not
        possible with this model, or not installed.
        """
        if how not in ("auto", *get_args(Method)):
            raise DataError(f"--how {how}: allowed is auto, {', '.join(get_args(Method)[:-1])} or shap")
        spec = self._manifest.input
        preprocessor, picture = Preprocessor(spec), read_picture(path, colour=spec.colour)
        placement = preprocessor.fill(picture)
        tensor = np.array(preprocessor.tensor)
        scores = self._run(tensor, self._manifest.output.scores)
        label = int(scores.argmax())
        found = self._find(tensor, label, how, evaluations)
        return Explained(
            label=self._manifest.labels[label], score=float(scores[label]), how=found.how, width=picture.width,
            height=picture.height, heat=_over_the_picture(found.heat, placement, (spec.height, spec.width)),
            logit=found.logit, bias=found.bias,
        )  # fmt: skip

    def _find(self, tensor: Tensor, label: int, how: str, evaluations: int) -> _Found:
        """Give the heat of the model's input, 0 to 1."""
        has_cells = self._manifest.output.cells is not None
        if how == "cells" and not has_cells:
            raise DataError(f"--how cells: {self._where} has no cells; allowed is auto, cam, occlusion or shap")
        if how == "cells" or (how == "auto" and has_cells):
            cells = self._run(tensor, str(self._manifest.output.cells))[label]
            return _Found(heat=np.asarray(cells, np.float64), how="cells")
        if how in ("auto", "cam"):
            try:
                parts = self._activation.of(tensor, label)
            except NotPooledError as exc:
                if how == "cam":
                    raise DataError(
                        f"--how cam: {self._where}: {exc}; wanted are scores of pooled feature maps and one linear "
                        "layer; allowed is auto, occlusion or shap"
                    ) from exc
            else:
                return _Found(heat=_above_the_usual(parts.places), how="cam", logit=parts.logit, bias=parts.bias)
        return self._by_covering(tensor, label, how, evaluations)

    def _by_covering(self, tensor: Tensor, label: int, how: str, evaluations: int) -> _Found:
        channels_last = self._manifest.input.layout == "NHWC"

        def judge(covered: Tensor) -> float:
            return log_odds(self._run(covered, self._manifest.output.scores), label)

        if how != "shap":
            return _Found(heat=_normalised(occlude(tensor, judge, channels_last=channels_last)), how="occlusion")
        if importlib.util.find_spec("shap") is None:
            raise DataError("--how shap: shap is not installed: pip install 'linegate[explain]'")
        if evaluations < LEAST_EVALUATIONS:
            raise DataError(f"--evaluations {evaluations}: allowed is at least {LEAST_EVALUATIONS}")
        from models.toolkit.evaluation.shapley import shapley  # noqa: PLC0415 - shap is in an extra

        shares = shapley(tensor, judge, channels_last=channels_last, evaluations=evaluations)
        return _Found(heat=_normalised(shares), how="shap")

    def _run(self, tensor: Tensor, output: str) -> npt.NDArray[np.float32]:
        return np.asarray(self._session.run([output], {self._manifest.input.name: tensor})[0], np.float32)[0]


def _normalised(heat: Heat) -> Heat:
    """Give what speaks for the label, the highest as 1."""
    positive = np.maximum(heat, 0)
    return positive / positive.max() if positive.max() > 0 else positive


def _above_the_usual(places: Heat) -> Heat:
    """Give what stands over the median place, smoothed, the highest as 1: what all places say alike shows nothing.

    A cell of a feature map has seen far more of the picture than its own place, hence the smoothing.
    """
    smooth = cv2.GaussianBlur(places, (0, 0), _SMOOTHING * min(places.shape))
    return _normalised(smooth - np.median(smooth))


def _over_the_picture(heat: Heat, placement: Placement, size: tuple[int, int]) -> Heat:
    """Give the part of the input's heat that lies on the picture; what lies on the padding of a letterbox is cut off."""
    if (placement.height, placement.width) == size:
        return heat
    whole = cv2.resize(heat, size[::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)
    rows = slice(placement.top, placement.top + placement.height)
    return cast(Heat, whole[rows, placement.left : placement.left + placement.width])


def overlay(path: Path, explained: Explained, *, longest_px: int = 1200) -> npt.NDArray[np.uint8]:
    """Give the picture with its heat in colour over it, BGR; raises DataError."""
    pixels = cv2.cvtColor(read_picture(path).pixels, cv2.COLOR_RGB2BGR)
    scale = min(1.0, longest_px / max(pixels.shape[:2]))
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    heat = cv2.resize(explained.heat, (small.shape[1], small.shape[0]), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    colour = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO).astype(np.float64)
    weight = (HEAT * heat)[..., None]
    return np.asarray(small * (1 - weight) + colour * weight, np.uint8)


def explain_picture(
    bundle: Path, picture: Path, out: Path, *, how: str = "auto", evaluations: int = EVALUATIONS
) -> Explained:
    """Write the picture with its heat map to `out` (PNG); raises DataError or BundleError. No signature is asked for."""
    explainer = Explainer(read_bundle(bundle, Trust(require_signature=False)))
    explained = explainer.explain(picture, how=how, evaluations=evaluations)
    encoded = cv2.imencode(".png", overlay(picture, explained))[1]
    try:
        write_whole(out, encoded.tobytes())
    except OSError as exc:
        raise DataError(f"--out {out}: can't be written: {exc.strerror}") from exc
    return explained
