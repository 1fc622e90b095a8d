"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[Path, typer.Option("--config", help="Configuration file.", metavar="FILE")]
DEFAULT_CONFIG = Path("linegate.toml")
