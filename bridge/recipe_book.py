"""Recipes with their models: found, joined, loaded, warm and checked."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

import structlog

from bridge.config import Models
from bridge.domain.recipe import Recipe
from bridge.errors import ConfigError
from bridge.inference.bundle import Bundle, open_bundle
from bridge.inference.settings import OnnxSettings
from bridge.inference.trust import load_trust
from bridge.inference.watched import WatchedModel
from bridge.ports import Loaded
from bridge.recipe_files import build_recipe, name_of_number, read_recipe, recipe_names

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """A recipe joined with its verified bundle; the model is not loaded yet."""

    recipe: Recipe
    bundle: Bundle


class DiskRecipes:
    """The recipes of one configuration: files in `folder`, then the shipped ones, bundles by `models`."""

    def __init__(self, *, folder: Path, models: Models) -> None:
        self._folder = folder
        self._models = models

    def find(self, *, name: str | None = None, number: int | None = None) -> Found:
        """Read a recipe and verify its bundle; raises ConfigError, BundleError."""
        if name is None:
            if number is None:
                raise ConfigError("select-recipe: neither a name nor a number is given")
            name = name_of_number(number, self._folder)
        file = read_recipe(name, self._folder)
        trust = load_trust(keys=self._models.trusted_keys, require_signature=self._models.require_signature)
        bundle = open_bundle(file.bundle, base=self._folder.parent, folder=self._models.folder, trust=trust)
        recipe = build_recipe(file, labels=bundle.labels, good_labels=bundle.good_labels, suggested=bundle.thresholds)
        return Found(recipe, bundle)

    def names(self) -> tuple[str, ...]:
        """Give the names of the recipe files; whether one can be used shows as it is loaded."""
        return recipe_names(self._folder)

    async def load(self, *, name: str | None = None, number: int | None = None) -> Loaded:
        """Load a recipe's model, warm and checked on its golden frames; raises ConfigError, BundleError."""
        found = await asyncio.to_thread(self.find, name=name, number=number)
        if found.bundle.vouched_by == "unsigned":
            log.warning("bundle_unsigned", bundle=found.bundle.reference, key="models.require_signature")
        threads = min(self._models.threads, _cores())
        model = await WatchedModel.load(
            OnnxSettings(
                bundle=found.bundle.path,
                sha256=found.bundle.sha256,
                trusted_keys=self._models.trusted_keys,
                require_signature=self._models.require_signature,
                threads=threads,
                spin=threads > 1,
                reductions=(found.recipe.decode_reduction,),
            )
        )
        return Loaded(recipe=found.recipe, model=model)


def _cores() -> int:
    """Count the cores that this process may use: more threads than that only wait for each other."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
