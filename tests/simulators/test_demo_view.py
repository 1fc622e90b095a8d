"""The live view and the final table, drawn without a terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console, RenderableType

from simulators.demo.board import Board
from simulators.demo.view import draw, report_table
from simulators.reconcile import reconcile
from tests.simulators.test_reconciliation import GOOD_RUN, without

S = 1_000_000_000


def text_of(what: RenderableType, *, width: int = 110) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    with console.capture() as capture:
        console.print(what)
    return capture.get()


def at_eye(sequence: int, front_mm: float, *, copies: int = 1) -> dict[str, Any]:
    return {
        "event": "at_eye",
        "sequence": sequence,
        "label": "good",
        "front_mm": front_mm,
        "copies": copies,
        "at_ns": S,
    }


def verdict(sequence: int, name: str) -> dict[str, Any]:
    return {
        "part_id": f"P-{sequence:06d}", "sequence": sequence, "verdict": name, "reason": "pitting 0.93 >= 0.50",
        "disposition": "LET_PASS" if name == "PASS" else "REJECT", "timing_ms": {"total": 7.25},
    }  # fmt: skip


def test_parts_stand_on_the_belt_where_they_are() -> None:
    board = Board(goal=40)
    board.take("conveyor", {"event": "belt", "at_ns": S, "mm": 600.0, "mm_s": 1000.0})
    board.take("conveyor", at_eye(1, 400.0))
    board.take("conveyor", at_eye(2, 580.0))

    early, late = text_of(draw(board, now_ns=S, width=110)), text_of(draw(board, now_ns=S + S // 10, width=110))

    assert "part 2 of 40, belt 1000 mm/s" in early
    belt_early, belt_late = (next(line for line in text.splitlines() if "█" in line) for text in (early, late))
    assert belt_late.index("█") > belt_early.index("█")


def test_verdicts_notes_and_figures_are_shown() -> None:
    board = Board(goal=None)
    board.take("conveyor", at_eye(7, 0.0))
    line = board.hear(verdict(7, "FAIL"))
    assert "P-000007" in line
    assert "7.2 ms" in line
    assert board.take("conveyor", at_eye(8, 180.0, copies=0)) == "part 8: its trigger is lost"
    board.take("PLC", {"event": "fired", "sequence": 7, "error_ms": -2.0, "mm_s": 1200.0})
    board.take("PLC", {"event": "decision", "sequence": 8, "reject": True, "by": "release", "reason": "no result"})

    shown = text_of(draw(board, now_ns=S, width=110))

    assert "FAIL 1" in shown
    assert "max 2.4 mm" in shown
    assert "rejected by positive release, no result" in shown
    assert board.told == {7}


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_view_fits_any_terminal(width: int) -> None:
    board = Board(goal=3)
    board.take("conveyor", at_eye(1, 0.0))
    board.hear(verdict(1, "PASS"))

    assert max(len(line) for line in text_of(draw(board, now_ns=S, width=width), width=width).splitlines()) <= width


def test_the_table_names_what_does_not_reconcile() -> None:
    good = text_of(report_table(reconcile(GOOD_RUN, ports={})))
    bad = text_of(report_table(reconcile(without(GOOD_RUN, "records"), ports={})))

    assert "reconciled" in good
    assert "yes" in good
    assert "NO" in bad
    assert "records: 2 of 3, lacking 3" in bad
