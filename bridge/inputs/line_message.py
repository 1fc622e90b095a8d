"""The small messages beside the triggers: speed, encoder, command. Pure: bytes and moments in, values out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast, get_args

from bridge.domain.messages import CommandName, EncoderSample, SpeedSample
from bridge.errors import MessageError
from bridge.inputs.fields import MAX_SPEED_MM_S, counts_of, measure, printable, sequence_of, show, stamp
from bridge.inputs.strict_json import read_object

MAX_SAMPLE_BYTES = 65_536
COMMAND_AGE_LIMIT_NS = 5_000_000_000
COMMANDS: tuple[str, ...] = get_args(CommandName)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a `command` message asks for: the name; for select-recipe the recipe, for challenge the part (none: the next)."""

    name: CommandName
    recipe: str | None = None
    part_id: str | None = None
    sequence: int | None = None


def read_speed(payload: bytes, *, arrived_ns: int, now_utc_ns: int, kept: bool) -> SpeedSample | None:
    """Read one message of topic `speed`.

    A `kept` message (retained, or queued while the bridge was away) is as old as its `ts` says; without a `ts` its age
    is unknown and there is no sample (None). A live one counts from its arrival. Raises MessageError.
    """
    members = _members(payload)
    mm_s = measure(members.get("mm_s"), name="mm_s", high=MAX_SPEED_MM_S, zero=True)
    sent = members.get("ts")
    sent_utc_ns = None if sent is None else stamp(sent)[1]
    if not kept:
        return SpeedSample(mm_s=mm_s, at_ns=arrived_ns, origin="mqtt")
    if sent_utc_ns is None:
        return None
    return SpeedSample(mm_s=mm_s, at_ns=arrived_ns - max(0, now_utc_ns - sent_utc_ns), origin="mqtt")


def read_encoder(payload: bytes, *, arrived_ns: int) -> EncoderSample:
    """Read one live message of topic `encoder`. Raises MessageError."""
    members = _members(payload)
    if members.get("ts") is not None:
        stamp(members["ts"])
    counts = counts_of(members.get("counts"), name="counts")
    return EncoderSample(counts=counts, at_ns=arrived_ns, origin="mqtt")


def read_command(payload: bytes, *, now_utc_ns: int, kept: bool) -> Order:
    """Read one message of topic `command`.

    One older than 5 s by its `ts` is refused. A `kept` one needs a `ts` that proves it to be fresh. Raises
    MessageError with a text for the sender.
    """
    members = _members(payload)
    name = members.get("command")
    if not isinstance(name, str) or name not in COMMANDS:
        raise MessageError(f"command is {show(name)}: allowed are {', '.join(COMMANDS)}")
    sent = members.get("ts")
    age_ns = None if sent is None else now_utc_ns - stamp(sent)[1]
    if age_ns is not None and age_ns > COMMAND_AGE_LIMIT_NS:
        raise MessageError(f"the command is {age_ns / 1e9:.1f} s old by its ts: 5 s are allowed")
    if kept and (age_ns is None or age_ns < -COMMAND_AGE_LIMIT_NS):
        raise MessageError("the broker kept this command and no ts shows that it is younger than 5 s")
    if name == "challenge":
        part_id, sequence = members.get("part_id"), members.get("sequence")
        return Order(
            name="challenge",
            part_id=None if part_id is None else printable(part_id, name="part_id"),
            sequence=None if sequence is None else sequence_of(sequence),
        )
    if name != "select-recipe":
        return Order(name=cast(CommandName, name))
    if members.get("recipe") is None:
        raise MessageError("select-recipe needs recipe, a name such as bracket-a")
    return Order(name="select-recipe", recipe=printable(members["recipe"], name="recipe"))


def _members(payload: bytes) -> dict[str, Any]:
    found = read_object(payload, max_bytes=MAX_SAMPLE_BYTES)
    if found.flaws or found.repeated:
        raise MessageError("; ".join((*found.flaws, *(f"{name} is there twice" for name in sorted(found.repeated)))))
    return found.members
