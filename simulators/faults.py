"""What can go wrong on a line, read from a TOML file and handed out when it is due.

A file holds `[[fault]]` tables. Each has a `kind`, one of `at_s` (seconds after the first part was laid on the belt)
and `at_part` (the n-th part, from 1, as its front edge meets the beam), and the keys of its kind:

    belt_stop          duration_s, ramp_s [0.1]     the belt stops, stands, and comes back to its speed
    speed_ramp         to_mm_s, from_mm_s [present], duration_s
    duplicate_trigger  (none)                       the part's trigger is published twice
    missing_trigger    (none)                       the part passes the photo-eye and nobody is told

A new kind is a dataclass with a `kind` and a line in `KINDS`; whoever acts on it matches on its class.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar


class FaultFileError(Exception):
    """A faults file that can't be used; the text names the place, the value and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BeltStop:
    """The belt stops for a while."""

    kind: ClassVar[str] = "belt_stop"
    duration_s: float
    ramp_s: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedRamp:
    """The belt changes its speed evenly, from `from_mm_s` at once if that is given."""

    kind: ClassVar[str] = "speed_ramp"
    to_mm_s: float
    duration_s: float
    from_mm_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateTrigger:
    """One part's trigger is published twice."""

    kind: ClassVar[str] = "duplicate_trigger"


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingTrigger:
    """One part's trigger gets lost."""

    kind: ClassVar[str] = "missing_trigger"


Fault = BeltStop | SpeedRamp | DuplicateTrigger | MissingTrigger
KINDS: Mapping[str, type[Fault]] = MappingProxyType(
    {cls.kind: cls for cls in (BeltStop, SpeedRamp, DuplicateTrigger, MissingTrigger)}
)
OF_A_PART = (DuplicateTrigger, MissingTrigger)
"""Kinds that befall one part: with `at_s`, the next part to meet the beam."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledFault:
    """A fault and when it is due: one of the two is set."""

    fault: Fault
    at_s: float | None = None
    at_part: int | None = None


class FaultSchedule:
    """Hand out each fault once, when its time or its part has come."""

    def __init__(self, faults: Iterable[ScheduledFault] = ()) -> None:
        waiting = list(faults)
        self._by_part = [entry for entry in waiting if entry.at_part is not None]
        self._by_time = sorted((e for e in waiting if e.at_s is not None), key=lambda entry: entry.at_s or 0.0)

    @property
    def next_s(self) -> float | None:
        """When the next fault that befalls the whole line is due, in seconds after the start."""
        return next((e.at_s for e in self._by_time if not isinstance(e.fault, OF_A_PART)), None)

    def due_by(self, elapsed_s: float) -> list[Fault]:
        """Take the faults of the whole line that are due `elapsed_s` after the start."""
        due = [e for e in self._by_time if (e.at_s or 0.0) <= elapsed_s and not isinstance(e.fault, OF_A_PART)]
        self._by_time = [e for e in self._by_time if e not in due]
        return [e.fault for e in due]

    def due_at(self, part_number: int, elapsed_s: float) -> list[Fault]:
        """Take the faults due as the n-th part (from 1) meets the beam."""
        due = [e for e in self._by_part if e.at_part == part_number]
        self._by_part = [e for e in self._by_part if e not in due]
        late = [e for e in self._by_time if (e.at_s or 0.0) <= elapsed_s and isinstance(e.fault, OF_A_PART)]
        self._by_time = [e for e in self._by_time if e not in late]
        return [e.fault for e in (*due, *late)]


def read_faults(path: Path) -> tuple[ScheduledFault, ...]:
    """Read a faults file; raises FaultFileError."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise FaultFileError(f"faults file {path}: {exc.strerror or exc}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise FaultFileError(f"faults file {path}: not TOML: {exc}") from exc
    for key in document:
        if key != "fault":
            raise FaultFileError(f"faults file {path}: unknown key {key!r}; allowed: [[fault]] tables")
    tables = document.get("fault", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise FaultFileError(f"faults file {path}: fault must be [[fault]] tables")
    return tuple(_scheduled(table, f"faults file {path}: fault {n}") for n, table in enumerate(tables, start=1))


def _scheduled(table: Mapping[str, object], where: str) -> ScheduledFault:
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        near = get_close_matches(str(kind), KINDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise FaultFileError(f"{where}: kind = {kind!r} is unknown; allowed: {', '.join(KINDS)}{hint}")
    cls = KINDS[kind]
    names = {field.name: field.default is MISSING for field in fields(cls)}
    allowed = ["kind", "at_s", "at_part", *names]
    for key in table:
        if key not in allowed:
            near = get_close_matches(key, allowed, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise FaultFileError(f"{where} ({kind}): unknown key {key!r}; allowed: {', '.join(allowed)}{hint}")
    if ("at_s" in table) == ("at_part" in table):
        raise FaultFileError(f"{where} ({kind}): exactly one of at_s and at_part is needed")
    values: dict[str, float] = {}
    for name, needed in names.items():
        if name in table:
            values[name] = _number(table[name], f"{where} ({kind}): {name}")
        elif needed:
            raise FaultFileError(f"{where} ({kind}): {name} is missing")
    if "at_part" in table:
        at_part = table["at_part"]
        if isinstance(at_part, bool) or not isinstance(at_part, int) or at_part < 1:
            raise FaultFileError(f"{where} ({kind}): at_part = {at_part!r}; allowed: a whole number from 1")
        return ScheduledFault(fault=cls(**values), at_part=at_part)
    return ScheduledFault(fault=cls(**values), at_s=_number(table["at_s"], f"{where} ({kind}): at_s"))


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100_000:
        raise FaultFileError(f"{where} = {value!r}; allowed: a number from 0 to 100000")
    return float(value)
