"""Recipes on disk: `recipes/NAME.toml` beside the configuration, then the shipped ones."""

from __future__ import annotations

import contextlib
import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bridge.config_section import NAME_PATTERN
from bridge.domain.recipe import Action, Keep, Policy, Recipe, Threshold
from bridge.errors import ConfigError


class ThresholdTable(BaseModel):
    """Limits of one label as a recipe file gives them; what is absent comes from the bundle."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    reject: float | None = Field(None, ge=0, le=1)
    doubt: float | None = Field(None, ge=0, le=1)
    accept: float | None = Field(None, ge=0, le=1)
    region: float | None = Field(None, ge=0, le=1)


class PolicyTable(BaseModel):
    """What the verdicts other than PASS do to the part."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    fail: Action = "reject"
    uncertain: Action = "reject"
    error: Action = "reject"
    late: Action = "reject"


class RecipeFile(BaseModel):
    """One recipe file, checked; `roi` is x, y, width, height in pixels of the picture."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(pattern=NAME_PATTERN)
    number: int = Field(ge=1, le=65534)
    revision: int = Field(1, ge=1)
    bundle: str = Field(min_length=1)
    thresholds: dict[str, ThresholdTable] = Field(default_factory=dict)
    policy: PolicyTable = PolicyTable()
    roi: tuple[int, int, int, int] | None = None
    decode_reduction: Literal[1, 2, 4, 8] = 1
    keep: Keep | None = None


def shipped_folder(kind: Literal["recipes", "bundles"]) -> Traversable:
    """Give the folder of shipped recipes or bundles, wherever the package is installed."""
    return files("models") / kind


def read_recipe(name: str, folder: Path) -> RecipeFile:
    """Read the recipe `name` from `folder`, else the shipped one. Raises ConfigError naming file, key and value."""
    for place in (folder, shipped_folder("recipes")):
        file = place / f"{name}.toml"
        if file.is_file():
            return _parse(file, name)
    known = sorted({recipe.name for recipe in all_recipes(folder)})
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; the nearest known one is {near[0]!r}" if near else f"; known are {', '.join(known) or 'none'}"
    raise ConfigError(
        f"recipe = {name!r}: no file {folder.name}/{name}.toml beside the configuration nor shipped{hint}"
    )


def all_recipes(folder: Path) -> Iterable[RecipeFile]:
    """Give every recipe that can be chosen; a file beside the configuration hides a shipped one of its name."""
    seen: set[str] = set()
    for place in (folder, shipped_folder("recipes")):
        if not place.is_dir():
            continue
        for file in sorted(place.iterdir(), key=lambda each: each.name):
            stem = file.name.removesuffix(".toml")
            if file.name.endswith(".toml") and stem not in seen:
                seen.add(stem)
                yield _parse(file, stem)


def recipe_names(folder: Path) -> tuple[str, ...]:
    """Give the names of all recipe files, in order, without reading them; a folder that can't be listed holds none."""
    found: set[str] = set()
    for place in (folder, shipped_folder("recipes")):
        with contextlib.suppress(OSError):
            found |= {each.name.removesuffix(".toml") for each in place.iterdir() if each.name.endswith(".toml")}
    return tuple(sorted(name for name in found if re.fullmatch(NAME_PATTERN, name)))


def name_of_number(number: int, folder: Path) -> str:
    """Give the recipe that PLCs know by `number`. Raises ConfigError if there is none, or more than one."""
    names = [recipe.name for recipe in all_recipes(folder) if recipe.number == number]
    if len(names) != 1:
        raise ConfigError(
            f"recipe number {number}: " + (f"claimed by {', '.join(names)}" if names else "no recipe has it")
        )
    return names[0]


def build_recipe(
    file: RecipeFile, *, labels: tuple[str, ...], good_labels: tuple[str, ...], suggested: Mapping[str, Threshold]
) -> Recipe:
    """Join a recipe file with its bundle's labels. Raises ConfigError for a label or limits that can't be."""
    for label in file.thresholds:
        if label not in labels:
            raise ConfigError(
                f"recipe {file.name}: thresholds.{label}: no such label; the bundle has {', '.join(labels)}"
            )
    thresholds = {}
    for label in labels:
        given = file.thresholds.get(label, ThresholdTable())
        base = suggested.get(label, Threshold())
        reject = base.reject if given.reject is None else given.reject
        doubt = min(base.doubt, reject) if given.doubt is None else given.doubt
        if doubt > reject:
            raise ConfigError(
                f"recipe {file.name}: thresholds.{label}.doubt = {doubt}: allowed is at most reject = {reject}"
            )
        thresholds[label] = Threshold(
            reject=reject,
            doubt=doubt,
            accept=base.accept if given.accept is None else given.accept,
            region=base.region if given.region is None else given.region,
        )
    return Recipe(
        name=file.name,
        number=file.number,
        revision=file.revision,
        bundle=file.bundle,
        labels=labels,
        good_labels=good_labels,
        thresholds=thresholds,
        policy=Policy(**file.policy.model_dump()),
        roi=file.roi,
        decode_reduction=file.decode_reduction,
        keep=file.keep,
    )


def _parse(file: Path | Traversable, stem: str) -> RecipeFile:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
        recipe = RecipeFile(**document)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"recipe {file.name}: not valid TOML: {exc}") from exc
    except (ValidationError, TypeError) as exc:
        raise ConfigError(f"recipe {file.name}: {_explain(exc)}") from exc
    if recipe.name != stem:
        raise ConfigError(f"recipe {file.name}: name = {recipe.name!r}: allowed is {stem!r}, the name of the file")
    return recipe


def _explain(exc: ValidationError | TypeError) -> str:
    if isinstance(exc, TypeError):
        return str(exc)
    lines = []
    for error in exc.errors():
        key = ".".join(str(part) for part in error["loc"])
        if error["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(error["loc"][-1]), list(RecipeFile.model_fields), n=1, cutoff=0.5)
            lines.append(f"unknown key {key!r}" + (f"; the nearest known one is {near[0]!r}" if near else ""))
        else:
            lines.append(
                f"{key}: {error['msg']}" + ("" if isinstance(error["input"], dict) else f", not {error['input']!r}")
            )
    return "; ".join(lines)
