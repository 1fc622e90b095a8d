"""Recipes with their models: found, joined, loaded, warm and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bridge.config import Models
from bridge.domain.recipe import Recipe
from bridge.errors import ConfigError
from bridge.inference.bundle import Bundle, open_bundle
from bridge.inference.model import OnnxModel, OnnxSettings
from bridge.inference.trust import load_trust
from bridge.ports import Loaded
from bridge.recipe_files import build_recipe, name_of_number, read_recipe


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

    async def load(self, *, name: str | None = None, number: int | None = None) -> Loaded:
        """Load a recipe's model, warm and checked on its golden frames; raises ConfigError, BundleError."""
        found = self.find(name=name, number=number)
        model = await OnnxModel.load(
            OnnxSettings(
                bundle=found.bundle.path,
                trusted_keys=self._models.trusted_keys,
                require_signature=self._models.require_signature,
                reductions=(found.recipe.decode_reduction,),
            )
        )
        return Loaded(recipe=found.recipe, model=model)
