"""Each adapter made from its section of the configuration."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import fields

from bridge.challenges import Challenges
from bridge.config import CameraSettings, Config, StationSettings
from bridge.config import GateOutput as GateOutputSettings
from bridge.domain.belt import Belt
from bridge.domain.challenge import PASSED, ChallengeTest
from bridge.domain.condition import Condition
from bridge.domain.confirmation import Confirmations
from bridge.domain.gate_settings import GateSettings, smallest_pitch_mm
from bridge.domain.guards import GuardSettings
from bridge.domain.messages import AlarmState
from bridge.gate.coil import CoilAddress
from bridge.gate.link import GateProcess
from bridge.gate_notes import GateNotes
from bridge.gate_reports import GateReports
from bridge.inputs.cameras.folder import FolderCamera
from bridge.inputs.cameras.http import HttpCamera
from bridge.inputs.cameras.inline import InlineCamera, TriggerFirst
from bridge.inputs.mqtt import MqttLink
from bridge.inputs.mqtt_client import Broker
from bridge.ports import Camera, Clock, GateOutput, Inbox, VerdictOutput
from bridge.records.journal import Journal
from bridge.records.pictures import PictureStore


def mqtt_link(config: Config, settings: StationSettings, door: Inbox) -> MqttLink:
    """Make a station's link to the broker."""
    mqtt = config.mqtt
    return MqttLink(
        line=config.line.name,
        station=settings.name,
        broker=Broker(
            host=mqtt.host,
            port=mqtt.port,
            username=mqtt.username or None,
            password=mqtt.password or None,
            tls_ca=mqtt.tls_ca,
            tls_cert=mqtt.tls_cert,
            tls_key=mqtt.tls_key,
            # a message a little too large is to be refused with words; one far too large is not to fill the memory
            max_packet_bytes=2 * mqtt.max_payload_bytes + 1_000_000,
        ),
        inbox=door,
        root=mqtt.root,
        max_payload_bytes=mqtt.max_payload_bytes,
    )


def camera_of(config: Config, settings: StationSettings) -> Camera:
    """Make a station's camera, which gives way to a picture that a trigger brings; raises ConfigError."""
    limit = config.mqtt.max_payload_bytes
    inline = InlineCamera(image_folder=settings.image_folder, max_bytes=limit)
    own = _own_camera(settings.camera, limit)
    return inline if own is None else TriggerFirst(own, inline)


def _own_camera(camera: CameraSettings, limit: int) -> Camera | None:
    """Make the camera that the station has beside what triggers bring. The settings have seen to its keys."""
    streaming = {
        "timeout_ms": camera.timeout_ms,
        "max_age_ms": camera.max_age_ms,
        "max_late_ms": camera.max_late_ms,
        "latency_ms": camera.latency_ms,
    }
    if camera.kind == "folder" and camera.folder is not None:
        return FolderCamera(folder=camera.folder, max_bytes=limit)
    # Imported where they are needed: they load OpenCV, which other bridges keep out of their process.
    if camera.kind == "video":
        from bridge.inputs.cameras.video import video_camera  # noqa: PLC0415

        return video_camera(camera.source, username=camera.username, password=camera.password, **streaming)
    if camera.kind == "genicam" and camera.producer is not None:
        from bridge.inputs.cameras.genicam import genicam_camera  # noqa: PLC0415

        return genicam_camera(
            camera.producer,
            device=camera.device,
            trigger=camera.trigger,
            trigger_source=camera.trigger_source,
            **streaming,
        )
    if camera.kind == "http":
        return HttpCamera(
            camera.url,
            timeout_ms=camera.timeout_ms,
            max_late_ms=camera.max_late_ms,
            max_bytes=camera.max_bytes,
            username=camera.username,
            password=camera.password,
            auth=camera.auth,
            tls_ca=camera.tls_ca,
        )
    return None


def coil_of(gate: GateOutputSettings) -> CoilAddress:
    """Say where a gate's coil is."""
    return CoilAddress(host=gate.host, port=gate.port, coil=gate.coil)


def gate_process(settings: StationSettings, timing: GateSettings, door: Inbox, clock: Clock) -> GateProcess | None:
    """Make the process that fires a station's gate; None where the PLC does, and in a dry run."""
    if settings.gate.mode == "plc" or settings.dry_run:
        return None
    return GateProcess(timing, coil_of(settings.gate), clock=clock, tell=door.post)


def guard_settings(settings: StationSettings) -> GuardSettings:
    """Give a station's guards as the domain wants them."""
    return GuardSettings(**{field.name: getattr(settings, field.name) for field in fields(GuardSettings)})


def gate_reports(
    line: str,
    settings: StationSettings,
    timing: GateSettings,
    belt: Belt,
    condition: Condition,
    *,
    journal: Journal,
    outputs: Sequence[VerdictOutput],
    clock: Clock,
    gate: GateOutput | None,
) -> GateReports:
    """Make what follows a station's parts to the bin; challenge tests count from the last one passed in any run."""
    hours = settings.challenge_hours
    passed_utc_ns = journal.last_event_utc_ns(line, settings.name, PASSED) if hours else None
    pitch_mm = smallest_pitch_mm(timing, belt.settings.speed_mm_s)
    notes = GateNotes(line=line, station=settings.name, journal=journal, clock=clock)
    return GateReports(
        condition=condition,
        notes=notes,
        outputs=outputs,
        clock=clock,
        confirmations=Confirmations(belt, guard_settings(settings), pitch_mm=pitch_mm),
        challenges=Challenges(
            condition=condition,
            notes=notes,
            clock=clock,
            test=ChallengeTest(hours=hours, passed_utc_ns=passed_utc_ns),
        ),
        gate=gate,
    )


def picture_store(config: Config, journal: Journal, doors: Sequence[Inbox]) -> PictureStore:
    """Keep pictures; the store's own thread tells of a loss, and the station that lost one raises the alarm."""
    loop, records = asyncio.get_running_loop(), config.records

    def tell(text: str) -> None:
        for station, door in zip(config.stations, doors, strict=True):
            if f"{config.line.name}/{station.name}/" in text:
                with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is left to be alarmed
                    loop.call_soon_threadsafe(door.post, AlarmState(name="PICTURE_LOST", standing=True, text=text))

    return PictureStore(
        records.pictures,
        keep=records.keep,
        every=records.keep_nth,
        find=journal.picture_of,
        on_loss=tell,
        max_bytes=records.pictures_max_mb * 1_000_000,
        max_age_s=records.pictures_max_days * 86_400.0,
        min_free_bytes=records.pictures_min_free_mb * 1_000_000,
    )
