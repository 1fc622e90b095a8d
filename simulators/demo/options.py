"""The demo's command line, and everything that can be wrong with it."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from simulators.fault_kinds import OF_TRIGGERS, Fault
from simulators.faults import FaultFileError, ScheduledFault, fault_file, read_faults
from simulators.line.camera import Picture, PictureFolderError, find_pictures
from simulators.line.geometry import Geometry

DEFAULT_IMAGES = Path(__file__).parent.parent / "pictures" / "ball-screw"
DEFAULT_PARTS = 200
TOP_SPEED_MM_S = 2500.0
SEED = 1
Gate = Literal["plc", "bridge"]
Trigger = Literal["mqtt", "modbus", "opcua"]


class OptionsError(Exception):
    """An option that can't be used; the text names it, its value and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """Checked options. `parts` None: no limit but `seconds`. `keep` None: records are temporary."""

    parts: int | None
    seconds: float | None
    speed_mm_s: float
    spacing_mm: float
    gate: Gate
    trigger: Trigger
    images: Path
    pictures: tuple[Picture, ...]
    model: Path | None
    recipe: str
    faults: Path | None
    planned: tuple[ScheduledFault, ...]
    live_view: bool
    report: Path | None
    keep: Path | None

    def expects(self, kind: type[Fault]) -> bool:
        """Whether a fault of a kind is planned."""
        return any(isinstance(entry.fault, kind) for entry in self.planned)


def read_options(arguments: Sequence[str] | None = None) -> DemoOptions:
    """Parse and check the command line; raises OptionsError, or SystemExit with code 2 for what can't be parsed."""
    raw = _parser().parse_args(arguments)
    geometry = Geometry()
    parts = raw.parts if raw.parts is not None or raw.seconds is not None else DEFAULT_PARTS
    if parts is not None and not 1 <= parts <= 1_000_000:
        raise OptionsError(f"--parts {parts}: allowed are 1 to 1000000")
    if raw.seconds is not None and not 0 < raw.seconds <= 86_400:
        raise OptionsError(f"--seconds {raw.seconds:g}: allowed is more than 0, at most 86400")
    if not (math.isfinite(raw.speed) and 10 <= raw.speed <= TOP_SPEED_MM_S):
        raise OptionsError(f"--speed {raw.speed:g}: allowed are 10 to {TOP_SPEED_MM_S:g} mm/s")
    if not (math.isfinite(raw.spacing) and geometry.part_length_mm < raw.spacing <= 10_000):
        raise OptionsError(
            f"--spacing {raw.spacing:g}: allowed is more than the part's length, {geometry.part_length_mm:g} mm, "
            "and at most 10000 mm"
        )
    if raw.gate not in ("plc", "bridge"):
        raise OptionsError(f"--gate {raw.gate}: allowed are plc and bridge")
    if raw.trigger not in ("mqtt", "modbus", "opcua"):
        raise OptionsError(f"--trigger {raw.trigger}: allowed are mqtt, modbus, opcua")
    pictures = _pictures(raw.images)
    if raw.model is not None and not raw.model.exists():
        raise OptionsError(f"--model {raw.model}: no such bundle; allowed is a bundle's folder or an .lgb file")
    faults, planned = (None, ()) if raw.faults is None else _faults(raw.faults, raw.trigger)
    if raw.report is not None and not raw.report.absolute().parent.is_dir():
        raise OptionsError(f"--report {raw.report}: the folder {raw.report.absolute().parent} does not exist")
    if raw.keep is not None and raw.keep.exists() and not raw.keep.is_dir():
        raise OptionsError(f"--keep {raw.keep}: is not a folder")
    return DemoOptions(
        parts=parts,
        seconds=raw.seconds,
        speed_mm_s=raw.speed,
        spacing_mm=raw.spacing,
        gate=raw.gate,
        trigger=raw.trigger,
        images=raw.images.absolute(),
        pictures=pictures,
        model=None if raw.model is None else raw.model.absolute(),
        recipe=raw.recipe,
        faults=faults,
        planned=planned,
        live_view=not raw.no_dashboard,
        report=raw.report,
        keep=None if raw.keep is None else raw.keep.absolute(),
    )


def _pictures(folder: Path) -> tuple[Picture, ...]:
    try:
        return find_pictures(folder, seed=SEED)
    except PictureFolderError as exc:
        raise OptionsError(f"--images {folder}: {exc}") from exc


def _faults(name: str, trigger: str) -> tuple[Path, tuple[ScheduledFault, ...]]:
    try:
        path = fault_file(name).absolute()
        faults = read_faults(path)
    except FaultFileError as exc:
        raise OptionsError(f"--faults {name}: {exc}") from exc
    of_mqtt = [entry.fault.kind for entry in faults if isinstance(entry.fault, OF_TRIGGERS)]
    if of_mqtt and trigger != "mqtt":
        raise OptionsError(f"--faults {name}: {of_mqtt[0]} needs --trigger mqtt, here the PLC triggers by {trigger}")
    return path, faults


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="linegate demo",
        description="Run broker, conveyor, PLC and bridge on this machine, then reconcile what happened with what was said.",
    )
    parser.add_argument(
        "--parts", type=int, metavar="N", help=f"parts to inspect [{DEFAULT_PARTS}, or no limit with --seconds]"
    )
    parser.add_argument("--seconds", type=float, metavar="S", help="lay parts for so long")
    parser.add_argument("--speed", type=float, default=1200.0, metavar="MM_S", help="belt speed [1200]")
    parser.add_argument(
        "--spacing", type=float, default=180.0, metavar="MM", help="pitch, front edge to front edge [180]"
    )
    parser.add_argument("--gate", default="plc", metavar="WHO", help="who fires the gate: plc or bridge [plc]")
    parser.add_argument("--trigger", default="mqtt", metavar="WAY", help="mqtt, modbus or opcua [mqtt]")
    parser.add_argument(
        "--images",
        type=Path,
        default=DEFAULT_IMAGES,
        metavar="FOLDER",
        help="a sub-folder for each label, `good` among them",
    )
    parser.add_argument("--model", type=Path, metavar="BUNDLE", help="judge by this bundle")
    parser.add_argument("--recipe", default="ball-screw", metavar="NAME", help="recipe [ball-screw]")
    parser.add_argument("--faults", metavar="FILE", help="TOML file of faults, or a shipped one: basic or all")
    parser.add_argument("--no-dashboard", action="store_true", help="plain lines, no live view and no dashboard")
    parser.add_argument("--report", type=Path, metavar="FILE.json", help="write the reconciliation there")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep configuration, records and logs there")
    return parser
