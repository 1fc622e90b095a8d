"""What arrives and what becomes of it: a trigger, the part on the belt, and the result that outputs show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bridge.domain.gate import GateOrder
from bridge.domain.recipe import Recipe
from bridge.domain.verdict import Disposition, Judgement

U32 = 2**32
TriggerSourceName = Literal["mqtt", "modbus", "opcua"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineImage:
    """Encoded picture bytes that came with the trigger."""

    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePath:
    """A picture below the station's image folder; the camera adapter proves that it is inside."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyTo:
    """Where the sender of an MQTT 5 trigger wants its verdict as well."""

    topic: str
    correlation: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """One photo-eye event as it arrived; nothing in it has been checked against the line yet.

    `ts` is the source's own stamp as it was sent (it identifies duplicates), `source_utc_ns` the same as nanoseconds
    since 1970. `arrived_ns` is monotonic. `problem` is why the part can only get ERROR: the sequence was legible, the
    rest was not. `backlog` waited at the broker while the bridge was away; one `held_back` waited there just now, so that
    its arrival says nothing of where its part is. `eye_on_ms` is how long the part held the photo-eye's beam.
    """

    sequence: int
    part_id: str
    arrived_ns: int
    ts: str | None = None
    source_utc_ns: int | None = None
    encoder_counts: int | None = None
    length_mm: float | None = None
    eye_on_ms: float | None = None
    recipe: str | None = None
    image: InlineImage | ImagePath | None = None
    age_ms: float | None = None
    backlog: bool = False
    held_back: bool = False
    reply: ReplyTo | None = None
    source: TriggerSourceName = "mqtt"
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """An accepted trigger, placed on the belt. Times ending in `_ns` are monotonic, `_utc_ns` since 1970.

    `x0_mm` is the belt's position when the part's front edge met the beam (see `bridge.domain.belt`).
    `count_at_trigger` is the latched or extrapolated encoder count modulo 2^32, None without one.
    """

    line: str
    station: str
    trigger: Trigger
    epoch: int
    triggered_ns: int
    triggered_utc_ns: int
    length_mm: float
    recipe: Recipe
    x0_mm: float | None = None
    count_at_trigger: int | None = None

    @property
    def sequence(self) -> int:
        """The trigger's own counter, u32."""
        return self.trigger.sequence

    @property
    def part_id(self) -> str:
        """The part's identity as its source named it."""
        return self.trigger.part_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """All that outputs and records need of one part: frozen, so that any process can encode it.

    `timing_ms` has queue, decode, preprocess, inference, total. `picture` is relative to the pictures' folder.
    `deadline_ns` is the gate's at the moment of the verdict, None while the belt stands or its speed is unknown.
    `replayed` results go to records, MQTT and GetResult alone, never to a live map or gate.
    """

    part: Part
    judgement: Judgement
    disposition: Disposition
    order: GateOrder
    captured_utc_ns: int | None
    decided_ns: int
    decided_utc_ns: int
    timing_ms: Mapping[str, float]
    model: str | None
    model_sha256: str | None
    picture: str | None = None
    replayed: bool = False
    deadline_ns: int | None = None

    @property
    def latency_ms(self) -> float:
        """Triggered to decided, in ms."""
        return (self.decided_ns - self.part.triggered_ns) / 1e6
