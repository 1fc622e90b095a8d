"""Verdicts and what they mean for the gate; `decide` turns scores into one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from bridge.domain.recipe import Recipe


class VerdictCode(IntEnum):
    """The verdict on a part. 0 means "no result", so that a zeroed register never reads as a pass."""

    NONE = 0
    PASS = 1
    FAIL = 2
    UNCERTAIN = 3
    ERROR = 4
    LATE = 5


class Disposition(IntEnum):
    """What the gate is told."""

    NONE = 0
    LET_PASS = 1
    REJECT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """One suspicious place: `box` is (x, y, width, height) in pixels of the original picture, origin top left."""

    label: str
    score: float
    box: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What the model says: a score from 0 to 1 for each of its labels, in the bundle's order, and regions."""

    by_label: Mapping[str, float]
    regions: tuple[Region, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """Scores with what they cost in ms: keys decode, preprocess, inference (with reading the head)."""

    scores: Scores
    timing_ms: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict with its reason, before timing and gate are known. `label_id` is 1 + index in the labels, 0 = none.

    `withheld`: nobody was to judge the part, because the station is disabled or inhibited.
    """

    code: VerdictCode
    reason: str
    label: str | None = None
    label_id: int = 0
    score: float | None = None
    regions: tuple[Region, ...] = ()
    withheld: bool = False


def decide(scores: Scores, recipe: Recipe) -> Judgement:
    """Judge `scores` by the thresholds of `recipe`; whatever is not clearly good is never PASS.

    A label at or over its reject threshold gives FAIL (the one furthest over decides); at or over its doubt
    threshold, UNCERTAIN; a recipe with good labels passes only what scores enough on one of them. A score that
    is missing, NaN or outside 0 to 1 gives ERROR.
    """
    labels = list(scores.by_label)
    for label in recipe.labels:
        value = scores.by_label.get(label)
        if value is None or not math.isfinite(value) or not 0.0 <= value <= 1.0:
            return Judgement(code=VerdictCode.ERROR, reason=f"score of {label} is {value}, not within 0 to 1")
    defects = [label for label in recipe.labels if label not in recipe.good_labels]
    failed = [label for label in defects if scores.by_label[label] >= recipe.thresholds[label].reject]
    if failed:
        label = max(failed, key=lambda name: scores.by_label[name] - recipe.thresholds[name].reject)
        score, limit = scores.by_label[label], recipe.thresholds[label].reject
        return _judgement(VerdictCode.FAIL, _compared(label, score, ">=", limit), label, labels, scores)
    doubtful = [label for label in defects if scores.by_label[label] >= recipe.thresholds[label].doubt]
    if doubtful:
        label = max(doubtful, key=lambda name: scores.by_label[name])
        score, band = scores.by_label[label], recipe.thresholds[label]
        shown = _compared(label, score, "in the band of doubt", band.doubt)
        reason = f"{shown} to {band.reject:.2f}"
        return _judgement(VerdictCode.UNCERTAIN, reason, label, labels, scores)
    if recipe.good_labels:
        label = max(recipe.good_labels, key=lambda name: scores.by_label[name])
        score, limit = scores.by_label[label], recipe.thresholds[label].accept
        if score < limit:
            return _judgement(VerdictCode.UNCERTAIN, _compared(label, score, "<", limit), label, labels, scores)
        return _judgement(VerdictCode.PASS, _compared(label, score, ">=", limit), label, labels, scores)
    label = max(defects, key=lambda name: scores.by_label[name])
    score = scores.by_label[label]
    reason = _compared(label, score, "<", recipe.thresholds[label].doubt)
    return Judgement(code=VerdictCode.PASS, reason=reason, score=score, regions=scores.regions)


def _compared(label: str, score: float, how: str, limit: float) -> str:
    """Say how a score stands to a limit, with as many digits as it takes to see it."""
    digits = 2 if limit >= 0.1 and f"{score:.2f}" != f"{limit:.2f}" else 4
    return f"{label} {score:.{digits}f} {how} {limit:.{digits}f}"


def _judgement(code: VerdictCode, reason: str, label: str, labels: list[str], scores: Scores) -> Judgement:
    return Judgement(
        code=code,
        reason=reason,
        label=label,
        label_id=1 + labels.index(label),
        score=scores.by_label[label],
        regions=scores.regions,
    )


def disposition_for(code: VerdictCode, recipe: Recipe) -> Disposition:
    """Give what the gate is told for a verdict by the recipe's policy; PASS alone passes without being asked."""
    if code is VerdictCode.NONE:
        return Disposition.NONE
    if code is VerdictCode.PASS:
        return Disposition.LET_PASS
    action = {
        VerdictCode.FAIL: recipe.policy.fail,
        VerdictCode.UNCERTAIN: recipe.policy.uncertain,
        VerdictCode.ERROR: recipe.policy.error,
        VerdictCode.LATE: recipe.policy.late,
    }
    return Disposition.LET_PASS if action.get(code) == "pass" else Disposition.REJECT
