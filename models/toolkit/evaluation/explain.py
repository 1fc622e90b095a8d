"""Where in a picture a model sees what decides: its own cells, or what it says when a place is covered.

Occlusion (Zeiler and Fergus 2014): a patch in the picture's mean colour is laid over one place after another; where the
score of the deciding label falls most, the model looks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx

from bridge.inference.bundle import Bundle, read_bundle
from bridge.inference.trust import Trust
from models.toolkit.graphs.session import open_model
from models.toolkit.pictures.folder import DataError, read_picture
from models.toolkit.pictures.prepared import preprocess

PLACES = 12
HEAT = 0.55
Heat = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """The deciding label with its score, and how much each place of the picture (rows x columns, 0 to 1) spoke for it."""

    label: str
    score: float
    heat: Heat
    how: str


class Explainer:
    """One bundle's model, opened for many runs."""

    def __init__(self, bundle: Bundle) -> None:
        self._manifest = bundle.manifest
        self._session = open_model(onnx.ModelProto.FromString(bundle.model))

    def explain(self, path: Path) -> Explained:
        """Explain the decision on one picture; raises DataError."""
        tensor = preprocess(self._manifest.input, read_picture(path))
        scores = self._scores(tensor)
        place = int(scores.argmax())
        label, score = self._manifest.labels[place], float(scores[place])
        if self._manifest.output.cells is not None:
            cells = self._run(tensor, self._manifest.output.cells)[0, place]
            return Explained(label=label, score=score, heat=np.asarray(cells, np.float64), how="the model's own cells")
        return Explained(label=label, score=score, heat=self._occlude(tensor, place, score), how="occlusion")

    def _occlude(self, tensor: npt.NDArray[Any], place: int, score: float) -> Heat:
        """Cover each of 12 x 12 places with a patch of a fifth of the sides."""
        channels_last = self._manifest.input.layout == "NHWC"
        height, width = tensor.shape[1:3] if channels_last else tensor.shape[2:4]
        axes = (1, 2) if channels_last else (2, 3)
        mean = tensor.mean(axis=axes, keepdims=True).astype(tensor.dtype)
        heat = np.zeros((PLACES, PLACES))
        half_h, half_w = height // 10, width // 10
        for row in range(PLACES):
            for column in range(PLACES):
                y, x = int((row + 0.5) * height / PLACES), int((column + 0.5) * width / PLACES)
                rows, columns = slice(max(0, y - half_h), y + half_h), slice(max(0, x - half_w), x + half_w)
                covered = tensor.copy()
                where = (slice(None), rows, columns) if channels_last else (slice(None), slice(None), rows, columns)
                covered[where] = mean
                heat[row, column] = max(0.0, score - float(self._scores(covered)[place]))
        return heat / heat.max() if heat.max() > 0 else heat

    def _scores(self, tensor: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return self._run(tensor, self._manifest.output.scores)[0]

    def _run(self, tensor: npt.NDArray[Any], output: str) -> npt.NDArray[np.float32]:
        return np.asarray(self._session.run([output], {self._manifest.input.name: tensor})[0], np.float32)


def overlay(path: Path, explained: Explained, *, longest_px: int = 1200) -> npt.NDArray[np.uint8]:
    """Give the picture with its heat in colour over it, BGR; raises DataError."""
    pixels = cv2.cvtColor(read_picture(path).pixels, cv2.COLOR_RGB2BGR)
    scale = min(1.0, longest_px / max(pixels.shape[:2]))
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    heat = cv2.resize(explained.heat, (small.shape[1], small.shape[0]), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    colour = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO).astype(np.float64)
    weight = (HEAT * heat)[..., None]
    return np.asarray(small * (1 - weight) + colour * weight, np.uint8)


def explain_picture(bundle: Path, picture: Path, out: Path) -> Explained:
    """Write the picture with its heat map to `out` (PNG); raises DataError or BundleError. No signature is asked for."""
    explained = Explainer(read_bundle(bundle, Trust(require_signature=False))).explain(picture)
    encoded = cv2.imencode(".png", overlay(picture, explained))[1]
    try:
        out.write_bytes(encoded.tobytes())
    except OSError as exc:
        raise DataError(f"--out {out}: can't be written: {exc.strerror}") from exc
    return explained
