"""The README can't lie: its tables are the code's, and what it names exists."""

from __future__ import annotations

import re

from bridge.outputs.plc.tag_list import render_tags
from tests.docs.write_tables import PLC_BLOCKS, PLC_TAGS, README, with_tables


def test_the_tables_are_those_of_the_code() -> None:
    text = README.read_text(encoding="utf-8")
    assert text == with_tables(text), "run `make docs`"


def test_the_files_for_the_plc_are_those_that_linegate_tags_prints() -> None:
    assert PLC_TAGS.read_text(encoding="utf-8") == render_tags("md"), "run `make docs`"
    assert PLC_BLOCKS.read_text(encoding="utf-8") == render_tags("st"), "run `make docs`"


def test_every_linked_file_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []
