"""Set the limits of a model that finds places, by what it says of whole pictures that it has not learnt from."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from models.toolkit.figures.calibration import Calibration, fit_slope
from models.toolkit.figures.costs import Costs, cost_curve
from models.toolkit.figures.metrics import cut_at_false_rejects

_DOUBTFUL_GOOD = 0.05
_GAINS = (0.05, 1.0)
"""Nets fitted with Dice are too sure of themselves: their logits are flattened, never sharpened."""
_ALMOST_0 = 1e-6


def calibrate_pictures(logits: npt.NDArray[np.float64], defective: npt.NDArray[np.bool_]) -> Calibration:
    """Scale the pictures' logits so that 0.5 is the limit where mistakes on them cost least; doubt begins lower.

    The gain is that of a logistic fit (Platt 1999). With fewer than 20 good pictures there is no band of doubt.
    """
    gain = float(np.clip(fit_slope(logits, defective), *_GAINS))
    curve = cost_curve(1 / (1 + np.exp(-gain * logits)), defective, Costs())
    cut = min(max(float(curve.thresholds[curve.best]), _ALMOST_0), 1 - _ALMOST_0)
    shift = -math.log(cut / (1 - cut))
    if _DOUBTFUL_GOOD * (~defective).sum() < 1:  # too few to say where this share of them lies
        return Calibration(gain=gain, shift=shift, reject=0.5, doubt=0.5)
    doubtful = gain * cut_at_false_rejects(logits, defective, share=_DOUBTFUL_GOOD) + shift
    doubt = math.ceil(100 / (1 + math.exp(-doubtful))) / 100
    return Calibration(gain=gain, shift=shift, reject=0.5, doubt=min(0.5, doubt))
