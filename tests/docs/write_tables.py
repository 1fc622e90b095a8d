"""Write the tables of the README from the code, between its two marks."""

from __future__ import annotations

from pathlib import Path

from bridge.outputs.tag_list import render_tags

README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- tables:begin -->", "<!-- tables:end -->"


def with_tables(text: str) -> str:
    """Give the README with its tables as the code has them."""
    before, rest = text.split(BEGIN)
    tables = render_tags("md").replace("\n#", "\n##").replace("# Tags of line1", "## Registers, tags and codes", 1)
    return before + BEGIN + "\n" + tables.strip() + "\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
