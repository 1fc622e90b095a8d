"""An evaluation as a person reads it in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table

SEEN = "These are the very pictures that it was taught with: this says nothing of pictures that it has not seen."
UNKNOWN_GOOD = "none known: if there is one, name it with --good"


def in_terminal(report: Mapping[str, Any]) -> Group:
    """Make the tables: the figures with their 95 % intervals, each class, what was taken for what."""
    figures = Table(title=f"{report['bundle']} on {report['folder']}", show_header=False)
    low, high = report["accuracy_interval"]
    figures.add_row("pictures", str(report["n"]))
    figures.add_row("class of good parts", report["good"] or UNKNOWN_GOOD)
    figures.add_row(f"accuracy ({report['judged']})", f"{report['accuracy']:.2%}  [{low:.2%}, {high:.2%}]")
    figures.add_row("macro F1", f"{report['macro_f1']:.4f}")
    if report["auroc"] is not None:
        figures.add_row("AUROC, good or not", f"{report['auroc']:.4f}")
        figures.add_row("escapes at 1 % false rejects", f"{report['escapes_at_1pct_false_rejects']:.2%}")
        figures.add_row("escapes at its thresholds", _share(report["escapes"]))
        figures.add_row("false rejects at its thresholds", _share(report["false_rejects"]))
    figures.add_row("inference, one thread", "p50 {p50} ms, p99 {p99} ms".format(**report["latency_ms"]))
    classes = Table("class", "pictures", "recall", "precision", "taken for others")
    for name, row in report["per_class"].items():
        others = {other: count for other, count in report["confusion"][name].items() if other != name}
        precision = "-" if row["precision"] is None else f"{row['precision']:.2%}"
        low, high = row["recall_interval"]
        taken = ", ".join(f"{other} {count}" for other, count in others.items())
        classes.add_row(name, str(row["n"]), f"{row['recall']:.2%} [{low:.1%}, {high:.1%}]", precision, taken)
    warning = [SEEN] if report["taught_with_these"] else []
    return Group(*warning, figures, classes)


def _share(share: Mapping[str, Any]) -> str:
    low, high = share["interval"]
    return f"{share['count']} of {share['n']}  [{low:.2%}, {high:.2%}]"
