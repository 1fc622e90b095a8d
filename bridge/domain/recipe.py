"""The recipe: labels, thresholds, policies and model for one product."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Action = Literal["reject", "pass"]
Keep = Literal["all", "doubtful", "every_nth"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """Limits for one label's score: FAIL at `reject`, UNCERTAIN from `doubt`; a good label passes from `accept`."""

    reject: float = 0.5
    doubt: float = 0.5
    accept: float = 0.5
    region: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What each verdict that is not PASS does to the part."""

    fail: Action = "reject"
    uncertain: Action = "reject"
    error: Action = "reject"
    late: Action = "reject"

    @property
    def lets_failures_pass(self) -> bool:
        """Whether a part without a verdict would pass: warned of at every start, and keeps Degraded set."""
        return "pass" in (self.error, self.late)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One product's rules. `labels` is in the bundle's order; `thresholds` has every label. `roi` is (x, y, w, h) px."""

    name: str
    number: int
    revision: int
    bundle: str
    labels: tuple[str, ...]
    good_labels: tuple[str, ...] = ()
    thresholds: Mapping[str, Threshold] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    roi: tuple[int, int, int, int] | None = None
    decode_reduction: Literal[1, 2, 4, 8] = 1
    keep: Keep | None = None

    @property
    def reference(self) -> str:
        """Name and revision as records show it: `bracket-a@3`."""
        return f"{self.name}@{self.revision}"
