"""The command line: commands, nothing else. Exit codes: 0 good, 1 a failure in running, 2 bad usage or configuration."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Annotated, TextIO, cast

import structlog
import typer

from bridge import __version__
from bridge.app import check_line, run_bridge, try_gate
from bridge.cli_options import DEFAULT_CONFIG, ConfigFile
from bridge.config import Config
from bridge.config_file import load_config
from bridge.errors import BridgeError, ConfigError
from bridge.line_report import describe_line
from bridge.log_lines import LogLines
from bridge.model_cli import model_app
from bridge.outputs.plc.tag_list import TagFormat, render_tags
from bridge.records_cli import records_app
from bridge.setup_files import write_project
from bridge.users_cli import users_app

app = typer.Typer(
    name="linegate",
    help="Linegate: from a camera trigger to a PLC's reject gate. Not a safety device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
simulate_app = typer.Typer(help="A conveyor, a PLC or a broker alone, against any bridge.", no_args_is_help=True)
gate_app = typer.Typer(help="The reject gate that the bridge fires itself.", no_args_is_help=True)
app.add_typer(gate_app, name="gate")
app.add_typer(model_app, name="model")
app.add_typer(records_app, name="records")
app.add_typer(simulate_app, name="simulate")
app.add_typer(users_app, name="users")

WARNED_S = 3
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def main() -> None:
    """Run the command line; every mistake of ours or the user's ends in one line and an exit code."""
    try:
        app()
    except ConfigError as exc:
        _end(exc, 2)
    except BridgeError as exc:
        _end(exc, 1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as exc:  # noqa: BLE001 - the boundary of the program: an operator gets a line, never a traceback
        _end(_innermost(exc), 1)


def _end(what: BridgeError | str, code: int) -> None:
    sys.stderr.write(f"linegate: {' '.join(str(what).split())}\n")
    sys.exit(code)


def _innermost(exc: BaseException) -> str:
    """Name the cause and the place of a fault of our own, out of a group where it lies in one."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    place = traceback.extract_tb(exc.__traceback__)[-1]
    return (
        f"internal fault: {type(exc).__name__}: {exc} (at {Path(place.filename).name}:{place.lineno}); please report it"
    )


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"linegate {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """From a camera trigger to a PLC's reject gate. Not a safety device."""


@app.command()
def run(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Run the bridge until SIGTERM or Ctrl-C."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, LogLines())),
    )
    asyncio.run(run_bridge(load_config(config), config.absolute().parent / "recipes"))


@app.command("check-config")
def check_config(
    config: ConfigFile = DEFAULT_CONFIG,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of the file instead.")] = False,
) -> None:
    """Check the configuration, its recipes and models; tell what they mean for the line."""
    if schema:
        typer.echo(json.dumps(Config.model_json_schema(), indent=2))
        return
    settings = load_config(config)
    loaded = asyncio.run(check_line(settings, config.absolute().parent / "recipes"))
    typer.echo(describe_line(settings, loaded))


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="Where to write.")] = Path()) -> None:
    """Write linegate.toml and recipes/ball-screw.toml with every key and its default."""
    for path in write_project(folder):
        typer.echo(f"wrote {path}")
    typer.echo("next: linegate check-config, then linegate run")


@app.command()
def tags(
    config: Annotated[Path | None, typer.Option("--config", help="Configuration file.", metavar="FILE")] = None,
    fmt: Annotated[TagFormat, typer.Option("--format", help="md | csv | json | st")] = "md",
) -> None:
    """Print every register, node, code and state: for line1.station1 without a configuration."""
    if config is None and DEFAULT_CONFIG.exists():
        config = DEFAULT_CONFIG
    line, stations = "line1", ["station1"]
    if config is not None:
        settings = load_config(config)
        line, stations = settings.line.name, [station.name for station in settings.stations]
    typer.echo(render_tags(fmt, line, stations))


@app.command(context_settings=PASS_ON, add_help_option=False)
def demo(context: typer.Context) -> None:
    """Run broker, conveyor, PLC and bridge on this machine, then reconcile: see `linegate demo --help`."""
    _hand_over("simulators.demo", context.args)


@simulate_app.command("conveyor", context_settings=PASS_ON, add_help_option=False)
def simulate_conveyor(context: typer.Context) -> None:
    """Run the conveyor with its photo-eye, camera, encoder and reject gate."""
    _hand_over("simulators.line.server", context.args)


@simulate_app.command("plc", context_settings=PASS_ON, add_help_option=False)
def simulate_plc(context: typer.Context) -> None:
    """Run the PLC that reads the bridge and drives the gate."""
    _hand_over("simulators.plc.run", context.args)


@simulate_app.command("broker", context_settings=PASS_ON, add_help_option=False)
def simulate_broker(context: typer.Context) -> None:
    """Run a small MQTT broker; not for production."""
    _hand_over("simulators.broker", context.args)


def _hand_over(module: str, arguments: list[str]) -> None:
    """Become another program of this package: the simulators share nothing with the bridge but the wire."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", module, *arguments])


@gate_app.callback()
def gate() -> None:
    """The reject gate that the bridge fires itself."""


def _agree(question: str) -> None:
    """Ask; where nobody can answer, give those who watch the time to stop it."""
    typer.echo(f"{question} [y/N]: ", nl=False)
    answer = sys.stdin.readline()
    if answer and answer.strip().lower() not in ("y", "yes"):
        raise typer.Abort
    if not answer:
        typer.echo(f"nobody to ask: it moves in {WARNED_S} s")
        time.sleep(WARNED_S)


@gate_app.command("test")
def gate_test(
    config: ConfigFile = DEFAULT_CONFIG,
    station: Annotated[str | None, typer.Option(help="Station; the first one without.")] = None,
    open_ms: Annotated[float, typer.Option("--ms", min=1, max=2000, help="How long the gate stays open.")] = 200.0,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
) -> None:
    """Fire the gate once: somebody has to stand by and watch it. Stop the bridge before."""
    settings = load_config(config)
    chosen = next((one for one in settings.stations if station in (None, one.name)), None)
    if chosen is None:
        names = ", ".join(one.name for one in settings.stations)
        raise ConfigError(f"--station {station}: allowed is one of {names}")
    if chosen.gate.mode != "bridge":
        raise ConfigError(f'{chosen.name}: gate.mode = "plc": the PLC fires this gate; allowed here is "bridge"')
    typer.echo(f"{chosen.name}: the gate will move, coil {chosen.gate.coil} on {chosen.gate.host}:{chosen.gate.port}")
    if not yes:
        _agree("Is everybody clear of it, and the bridge stopped?")
    asyncio.run(try_gate(chosen, open_ms=open_ms, say=typer.echo))
