"""Typed settings of what PLCs connect to."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Literal

from pydantic import Field, field_validator

from bridge.config_section import Port, Section


class Opcua(Section):
    """The OPC UA server."""

    enabled: bool = Field(True, description="serve OPC UA")
    endpoint: str = Field(
        "opc.tcp://127.0.0.1:4840/linegate/",
        pattern=r"^opc\.tcp://[^/:\s]+:\d{1,5}(/\S*)?$",
        description="address that the server listens on",
    )
    anonymous: bool = Field(False, description="let anonymous clients read and write (policy None)")


class Modbus(Section):
    """The Modbus TCP server."""

    enabled: bool = Field(True, description="serve Modbus TCP")
    host: str = Field("127.0.0.1", min_length=1, description="address that the server listens on")
    port: Port = Field(5020, description="port that the server listens on")
    allow: tuple[str, ...] = Field(("127.0.0.1",), description="client addresses or networks that may connect")
    word_order: Literal["high_first", "low_first"] = Field("high_first", description="high_first | low_first")
    max_connections: int = Field(20, ge=1, le=1000, description="more connections than this are closed at once")
    result_ack: bool = Field(False, description="hold each result until the PLC acknowledges it")
    mirror: bool = Field(True, description="input registers also as holding registers at +1000")

    @field_validator("allow")
    @classmethod
    def _networks(cls, allow: tuple[str, ...]) -> tuple[str, ...]:
        for each in allow:
            try:
                ip_network(each, strict=False)
            except ValueError as exc:
                raise ValueError(f"{each!r} is neither an address nor a network such as 10.0.0.0/24") from exc
        return allow
