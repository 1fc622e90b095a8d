"""What the sections of the configuration have in common: their base and the types of their keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

NAME_PATTERN = r"^[A-Za-z][A-Za-z0-9_-]{0,31}$"

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Millimetres = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Milliseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
OptionalPath = Annotated[Path | None, BeforeValidator(lambda value: None if value == "" else value)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Section(BaseModel):
    """One table of the file: unknown keys are errors, values don't change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)
