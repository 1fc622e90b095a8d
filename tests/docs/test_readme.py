"""The README can't lie: its tables are the code's, and what it names exists."""

from __future__ import annotations

import re

from tests.docs.write_tables import README, with_tables


def test_the_tables_are_those_of_the_code() -> None:
    text = README.read_text(encoding="utf-8")
    assert text == with_tables(text), "run `make docs`"


def test_every_linked_file_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []
