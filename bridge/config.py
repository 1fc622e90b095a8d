"""Typed settings: every key with its type, default and range; `config_file` reads them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from bridge.config_plc import Modbus, ModbusClient, Opcua, OpcUaClient
from bridge.config_section import Millimetres, Milliseconds, Name, OptionalPath, Port, Section
from bridge.domain.guards import CONFIRM_WINDOW_MS

DATABASE_URL = re.compile(r"sqlite:///.|postgresql(\+psycopg)?://[^/]*/[^?]")
ENV_PREFIX = "LINEGATE_"


def _host_of(address: str) -> str:
    """Give what stands between `//` and the path of an address, a log-in included; empty for none."""
    return address.partition("://")[2].partition("/")[0]


class Line(Section):
    """The conveyor."""

    name: Name = Field("line1", description="name of the conveyor; part of every topic and node id")


class BeltSettings(Section):
    """Where the belt's speed and position come from."""

    speed_mm_s: float = Field(1200.0, gt=0, allow_inf_nan=False, description="belt speed when the source is fixed")
    speed_source: Literal["fixed", "mqtt", "plc", "encoder"] = Field(
        "fixed", description="fixed | mqtt | plc | encoder"
    )
    counts_per_mm: float = Field(10.0, gt=0, allow_inf_nan=False, description="encoder counts for each mm of belt")
    encoder_bits: int = Field(32, ge=16, le=32, description="width of the encoder's counter")
    speed_timeout_ms: Milliseconds = Field(1000.0, gt=0, description="a speed older than this gives no gate order")
    top_speed_mm_s: float = Field(
        3000.0, gt=0, allow_inf_nan=False, description="fastest the belt can run; a faster encoder step is a reset"
    )


class Mqtt(Section):
    """The broker that brings the triggers."""

    host: str = Field("127.0.0.1", min_length=1, description="the broker's address")
    port: Port = Field(1883, description="the broker's port")
    username: str = Field("", description="empty: no log-in")
    password: str = Field("", description="better in password_file")
    password_file: OptionalPath = Field(None, description="a file that holds the password")
    tls_ca: OptionalPath = Field(None, description="certificate authority; set it to use TLS")
    tls_cert: OptionalPath = Field(None, description="client certificate")
    tls_key: OptionalPath = Field(None, description="client key")
    root: str = Field("linegate", pattern=r"^[^+#/\x00]+(/[^+#/\x00]+)*$", description="first level of every topic")
    max_payload_bytes: int = Field(16_000_000, ge=1024, description="a larger message goes to the dead letters")
    trigger_clock: Literal["arrival", "source", "filtered"] = Field(
        "arrival", description="arrival | source (synchronised clocks) | filtered (any clock, by the least delayed)"
    )
    transport_ms: Milliseconds = Field(0.0, description="fixed delay taken off the arrival")

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        if self.password and self.password_file:
            raise ValueError("password and password_file are both set: allowed is one of them")
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("tls_cert and tls_key go together: set both or neither")
        return self


class Records(Section):
    """The journal and the pictures."""

    url: str = Field("sqlite:///data/linegate.db", description="sqlite:///PATH | postgresql://USER@HOST/DATABASE")
    password_file: OptionalPath = Field(None, description="a file that holds the password for PostgreSQL")
    pictures: Path = Field(Path("data/pictures"), description="folder of kept pictures")
    keep: Literal["all", "doubtful", "every_nth"] = Field("all", description="all | doubtful | every_nth")
    keep_nth: int = Field(10, ge=1, description="with every_nth: keep each n-th picture")
    pictures_max_mb: int = Field(10_000, ge=1, description="the oldest pictures go when they are more than this")
    pictures_max_days: int = Field(30, ge=1, description="older pictures go")
    pictures_min_free_mb: int = Field(
        500, ge=0, description="less free room than this on their disk: the oldest pictures go, else none is written"
    )

    @field_validator("url")
    @classmethod
    def _known_database(cls, url: str) -> str:
        if not DATABASE_URL.match(url):
            raise ValueError("allowed is sqlite:///PATH or postgresql://USER@HOST/DATABASE")
        return url


