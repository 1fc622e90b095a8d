"""Options and arguments that several `linegate model` commands share, and what their bodies need."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bridge.errors import ConfigError

if TYPE_CHECKING:
    from models.toolkit.progress import Stage

INTERRUPTED = "interrupted; nothing was left half-written"

BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle: a folder or an .lgb file.")]
PictureFolder = Annotated[Path, typer.Argument(metavar="FOLDER", help="A sub-folder of pictures for each class.")]
Out = Annotated[
    Path, typer.Option("--out", metavar="BUNDLE", help="Where to write: NAME or NAME-1.2.0, a folder or .lgb.")
]
Good = Annotated[str | None, typer.Option("--good", metavar="CLASS", help="The class of good parts [by its name].")]
Groups = Annotated[
    str | None,
    typer.Option(
        "--groups", metavar="REGEX", help="Pictures whose names give it the same text are of one place or run."
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0)]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here as JSON.")]
EscapeCost = Annotated[float, typer.Option("--escape-cost", min=0.0, help="What one escape costs, in any unit.")]
ScrapCost = Annotated[float, typer.Option("--scrap-cost", min=0.0, help="What one good part in the bin costs.")]
DefectRate = Annotated[
    float | None,
    typer.Option("--defect-rate", min=0.0, max=1.0, help="Share of defective parts [that of the pictures]."),
]
Keys = Annotated[Path | None, typer.Option("--keys", metavar="FOLDER", help="Public keys to trust beside your own.")]


def from_inference(module: str) -> Any:
    """Import what runs models only for the command that runs one: every other command starts without it."""
    return importlib.import_module(f"bridge.inference.{module}")


def from_toolkit(module: str) -> Any:
    """Import a module of the toolkit; raises ConfigError naming the extra that is not installed."""
    try:
        return importlib.import_module(f"models.toolkit.{module}")
    except ModuleNotFoundError as exc:
        missing = (exc.name or "").partition(".")[0]
        if missing in ("bridge", "models"):
            raise
        extra = "train" if missing.startswith(("torch", "efficientnet", "timm")) else "teach"
        raise ConfigError(f"{missing} is not installed: pip install 'linegate[{extra}]'") from exc


@contextmanager
def shown_progress() -> Iterator[Stage]:
    """Show the steps as bars with the time left; without a terminal nothing is shown."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as bars:
        tasks: dict[str, Any] = {}

        def stage(name: str, done: int, of: int, /) -> None:
            if name not in tasks:
                for task in tasks.values():
                    bars.update(task, completed=bars.tasks[task].total)
                tasks[name] = bars.add_task(name, total=of)
            bars.update(tasks[name], completed=done, total=of)

        try:
            yield stage
        except KeyboardInterrupt:
            typer.echo(f"linegate: {INTERRUPTED}", err=True)
            raise


def write_json(path: Path | None, document: Any) -> None:
    """Write a document as JSON where a file was named; raises ConfigError where it can't be."""
    if path is None:
        return
    try:
        path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as exc:
        raise ConfigError(f"--json {path}: can't be written: {exc.strerror}") from exc
