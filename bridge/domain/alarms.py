"""The one table of error and alarm codes. Numbers are never reused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Severity = Literal["warning", "error", "critical"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmKind:
    """One thing that can be wrong. `latched` alarms stand until ClearError; the others end with their cause."""

    code: int
    name: str
    severity: Severity
    text: str
    stop_request: bool = False
    degraded: bool = False
    latched: bool = False


def _table(*kinds: AlarmKind) -> Mapping[str, AlarmKind]:
    return MappingProxyType({kind.name: kind for kind in kinds})


ALARMS: Mapping[str, AlarmKind] = _table(
    AlarmKind(
        code=1,
        name="ORDER_MISSED",
        severity="critical",
        stop_request=True,
        latched=True,
        text="a part that should be rejected could not be: its gate order was too late",
    ),
    AlarmKind(
        code=2,
        name="TRIGGER_MISSED",
        severity="critical",
        stop_request=True,
        latched=True,
        text="the sequence jumped: at least one part passed the photo-eye without a trigger",
    ),
    AlarmKind(
        code=3,
        name="TRIGGER_UNREADABLE",
        severity="critical",
        stop_request=True,
        latched=True,
        text="a trigger arrived whose sequence could not be read",
    ),
    AlarmKind(
        code=4,
        name="REJECT_NOT_CONFIRMED",
        severity="critical",
        stop_request=True,
        latched=True,
        text="a rejected part was not seen in the reject bin",
    ),
    AlarmKind(
        code=5,
        name="ENCODER_RESET",
        severity="critical",
        stop_request=True,
        latched=True,
        text="the encoder jumped or ran back: pending gate orders are missed",
    ),
    AlarmKind(
        code=6,
        name="GATE_OUTPUT_LOST",
        severity="critical",
        stop_request=True,
        latched=True,
        text="the gate's output can't be written",
    ),
    AlarmKind(
        code=7,
        name="JOURNAL_DEAD",
        severity="critical",
        stop_request=True,
        degraded=True,
        latched=True,
        text="the journal has not committed for 1 s; parts are still judged and ordered",
    ),
    AlarmKind(
        code=8,
        name="GATE_STUCK_ON",
        severity="critical",
        stop_request=True,
        latched=True,
        text="the gate was on for longer than max_on_ms and was switched off",
    ),
    AlarmKind(
        code=20,
        name="SPEED_STALE",
        severity="error",
        degraded=True,
        text="the belt's speed is unknown or older than speed_timeout_ms: no gate order can be timed",
    ),
    AlarmKind(code=21, name="PLC_HEARTBEAT_LOST", severity="error", text="the PLC's heartbeat has stood still for 2 s"),
    AlarmKind(
        code=22, name="MODEL_NOT_READY", severity="error", degraded=True, text="no model is loaded, warm and checked"
    ),
    AlarmKind(code=23, name="BROKER_LOST", severity="error", degraded=True, text="the MQTT broker can't be reached"),
    AlarmKind(
        code=24,
        name="SEQUENCE_RESTARTED",
        severity="warning",
        latched=True,
        text="the trigger's counter ran back: a new epoch has begun",
    ),
    AlarmKind(
        code=25,
        name="LENIENT_POLICY",
        severity="warning",
        degraded=True,
        text="the recipe lets parts with ERROR or LATE pass",
    ),
    AlarmKind(
        code=26,
        name="OPCUA_CLOSED",
        severity="warning",
        degraded=True,
        text="the OPC UA port stays closed: no user is configured and anonymous is false",
    ),
    AlarmKind(
        code=27,
        name="QUEUE_OVERLOAD",
        severity="error",
        latched=True,
        text="more triggers arrived than can be held; the surplus got ERROR unjudged",
    ),
    AlarmKind(
        code=28,
        name="COLLATERAL",
        severity="warning",
        latched=True,
        text="the reject gate swept a part that was to pass: the parts are too close",
    ),
    AlarmKind(code=29, name="PICTURE_LOST", severity="warning", latched=True, text="a picture could not be kept"),
    AlarmKind(
        code=30,
        name="CLOCK",
        severity="warning",
        latched=True,
        text="a trigger's time stamp lies more than 50 ms ahead of the bridge's clock",
    ),
    AlarmKind(
        code=31, name="PART_ERROR", severity="warning", latched=True, text="a part got ERROR: no verdict could be made"
    ),
    AlarmKind(
        code=32,
        name="PART_LATE",
        severity="warning",
        latched=True,
        text="a part got LATE: its verdict missed its deadline",
    ),
    AlarmKind(
        code=33,
        name="WORKER_LOST",
        severity="error",
        degraded=True,
        text="the process that holds the model hung or died and is started anew; until then parts get ERROR",
    ),
    AlarmKind(
        code=34,
        name="CAMERA_LOST",
        severity="error",
        degraded=True,
        text="the station's camera gives no pictures: parts without one of their own get ERROR",
    ),
    AlarmKind(
        code=35,
        name="GATE_NOT_REALTIME",
        severity="warning",
        degraded=True,
        text="the gate process runs without real-time priority: it may fire some milliseconds late",
    ),
    AlarmKind(
        code=36,
        name="PASS_IN_BIN",
        severity="critical",
        stop_request=True,
        latched=True,
        text="a part that was let pass was seen in the reject bin",
    ),
    AlarmKind(
        code=37,
        name="CONSECUTIVE_REJECTS",
        severity="error",
        degraded=True,
        latched=True,
        text="max_consecutive_rejects parts in a row were rejected: Ready stays off",
    ),
    AlarmKind(
        code=38,
        name="CONSECUTIVE_FAILURES",
        severity="error",
        degraded=True,
        latched=True,
        text="max_consecutive_failures parts in a row got ERROR or LATE: Ready stays off",
    ),
    AlarmKind(
        code=39,
        name="CHALLENGE_FAILED",
        severity="critical",
        stop_request=True,
        latched=True,
        text="the known-bad part of a challenge test was not rejected by its verdict and seen in the reject bin",
    ),
    AlarmKind(
        code=40,
        name="CHALLENGE_DUE",
        severity="warning",
        degraded=True,
        text="no challenge test was passed within challenge_hours",
    ),
    AlarmKind(
        code=41,
        name="DRY_RUN",
        severity="warning",
        degraded=True,
        text="dry run: parts are judged and recorded, no part gets a disposition or a gate order",
    ),
    AlarmKind(
        code=42,
        name="PARTS_TOUCH",
        severity="warning",
        latched=True,
        text="what passed the photo-eye was longer than a part: two parts touch, one picture can't judge both",
    ),
    AlarmKind(code=43, name="INHIBITED", severity="warning", text="an inhibit bit of the PLC stands: parts get ERROR"),
    AlarmKind(
        code=46,
        name="MODBUS_SERIAL_LOST",
        severity="error",
        degraded=True,
        text="the Modbus server's serial line can't be opened or was lost: no PLC is served there",
    ),
    AlarmKind(
        code=52,
        name="OPCUA_CERTIFICATE",
        severity="warning",
        text="the OPC UA server's certificate ends soon",
    ),
    AlarmKind(
        code=50,
        name="CLOCK_UNSURE",
        severity="warning",
        degraded=True,
        text='too few time stamps agree to place triggers by them (trigger_clock = "filtered"): these parts get ERROR',
    ),
    AlarmKind(
        code=51,
        name="CLOCK_STEPPED",
        severity="warning",
        latched=True,
        text="the clock that stamps the triggers was set back, or their way has become longer: it is learned anew",
    ),
    AlarmKind(
        code=48,
        name="PLC_LINK_LOST",
        severity="error",
        degraded=True,
        text="the PLC that the bridge writes into can't be reached",
    ),
    AlarmKind(
        code=49,
        name="PLC_REFUSES",
        severity="error",
        degraded=True,
        text="the PLC that the bridge writes into answers, but does not hold what was written",
    ),
)
