"""What serves PLCs, and what writes into them, made from the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bridge.config import Config, StationSettings
from bridge.config_plc import ModbusTls
from bridge.outputs.modbus.client import ModbusClientSettings
from bridge.outputs.modbus.serial import SerialSettings
from bridge.outputs.modbus.server import TlsPort
from bridge.outputs.modbus.service import ModbusSettings
from bridge.outputs.modbus.tls import TlsFiles, server_context
from bridge.outputs.opcua.access import Security
from bridge.outputs.opcua.client import OpcUaClientSettings
from bridge.outputs.opcua.nodes import check_tags
from bridge.outputs.plc_clients import PlcClientSettings
from bridge.outputs.plc_servers import OpcUaSettings, PlcServers, PlcStation
from bridge.ports import Inbox
from bridge.recipe_files import all_recipes


def modbus_settings(config: Config) -> ModbusSettings | None:
    """Say which ways into the Modbus server there are; None without any. Raises ConfigError for a TLS file."""
    modbus, line = config.modbus, config.modbus.serial
    if not modbus.enabled:
        return None
    return ModbusSettings(
        host=modbus.host,
        port=modbus.port if modbus.plain else None,
        tls=_tls_port(modbus.tls) if modbus.tls.enabled else None,
        serial=SerialSettings(**{**line.model_dump(), "device": line.device}) if line.device else None,
        allow=modbus.allow,
        max_connections=modbus.max_connections,
        mirror=modbus.mirror,
    )


def _tls_port(tls: ModbusTls) -> TlsPort | None:
    if tls.cert is None or tls.key is None:  # the settings have seen to it
        return None
    files = TlsFiles(cert=tls.cert, key=tls.key, client_ca=tls.client_ca)
    return TlsPort(port=tls.port, context=server_context(files))


def plc_clients(settings: StationSettings, place: int) -> tuple[PlcClientSettings, ...]:
    """Name the PLCs that a station, the `place`th in the file, is a client of; raises ConfigError for an unknown tag."""
    modbus, opcua, fires = settings.modbus_client, settings.opcua_client, settings.gate.mode == "plc"
    found: list[PlcClientSettings] = []
    if modbus.host:
        found.append(
            ModbusClientSettings(
                host=modbus.host,
                port=modbus.port,
                unit=modbus.unit,
                address=modbus.address,
                control_address=modbus.control_address,
                max_registers=modbus.max_registers,
                word_order=modbus.word_order,
                timeout_s=modbus.timeout_ms / 1e3,
                read_s=modbus.read_ms / 1e3,
                write_s=modbus.write_ms / 1e3,
                drives_gate=modbus.drives_gate and fires,
            )
        )
    if opcua.endpoint:
        key = f"stations.{place}.opcua_client.nodes"
        check_tags(opcua.nodes, key=key)
        found.append(
            OpcUaClientSettings(
                endpoint=opcua.endpoint,
                nodes=opcua.nodes,
                key=key,
                username=opcua.username,
                password=opcua.password,
                security=opcua.security,
                mode=opcua.mode,
                certificate=opcua.certificate,
                private_key=opcua.private_key,
                server_certificate=opcua.server_certificate,
                timeout_s=opcua.timeout_ms / 1e3,
                read_s=opcua.read_ms / 1e3,
                write_s=opcua.write_ms / 1e3,
                drives_gate=opcua.drives_gate and fires,
            )
        )
    return tuple(found)


def plc_servers(config: Config, doors: Sequence[Inbox], recipes: Path) -> PlcServers:
    """Make the servers that PLCs read, and the clients of PLCs that want to be written; raises ConfigError.

    `recipes` is the folder beside the configuration.
    """
    modbus, opcua = config.modbus, config.opcua
    return PlcServers(
        [
            PlcStation(
                name=station.name,
                inbox=door,
                open_lead_ms=station.open_lead_ms,
                close_lead_ms=station.close_lead_ms,
                clients=plc_clients(station, place),
                output_ms=station.output_ms,
            )
            for place, (station, door) in enumerate(zip(config.stations, doors, strict=True))
        ],
        line=config.line.name,
        modbus=modbus_settings(config),
        opcua=OpcUaSettings(
            endpoint=opcua.endpoint,
            anonymous=opcua.anonymous,
            security=Security(
                policies=opcua.policies,
                hosts=opcua.hosts,
                users_file=opcua.users_file,
                pki_folder=opcua.pki_folder,
            ),
            machine_vision=opcua.machine_vision,
            recipes=lambda: [f"{each.name}@{each.revision}" for each in all_recipes(recipes)],
        )
        if opcua.enabled
        else None,
        word_order=modbus.word_order,
        result_ack=modbus.result_ack,
    )
