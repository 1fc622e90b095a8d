"""Choose thresholds on validation pictures and rescale the logits so that the thresholds read well.

The score is sigmoid(gain * logit + shift). The gain is the slope of a logistic fit (Platt 1999), so that distances
between scores mean something; the shift puts 0.5 at the cut where the allowed share of good parts is rejected.
"""

import math
from dataclasses import dataclass

import numpy as np

from models.toolkit.figures.metrics import Labels, Scores, cut_at_false_rejects

_NEWTON_STEPS = 50
_RIDGE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A monotone rescale of logits and the thresholds on the rescaled scores, 0..1."""

    gain: float
    shift: float
    reject: float
    doubt: float

    def apply(self, logits: Scores) -> Scores:
        """Return calibrated scores."""
        return np.asarray(1.0 / (1.0 + np.exp(-(self.gain * logits + self.shift))), dtype=np.float64)


# What a model is exported with before its thresholds are known: flat enough that no float32 score saturates.
NEUTRAL = Calibration(gain=0.25, shift=0.0, reject=0.5, doubt=0.5)


def logits_of(scores: Scores, calibration: Calibration) -> Scores:
    """Return the logits behind calibrated scores; scores of 0 or 1 become those of the nearest float32."""
    clipped = np.clip(scores, 1e-7, 1 - 1e-7)
    return np.asarray((np.log(clipped / (1 - clipped)) - calibration.shift) / calibration.gain, dtype=np.float64)


def fit_slope(logits: Scores, defective: Labels) -> float:
    """Return the slope of a logistic regression with both classes weighted alike, by Newton's method."""
    x = np.stack([logits, np.ones_like(logits)], axis=1)
    weight = np.where(defective, 0.5 / defective.mean(), 0.5 / (1 - defective.mean()))
    beta = np.zeros(2)
    for _ in range(_NEWTON_STEPS):
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ beta, -30, 30)))
        gradient = x.T @ (weight * (p - defective)) + _RIDGE * beta
        hessian = (x * (weight * p * (1 - p))[:, None]).T @ x + _RIDGE * np.eye(2)
        beta = beta - np.linalg.solve(hessian, gradient)
    return float(beta[0])


def calibrate(logits: Scores, defective: Labels, *, false_rejects: float, doubtful_good: float) -> Calibration:
    """Return the calibration that rejects, and doubts or rejects, at most these shares of the good pictures given."""
    gain = fit_slope(logits, defective)
    shift = -gain * cut_at_false_rejects(logits, defective, share=false_rejects)
    doubt_logit = gain * cut_at_false_rejects(logits, defective, share=doubtful_good) + shift
    doubt = 1.0 / (1.0 + math.exp(-doubt_logit))
    return Calibration(gain=gain, shift=shift, reject=0.5, doubt=min(0.5, math.ceil(doubt * 100) / 100))
