"""What `check-config` tells of the ways to PLCs, and what makes them less safe than they could be."""

from __future__ import annotations

from ipaddress import ip_network

from bridge.config import StationSettings
from bridge.config_plc import Modbus

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def plc_clients_told(station: StationSettings) -> list[str]:
    """Say into which PLCs the bridge writes by itself; never a password."""
    modbus, opcua, told = station.modbus_client, station.opcua_client, []
    if modbus.host:
        last, read = modbus.address + 323, modbus.control_address
        reads = f", and reads {read} to {read + 15} every {modbus.read_ms:g} ms" if modbus.read_ms else ""
        told.append(
            f"PLC: the bridge writes registers {modbus.address} to {last} of {modbus.host}:{modbus.port}, "
            f"unit {modbus.unit}{reads}"
        )
    if opcua.endpoint:
        written = sum(not tag.startswith("Control.") for tag in opcua.nodes)
        told.append(
            f"PLC: the bridge writes {written} tags into {opcua.endpoint} and reads {len(opcua.nodes) - written}, "
            f"security {opcua.security}, {f'as {opcua.username}' if opcua.username else 'anonymous'}"
        )
    return told


def plc_client_warnings(station: StationSettings) -> list[str]:
    """Name what makes the way into a PLC less safe than it could be."""
    modbus, opcua, warnings = station.modbus_client, station.opcua_client, []
    fires = station.gate.mode == "plc"
    unseen = {
        "modbus_client.read_ms = 0": modbus.host and modbus.drives_gate and not modbus.read_ms,
        "opcua_client.nodes has no Control.PlcHeartbeat that is read": opcua.endpoint
        and opcua.drives_gate
        and not (opcua.read_ms and "Control.PlcHeartbeat" in opcua.nodes),
    }
    warnings += [
        f"{station.name}: {why}: the PLC's heartbeat is not seen that way, so GateUnguarded stays set unless it comes by another"
        for why, so in unseen.items()
        if so and fires
    ]
    if opcua.endpoint and opcua.username and opcua.security == "none":
        warnings.append(f'{station.name}: opcua_client.security = "none" may send the password readably')
    if opcua.endpoint and opcua.security != "none" and opcua.server_certificate is None:
        warnings.append(
            f"{station.name}: opcua_client.server_certificate is empty: whoever answers is taken for the PLC"
        )
    return warnings


def modbus_ways(modbus: Modbus) -> list[str]:
    """Name the ways into the Modbus server."""
    line, tls = modbus.serial, modbus.tls
    ways = (
        (modbus.plain, f"{modbus.host}:{modbus.port}"),
        (tls.enabled, f"{modbus.host}:{tls.port} with TLS"),
        (line.device is not None, f"{line.device} at {line.baud_rate} baud, 8{line.parity[0].upper()}{line.stop_bits}"),
    )
    return [text for there, text in ways if there and modbus.enabled]


def modbus_warnings(modbus: Modbus) -> list[str]:
    """Say who may write to the Modbus server without a certificate."""
    if not modbus.enabled or modbus.host in LOOPBACK:
        return []
    everybody = [each for each in modbus.allow if ip_network(each, strict=False).prefixlen == 0]
    guard = f"modbus.allow = {everybody} lets everybody in" if everybody else "modbus.allow is what guards it"
    warnings = []
    if modbus.plain:
        warnings.append(f"modbus.host = {modbus.host!r}: Modbus has no log-in; {guard}")
    if modbus.tls.enabled and modbus.tls.client_ca is None:
        warnings.append(f'modbus.tls.client_ca = "": no client certificate is asked for; {guard}')
    return warnings
