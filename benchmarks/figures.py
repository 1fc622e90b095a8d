"""What every part of the benchmark gives, and what it compares with: quantiles, and ratios of rounds side by side."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.pictures import Payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What all parts measure with. `bundle` None is the shipped recipe with its model; `model` is where the model lies."""

    bundle: Path | None
    model: Path
    payloads: tuple[Payload, ...]
    images: Path
    scratch: Path
    rounds: int
    in_flight: int
    firings: int
    quick: bool

    @property
    def shorter(self) -> int:
        """What the numbers of parts are divided by."""
        return 3 if self.quick else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """One figure beside what it should be; `met` None where it could not be measured."""

    what: str
    aim: str
    figure: str
    met: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What one part found: its section of the page, its ratios for the page's head, and its figures that have an aim."""

    text: str
    ratios: str = ""
    aims: tuple[Aim, ...] = field(default=())


def quantile(values: Sequence[float], share: float) -> float:
    """Give the value below which `share` of `values` lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def ratio_of_rounds(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Give the median, lowest and highest ratio of rounds measured side by side."""
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table of the page."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
