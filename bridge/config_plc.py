"""Typed settings of what PLCs connect to, and of the PLCs that the bridge connects to."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from bridge.config_section import OptionalPath, Port, Section

Policy = Literal["Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"]
HOST_PATTERN = r"^[A-Za-z0-9:]([A-Za-z0-9.:_-]{0,252})$"
NODE_ID = re.compile(r"^(ns=\d{1,5};|nsu=[^;]+;)?(i=\d{1,10}|s=.+|g=[0-9A-Fa-f-]{36}|b=.+)$")


class Opcua(Section):
    """The OPC UA server."""

    enabled: bool = Field(True, description="serve OPC UA")
    endpoint: str = Field(
        "opc.tcp://127.0.0.1:4840/linegate/",
        pattern=r"^opc\.tcp://[^/:\s]+:\d{1,5}(/\S*)?$",
        description="address that the server listens on",
    )
    anonymous: bool = Field(False, description="let anonymous clients read and write (policy None)")
    machine_vision: bool = Field(True, description="a VisionSystem (OPC 40100-1) for each station beside the tags")
    policies: tuple[Policy, ...] = Field(
        get_args(Policy), description="security policies, each with Sign and SignAndEncrypt"
    )
    hosts: tuple[Annotated[str, Field(pattern=HOST_PATTERN)], ...] = Field(
        (), description="names and addresses of this machine in its certificate; empty: its own"
    )
    users_file: Path = Field(Path("users.toml"), description="users and roles; `linegate users add` writes it")
    pki_folder: Path = Field(Path("pki"), description="certificates: own, trusted, issuers, rejected")

    @model_validator(mode="after")
    def _somebody_may_come(self) -> Self:
        if not (self.policies or self.anonymous):
            raise ValueError("policies = []: allowed is an empty list with anonymous = true alone")
        if len(set(self.policies)) != len(self.policies):
            raise ValueError(f"policies = {list(self.policies)}: each once")
        return self


class ModbusSerial(Section):
    """Modbus RTU over a serial line, 8 data bits, beside TCP."""

    device: OptionalPath = Field(None, description="such as /dev/serial/by-id/...; empty: no serial line")
    baud_rate: int = Field(
        19_200, ge=300, le=4_000_000, description="bits a second, as the line's other devices have it"
    )
    parity: Literal["even", "odd", "none"] = Field("even", description="even | odd | none")
    stop_bits: int = Field(1, ge=1, le=2, description="1 | 2; without parity the standard asks for 2")
    local_echo: bool = Field(False, description="the adapter hands back what it sends")


class ModbusTls(Section):
    """Modbus/TCP Security: the same with TLS, on a port of its own."""

    enabled: bool = Field(False, description="serve Modbus with TLS")
    port: Port = Field(802, description="port that it listens on; below 1024 needs the right to")
    cert: OptionalPath = Field(None, description="the server's certificate, PEM, with the chain up to its authority")
    key: OptionalPath = Field(None, description="its key, PEM, without a password")
    client_ca: OptionalPath = Field(None, description="who signed the clients' certificates; empty: none is asked for")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for key in ("cert", "key"):
            if self.enabled and getattr(self, key) is None:
                raise ValueError(f'{key} = "" and enabled = true: a PEM file is needed')
        return self


class Modbus(Section):
    """The Modbus server."""

    enabled: bool = Field(True, description="serve Modbus")
    plain: bool = Field(True, description="serve Modbus TCP without TLS; false: by [modbus.tls] or serial line alone")
    host: str = Field("127.0.0.1", min_length=1, description="address that the server listens on")
    port: Port = Field(5020, description="port that the server listens on")
    allow: tuple[str, ...] = Field(("127.0.0.1",), description="client addresses or networks that may connect")
    word_order: Literal["high_first", "low_first"] = Field("high_first", description="high_first | low_first")
    max_connections: int = Field(20, ge=1, le=1000, description="more connections than this are closed at once")
    result_ack: bool = Field(False, description="hold each result until the PLC acknowledges it")
    mirror: bool = Field(True, description="input registers also as holding registers at +1000")
    serial: ModbusSerial = ModbusSerial()
    tls: ModbusTls = ModbusTls()

    @model_validator(mode="after")
    def _a_way_in(self) -> Self:
        if self.enabled and not (self.plain or self.tls.enabled or self.serial.device):
            raise ValueError(
                "plain = false, tls.enabled = false and serial.device is empty: allowed is enabled = false"
            )
        if self.enabled and self.plain and self.tls.enabled and self.tls.port == self.port:
            raise ValueError(f"port = {self.port} and tls.port = {self.tls.port}: two ports are needed")
        return self

    @field_validator("allow")
    @classmethod
    def _networks(cls, allow: tuple[str, ...]) -> tuple[str, ...]:
        for each in allow:
            try:
                ip_network(each, strict=False)
            except ValueError as exc:
                raise ValueError(f"{each!r} is neither an address nor a network such as 10.0.0.0/24") from exc
        return allow


class ModbusClient(Section):
    """A PLC whose own registers the bridge writes, instead of being polled by it."""

    host: str = Field("", description="the PLC's address; empty: off")
    port: Port = Field(502, description="its Modbus TCP port")
    unit: int = Field(1, ge=0, le=255, description="its unit id")
    address: int = Field(0, ge=0, le=65536 - 324, description="first of 324 holding registers that the bridge writes")
    control_address: int = Field(400, ge=0, le=65536 - 16, description="first of 16 that the PLC writes, bridge reads")
    read_ms: float = Field(50.0, ge=0, le=1000, description="they are read this often; 0: never")
    write_ms: float = Field(
        100.0, ge=10, le=1000, description="all is written at least this often: the clock in it goes on"
    )
    timeout_ms: float = Field(1000.0, ge=50, le=10_000, description="an answer that takes longer ends the connection")
    max_registers: int = Field(123, ge=14, le=123, description="the PLC takes at most so many registers in one request")
    word_order: Literal["high_first", "low_first"] = Field("high_first", description="high_first | low_first")
    drives_gate: bool = Field(True, description="false: it only shows the results; another one drives the gate")

    def touches(self, other: ModbusClient) -> bool:
        """Whether both write into the same registers of the same PLC."""
        same = (self.host, self.port, self.unit) == (other.host, other.port, other.unit)
        return same and abs(self.address - other.address) < 324

    @model_validator(mode="after")
    def _apart(self) -> Self:
        first, last = self.address - 16, self.address + 324
        if first < self.control_address < last:
            raise ValueError(
                f"control_address = {self.control_address}: its 16 registers lie within what the bridge writes, "
                f"{self.address} to {last - 1}: allowed is at most {first}, or {last} and above"
            )
        return self


class OpcUaClient(Section):
    """A PLC whose own OPC UA server the bridge writes into, instead of being read by it."""

    endpoint: str = Field(
        "",
        pattern=r"^(opc\.tcp://[^/:@\s]+:\d{1,5}(/\S*)?)?$",
        description="the PLC's server, opc.tcp://HOST:PORT/...; empty: off",
    )
    username: str = Field("", description="empty: anonymous")
    password: str = Field("", description="better in password_file")
    password_file: OptionalPath = Field(None, description="a file that holds the password")
    security: Literal["none", "Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"] = Field(
        "none", description="none | Basic256Sha256 | Aes128Sha256RsaOaep | Aes256Sha256RsaPss"
    )
    mode: Literal["SignAndEncrypt", "Sign"] = Field(
        "SignAndEncrypt", description="with security: SignAndEncrypt | Sign"
    )
    certificate: OptionalPath = Field(None, description="with security: the bridge's certificate, .der or .pem")
    private_key: OptionalPath = Field(None, description="with security: its key, .pem or .der")
    server_certificate: OptionalPath = Field(
        None, description="with security: the PLC's certificate; empty: not checked"
    )
    read_ms: float = Field(50.0, ge=0, le=1000, description="Control tags are read this often; 0: never")
    write_ms: float = Field(100.0, ge=10, le=1000, description="clocks are written at least this often")
    timeout_ms: float = Field(1000.0, ge=50, le=10_000, description="an answer that takes longer ends the connection")
    drives_gate: bool = Field(True, description="false: it only shows the results; another one drives the gate")
    nodes: dict[str, str] = Field({}, description='our tag = the PLC\'s node: {"Result.Verdict" = "ns=3;s=...", ...}')

    @field_validator("nodes")
    @classmethod
    def _node_ids(cls, nodes: dict[str, str]) -> dict[str, str]:
        for tag, node in nodes.items():
            if not NODE_ID.match(node):
                raise ValueError(
                    f"{tag} = {node!r}: allowed is ns=3;s=NAME, nsu=URI;s=NAME, or i=, g=, b= in place of s="
                )
        return nodes

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.password and self.password_file:
            raise ValueError("password and password_file are both set: allowed is one of them")
        if self.security != "none" and not (self.certificate and self.private_key):
            raise ValueError(f'security = "{self.security}" needs the keys certificate and private_key')
        if self.endpoint and not self.nodes:
            raise ValueError("endpoint is set and nodes is empty: name the PLC's nodes that are to be written")
        return self
