"""The recipe that a bundle suggests: what its scores lead to where nobody has set anything."""

from __future__ import annotations

from bridge.domain.recipe import Policy, Recipe
from bridge.inference.manifest import Manifest


def own_recipe(manifest: Manifest) -> Recipe:
    """Give a bundle's labels and thresholds as a recipe, everything but PASS rejected."""
    return Recipe(
        name=manifest.name, number=1, revision=1, bundle=manifest.reference, labels=manifest.labels,
        good_labels=manifest.good_labels, thresholds=manifest.full_thresholds, policy=Policy(),
    )  # fmt: skip
