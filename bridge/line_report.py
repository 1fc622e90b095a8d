"""What a configuration means for the line, in plain words."""

from __future__ import annotations

from collections.abc import Mapping

from bridge.config import CameraSettings, Config, StationSettings
from bridge.domain.gate_settings import GateSettings, parts_between, smallest_pitch_mm, window_for
from bridge.domain.recipe import Recipe
from bridge.open_doors import open_doors
from bridge.outputs.opcua.users import load_users
from bridge.plc_report import modbus_warnings, modbus_ways, plc_client_warnings, plc_clients_told
from bridge.ports import Loaded

RING_SLOTS = 16


def gate_settings(station: StationSettings) -> GateSettings:
    """Give the gate's numbers as the domain wants them."""
    return GateSettings(
        mode=station.gate.mode,
        kind=station.gate.kind,
        rest=station.gate.rest,
        distance_mm=station.gate_distance_mm,
        open_lead_ms=station.open_lead_ms,
        close_lead_ms=station.close_lead_ms,
        part_length_mm=station.part_length_mm,
        length_tolerance_mm=station.part_length_tolerance_mm,
        guard_mm=station.guard_mm,
        output_ms=station.output_ms if "output_ms" in station.model_fields_set else None,
        margin_ms=station.margin_ms,
        camera_offset_mm=station.camera_offset_mm,
        pulse_ms=station.gate.pulse_ms,
        max_on_ms=station.gate.max_on_ms,
        min_on_ms=station.gate.min_on_ms,
        min_off_ms=station.gate.min_off_ms,
        firing_jitter_ms=station.firing_jitter_ms,
    )


def describe_line(config: Config, loaded: Mapping[str, Loaded]) -> str:
    """Tell for each station when a verdict must stand, what the gate does and how close parts may follow."""
    lines = [f"line {config.line.name}: belt at {config.belt.speed_mm_s:g} mm/s, speed from {config.belt.speed_source}"]
    lines += [f"triggers: {_clock(config)}"]
    for station in config.stations:
        lines += _describe_station(config, station, loaded[station.name])
    lines += ["", "Modbus: " + (", ".join(modbus_ways(config.modbus)) or "closed")]
    warnings = _warnings(config, loaded)
    lines += ["", "warnings:"] + [f"  - {warning}" for warning in warnings] if warnings else ["", "no warnings"]
    return "\n".join(lines)


def _describe_station(config: Config, station: StationSettings, loaded: Loaded) -> list[str]:
    gate, speed = gate_settings(station), config.belt.speed_mm_s
    window = window_for(gate, gate.part_length_mm, speed)
    open_ms = window.start_mm / speed * 1e3
    due_ms = open_ms - gate.open_lead_ms
    pitch = smallest_pitch_mm(gate, speed)
    between = parts_between(gate, speed)
    recipe = loaded.recipe
    lines = [
        "",
        f"station {station.name}: recipe {recipe.reference}, model {loaded.model.reference}",
        f"  camera: {_camera(station.camera)}",
        f"  after a trigger the verdict must stand within {_verdict_ms(gate, speed):.1f} ms",
        f"  the gate is commanded on at {due_ms:.1f} ms, is fully open at {open_ms:.1f} ms, "
        f"and the part's front edge is there at {gate.distance_mm / speed * 1e3:.1f} ms",
        f"  the gate stays open over {window.end_mm - window.start_mm:.0f} mm of belt, "
        f"{(window.end_mm - window.start_mm) / speed * 1e3:.1f} ms",
        f"  smallest pitch that can be separated: {pitch:.0f} mm front edge to front edge, "
        f"{speed / pitch:.2f} parts/s; closer parts are swept with a rejected neighbour and reported",
        f"  at that pitch {between} parts lie between eye and gate; the ring holds {RING_SLOTS}",
        f"  {_gate(station)}",
        f"  {_bin(station, speed)}",
        *(f"  {told}" for told in plc_clients_told(station)),
        f"  {_policies(recipe)}",
    ]
    if _verdict_ms(gate, speed) <= 0:
        lines.append("  NO VERDICT CAN BE IN TIME: the gate is too near for this speed")
    return lines


