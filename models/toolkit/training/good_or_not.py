"""What a model that finds places says of whole pictures: good or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.toolkit.figures.calibration import Calibration
from models.toolkit.figures.metrics import Share, Verdicts, auroc, count_verdicts, escapes_at_false_rejects


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodOrNot:
    """Figures of held-out pictures; `escapes` are at 1 % false rejects, `verdicts` at the bundle's own thresholds."""

    auroc: float
    escapes: Share
    verdicts: Verdicts

    def as_json(self) -> dict[str, Any]:
        """Give the figures as plain values."""
        return {
            "auroc": round(self.auroc, 5), "escapes_at_1pct_false_rejects": round(self.escapes.value, 5),
            "escapes_at_1pct_interval": [round(end, 5) for end in self.escapes.interval],
            "escapes": self.verdicts.passed_defective.as_json(),
            "false_rejects": self.verdicts.rejected_good.as_json(),
            "doubtful_good": self.verdicts.doubtful_good.as_json(),
        }  # fmt: skip

    def rows(self) -> list[tuple[str, str]]:
        """Give the figures as a person reads them."""
        return [
            ("AUROC, good or not", f"{self.auroc:.4f}"),
            ("escapes at 1 % false rejects", str(self.escapes)),
            ("escapes at its thresholds", str(self.verdicts.passed_defective)),
            ("false rejects at its thresholds", str(self.verdicts.rejected_good)),
        ]


def judge_pictures(
    logits: npt.NDArray[np.float64], defective: npt.NDArray[np.bool_], calibration: Calibration
) -> GoodOrNot:
    """Count what a calibrated model does to N pictures, by the highest logit of each."""
    scores = calibration.apply(logits)
    return GoodOrNot(
        auroc=auroc(logits, defective), escapes=escapes_at_false_rejects(logits, defective),
        verdicts=count_verdicts(scores, defective, reject=calibration.reject, doubt=calibration.doubt),
    )  # fmt: skip
