"""Write the tables of the README and of docs/metrics.md between their two marks, and the generated files of docs/plc."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from bridge.monitoring.metrics import StationMetrics
from bridge.outputs.plc.tag_list import TABLE_COLUMNS, render_tags
from tests.docs.scl import as_scl
from tests.monitoring.samples import SOURCES

ROOT = Path(__file__).parents[2]
README, METRICS = ROOT / "README.md", ROOT / "docs" / "metrics.md"
PLC_TAGS, PLC_BLOCKS = ROOT / "docs" / "plc" / "tags.md", ROOT / "docs" / "plc" / "linegate.st"
PLC_SCL = PLC_BLOCKS.with_suffix(".scl")
BEGIN, END = "<!-- tables:begin -->", "<!-- tables:end -->"
METRICS_BEGIN, METRICS_END = "<!-- metrics:begin -->", "<!-- metrics:end -->"


def blocks() -> str:
    """Give the function blocks in Structured Text."""
    return files("bridge.outputs.plc").joinpath("linegate_blocks.st").read_text(encoding="utf-8")


def with_tables(text: str) -> str:
    """Give the README with its tables as the code has them."""
    before, rest = text.split(BEGIN)
    tables = (
        render_tags("md", columns=TABLE_COLUMNS)
        .replace("\n#", "\n##")
        .replace("# Tags of line1", "## Registers, tags and codes", 1)
    )
    return before + BEGIN + "\n" + tables.strip() + "\n" + END + rest.split(END)[1]


def with_metrics(text: str) -> str:
    """Give the page of the metrics with its table as the code has it."""
    before, rest = text.split(METRICS_BEGIN)
    lines = ["| metric | type | labels | what it says |", "| --- | --- | --- | --- |"]
    for family in StationMetrics(SOURCES).collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = ", ".join(label for label in family.samples[0].labels if label != "le")
        lines.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |")
    return before + "\n".join((METRICS_BEGIN, *lines, METRICS_END)) + rest.split(METRICS_END)[1]


if __name__ == "__main__":
    PLC_TAGS.write_text(render_tags("md"), encoding="utf-8")
    PLC_BLOCKS.write_text(render_tags("st"), encoding="utf-8")
    PLC_SCL.write_text(as_scl(blocks()), encoding="utf-8")
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
    METRICS.write_text(with_metrics(METRICS.read_text(encoding="utf-8")), encoding="utf-8")
