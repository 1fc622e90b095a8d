"""The README's picture of the demo shows what the live view prints, and asks nothing of any other machine."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from tests.docs.draw_demo import PICTURE, recorded_board, svg, view_lines
from tests.docs.write_tables import README

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def picture() -> str:
    return PICTURE.read_text(encoding="utf-8")


def lines_of(picture: str) -> list[str]:
    """Give the picture's text, line by line: what stands at one height from left to right."""
    lines: dict[float, dict[float, str]] = {}
    for word in ElementTree.fromstring(picture).iter(f"{SVG}text"):
        text = (word.text or "").replace("\u00a0", " ")
        if text.strip():
            lines.setdefault(float(word.attrib["y"]), {})[float(word.attrib["x"])] = text
    return ["".join(line[x] for x in sorted(line)) for _, line in sorted(lines.items())]


def test_the_picture_says_what_the_view_prints(picture: str) -> None:
    shown, printed = lines_of(picture), view_lines()

    assert [line.replace(" ", "") for line in shown] == [line.replace(" ", "") for line in printed], "run `make docs`"
    assert lines_of(svg()) == shown


def test_every_label_of_the_view_is_in_it(picture: str) -> None:
    labels = ("| photo-eye", "| gate OPEN", "verdicts", "trigger to verdict", "parts at the gate", "firing error")
    heads = ("part ", "verdict ", "gate is told ", " ms ", "reason", "PASS", "FAIL", "UNCERTAIN", "REJECT", "LET_PASS")
    text = "\n".join(lines_of(picture))
    assert [label for label in labels + heads if label not in text] == []


def test_it_is_small_and_asks_for_nothing_from_outside(picture: str) -> None:
    assert len(picture.encode()) < 60_000
    assert re.findall(r"(?i)[a-z]*:?//[^\"'\s]*", picture) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"(?i)@import|@font-face|url\(|href|<script|<image|<foreignObject", picture)
    assert "monospace" in picture


def test_its_text_stays_inside_and_does_not_overlap(picture: str) -> None:
    root = ElementTree.fromstring(picture)
    _, _, width, height = (float(size) for size in root.attrib["viewBox"].split())
    ends: dict[float, float] = {}
    for word in root.iter(f"{SVG}text"):
        x, y, length = (float(word.attrib[name]) for name in ("x", "y", "textLength"))
        if (word.text or "").strip():
            assert x >= ends.get(y, 0.0) - 0.1
            ends[y] = x + length
    assert max(ends.values()) < width
    assert max(ends) < height


def test_the_readme_shows_it_with_words_for_those_who_cannot_see_it() -> None:
    before, _, _ = README.read_text(encoding="utf-8").partition("\n## ")
    (alt,) = re.findall(r"!\[([^\]]+)\]\(docs/images/demo\.svg\)", before)

    assert "live view" in alt
    assert len(alt) > 60


def test_the_recorded_moment_is_that_of_a_whole_line() -> None:
    board, now_ns = recorded_board()

    assert now_ns > 0
    assert board.seen == len(board.told)
    assert board.verdicts.total() in (board.seen, board.seen - 1)
    assert board.fates["swept"] == 0