class Models(Section):
    """Model bundles."""

    folder: Path = Field(Path("models"), description="folder of your own bundles")
    trusted_keys: Path = Field(Path("keys"), description="folder of public keys whose bundles are accepted")
    require_signature: bool = Field(True, description="refuse bundles that nobody trusted has signed")
    threads: int = Field(2, ge=1, le=64, description="threads of one inference, at most the cores there are")


class Http(Section):
    """Health and metrics."""

    host: str = Field("127.0.0.1", min_length=1, description="address of /healthz, /readyz and /metrics")
    port: Port = Field(9464, description="port of the same")


class CameraSettings(Section):
    """Where a part's frame comes from when its trigger brings none."""

    kind: Literal["inline", "folder", "video", "http", "genicam"] = Field(
        "inline", description="inline (the trigger brings it) | folder (replays one) | video | http | genicam"
    )
    folder: OptionalPath = Field(
        None, description="with kind folder: the pictures to replay, in the order of their names"
    )
    source: str = Field("", description="video: rtsp://... or another stream, a device (0, /dev/video0) or a file")
    url: str = Field("", description="http: the address of a snapshot, JPEG or PNG")
    username: str = Field("", description="video, http: empty: no log-in")
    password: str = Field("", description="better in password_file")
    password_file: OptionalPath = Field(None, description="a file that holds the password")
    auth: Literal["digest", "basic"] = Field("digest", description="http: digest | basic")
    tls_ca: OptionalPath = Field(None, description="http: certificate authority of an https camera of your own")
    max_bytes: int = Field(16_000_000, ge=1024, le=256_000_000, description="http: a larger picture is refused")
    timeout_ms: float = Field(
        250.0, ge=10, le=10_000, description="video, http, genicam: longest wait for the part's frame"
    )
    max_age_ms: Milliseconds = Field(
        20.0, le=1000, description="video, genicam: a frame may be this much older than the part's moment"
    )
    max_late_ms: Milliseconds = Field(
        60.0, le=10_000, description="video, http, genicam: a frame may be this much younger than the part's moment"
    )
    latency_ms: Milliseconds = Field(0.0, le=5000, description="video, genicam: exposure to arrival")
    producer: OptionalPath = Field(None, description="genicam: the camera maker's GenTL producer, a .cti file")
    device: str = Field("", description="genicam: the camera's id or serial number; empty: the only one there is")
    trigger: Literal["free", "software", "hardware"] = Field("free", description="genicam: free | software | hardware")
    trigger_source: str = Field("Line0", min_length=1, description="genicam: input line of the hardware trigger")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed = {"folder": "folder", "video": "source", "http": "url", "genicam": "producer"}.get(self.kind)
        if needed and not getattr(self, needed):
            raise ValueError(f'camera kind "{self.kind}" needs the key {needed}')
        if "@" in _host_of(self.url) + _host_of(self.source):
            raise ValueError("url and source hold no log-in: put it into username and password_file")
        if self.kind == "http" and not re.match(r"https?://[^/\s]+(/\S*)?$", self.url):
            raise ValueError(f"url = {self.url!r}: allowed is an address such as http://10.0.0.7/snapshot.jpg")
        if self.password and self.password_file:
            raise ValueError("password and password_file are both set: allowed is one of them")
        return self


class GateOutput(Section):
    """The reject gate: where its output is, and how whoever fires it has to drive it."""

    mode: Literal["plc", "bridge"] = Field(
        "plc", description="who fires: plc (the bridge publishes orders) | bridge (writes the coil below itself)"
    )
    kind: Literal["divert", "pulse"] = Field(
        "divert", description="divert (open over the part) | pulse (pusher, air jet)"
    )
    host: str = Field("127.0.0.1", min_length=1, description="remote I/O module that switches the gate")
    port: Port = Field(5021, description="its Modbus TCP port")
    coil: int = Field(0, ge=0, le=65535, description="its coil")
    rest: Literal["reject", "pass"] = Field("reject", description="what the gate does with its coil off")
    pulse_ms: Milliseconds = Field(50.0, gt=0, description="with kind pulse: time on, centred on the part's middle")
    max_on_ms: Milliseconds = Field(2000.0, gt=0, description="a gate on for longer is switched off, with an alarm")
    min_on_ms: Milliseconds = Field(30.0, description="shortest time on")
    min_off_ms: Milliseconds = Field(30.0, description="shortest time off")


