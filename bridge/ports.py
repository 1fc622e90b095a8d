"""The narrow interfaces between the journey and the world; each has an in-memory twin in the tests."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from bridge.domain.alarms import AlarmKind
from bridge.domain.gate import GateOrder, Release
from bridge.domain.gate_track import PartKey
from bridge.domain.messages import Inbound
from bridge.domain.part import Part, Result
from bridge.domain.recipe import Recipe
from bridge.domain.status import StationStatus
from bridge.domain.verdict import Inference

GateEvent = Literal["ordered", "fired", "missed", "confirmed"]


BITMAP = "image/bmp"
"""What a camera of the station's own makes of its raw pixels; a trigger can't bring it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One captured image, encoded (JPEG or PNG; BMP from a camera of ours), and the wall clock at its exposure's start."""

    data: bytes
    media_type: str
    captured_utc_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One part's result with its JSON document, encoded once for every output and the record."""

    result: Result
    document: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One change of an alarm."""

    kind: AlarmKind
    raised: bool
    text: str
    at_utc_ns: int


class Inbox(Protocol):
    """Where inputs leave messages; called on the station's own loop only."""

    def post(self, message: Inbound) -> None:
        """Take `message`; never blocks."""


class Camera(Protocol):
    """Takes the frame of one part."""

    async def start(self) -> None:
        """Connect; returns within seconds, whether or not the camera is there. Called once, before any part."""

    async def capture(self, part: Part, moment_ns: int) -> Frame:
        """Give the frame of the monotonic moment at which the part is at the camera; raises CameraError."""

    @property
    def trouble(self) -> str | None:
        """Why no frame can be had just now, None when one can; known within 2.9 s of a loss, without a part. Never blocks."""

    async def close(self) -> None:
        """Let the camera go."""


class Model(Protocol):
    """A loaded, warm and checked model; its worker can be lost, and is then started anew."""

    @property
    def reference(self) -> str:
        """`name@version`."""

    @property
    def sha256(self) -> str:
        """SHA-256 of the bundle's manifest, hexadecimal."""

    @property
    def trouble(self) -> str:
        """Why its worker can't be relied on just now; empty when it is warm."""

    async def infer(self, frame: Frame, part: Part) -> Inference:
        """Score one frame by the part's recipe (region of interest, decode reduction); raises InferenceError, CameraError."""

    async def close(self) -> None:
        """Release the worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A recipe with its model, warm and checked."""

    recipe: Recipe
    model: Model


class RecipeBook(Protocol):
    """Finds recipes and loads their models."""

    async def load(self, *, name: str | None = None, number: int | None = None) -> Loaded:
        """Load a recipe by name or by its number for PLCs; raises ConfigError, BundleError."""

    def names(self) -> tuple[str, ...]:
        """Give the names that `load` finds a file for; may touch the disk."""


class Clock(Protocol):
    """The two clocks: one that only ever goes forward, one that people read."""

    def now_ns(self) -> int:
        """Monotonic nanoseconds."""

    def utc_ns(self) -> int:
        """Wall clock, nanoseconds since 1970."""


class VerdictOutput(Protocol):
    """Shows verdicts and status to one kind of client. No call blocks or raises: a dead client is the output's affair."""

    def captured(self, sequence: int, at_utc_ns: int) -> None:
        """Tell that the picture of a part was taken, with its exposure's moment; the verdict comes later."""

    def publish(self, outcome: Outcome) -> None:
        """Show one outcome; a replayed one goes to history and records alone."""

    def remember(self, sequence: int, document: str) -> None:
        """Take a verdict of an earlier run into the history that GetResult answers from."""

    def revise(self, sequence: int, order: GateOrder) -> None:
        """Rewrite the moment of a published order after a change of speed."""

    def show(self, status: StationStatus) -> None:
        """Show the station's status."""

    def alarm(self, alarm: Alarm) -> None:
        """Tell of an alarm raised or cleared."""

    def gate_report(
        self, event: GateEvent, result: Result, order: GateOrder, reason: str | None, error_ms: float | None = None
    ) -> None:
        """Tell what became of a gate order, with the measured firing error; a report, nothing may actuate from it."""


class GateOutput(Protocol):
    """Fires the reject gate where the bridge does that itself. No call blocks or raises."""

    def drive(self, key: PartKey, order: GateOrder, release: Release | None) -> None:
        """Take a part's order, and the release of one that is to pass, new or as they have become.

        A missed order is not to be fired, a refused release not to be given; without either there is nothing to do.
        """


class Journal(Protocol):
    """The record of every accepted trigger and its verdict."""

    def accept(self, part: Part, *, at_utc_ns: int) -> None:
        """Queue the acceptance row; returns at once."""

    def gate_event(
        self,
        *,
        line: str,
        station: str,
        epoch: int,
        sequence: int,
        event: str,
        reason: str | None,
        at_utc_ns: int,
    ) -> None:
        """Queue what became of a gate order; returns at once."""

    def record(self, outcome: Outcome) -> Future[None]:
        """Queue the verdict's row; done once it is committed (WAL, not yet on the disk). Raises JournalError."""

    async def on_disk(self) -> None:
        """Return once all that was appended so far is on the disk; raises JournalError."""

    @property
    def healthy(self) -> bool:
        """Whether the journal has committed within the last second, or had nothing to commit."""

    def recent_triggers(self, line: str, station: str, limit: int) -> Iterable[tuple[int, int, str, str | None]]:
        """Give (epoch, sequence, part id, ts) of the newest accepted triggers, oldest first."""


class PictureStore(Protocol):
    """Keeps pictures off the critical path."""

    def name_for(self, part: Part, frame: Frame, code: int) -> str | None:
        """Give the relative name the picture will have, None when the recipe doesn't keep it."""

    def keep(self, name: str, frame: Frame) -> None:
        """Queue the picture for writing; returns at once."""
