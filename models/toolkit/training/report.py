"""What `train` did and what its model is worth, and which figure is of what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.toolkit.figures.metrics import Share, macro_f1
from models.toolkit.training.fine_tuning import Fitted
from models.toolkit.training.folds import CrossValidated
from models.toolkit.training.judging import Confusion, accuracy_of
from models.toolkit.training.weights import Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainReport:
    """How a model came to be and what it is worth; `out` is the bundle.

    `confusion` (rows the truth) is of the pictures held out of this very model, or with `folds` of all pictures, each judged by
    its fold's net; `fitted` and `validated_on` are of the model that was written.
    """

    architecture: str
    attention: str
    weights: Weights
    labels: tuple[str, ...]
    trained_on: int
    validated_on: int
    blended: Mapping[str, int]
    input_size: tuple[int, int]
    fitted: Fitted
    confusion: Confusion
    folds: CrossValidated | None
    size_bytes: int
    out: Path

    @property
    def accuracy(self) -> Share:
        """How many of the judged pictures were told right."""
        return accuracy_of(self.confusion)

    @property
    def how(self) -> str:
        """What the accuracy is of."""
        if self.folds is None:
            return "held-out pictures, judged by this model"
        return (
            f"cross-validation: every picture judged by one of {len(self.folds.shares)} nets that had not seen it; this model "
            "learnt from all pictures"
        )

    def figures(self) -> dict[str, Any]:
        """Give what was measured, as plain values; shares from 0 to 1."""
        told: dict[str, Any] = {
            "how": self.how, "n": self.accuracy.n, "accuracy": round(self.accuracy.value, 5),
            "accuracy_interval": [round(end, 5) for end in self.accuracy.interval],
            "macro_f1": round(macro_f1(self.confusion), 5), "confusion": self.confusion.tolist(),
        }  # fmt: skip
        if self.folds is not None:
            told["folds"] = [{"n": share.n, "accuracy": round(share.value, 5)} for share in self.folds.shares]
            told |= {"folds_mean": round(self.folds.mean, 5), "folds_spread": round(self.folds.spread, 5)}
        return told

    def as_json(self) -> dict[str, Any]:
        """Give the report as plain values; rows of `confusion` are the truth, columns what was told."""
        return {
            "architecture": self.architecture,
            "attention": self.attention,
            "weights": self.weights.source,
            "labels": list(self.labels),
            "trained_on": self.trained_on,
            "blended": dict(self.blended),
            "validated_on": self.validated_on,
            "validation_accuracy": round(self.fitted.validation_accuracy, 5),
            "input": list(self.input_size),
            "epochs": self.fitted.epochs,
            "best_epoch": self.fitted.best_epoch,
            **self.figures(),
            "size_bytes": self.size_bytes,
            "out": str(self.out),
        }

    def in_words(self) -> str:
        """Give what a person wants to know at the end, a line or three."""
        lines = [f"wrote {self.out}"]
        if self.folds is None:
            lines.append(f"right, of held-out pictures: {self.accuracy}")
        else:
            lines += [
                f"right, of all pictures, each judged by a net that had not seen it: {self.accuracy}",
                f"{len(self.folds.shares)} folds: mean {100 * self.folds.mean:.1f} %, "
                f"spread {100 * self.folds.spread:.1f} points",
                "what was written learnt from all pictures: judge it on others with `linegate model evaluate`",
            ]
        return "\n".join(lines)
