"""What a configuration leaves open to whoever reaches this machine, its network or its disk."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from bridge.config import Config
from bridge.plc_report import LOOPBACK


def open_doors(config: Config) -> list[str]:
    """Give a warning for each door; a folder or file that is not there yet, or can't be looked at, gives none."""
    warnings = []
    if config.http.host not in LOOPBACK:
        warnings.append(
            f"http.host = {config.http.host!r}: whoever reaches port {config.http.port} reads metrics and the parts' "
            "pictures, without log-in"
        )
    if config.mqtt.host not in LOOPBACK and config.mqtt.tls_ca is None:
        sent = "pictures and commands" + (", the password too," if config.mqtt.username else "")
        warnings.append(
            f'mqtt.tls_ca = "": {sent} go readably to {config.mqtt.host}, and nobody proves to be the broker'
        )
    if not config.models.require_signature:
        warnings.append("models.require_signature = false: a model that nobody has signed may judge")
    return warnings + [
        f"{key} = {str(path)!r}: everybody on this machine can read it; chmod 600" for key, path in _readable(config)
    ]


def _secrets(config: Config) -> Iterator[tuple[str, Path | None]]:
    yield "mqtt.password_file", config.mqtt.password_file
    yield "mqtt.tls_key", config.mqtt.tls_key
    yield "records.password_file", config.records.password_file
    yield "modbus.tls.key", config.modbus.tls.key
    yield "opcua.users_file", config.opcua.users_file
    yield "opcua.pki_folder: its own key", config.opcua.pki_folder / "own" / "key.pem"
    for station in config.stations:
        yield f"{station.name}: camera.password_file", station.camera.password_file
        yield f"{station.name}: opcua_client.password_file", station.opcua_client.password_file
        yield f"{station.name}: opcua_client.private_key", station.opcua_client.private_key


def _readable(config: Config) -> Iterator[tuple[str, Path]]:
    for key, path in _secrets(config):
        if path is None:
            continue
        try:
            mode = path.stat().st_mode
        except OSError:
            continue
        if mode & stat.S_IROTH:
            yield key, path
