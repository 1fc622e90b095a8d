"""What really happened to every part, as nobody on the line can know it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Outcome = Literal["binned", "passed", "swept"]


class TruthError(Exception):
    """A truth file that can't be read; the text names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartTruth:
    """One part from beam to gate. All moments are monotonic ns of the machine that ran the conveyor.

    The part was at the gate from `gate_from_ns` (front edge there) to `gate_to_ns` (rear edge there), its middle third
    from `middle_from_ns` to `middle_to_ns`. `open_for_middle`: the gate stood fully open all that time. `swept`: the
    gate was away from its rest at some time while the part was there. `copies` says how often its trigger was told.
    A part that lay against another has no trigger and no sequence of its own: it bears that of the one `ahead`.
    """

    part_id: str
    sequence: int
    label: str
    good: bool
    picture: str
    copies: int
    count: int
    triggered_ns: int
    gate_from_ns: int
    middle_from_ns: int
    middle_to_ns: int
    gate_to_ns: int
    open_for_middle: bool
    swept: bool
    outcome: Outcome
    ahead: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LineTruth:
    """All parts of a run in the order of the beam, with the gate's intervals and what turns ns into UTC.

    `utc_offset_ns` added to a moment gives wall-clock ns since 1970. `gate_fully_open` and `gate_sweeps` are
    (from, to) in ns; a sweep runs from the on-command until the gate is at rest again. `unguarded` are the times in
    which the I/O module held the gate in its position for rejects, because nobody commanded it.
    """

    parts: tuple[PartTruth, ...]
    gate_fully_open: tuple[tuple[int, int], ...] = ()
    gate_sweeps: tuple[tuple[int, int], ...] = ()
    unguarded: tuple[tuple[int, int], ...] = ()
    utc_offset_ns: int = 0

    @property
    def told(self) -> tuple[PartTruth, ...]:
        """The parts whose trigger was told at all."""
        return tuple(part for part in self.parts if part.copies > 0)


def write_truth(truth: LineTruth, path: Path) -> None:
    """Write the truth as JSON, whole or not at all."""
    document = {
        "utc_offset_ns": truth.utc_offset_ns,
        "gate_fully_open": truth.gate_fully_open,
        "gate_sweeps": truth.gate_sweeps,
        "unguarded": truth.unguarded,
        "parts": [asdict(part) for part in truth.parts],
    }
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(document), encoding="utf-8")
    partial.replace(path)


def read_truth(path: Path) -> LineTruth:
    """Read what `write_truth` wrote; raises TruthError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return LineTruth(
            parts=tuple(_parts(document["parts"])),
            gate_fully_open=tuple((start, end) for start, end in document["gate_fully_open"]),
            gate_sweeps=tuple((start, end) for start, end in document["gate_sweeps"]),
            unguarded=tuple((start, end) for start, end in document["unguarded"]),
            utc_offset_ns=document["utc_offset_ns"],
        )
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise TruthError(f"the conveyor's record {path} can't be read: {exc}") from exc


def _parts(rows: Iterable[Mapping[str, Any]]) -> Iterable[PartTruth]:
    return (PartTruth(**row) for row in rows)
