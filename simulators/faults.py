"""What can go wrong on a line, read from a TOML file and handed out when it is due.

A file holds `[[fault]]` tables. Each has a `kind`, one of `at_s` (seconds after the first part was laid on the belt)
and `at_part` (the n-th part, from 1, as its front edge meets the beam), and the keys of its kind:

    belt_stop          duration_s, ramp_s [0.1]     the belt stops, stands, and comes back to its speed
    speed_ramp         to_mm_s, from_mm_s [present], duration_s
    burst              parts, spacing_mm            so many parts are laid closer than the rest
    encoder_reset      (none)                       the encoder's counter jumps to 0
    duplicate_trigger  (none)                       the part's trigger is published twice
    missing_trigger    (none)                       the part passes the photo-eye and nobody is told
    touching           (none)                       the next part lies against the part: one trigger for both
    camera_lost        duration_s                   triggers come without their picture
    clock_wrong        duration_s, offset_s         triggers bear a stamp that is off, and no latched count
    network_delay      duration_s, delay_ms, jitter_ms [0]    triggers take longer to the broker
    broker_kill        down_s                       the broker is killed, and started again on its port
    plc_restart        down_s                       the PLC is killed, and started again knowing nothing
    slow_model         duration_s, stop_ms, run_ms  the process that runs the model stands still again and again
    frozen_model       duration_s                   it stands still
    frozen_bridge      duration_s                   the whole bridge stands still
    disk_full          duration_s                   the bridge's journal can't grow
    disk_slow          duration_s, hold_ms [1500], pause_ms [300]   somebody holds the journal's lock for stretches

The conveyor hands out all of them, so that one clock rules; those that befall processes it only tells of, and the demo,
which owns the processes, carries them out. A new kind is a class and its line in `simulators.fault_kinds`; whoever acts
on it matches on its class.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from simulators.fault_kinds import KINDS, Fault

SHIPPED = Path(__file__).parent / "faults"


class FaultFileError(Exception):
    """A faults file that can't be used; the text names the place, the value and what is allowed."""


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
        return next((e.at_s for e in self._by_time if e.fault.victim != "part"), None)

    def due_by(self, elapsed_s: float) -> list[Fault]:
        """Take the faults of the whole line that are due `elapsed_s` after the start."""
        due = [e for e in self._by_time if (e.at_s or 0.0) <= elapsed_s and e.fault.victim != "part"]
        self._by_time = [e for e in self._by_time if e not in due]
        return [e.fault for e in due]

    def due_at(self, part_number: int, elapsed_s: float) -> list[Fault]:
        """Take the faults due as the n-th part (from 1) meets the beam."""
        due = [e for e in self._by_part if e.at_part == part_number]
        self._by_part = [e for e in self._by_part if e not in due]
        late = [e for e in self._by_time if (e.at_s or 0.0) <= elapsed_s and e.fault.victim == "part"]
        self._by_time = [e for e in self._by_time if e not in late]
        return [e.fault for e in (*due, *late)]


def fault_file(name: str) -> Path:
    """Give the path of a faults file: a name without a suffix or a folder is a shipped one; raises FaultFileError."""
    path, shipped = Path(name), SHIPPED / f"{name}.toml"
    if path.suffix or len(path.parts) != 1 or path.is_file():
        return path
    if not shipped.is_file():
        known = ", ".join(sorted(entry.stem for entry in SHIPPED.glob("*.toml")))
        raise FaultFileError(f"no such faults file is shipped; shipped are {known}; a file of yours ends in .toml")
    return shipped


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
    names = {field.name: field for field in fields(cls)}
    allowed = ["kind", "at_s", "at_part", *names]
    for key in table:
        if key not in allowed:
            near = get_close_matches(key, allowed, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise FaultFileError(f"{where} ({kind}): unknown key {key!r}; allowed: {', '.join(allowed)}{hint}")
    if ("at_s" in table) == ("at_part" in table):
        raise FaultFileError(f"{where} ({kind}): exactly one of at_s and at_part is needed")
    values: dict[str, Any] = {}
    for name, declared in names.items():
        if name in table:
            values[name] = _number(table[name], f"{where} ({kind}): {name}", declared)
        elif declared.default is MISSING:
            raise FaultFileError(f"{where} ({kind}): {name} is missing")
    if "at_part" in table:
        at_part = table["at_part"]
        if isinstance(at_part, bool) or not isinstance(at_part, int) or at_part < 1:
            raise FaultFileError(f"{where} ({kind}): at_part = {at_part!r}; allowed: a whole number from 1")
        return ScheduledFault(fault=cls(**values), at_part=at_part)
    return ScheduledFault(fault=cls(**values), at_s=_number(table["at_s"], f"{where} ({kind}): at_s", None))


def _number(value: object, where: str, declared: Field[Any] | None) -> float:
    limits = {"low": 0.0, "high": 100_000.0, "whole": False} if declared is None else declared.metadata
    low, high, kinds = limits["low"], limits["high"], int if limits["whole"] else int | float
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        what = "whole number" if limits["whole"] else "number"
        raise FaultFileError(f"{where} = {value!r}; allowed: a {what} from {low:g} to {high:g}")
    return value if limits["whole"] else float(value)
