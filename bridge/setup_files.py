"""The files that `linegate init` writes: a configuration that explains itself, and the first recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bridge.config import Config, StationSettings
from bridge.config_section import Section
from bridge.errors import ConfigError
from bridge.recipe_files import shipped_folder

_HEADER = """\
# Linegate. Every key stands here with its default; the environment overrides each: LINEGATE_MQTT__HOST=10.0.0.5
# Relative paths count from this file's folder. `linegate check-config` says what the settings mean for the line.
# Linegate is not a safety device.
"""


def write_project(folder: Path) -> list[Path]:
    """Write `linegate.toml` and `recipes/ball-screw.toml` below `folder`; overwrites nothing.

    Raises ConfigError naming the file that exists or can't be written.
    """
    recipe = shipped_folder("recipes") / "ball-screw.toml"
    texts = {
        folder / "linegate.toml": render_config(),
        folder / "recipes" / "ball-screw.toml": recipe.read_text(encoding="utf-8"),
    }
    for path in texts:
        if path.exists() or path.is_symlink():
            raise ConfigError(
                f"{path}: exists already and is not overwritten; choose another folder or remove it first"
            )
    for path, text in texts.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except OSError as exc:
            raise ConfigError(f"{path}: can't be written: {exc.strerror}") from exc
    return list(texts)


def render_config() -> str:
    """Give a configuration file with every key, one a line, its default and a comment."""
    blocks = [_HEADER]
    for name, field in Config.model_fields.items():
        if name == "stations":
            blocks.append(_table("stations", StationSettings(), "[[stations]]"))
        else:
            blocks.append(_table(name, field.default, f"[{name}]"))
    return "\n".join(blocks)


def _table(name: str, section: Section, heading: str) -> str:
    """Write one table: its own keys, one a line, then its sub-tables."""
    summary = (type(section).__doc__ or "").strip().split("\n")[0]
    lines, below = [f"{heading:<44} # {summary}\n"], []
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        if isinstance(value, Section):
            below.append("\n" + _table(f"{name}.{key}", value, f"[{name}.{key}]"))
        else:
            lines.append(f"{f'{key} = {_toml(value)}':<44} # {field.description}\n")
    return "".join(lines + below)


def _toml(value: Any) -> str:
    """Write a default as TOML; an absent path is the empty string, which the settings read as absent."""
    if value is None:
        return '""'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(each) for each in value) + "]"
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps(str(value))
