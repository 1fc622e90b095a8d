"""What `compress` did, step by step: one table for the eye, the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.toolkit.compression.judging import Accuracy, Latency
from models.toolkit.figures.metrics import Share

_POINT = 100.0
_FLATTERED = "The original may have learnt from the pictures that judge here: its accuracy may be flattered."


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One model beside the original and what was kept before it, timed in turns and judged on the same pictures.

    `refused` is why it was not taken, empty where it was; `how` says what was chosen on the way.
    """

    name: str
    size_bytes: int
    latency: Latency
    original_latency: Latency
    previous_latency: Latency
    accuracy: Accuracy
    refused: str = ""
    how: Mapping[str, Any]

    @property
    def speed_up(self) -> float:
        """How many times faster than the original, by p50."""
        return self.original_latency.p50_ms / self.latency.p50_ms

    def as_json(self) -> dict[str, Any]:
        """Give the step as plain values; shares from 0 to 1, sizes in bytes, times in ms."""
        return {
            "name": self.name,
            "kept": not self.refused,
            "refused": self.refused,
            "size_bytes": self.size_bytes,
            "latency_ms": {"p50": round(self.latency.p50_ms, 3), "p99": round(self.latency.p99_ms, 3)},
            "original_latency_ms": {
                "p50": round(self.original_latency.p50_ms, 3),
                "p99": round(self.original_latency.p99_ms, 3),
            },
            "speed_up": round(self.speed_up, 3),
            "accuracy": _share(self.accuracy.right),
            "escapes": _share(self.accuracy.escapes),
            "false_rejects": _share(self.accuracy.false_rejects),
            "how": dict(self.how),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressReport:
    """All steps, the original first. `out` is the bundle that was written, None where every step was refused.

    `unseen` tells whether the original is known not to have been trained on the pictures that judge; else its accuracy is
    flattered, though quantization, which learns nothing, is compared as fairly.
    """

    bundle: str
    pictures: int
    split_seed: int
    unseen: bool
    allowed_loss: float
    steps: tuple[Step, ...]
    out: Path | None

    def as_json(self) -> dict[str, Any]:
        """Give the report as plain values."""
        return {
            "bundle": self.bundle,
            "pictures": self.pictures,
            "split_seed": self.split_seed,
            "unseen_by_original": self.unseen,
            "allowed_loss_points": self.allowed_loss,
            "steps": [step.as_json() for step in self.steps],
            "out": None if self.out is None else str(self.out),
        }

    def write_json(self, path: Path) -> None:
        """Write the report as JSON."""
        path.write_text(json.dumps(self.as_json(), indent=2) + "\n", encoding="utf-8")

    def table(self) -> str:
        """Give one line for each step: size, p50 and p99, accuracy with its 95 % interval, escapes, false rejects.

        A last line tells where the accuracy may be flattered.
        """
        head = ("step", "size", "p50 ms", "p99 ms", "speed", "accuracy [95 %]", "escapes", "false rejects", "")
        rows = [head, *(self._row(step) for step in self.steps)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join(lines if self.unseen else [*lines, _FLATTERED])

    def _row(self, step: Step) -> tuple[str, ...]:
        smaller = _POINT * (1 - step.size_bytes / self.steps[0].size_bytes)
        size = f"{step.size_bytes / 1e6:.2f} MB" + (f" (-{smaller:.0f} %)" if step is not self.steps[0] else "")
        return (
            step.name,
            size,
            f"{step.latency.p50_ms:.2f}",
            f"{step.latency.p99_ms:.2f}",
            f"{step.speed_up:.2f}x",
            str(step.accuracy.right),
            "-" if step.accuracy.escapes is None else str(step.accuracy.escapes),
            "-" if step.accuracy.false_rejects is None else str(step.accuracy.false_rejects),
            f"REFUSED: {step.refused}" if step.refused else "",
        )


def why_refused(step: Step, original: Accuracy, *, allowed_loss: float) -> str:
    """Say why a step can't be taken, nothing where it can; `allowed_loss` is in percentage points.

    Refused is what is not faster than the step before it, and what loses more than allowed of the accuracy, or of the
    defective parts that are caught: on a line an escape costs more than any other error.
    """
    mine, before = step.latency.p50_ms, step.previous_latency.p50_ms
    if mine >= before:
        return f"not faster: {mine:.2f} ms, before it {before:.2f} ms"
    lost = _points(original.right.value - step.accuracy.right.value)
    if lost > allowed_loss:
        return f"loses {lost:.2f} points of accuracy, allowed are {allowed_loss:g}"
    if step.accuracy.escapes is not None and original.escapes is not None:
        more = _points(step.accuracy.escapes.value - original.escapes.value)
        if more > allowed_loss:
            return f"lets {more:.2f} points more of the defective parts pass, allowed are {allowed_loss:g}"
    return ""


def _points(share: float) -> float:
    """Give a share in percentage points, without the last digits' noise: exactly what is allowed is allowed."""
    return round(_POINT * share, 9)


def _share(share: Share | None) -> dict[str, Any] | None:
    if share is None:
        return None
    return {"count": share.count, "n": share.n, "value": round(share.value, 5), "interval": list(share.interval)}
