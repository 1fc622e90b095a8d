"""The live view: the belt with its parts, the last verdicts, latency and firing error; and the final table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from simulators.demo.board import Board, OnBelt
from simulators.line.geometry import Geometry
from simulators.reconcile import percentiles

COLOURS = {"PASS": "green", "FAIL": "red", "UNCERTAIN": "yellow", "ERROR": "magenta", "LATE": "magenta"}
BEHIND_MM = 160.0
AHEAD_MM = 320.0


def draw(board: Board, *, now_ns: int, width: int) -> RenderableType:
    """Draw the whole view, `width` columns wide."""
    goal = "" if board.goal is None else f" of {board.goal}"
    title = f"Linegate demo: part {board.seen}{goal}, belt {board.speed_mm_s:.0f} mm/s"
    return Panel(Group(_belt(board, now_ns, width - 4), _figures(board), _lately(board), *_notes(board)), title=title)


def _belt(board: Board, now_ns: int, width: int) -> Text:
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
    belt = Text("─" * width, style="dim")
    cells: list[tuple[int, int, OnBelt]] = []
    position_mm = board.belt_mm(now_ns)
    for part in board.parts.values():
        front_mm = position_mm - part.front_mm
        if part.fate == "binned" and front_mm > geometry.gate_distance_mm + geometry.part_length_mm:
            continue
        cells.append((column(front_mm - geometry.part_length_mm), column(front_mm), part))
    letters, styles = ["─"] * width, ["dim"] * width
    for start, end, part in cells:
        for place in range(max(0, start), min(width, end)):
            letters[place] = "█"
            styles[place] = COLOURS.get(part.verdict or "", "white")
    belt = Text()
    for letter, style in zip(letters, styles, strict=True):
        belt.append(letter, style=style)
    return Text("\n").join([Text("".join(marks), style="bold"), belt, Text("")])


def _figures(board: Board) -> Text:
    latency, error = percentiles(board.latencies_ms), percentiles(board.errors_mm)
    counts = "  ".join(f"{name} {board.verdicts[name]}" for name in COLOURS if board.verdicts[name])
    return Text(
        f"{counts or 'no verdict yet'}\n"
        f"bridge p50 {latency['p50']:.1f} ms, p99 {latency['p99']:.1f} ms   "
        f"firing error p50 {error['p50']:.1f} mm, max {error['max']:.1f} mm   "
        f"binned {board.fates['binned']}, passed {board.fates['passed']}, swept {board.fates['swept']}"
    )


def _lately(board: Board) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("part", "verdict", "gate is told", "reason", "ms"):
        table.add_column(heading, justify="right" if heading == "ms" else "left", no_wrap=True)
    for verdict in reversed(board.lately):
        name, total_ms = str(verdict["verdict"]), (verdict.get("timing_ms") or {}).get("total")
        table.add_row(
            str(verdict["part_id"]),
            Text(name, style=COLOURS.get(name, "")),
            str(verdict["disposition"]),
            str(verdict["reason"]),
            "" if total_ms is None else f"{total_ms:.1f}",
        )
    return table


def _notes(board: Board) -> list[Text]:
    return [Text(f"! {note}", style="yellow") for note in board.notes]


def report_table(report: Mapping[str, Any]) -> Table:
    """Show the reconciliation as a table."""
    table = Table(title="What happened and what was said", show_header=False)
    gate, judgement, verdicts = report["gate"], report["judgement"], report["verdicts"]
    table.add_row("parts past the photo-eye", str(report["parts"]))
    table.add_row("triggers, verdicts, records", f"{report['triggers']}, {sum(verdicts.values())}, {report['records']}")
    table.add_row("verdicts", ", ".join(f"{name} {count}" for name, count in verdicts.items() if count) or "none")
    table.add_row("results in the PLC", f"Modbus {report['modbus_results']}, OPC UA {report['opcua_results']}")
    table.add_row("gate", ", ".join(f"{name} {count}" for name, count in gate.items()))
    table.add_row("verdict against label", ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in judgement.items()))
    for key, name, unit in (
        ("latency_ms", "photo-eye to verdict", "ms"),
        ("plc_latency_ms", "photo-eye to PLC", "ms"),
        ("gate_error_mm", "firing error", "mm"),
    ):
        figures = report[key]
        table.add_row(name, f"p50 {figures['p50']}, p99 {figures['p99']}, max {figures['max']} {unit}")
    done = Text("yes", style="bold green") if report["reconciled"] else Text("NO", style="bold red")
    table.add_row("reconciled", done)
    for problem in report.get("problems", ()):
        table.add_row("", Text(problem, style="red"))
    return table
