"""The live view: the belt with its parts, the last verdicts, latency and firing error; and the final table."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from simulators.demo.board import FATES, Board
from simulators.line.geometry import Geometry
from simulators.reconcile import percentiles

COLOURS = {"PASS": "green", "FAIL": "red", "UNCERTAIN": "yellow", "ERROR": "magenta", "LATE": "magenta"}
BEHIND_MM = 160.0
AHEAD_MM = 320.0
SHOWN = 3


def draw(board: Board, *, now_ns: int, width: int) -> RenderableType:
    """Draw the whole view, `width` columns wide."""
    goal = "" if board.goal is None else f" of {board.goal}"
    news = f"part {board.seen}{goal}, belt {board.speed_mm_s:.0f} mm/s" if board.seen else "starting, no part yet"
    inside = Group(_belt(board, now_ns, width - 4), _figures(board), _lately(board), *_notes(board))
    return Panel(inside, title=f"Linegate demo: {news}")


def _belt(board: Board, now_ns: int, width: int) -> Text:
    """Draw eye and gate over the belt with its parts; a part bears its verdict's first letter once it has one."""
    geometry = Geometry()
    span = BEHIND_MM + geometry.gate_distance_mm + AHEAD_MM
    scale = width / span

    def column(x_mm: float) -> int:
        return round((x_mm + BEHIND_MM) * scale)

    marks = [" "] * width
    for x_mm, word in ((0.0, "| photo-eye"), (geometry.gate_distance_mm, "| gate OPEN" if board.gate_on else "| gate")):
        for offset, letter in enumerate(word):
            if 0 <= column(x_mm) + offset < width:
                marks[column(x_mm) + offset] = letter
    cells = [("─", "dim")] * width
    position_mm = board.belt_mm(now_ns)
    for part in board.parts.values():
        front_mm = position_mm - part.front_mm
        if part.fate == "binned" and front_mm > geometry.gate_distance_mm + geometry.part_length_mm:
            continue
        start, end = column(front_mm - geometry.part_length_mm), column(front_mm)
        style = COLOURS.get(part.verdict or "", "white")
        for place in range(max(0, start), min(width, end)):
            cells[place] = ("█", style)
        if part.verdict is not None and 0 <= (middle := (start + end) // 2) < width:
            cells[middle] = (part.verdict[0], f"bold reverse {style}")
    runs = (("".join(letter for letter, _ in run), style) for style, run in groupby(cells, key=itemgetter(1)))
    return Text("\n").join([Text("".join(marks), style="bold"), Text.assemble(*runs), Text("")])


def _figures(board: Board) -> Table:
    """Show each figure under its name, and in words that there is none yet."""
    latency, error = percentiles(board.latencies_ms), percentiles(board.errors_mm)
    verdicts = "  ".join(f"{name} {board.verdicts[name]}" for name in COLOURS if board.verdicts[name])
    fates = ", ".join(f"{fate} {board.fates[fate]}" for fate in FATES)
    took = f"p50 {latency['p50']:.1f} ms, p99 {latency['p99']:.1f} ms" if board.latencies_ms else ""
    missed_by = f"p50 {error['p50']:.1f} mm, max {error['max']:.1f} mm" if board.errors_mm else ""
    table = Table.grid(padding=(0, 2))
    for name, value, none in (
        ("verdicts", verdicts, "none yet"),
        ("trigger to verdict", took, "none yet"),
        ("parts at the gate", fates if board.fates else "", "none yet"),
        ("firing error", missed_by, "not fired yet"),
    ):
        table.add_row(Text(name, no_wrap=True, style="bold"), value or Text(none, style="dim"))
    return table


def _lately(board: Board) -> Table:
    """List the last verdicts, newest first; only the reason is cut where the terminal is narrow."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading, min_width in (("part", 8), ("verdict", 9), ("gate is told", 12)):
        table.add_column(heading, min_width=min_width, no_wrap=True)
    table.add_column("ms", min_width=6, justify="right", no_wrap=True)
    table.add_column("reason")
    for verdict in reversed(board.lately):
        name, total_ms = str(verdict["verdict"]), (verdict.get("timing_ms") or {}).get("total")
        table.add_row(
            Text(str(verdict["part_id"])),
            Text(name, style=COLOURS.get(name, "")),
            Text(str(verdict["disposition"])),
            "" if total_ms is None else f"{total_ms:.1f}",
            Text(str(verdict["reason"]), no_wrap=True, overflow="ellipsis"),
        )
    return table


def _notes(board: Board) -> list[Text]:
    return [Text(f"! {note}", style="yellow") for note in board.notes]


def _in_short(parts: list[Mapping[str, Any]]) -> str:
    """Count the parts of one class, name the first, and say why of the first of them; the report has them all."""
    first = ", ".join(str(part["part_id"]) for part in parts[:SHOWN]) + (", ..." if len(parts) > SHOWN else "")
    return f"{len(parts)}: {first}; {parts[0]['part_id']}: {parts[0]['cause']}"


def report_table(report: Mapping[str, Any]) -> Table:
    """Show the reconciliation as a table."""
    table = Table(title="What happened and what was said", show_header=False)
    gate, judgement, verdicts = report["gate"], report["judgement"], report["verdicts"]
    table.add_row("parts past the photo-eye", str(report["parts"]))
    table.add_row("triggers, verdicts, records", f"{report['triggers']}, {sum(verdicts.values())}, {report['records']}")
    table.add_row("verdicts", ", ".join(f"{name} {count}" for name, count in verdicts.items() if count) or "none")
    table.add_row("results in the PLC", f"Modbus {report['modbus_results']}, OPC UA {report['opcua_results']}")
    table.add_row("gate did as told", ", ".join(f"{name} {count}" for name, count in gate.items()))
    table.add_row(
        "verdict against its label", ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in judgement.items())
    )
    for key, name, unit in (
        ("latency_ms", "photo-eye to verdict", "ms"),
        ("plc_latency_ms", "photo-eye to PLC", "ms"),
        ("gate_error_mm", "firing error", "mm"),
    ):
        figures = report[key]
        table.add_row(name, f"p50 {figures['p50']}, p99 {figures['p99']}, max {figures['max']} {unit}")
    for name, parts in groupby(
        sorted(report.get("exceptions", ()), key=lambda one: str(one["class"])), key=itemgetter("class")
    ):
        table.add_row(str(name), _in_short(list(parts)))
    done = (
        Text("yes, every part accounted for", style="bold green")
        if report["reconciled"]
        else Text("NO", style="bold red")
    )
    table.add_row("reconciled", done)
    for problem in report.get("problems", ()):
        table.add_row("", Text(problem, style="red"))
    return table