class StationSettings(Section):
    """One inspection point on the line."""

    name: Name = Field("station1", description="name of the station")
    recipe: Name = Field("ball-screw", description="recipe that is active at the start")
    image_folder: Path = Field(Path("images"), description="triggers may name pictures below this folder, nothing else")
    gate_distance_mm: Millimetres = Field(600.0, gt=0, description="beam to the upstream edge of the gate")
    open_lead_ms: Milliseconds = Field(40.0, description="command to fully open")
    close_lead_ms: Milliseconds = Field(40.0, description="command to clear of the belt")
    part_length_mm: Millimetres = Field(100.0, gt=0, description="length of a part along the belt")
    part_length_tolerance_mm: Millimetres = Field(0.0, description="added to the rear of the part")
    guard_mm: Millimetres = Field(15.0, description="added in front of and behind the part")
    output_ms: Milliseconds = Field(20.0, description="worst time from the map to the switched output")
    margin_ms: Milliseconds = Field(20.0, description="margin for the bridge's own timers")
    camera_offset_mm: Millimetres = Field(0.0, description="beam to camera; only delays the capture")
    verdict_timeout_ms: Milliseconds = Field(
        5000.0, gt=0, description="no verdict by then is ERROR, belt moving or not"
    )
    firing_jitter_ms: Milliseconds = Field(10.0, description="jitter of whoever fires: the PLC's scan time")
    confirm_distance_mm: Millimetres = Field(
        0.0, description="beam to the reject bin's sensor, by the part's front edge; 0: unknown, a reject has 3 s"
    )
    confirm_window_ms: float = Field(
        CONFIRM_WINDOW_MS,
        gt=0,
        le=10_000,
        description="the bin's count may rise this much before or after the part is there",
    )
    max_consecutive_rejects: int = Field(10, ge=0, le=100_000, description="so many in a row drop Ready; 0: off")
    max_consecutive_failures: int = Field(3, ge=0, le=100_000, description="so many ERROR or LATE in a row; 0: off")
    touching_tolerance_mm: Millimetres = Field(
        0.0, description="longer at the photo-eye than a part by more: two parts touch, ERROR; 0: off"
    )
    challenge_hours: float = Field(
        0.0, ge=0, le=8760, description="a challenge test must be passed at least so often; 0: off"
    )
    dry_run: bool = Field(False, description="judge and record, but give no part a disposition or a gate order")
    camera: CameraSettings = CameraSettings()
    gate: GateOutput = GateOutput()
    modbus_client: ModbusClient = ModbusClient()
    opcua_client: OpcUaClient = OpcUaClient()

    @model_validator(mode="after")
    def _bin_behind_gate(self) -> Self:
        if 0 < self.confirm_distance_mm <= self.gate_distance_mm:
            raise ValueError(
                f"confirm_distance_mm = {self.confirm_distance_mm:g}: allowed is 0, or more than gate_distance_mm = "
                f"{self.gate_distance_mm:g}: the bin lies behind the gate"
            )
        return self


class Config(BaseSettings):
    """All settings of one bridge."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix=ENV_PREFIX, env_nested_delimiter="__", case_sensitive=False
    )

    line: Line = Line()
    belt: BeltSettings = BeltSettings()
    mqtt: Mqtt = Mqtt()
    opcua: Opcua = Opcua()
    modbus: Modbus = Modbus()
    records: Records = Records()
    models: Models = Models()
    http: Http = Http()
    stations: tuple[StationSettings, ...] = Field((StationSettings(),), min_length=1, max_length=16)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment override the file, which is given as keyword arguments."""
        return (EnvSettingsSource(settings_cls), init_settings)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [station.name for station in self.stations]
        if len(set(names)) != len(names):
            raise ValueError(f"stations: the names {names} are not all different")
        return self

    @model_validator(mode="after")
    def _registers_differ(self) -> Self:
        """Refuse two stations that would write over each other in one PLC."""
        taken: list[tuple[str, ModbusClient]] = []
        for station in self.stations:
            own = station.modbus_client
            for name, other in taken:
                if own.touches(other):
                    raise ValueError(
                        f"stations: {name} and {station.name} write into the same registers of {own.host}:{own.port}: "
                        f"address = {other.address} and {own.address} must lie at least 324 apart, or the units differ"
                    )
            if own.host:
                taken.append((station.name, own))
        return self
