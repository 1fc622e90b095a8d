"""What a taught model is worth, told honestly: in a terminal and as one page of HTML that needs nothing else.

All figures come from pictures that the judging model had not seen (cross-validation), with 95 % Wilson intervals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.console import Group
from rich.table import Table
from sklearn.metrics import average_precision_score, precision_recall_curve

from models.toolkit.bundles.page import THUMBNAIL_PX, bullets, figure, table, thumbnail, write_html
from models.toolkit.evaluation.explain import Explainer, overlay
from models.toolkit.figures.metrics import Share
from models.toolkit.pictures.folder import read_picture
from models.toolkit.teaching.teach import Taught

MISTAKES = 12
_WIDE, _TALL = 420, 260


def in_terminal(taught: Taught, doubts: Sequence[str]) -> Group:
    """Make the tables and the warnings."""
    figures = Table(title=taught.bundle.reference, show_header=False)
    for name, value in _figures(taught):
        figures.add_row(name, value)
    return Group(figures, *(f"! {doubt}" for doubt in doubts))


def write_page(taught: Taught, doubts: Sequence[str], path: Path) -> Path:
    """Write the page; gives its path; raises BundleError where it can't be written."""
    parts = [
        table(("", ""), _figures(taught)),
        "<h2>Warnings</h2>", bullets(doubts),
        "<h2>What was taken for what</h2><p>Rows: what the picture is; columns: what an unseen model said.</p>",
        _confusion(taught),
    ]  # fmt: skip
    if taught.folder.good is not None:
        parts += ["<h2>Precision and recall of defects</h2>", _precision_recall(taught)]
    parts += ["<h2>The worst mistakes</h2>", *_mistakes(taught)]
    return write_html(path, taught.bundle.reference, parts)


def _figures(taught: Taught) -> Iterator[tuple[str, str]]:
    n, folder = len(taught.truth), taught.folder
    yield "pictures", ", ".join(f"{label} {count}" for label, count in folder.counts.items())
    yield "right, of pictures not seen", str(Share(count=int((taught.said == taught.truth).sum()), n=n))
    highest = int((taught.unseen.argmax(axis=1) == taught.truth).sum())
    if highest != int((taught.said == taught.truth).sum()):
        yield "right by the higher score", str(Share(count=highest, n=n))
    if folder.good is not None:
        place = taught.names.index(folder.good)
        yield "lets pass from", f"{folder.good} {taught.accept:.4f}"
        bad, passed = taught.truth != place, taught.unseen[:, place] >= taught.accept
        yield "escapes, of defective ones", str(Share(count=int((bad & passed).sum()), n=int(bad.sum())))
        yield "false rejects, of good ones", str(Share(count=int((~bad & ~passed).sum()), n=int((~bad).sum())))
    kind = "INT8" if taught.quantized else "float32: INT8 was slower or worse"
    beside = "" if taught.float_ms is None else f"; float32 {taught.float_ms:.1f} ms"
    yield "one frame, one thread", f"{taught.model_ms:.1f} ms ({kind}{beside})"
    yield "made in", f"{taught.seconds:.0f} s"


def _confusion(taught: Taught) -> str:
    labels, said = taught.names, taught.said
    rows = [
        (label, *(str(int(((taught.truth == row) & (said == column)).sum()) or "") for column in range(len(labels))))
        for row, label in enumerate(labels)
    ]
    return table(("", *labels), rows)


def _precision_recall(taught: Taught) -> str:
    """Draw precision over recall of "defective", both from 0 to 1."""
    place = taught.names.index(str(taught.folder.good))
    bad, scores = taught.truth != place, 1 - taught.unseen[:, place]
    precision, recall, _ = precision_recall_curve(bad, scores)
    points = " ".join(
        f"{40 + x * (_WIDE - 60):.1f},{_TALL - 30 - y * (_TALL - 50):.1f}"
        for x, y in zip(recall, precision, strict=True)
    )
    return (
        f'<svg viewBox="0 0 {_WIDE} {_TALL}" width="{_WIDE}" role="img" aria-label="precision over recall">'
        f'<path d="M40 20V{_TALL - 30}H{_WIDE - 20}" fill="none" stroke="#888"/>'
        f'<polyline points="{points}" fill="none" stroke="#0a6" stroke-width="2"/>'
        f'<text x="{_WIDE / 2}" y="{_TALL - 8}">recall, 0 to 1</text><text x="4" y="14">precision, 0 to 1</text></svg>'
        f"<p>Average precision {average_precision_score(bad, scores):.4f}.</p>"
    )


def _mistakes(taught: Taught) -> Iterator[str]:
    own = taught.unseen[np.arange(len(taught.truth)), taught.truth]
    wrong = np.flatnonzero(taught.said != taught.truth)
    worst = sorted(wrong, key=lambda row: own[row])[:MISTAKES]
    if not worst:
        yield "<p>None among the pictures that were not seen.</p>"
        return
    yield (
        "<p>Each as an unseen model judged it, beside it where the finished model looks (it has seen the picture). "
        "Often the label is wrong, not the model.</p>"
    )
    explainer = Explainer(taught.bundle)
    for row in worst:
        sample = taught.folder.samples[row]
        place = taught.said[row]
        heat = overlay(sample.path, explainer.explain(sample.path), longest_px=THUMBNAIL_PX)
        text = f"{sample.label}/{sample.path.name}: {_taken_for(taught, int(row), int(place))}"
        yield figure((thumbnail(read_picture(sample.path).pixels), heat), text)


def _taken_for(taught: Taught, row: int, place: int) -> str:
    """Tell what was said of a picture, and where the limit decided it, by which."""
    good, name, score = taught.folder.good, taught.names[place], taught.unseen[row, place]
    if good is None or len(taught.names) != 2:
        return f"taken for {name} ({score:.2f})"
    own = taught.unseen[row, taught.names.index(good)]
    return f"taken for {name}: {good} {own:.2f}, passes from {taught.accept:.2f}"
