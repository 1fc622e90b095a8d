"""Read the settings: a TOML file, then the environment over it. Every mistake is found before the line starts."""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_origin
from urllib.parse import quote

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bridge.config import ENV_PREFIX, CameraSettings, Config, Mqtt, Records, StationSettings
from bridge.config_plc import OpcUaClient
from bridge.config_section import Section
from bridge.errors import ConfigError

LogIn = TypeVar("LogIn", Mqtt, CameraSettings, OpcUaClient)

_PLAIN = {"model_type": "a table of keys is needed", "tuple_type": "a list is needed"}


def load_config(path: Path, environment: Mapping[str, str] | None = None) -> Config:
    """Read `path` and the environment over it; relative paths in the file count from the file's folder.

    Raises ConfigError naming the key, the value, what is allowed and, for an unknown key, the nearest known one.
    """
    try:
        with path.open("rb") as file:
            document = tomllib.load(file)
    except FileNotFoundError as exc:
        raise ConfigError(f"{path}: no such file; `linegate init` writes one, or name another with --config") from exc
    except OSError as exc:
        raise ConfigError(f"{path}: can't be read: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: not valid TOML: {exc}") from exc
    environment = os.environ if environment is None else environment
    _check_environment(environment)
    try:
        config = Config(**document)
    except ValidationError as exc:
        mistakes = "; ".join(_explain(error, environment) for error in _roots(exc.errors()))
        raise ConfigError(f"{path}: {mistakes}") from exc
    return _resolve(config, path.absolute().parent)


def _check_environment(environment: Mapping[str, str]) -> None:
    """Refuse what the settings reader passes over in silence or can't name: an unknown section, a list that is no JSON."""
    for variable in environment:
        if variable.upper().startswith(ENV_PREFIX):
            place = variable.lower().removeprefix(ENV_PREFIX.lower()).split("__")
            if place[0] not in Config.model_fields:
                near = _nearest(place[0].upper(), [name.upper() for name in Config.model_fields])
                raise ConfigError(f"environment variable {variable}: unknown section {place[0].upper()!r}{near}")
            kind: Any = Config
            for key in place:
                kind = getattr(getattr(kind, "model_fields", {}).get(key), "annotation", None)
            try:
                if get_origin(kind) is tuple or hasattr(kind, "model_fields"):
                    json.loads(environment[variable])
            except ValueError as exc:
                shown = f"{variable} = {environment[variable]!r}" if get_origin(kind) is tuple else variable
                raise ConfigError(f'environment variable {shown}: allowed is JSON, for a list ["a", "b"]') from exc


def _roots(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out what only follows from another error: a list counted as short because its item is wrong."""
    places = [error["loc"] for error in errors]
    return [e for e in errors if not any(len(p) > len(e["loc"]) and p[: len(e["loc"])] == e["loc"] for p in places)]


def _explain(error: ErrorDetails, environment: Mapping[str, str]) -> str:
    """Put one validation error into a line: key, value, the variable it comes from, what is allowed."""
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown key {key!r}{_nearest(str(error['loc'][-1]), _keys_at(error['loc'][:-1]))}"
    message = _PLAIN.get(error["type"], error["msg"].removeprefix("Value error, "))
    value = "..." if key.endswith("password") else _without_password(key, error["input"])
    shown = "" if isinstance(value, dict | BaseModel) else f" = {value!r}"
    names = [ENV_PREFIX + "__".join(map(str, error["loc"][: n + 1])).upper() for n in range(len(error["loc"]))]
    source = "".join(f" (from {name})" for name in names if name in environment)
    return f"{key}{shown}{source}: {message}" if key else message


def _without_password(key: str, value: Any) -> Any:
    """Hide the password of a database's URL, whatever else is wrong with that."""
    if key != "records.url" or not isinstance(value, str):
        return value
    return re.sub(r"(password=)[^&]*", r"\1...", re.sub(r"(//[^:/@]*):.*@", r"\1:...@", value))


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    model: Any = Config
    for part in location:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation
        model = StationSettings if part == "stations" else annotation
    return list(model.model_fields)


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; the nearest known one is {close[0]!r}" if close else f"; known are {', '.join(known)}"


def _resolve(config: Config, base: Path) -> Config:
    """Make every relative path absolute from the configuration's folder."""

    def paths(section: Section) -> dict[str, Any]:
        update: dict[str, Any] = {}
        for name in type(section).model_fields:
            value = getattr(section, name)
            if isinstance(value, Path):
                update[name] = base / value
            elif isinstance(value, Section):
                update[name] = value.model_copy(update=paths(value))
        return update

    records = config.records.model_copy(update=paths(config.records))
    return config.model_copy(
        update={
            "mqtt": _with_password(config.mqtt.model_copy(update=paths(config.mqtt)), "mqtt"),
            "modbus": config.modbus.model_copy(update=paths(config.modbus)),
            "opcua": config.opcua.model_copy(update=paths(config.opcua)),
            "records": records.model_copy(update={"url": _database_url(records, base)}),
            "models": config.models.model_copy(update=paths(config.models)),
            "stations": tuple(
                station.model_copy(update=_log_ins(paths(station), place, base))
                for place, station in enumerate(config.stations)
            ),
        }
    )


def _database_url(records: Records, base: Path) -> str:
    """Make the path of a file absolute; put the password of a server into its URL, where none is shown again."""
    if records.url.startswith("sqlite:"):
        return f"sqlite:///{base / records.url.removeprefix('sqlite:///')}"
    if records.password_file is None:
        return records.url
    scheme, _, rest = records.url.partition("://")
    user, at, host = rest.partition("@")
    if not at or ":" in user or "/" in user:
        wrong = "has a password already: allowed is one of them" if at else "names no user: USER@HOST is needed"
        raise ConfigError(f"records.password_file is set and records.url {wrong}")
    return f"{scheme}://{user}:{quote(_secret('records.password_file', records.password_file), safe='')}@{host}"


def _log_ins(moved: dict[str, Any], place: int, base: Path) -> dict[str, Any]:
    """Add the passwords of whatever a station logs in to."""
    where = f"stations.{place}.opcua_client"
    return {
        **moved,
        "camera": _camera(moved["camera"], place, base),
        "opcua_client": _with_password(moved["opcua_client"], where),
    }


def _camera(camera: CameraSettings, place: int, base: Path) -> CameraSettings:
    """Read a camera's password, and make a video file's path absolute; an address or a device's number stays."""
    source = camera.source
    if source and "://" not in source and not source.isdecimal():
        source = str(base / source)
    return _with_password(camera.model_copy(update={"source": source}), f"stations.{place}.camera")


def _with_password(section: LogIn, where: str) -> LogIn:
    if section.password_file is None:
        return section
    return section.model_copy(update={"password": _secret(f"{where}.password_file", section.password_file)})


def _secret(key: str, file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not a text in UTF-8"
        raise ConfigError(f"{key} = {str(file)!r}: {reason}") from exc