def _verdict_ms(gate: GateSettings, speed_mm_s: float) -> float:
    """Give how long after a trigger the verdict must stand."""
    open_ms = window_for(gate, gate.part_length_mm, speed_mm_s).start_mm / speed_mm_s * 1e3
    return open_ms - gate.open_lead_ms - gate.publish_ms - gate.margin_ms


def _gate(station: StationSettings) -> str:
    gate = station.gate
    if gate.mode == "plc":
        return "gate: the PLC fires, by the counts and moments that the bridge publishes"
    held = "passes only by a release of its own" if gate_settings(station).releases else "is let pass unless ordered"
    return f"gate: the bridge fires, coil {gate.coil} on {gate.host}:{gate.port}; a part {held}"


def _bin(station: StationSettings, speed_mm_s: float) -> str:
    """Say when the reject bin must have counted a reject."""
    if not station.confirm_distance_mm:
        return "bin: a reject must be seen there within 3 s of the gate, once a first one was; a passed part is not noticed"
    reached_ms = station.confirm_distance_mm / speed_mm_s * 1e3
    return f"bin: a reject must be counted at {reached_ms:.1f} ms, give or take {station.confirm_window_ms:g} ms"


def gate_warnings(station: StationSettings) -> list[str]:
    """Say what keeps the gate that the bridge fires from being fail-safe."""
    gate = station.gate
    if gate.mode == "plc":
        return []
    if gate.rest == "pass":
        return [
            f'{station.name}: gate.rest = "pass": without power, network or bridge every part passes; not fail-safe'
        ]
    if gate.kind == "pulse":
        return [
            f'{station.name}: gate.kind = "pulse" can\'t hold back what nobody has judged: '
            "a part without a verdict passes; not fail-safe"
        ]
    return []


def _guard_warnings(config: Config, station: StationSettings) -> list[str]:
    """Name what is not guarded, and what a count in the bin can't tell apart."""
    warnings = []
    if station.dry_run:
        warnings.append(
            f"{station.name}: dry_run = true: no part gets a disposition or a gate order; a PLC with positive release "
            "rejects every part"
        )
    apart_ms = smallest_pitch_mm(gate_settings(station), config.belt.speed_mm_s) / config.belt.speed_mm_s * 1e3
    if station.confirm_distance_mm and station.confirm_window_ms >= apart_ms:
        warnings.append(
            f"{station.name}: confirm_window_ms = {station.confirm_window_ms:g} is not below {apart_ms:.1f} ms, in which "
            "parts may follow each other: a count in the bin may be taken for a neighbour's"
        )
    return warnings


def _clock(config: Config) -> str:
    """Say by what a trigger by MQTT without a latched count is placed."""
    less = f"less {config.mqtt.transport_ms:g} ms"
    return {
        "arrival": f"placed by their arrival {less}: what the network holds up, the gate hits later",
        "source": "placed by their ts: its clock and this machine's must agree, by NTP or PTP",
        "filtered": f"placed by their ts, whose clock may stand anywhere: its offset is that of the soonest to arrive, {less}; "
        "the first two after a start or a pause of a minute get ERROR and no gate order, and so does one without ts",
    }[config.mqtt.trigger_clock]


def _camera(camera: CameraSettings) -> str:
    """Say where a part's picture comes from; never a password."""
    age = f"from {camera.max_age_ms:g} ms before the part's moment to {camera.max_late_ms:g} ms after it"
    login = f" as {camera.username}" if camera.username else ""
    told = {
        "inline": "inline, each trigger brings its picture",
        "folder": f"folder, the pictures of {camera.folder} one after the other",
        "video": f"video, {camera.source}{login}, a frame {age}",
        "http": f"http, a snapshot of {camera.url}{login} within {camera.timeout_ms:g} ms",
        "genicam": f"genicam, {camera.device or 'the only one'} of {camera.producer}, trigger {camera.trigger}, {age}",
    }
    return told[camera.kind]


