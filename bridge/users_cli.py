"""`linegate users`: who may log in to the OPC UA server. A password is never an argument: others would see it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, cast

import typer

from bridge.cli_options import DEFAULT_CONFIG, ConfigFile
from bridge.config_file import load_config
from bridge.errors import ConfigError
from bridge.outputs.opcua.users import ROLES, Role, UserRecord, check_name, hashed, load_users, save_users

users_app = typer.Typer(help="Who may log in to the OPC UA server.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of the user.")]


@users_app.command("add")
def users_add(
    name: Name,
    config: ConfigFile = DEFAULT_CONFIG,
    role: Annotated[str | None, typer.Option(help="viewer | operator | plc; needed for a new user.")] = None,
    password_file: Annotated[
        Path | None, typer.Option("--password-file", metavar="FILE", help="Read the password from here; - is stdin.")
    ] = None,
) -> None:
    """Add a user, or give one another password or role; a bridge that runs takes it up within seconds."""
    check_name(name)
    if role is not None and role not in ROLES:
        raise ConfigError(f"--role {role}: allowed is one of {', '.join(ROLES)}")
    path = load_config(config).opcua.users_file
    users = {user.name: user for user in load_users(path)}
    known = users.get(name)
    if known is None and role is None:
        raise ConfigError(f"user {name!r} is new: --role is needed, one of {', '.join(ROLES)}")
    wanted = cast("Role", role or (known.role if known else "viewer"))
    users[name] = UserRecord(name=name, role=wanted, password=hashed(_password(password_file)))
    save_users(path, users.values())
    typer.echo(f"{'changed' if known else 'added'} {name} ({wanted}) in {path}")


@users_app.command("list")
def users_list(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """List names and roles."""
    path = load_config(config).opcua.users_file
    users = load_users(path)
    for user in users:
        typer.echo(f"{user.name:<32} {user.role}")
    if not users:
        typer.echo(f"no user in {path}")


@users_app.command("remove")
def users_remove(name: Name, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Remove a user; a bridge that runs ends his sessions within seconds."""
    path = load_config(config).opcua.users_file
    users = load_users(path)
    if name not in [user.name for user in users]:
        raise ConfigError(
            f"user {name!r} is not in {path}: known are {', '.join(user.name for user in users) or 'none'}"
        )
    save_users(path, [user for user in users if user.name != name])
    typer.echo(f"removed {name} from {path}")


def _password(file: Path | None) -> str:
    """Read a password from a file or a terminal; raises ConfigError."""
    if file is None:
        if not sys.stdin.isatty():
            raise ConfigError(
                "there is no terminal to type the password at: name a file with --password-file, - is stdin"
            )
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not a text in UTF-8"
        raise ConfigError(f"--password-file {file}: {reason}") from exc
    return text.rstrip("\r\n")
