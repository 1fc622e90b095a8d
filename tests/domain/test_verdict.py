"""Scores to verdict to disposition: no failure reads as PASS."""

from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.domain.recipe import Policy, Recipe, Threshold
from bridge.domain.verdict import Disposition, Scores, VerdictCode, decide, disposition_for

LIMITS = {"crack": Threshold(reject=0.5, doubt=0.3), "dent": Threshold(reject=0.8, doubt=0.6)}


def recipe(*, good: bool = False, policy: Policy | None = None) -> Recipe:
    return Recipe(
        name="bracket-a",
        number=1,
        revision=3,
        bundle="surface",
        labels=("good", "crack", "dent") if good else ("crack", "dent"),
        good_labels=("good",) if good else (),
        thresholds=LIMITS | {"good": Threshold(accept=0.7)},
        policy=policy or Policy(),
    )


@pytest.mark.parametrize(
    ("crack", "dent", "code", "label"),
    [
        (0.0, 0.0, VerdictCode.PASS, None),
        (0.29, 0.59, VerdictCode.PASS, None),
        (0.3, 0.0, VerdictCode.UNCERTAIN, "crack"),
        (0.5, 0.0, VerdictCode.FAIL, "crack"),
        (0.51, 0.99, VerdictCode.FAIL, "dent"),
        (0.0, 0.79, VerdictCode.UNCERTAIN, "dent"),
    ],
)
def test_thresholds(crack: float, dent: float, code: VerdictCode, label: str | None) -> None:
    judged = decide(Scores(by_label={"crack": crack, "dent": dent}), recipe())
    assert (judged.code, judged.label) == (code, label)
    assert judged.label_id == (0 if label is None else 1 + ["crack", "dent"].index(label))


@pytest.mark.parametrize(("good", "code"), [(0.7, VerdictCode.PASS), (0.69, VerdictCode.UNCERTAIN)])
def test_a_recipe_with_good_labels_passes_only_what_is_good_enough(good: float, code: VerdictCode) -> None:
    assert decide(Scores(by_label={"good": good, "crack": 0.0, "dent": 0.0}), recipe(good=True)).code is code


def test_a_defect_outranks_a_good_score() -> None:
    assert decide(Scores(by_label={"good": 1.0, "crack": 0.9, "dent": 0.0}), recipe(good=True)).code is VerdictCode.FAIL


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.01, 1.01])
def test_an_impossible_score_is_an_error(value: float) -> None:
    judged = decide(Scores(by_label={"crack": 0.0, "dent": value}), recipe())
    assert judged.code is VerdictCode.ERROR and "dent" in judged.reason


def test_a_missing_score_is_an_error() -> None:
    assert decide(Scores(by_label={"crack": 0.0}), recipe()).code is VerdictCode.ERROR


@given(
    good=st.booleans(),
    scores=st.dictionaries(st.sampled_from(("good", "crack", "dent", "rust")), st.floats(), max_size=4),
)
@settings(max_examples=300, deadline=None)
def test_pass_means_that_every_score_is_there_sound_and_below_doubt(good: bool, scores: dict[str, float]) -> None:
    rules = recipe(good=good)
    judged = decide(Scores(by_label=scores), rules)
    assert judged.code is not VerdictCode.NONE
    assert judged.score is None or math.isfinite(judged.score)
    if judged.code is VerdictCode.PASS:
        assert all(label in scores and 0.0 <= scores[label] <= 1.0 for label in rules.labels)
        assert scores["crack"] < 0.3 and scores["dent"] < 0.6
        assert not good or scores["good"] >= 0.7


ACTIONS = ("reject", "pass")


@pytest.mark.parametrize(("fail", "uncertain", "error", "late"), list(product(ACTIONS, repeat=4)))
def test_disposition_follows_the_policy_and_only_pass_passes_unasked(
    fail: str, uncertain: str, error: str, late: str
) -> None:
    policy = Policy(fail=fail, uncertain=uncertain, error=error, late=late)  # type: ignore[arg-type]
    rules = recipe(policy=policy)
    wanted = {
        VerdictCode.FAIL: fail,
        VerdictCode.UNCERTAIN: uncertain,
        VerdictCode.ERROR: error,
        VerdictCode.LATE: late,
    }
    assert disposition_for(VerdictCode.NONE, rules) is Disposition.NONE
    assert disposition_for(VerdictCode.PASS, rules) is Disposition.LET_PASS
    for code, action in wanted.items():
        assert (disposition_for(code, rules) is Disposition.LET_PASS) == (action == "pass")
    assert policy.lets_failures_pass == ("pass" in (error, late))


def test_by_default_whatever_is_not_pass_is_rejected() -> None:
    for code in VerdictCode:
        if code > VerdictCode.PASS:
            assert disposition_for(code, recipe()) is Disposition.REJECT


@pytest.mark.parametrize(
    ("score", "doubt", "reason"),
    [
        (0.93, 0.3, "crack 0.93 >= 0.50"),
        (0.497, 0.496, "crack 0.4970 in the band of doubt 0.4960 to 0.50"),
        (0.004, 0.01, "crack 0.0040 < 0.0100"),
        (0.2, 0.3, "crack 0.20 < 0.30"),
    ],
)
def test_a_reason_shows_the_digits_that_made_the_difference(score: float, doubt: float, reason: str) -> None:
    limits = {"crack": Threshold(reject=0.5, doubt=doubt)}
    one = Recipe(name="one", number=1, revision=1, bundle="surface", labels=("crack",), thresholds=limits)
    assert decide(Scores(by_label={"crack": score}), one).reason == reason
