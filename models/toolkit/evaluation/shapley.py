"""Shapley values of a picture's regions (Lundberg and Lee 2017), by the package `shap`: the extra `explain`.

The picture is halved again and again, and each half gets its fair share (Owen values) of what lies between the log-odds of
the picture and those of its blurred self; the halves that matter most are halved first, until the evaluations are spent.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import shap

from models.toolkit.evaluation.occlusion import Heat, Judge, Tensor

_BLUR_SHARE = 4
"""What is covered shows the mean around it, over a quarter of the sides: a flaw vanishes, light and shade stay."""
_BATCH = 50


def shapley(tensor: Tensor, judge: Judge, *, channels_last: bool, evaluations: int) -> Heat:
    """Give each pixel's share, rows x columns, in log-odds; the model is asked about `evaluations` times."""
    picture = tensor[0] if channels_last else np.moveaxis(tensor[0], 0, -1)
    rows, columns = picture.shape[:2]

    def asked(covered: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
        planes = covered.astype(tensor.dtype).reshape(-1, *picture.shape)
        return np.asarray(
            [judge(np.ascontiguousarray(each if channels_last else np.moveaxis(each, -1, 0))[None]) for each in planes]
        )

    blurred = cv2.blur(picture, (max(1, columns // _BLUR_SHARE), max(1, rows // _BLUR_SHARE))).reshape(picture.shape)
    explainer = shap.PartitionExplainer(asked, shap.maskers.Image(blurred))
    values = explainer(picture[None], max_evals=evaluations, batch_size=_BATCH, silent=True).values
    return np.asarray(values, np.float64).reshape(*picture.shape).sum(axis=2)