def _camera_warnings(config: Config, station: StationSettings) -> list[str]:
    """Name what would give a part no frame, or another part's."""
    camera, gate, speed = station.camera, gate_settings(station), config.belt.speed_mm_s
    if camera.kind in ("inline", "folder"):
        return []
    warnings = []
    left_ms = _verdict_ms(gate, speed) - gate.camera_offset_mm / speed * 1e3
    if camera.timeout_ms >= left_ms:
        warnings.append(
            f"{station.name}: camera.timeout_ms = {camera.timeout_ms:g} is not below the {left_ms:.1f} ms from the camera "
            "to the verdict's deadline: a part without a frame gets LATE, not the reason"
        )
    apart_ms = smallest_pitch_mm(gate, speed) / speed * 1e3
    off_ms = camera.max_late_ms + (0.0 if camera.kind == "http" else camera.max_age_ms)
    if off_ms >= apart_ms:
        warnings.append(
            f"{station.name}: camera.max_age_ms and max_late_ms allow {off_ms:g} ms: parts may follow each other in "
            f"{apart_ms:.1f} ms, so a frame may be of the part before or behind"
        )
    if camera.password and camera.url.startswith("http:") and camera.auth == "basic":
        warnings.append(f'{station.name}: camera.auth = "basic" sends the password readably over http')
    return warnings


def _policies(recipe: Recipe) -> str:
    policy = recipe.policy
    words = {"reject": "rejected", "pass": "LET PASS"}
    return "parts: PASS passes; " + ", ".join(
        f"{name} is {words[action]}"
        for name, action in (
            ("FAIL", policy.fail),
            ("UNCERTAIN", policy.uncertain),
            ("ERROR", policy.error),
            ("LATE", policy.late),
        )
    )


def _warnings(config: Config, loaded: Mapping[str, Loaded]) -> list[str]:
    warnings = []
    for station in config.stations:
        gate, recipe = gate_settings(station), loaded[station.name].recipe
        warnings += _camera_warnings(config, station)
        if recipe.policy.lets_failures_pass:
            warnings.append(
                f"{station.name}: recipe {recipe.name} lets parts with ERROR or LATE pass; Degraded stays set"
            )
        warnings += gate_warnings(station)
        warnings += plc_client_warnings(station)
        let_pass = [name for name in ("fail", "uncertain") if getattr(recipe.policy, name) == "pass"]
        if let_pass:
            names = " and ".join(name.upper() for name in let_pass)
            warnings.append(f"{station.name}: recipe {recipe.name} lets parts with {names} pass")
        warnings += _guard_warnings(config, station)
        if parts_between(gate, config.belt.speed_mm_s) > RING_SLOTS:
            warnings.append(
                f"{station.name}: more than {RING_SLOTS} parts fit between eye and gate at the smallest pitch: "
                "a PLC that looks parts up in the ring loses some"
            )
        deadline_mm = window_for(gate, gate.part_length_mm, config.belt.speed_mm_s).start_mm
        if deadline_mm / config.belt.speed_mm_s * 1e3 <= gate.open_lead_ms + gate.publish_ms + gate.margin_ms:
            warnings.append(
                f"{station.name}: gate_distance_mm = {station.gate_distance_mm:g} leaves no time for a verdict"
            )
    if config.opcua.enabled and config.opcua.anonymous:
        warnings.append("opcua.anonymous = true: anybody who reaches the port may read and write")
    if config.opcua.enabled and not config.opcua.anonymous and not load_users(config.opcua.users_file):
        warnings.append(
            f"opcua.anonymous = false and no user in {config.opcua.users_file}: the OPC UA port stays closed and Degraded "
            "is set until `linegate users add NAME --role plc`"
        )
    return warnings + modbus_warnings(config.modbus) + open_doors(config)
