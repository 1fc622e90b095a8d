"""The answer of `linegate records verify`, for people and for programs."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from bridge.records.row_check import CODES

MOST_EXAMPLES = 10


@dataclass
class Finding:
    """One check: how many times it failed, and the first cases. A note tells and fails nothing."""

    name: str
    holds: str
    found: str
    note: bool = False
    count: int = 0
    cases: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, example: str, count: int = 1) -> None:
        """Count a case."""
        self.count += count
        self.cases += 1
        if len(self.examples) < MOST_EXAMPLES:
            self.examples.append(example)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.note or not self.count


@dataclass
class StationCount:
    """What one station has in the record."""

    triggers: int = 0
    epochs: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    unfinished: int = 0
    missed: int = 0


@dataclass
class Report:
    """The whole answer."""

    database: str
    checked_utc: str
    stations: dict[str, StationCount] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether all holds."""
        return all(finding.ok for finding in self.findings)

    def station(self, row: Any) -> StationCount:
        """Give the counts of a row's station."""
        return self.stations.setdefault(f"{row.line}/{row.station}", StationCount())

    def check(self, name: str, *, holds: str, found: str, note: bool = False) -> Finding:
        """Begin a check: what holds when nothing is found, and what was found when something is."""
        self.findings.append(Finding(name, holds, found, note=note))
        return self.findings[-1]


def as_document(report: Report) -> dict[str, Any]:
    """Give the report for programs."""
    stations = []
    for name, counts in report.stations.items():
        line, _, station = name.partition("/")
        named = asdict(counts) | {"verdicts": {verdict: counts.verdicts[verdict] for verdict in CODES}}
        stations.append({"line": line, "station": station} | named)
    return {
        "ok": report.ok,
        "database": report.database,
        "checked_utc": report.checked_utc,
        "stations": stations,
        "checks": [asdict(finding) | {"ok": finding.ok} for finding in report.findings],
    }


def as_text(report: Report) -> str:
    """Give the report for people."""
    lines = [f"records in {report.database}, checked {report.checked_utc}", "", *_table(report), ""]
    for finding in report.findings:
        if not finding.count:
            lines.append(f"ok     {finding.holds}")
            continue
        lines.append(f"{'note ' if finding.note else 'WRONG'}  {finding.found}: {finding.count:,}")
        lines += [f"         {example}" for example in finding.examples]
        if finding.cases > len(finding.examples):
            lines.append(f"         and {finding.cases - len(finding.examples):,} more")
    failed = sum(not finding.ok for finding in report.findings)
    lines.append("")
    lines.append("the record holds" if report.ok else f"THE RECORD DOES NOT HOLD: {failed} checks failed")
    return "\n".join(lines) + "\n"


def _table(report: Report) -> list[str]:
    head = ("station", "triggers", *CODES, "in flight", "unfinished", "missed")
    rows = [head]
    for name, counts in report.stations.items():
        figures = (
            counts.triggers,
            *(counts.verdicts[verdict] for verdict in CODES),
            counts.in_flight,
            counts.unfinished,
            counts.missed,
        )
        rows.append((name, *(f"{figure:,}" for figure in figures)))
    widths = [max(len(row[place]) for row in rows) for place in range(len(head))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
