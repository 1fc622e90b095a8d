"""A classifier on pooled features: multinomial logistic regression, its strength and its features chosen by cross-validation.

Every figure of the report comes from pictures that the model which judged them had not seen: five folds, nearly identical
pictures (and those of one group) in one fold.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler

from models.toolkit.graphs.heads import Linear, pooled_size
from models.toolkit.pictures.folder import LabelledFolder

STRENGTHS = (0.03, 0.1, 0.3, 1.0)
FOLDS = 5
NEARLY_THE_SAME = 0.995
_BLOCK = 1000

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierFit:
    """A head for `taps`, the strength it was fitted with, and what each picture got from a model that had not seen it."""

    taps: tuple[str, ...]
    strength: float
    head: Linear
    unseen: Probabilities
    groups: Labels

    def errors(self, labels: Labels) -> int:
        """Count the unseen pictures whose highest label is not their own."""
        return int((self.unseen.argmax(axis=1) != labels).sum())

    def log_loss(self, labels: Labels) -> float:
        """Give the mean negative logarithm of the unseen pictures' own label."""
        own = self.unseen[np.arange(len(labels)), labels]
        return float(-np.log(np.clip(own, 1e-12, 1)).mean())


def label_numbers(folder: LabelledFolder) -> Labels:
    """Give each picture's label as its place in the folder's labels."""
    return np.asarray([folder.labels.index(sample.label) for sample in folder.samples], np.int64)


def group_numbers(folder: LabelledFolder, features: Features) -> Labels:
    """Give pictures that must stay on one side of a split the same number: of one group, or nearly the same shot.

    `features` are pictures x features of the pictures as they are; alike means a cosine over 0.995 when standardised.
    """
    z = StandardScaler().fit_transform(features)
    z /= np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-9)
    rows, columns = [], []
    for start in range(0, len(z), _BLOCK):
        near = np.argwhere(z[start : start + _BLOCK] @ z.T > NEARLY_THE_SAME)
        rows.append(near[:, 0] + start)
        columns.append(near[:, 1])
    first: dict[str, int] = {}
    for number, sample in enumerate(folder.samples):
        if sample.group:
            rows.append(np.asarray([number]))
            columns.append(np.asarray([first.setdefault(sample.group, number)]))
    links = (np.concatenate(rows), np.concatenate(columns))
    graph = coo_matrix((np.ones(len(links[0])), links), shape=(len(z), len(z)))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def fit_classifier(
    features: Features, labels: Labels, groups: Labels, choices: Sequence[Sequence[str]], *, seed: int
) -> ClassifierFit:
    """Fit the head with the fewest features whose errors on unseen pictures are within one standard error of the fewest.

    The one-standard-error rule (Breiman et al. 1984): a difference of a few pictures is luck, more features are slower.

    `features` are pictures x mirrors x `pooled_size` of the longest of `choices`, each of which begins it; `choices` come
    with the fewest features first. Of several strengths the one with the fewest errors, then the least log loss, is taken.
    """
    tried = [_best_strength(features, labels, groups, taps, seed=seed) for taps in choices]
    fewest = min(fit.errors(labels) for fit in tried)
    within = fewest + max(1.0, math.sqrt(fewest * (1 - fewest / len(labels))))
    best = next(fit for fit in tried if fit.errors(labels) <= within)
    return replace(best, head=_fit(features[:, :, : pooled_size(best.taps)], labels, best.strength))


def _best_strength(
    features: Features, labels: Labels, groups: Labels, taps: Sequence[str], *, seed: int
) -> ClassifierFit:
    cut = features[:, :, : pooled_size(taps)]
    none = Linear(weight=np.empty(0), bias=np.empty(0))
    fits = (
        ClassifierFit(
            taps=tuple(taps), strength=strength, head=none, groups=groups,
            unseen=_unseen(cut, labels, groups, strength, seed=seed),
        )
        for strength in STRENGTHS
    )  # fmt: skip
    return min(fits, key=lambda fit: (fit.errors(labels), fit.log_loss(labels)))


def _unseen(features: Features, labels: Labels, groups: Labels, strength: float, *, seed: int) -> Probabilities:
    classes = int(labels.max()) + 1
    fewest = min(len(np.unique(groups[labels == label])) for label in range(classes))
    found = np.full((len(labels), classes), 1.0 / classes)
    if fewest < 2:  # a class of one group can't be judged by pictures that are not of it
        return found
    with warnings.catch_warnings():
        # folds of few and unequal groups can't be alike: the split is the best there is
        warnings.filterwarnings("ignore", category=UserWarning, module="sklearn")
        splits = list(
            StratifiedGroupKFold(min(FOLDS, fewest), shuffle=True, random_state=seed).split(labels, labels, groups)
        )
    for seen, unseen in splits:
        if len(np.unique(labels[seen])) < classes:
            continue
        head = _fit(features[seen], labels[seen], strength)
        found[unseen] = _softmax(features[unseen, 0] @ head.weight.T + head.bias)
    return found


def _fit(features: Features, labels: Labels, strength: float) -> Linear:
    """Fit on every mirror image and fold the standardisation into the weights."""
    mirrors = features.shape[1]
    flat, repeated = features.reshape(-1, features.shape[-1]), np.repeat(labels, mirrors)
    scaler = StandardScaler().fit(flat)
    model = LogisticRegression(C=strength, max_iter=500)
    with warnings.catch_warnings():
        # classes that a plane divides have no end to their weights; where it stops is good enough
        warnings.filterwarnings("ignore", category=ConvergenceWarning)
        model.fit(scaler.transform(flat), repeated)
    weight, bias = model.coef_, model.intercept_
    if len(bias) == 1:  # two classes: scikit-learn keeps the second's alone
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    folded = weight / scaler.scale_
    return Linear(weight=folded, bias=bias - folded @ scaler.mean_)


def _softmax(logits: Probabilities) -> Probabilities:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), np.float64)
