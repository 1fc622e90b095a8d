"""What bundles of models that show where have in common: golden frames over the range of scores, and the card."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx

from bridge.inference.manifest import InputSpec
from models.toolkit.bundles.files import CARD_END, GoldenPicture
from models.toolkit.bundles.golden import scored
from models.toolkit.pictures.folder import Sample

GOLDEN_FRAMES = 4


def golden_of(
    model: onnx.ModelProto, samples: Sequence[Sample], scores: npt.NDArray[np.float64], spec: InputSpec, label: str
) -> list[GoldenPicture]:
    """Choose four pictures over the range of `scores`, one for each sample, and what the finished model says of each."""
    order = np.argsort(scores)
    chosen = [samples[order[place]] for place in np.linspace(0, len(order) - 1, GOLDEN_FRAMES).astype(int)]
    return scored(model, chosen, spec, [label])


def card_of(spec: InputSpec, *, what: str, counts: str, arithmetic: str, measured: str) -> str:
    """Write the card of a model that shows where."""
    told = _CARD.format(
        what=what, width=spec.width, height=spec.height, counts=counts, arithmetic=arithmetic, measured=measured
    )
    return told + CARD_END


_CARD = """\
# A taught model that shows where

{what}, in pictures stretched to {width} x {height}. One score for the picture and one for each cell, 0 to 1. Frozen features
of EfficientNet-Lite0 (ImageNet weights, Apache-2.0). Arithmetic: {arithmetic}. Pictures: {counts}.

Measured: {measured}.
"""
