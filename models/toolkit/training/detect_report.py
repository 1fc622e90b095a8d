"""How a net that finds boxes came to be, and what it does to held-out pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.toolkit.bundles.page import page_beside
from models.toolkit.figures.boxes import mean_precision
from models.toolkit.figures.metrics import Share, rounded, shown
from models.toolkit.training.epochs import Epochs, told_if_best_last
from models.toolkit.training.good_or_not import GoodOrNot


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFigures:
    """Of one label: average precision over its true boxes, and in how many of its pictures a box at the limit is right."""

    precision: float | None
    boxes: int
    found: int
    pictures: int

    @property
    def caught(self) -> Share:
        """Pictures with a right box, of those with such a defect."""
        return Share(count=self.found, n=self.pictures)


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionReport:
    """How a model came to be, and what it does to `n` held-out pictures; `out` is the bundle.

    `good_or_not` is None where there is no class of good parts: then no part passes.
    """

    architecture: str
    labels: tuple[str, ...]
    trained_on: int
    left_out: int
    validated_on: int
    input_size: tuple[int, int]
    fitted: Epochs
    n: int
    good_or_not: GoodOrNot | None
    per_label: Mapping[str, LabelFigures]
    ms: float
    size_bytes: int
    out: Path

    @property
    def precision(self) -> float | None:
        """Mean average precision at an overlap of one half, over the labels with true boxes."""
        return mean_precision([figures.precision for figures in self.per_label.values()])

    def as_json(self) -> dict[str, Any]:
        """Give the report as plain values."""
        return {
            "architecture": self.architecture, "labels": list(self.labels), "trained_on": self.trained_on,
            "left_out": self.left_out, "validated_on": self.validated_on, "input": list(self.input_size),
            "epochs": self.fitted.count, "best_epoch": self.fitted.best, "n": self.n, "ap50": rounded(self.precision),
            **({} if self.good_or_not is None else self.good_or_not.as_json()),
            "per_label": {
                label: {"ap50": rounded(own.precision), "boxes": own.boxes, **own.caught.as_json()}
                for label, own in self.per_label.items()
            },
            "frame_ms_one_thread": round(self.ms, 1), "size_bytes": self.size_bytes, "out": str(self.out),
        }  # fmt: skip

    def rows(self) -> list[tuple[str, str]]:
        """Give the figures of all labels as a person reads them."""
        return [
            ("held-out pictures", str(self.n)),
            *([] if self.good_or_not is None else self.good_or_not.rows()),
            ("AP at overlap 0.5, mean", shown(self.precision)),
            ("one frame, one thread", f"{self.ms:.1f} ms"),
        ]

    def doubts(self) -> list[str]:
        """Give what a person should know before a line runs with it."""
        told = told_if_best_last(self.fitted.best, of=self.fitted.count)
        if self.good_or_not is None:
            told.append("No class of good parts: no box is no evidence of one, so no part passes.")
        return told

    def in_terminal(self) -> str:
        """Give the report as lines for a person."""
        labels = [
            (f"  {label}", f"AP {shown(own.precision)} of {own.boxes} boxes; a right one in {own.caught}")
            for label, own in self.per_label.items()
        ]
        *rows, frame = self.rows()
        lines = [f"{name:<33}{value}" for name, value in (*rows, *labels, frame)]
        lines += [f"! {doubt}" for doubt in self.doubts()]
        return "\n".join([*lines, f"wrote {self.out} and {page_beside(self.out)}"])
