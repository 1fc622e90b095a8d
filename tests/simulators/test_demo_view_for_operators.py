"""What an operator must be able to read in the live view, also in a narrow terminal and without colours."""

from __future__ import annotations

from simulators.demo.board import Board
from simulators.demo.view import draw
from tests.simulators.test_demo_view import S, at_eye, text_of, verdict

DOUBT = {"reason": "pitting 0.24 in the band of doubt 0.02 to 0.50, and more words than fit beside the figures"}


def test_80_columns_cut_the_reason_and_nothing_else() -> None:
    board = Board(goal=30)
    board.take("conveyor", at_eye(24, 0.0))
    board.hear(verdict(24, "UNCERTAIN") | DOUBT | {"timing_ms": {"total": 1234.56}})
    for fate in ("binned", "passed", "swept"):
        board.fates[fate] = 1000

    shown = text_of(draw(board, now_ns=S, width=80), width=80).splitlines()

    assert all(len(line) == 80 for line in shown)
    assert any("P-000024  UNCERTAIN  REJECT        1234.6  pitting 0.24" in line and "…" in line for line in shown)
    assert sum("…" in line for line in shown) == 1
    assert any("binned 1000, passed 1000, swept 1000" in line for line in shown)


def test_no_figure_is_shown_before_there_is_one() -> None:
    shown = text_of(draw(Board(goal=30), now_ns=S, width=80), width=80)

    assert "starting, no part yet" in shown
    assert "0.0" not in shown
    assert shown.count("none yet") == 3
    assert "not fired yet" in shown


def test_a_part_bears_the_first_letter_of_its_verdict() -> None:
    board = Board(goal=None)
    board.take("conveyor", {"event": "belt", "at_ns": S, "mm": 600.0, "mm_s": 1000.0})
    board.take("conveyor", at_eye(1, 300.0))
    board.take("conveyor", at_eye(2, 500.0))
    board.hear(verdict(1, "FAIL"))

    belt = next(line for line in text_of(draw(board, now_ns=S, width=110)).splitlines() if "█" in line)

    assert "█F█" in belt
    assert belt.index("█") < belt.index("F")
    assert sum(letter.isalpha() for letter in belt) == 1


def test_words_from_outside_are_no_markup() -> None:
    board = Board(goal=None)
    board.hear(verdict(1, "ERROR") | {"part_id": "[red]7", "reason": "camera: [/b] gone"})

    shown = text_of(draw(board, now_ns=S, width=110))

    assert "[red]7" in shown
    assert "camera: [/b] gone" in shown


def test_the_end_of_a_stop_request_is_told() -> None:
    board = Board(goal=None)

    assert "asks to stop the line" in (board.take("PLC", {"event": "stop_request", "on": True}) or "")
    assert board.take("PLC", {"event": "stop_request", "on": False}) == "the bridge no longer asks to stop the line"
    assert len(board.notes) == 2


def test_the_view_fits_24_lines() -> None:
    board = Board(goal=30)
    for sequence in range(1, 13):
        board.take("conveyor", at_eye(sequence, 0.0, copies=0))
        board.hear(verdict(sequence, "FAIL"))

    assert len(text_of(draw(board, now_ns=S, width=80), width=80).splitlines()) <= 23
