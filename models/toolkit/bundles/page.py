"""One page of HTML that needs nothing else: what the reports of models are made of."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from bridge.errors import BundleError
from bridge.inference.archive import ZIP_SUFFIX
from models.toolkit.bundles.files import write_whole

THUMBNAIL_PX = 260


def page_beside(out: Path) -> Path:
    """Give where the report of the bundle `out` lies."""
    return out.with_name(f"{out.name.removesuffix(ZIP_SUFFIX)}-report.html")


def write_html(path: Path, title: str, parts: Sequence[str]) -> Path:
    """Write a page of parts of HTML; gives its path; raises BundleError where it can't be written."""
    page = _PAGE.format(title=escape(title), body="\n".join([f"<h1>{escape(title)}</h1>", *parts]))
    try:
        write_whole(path, page.encode())
    except OSError as exc:
        raise BundleError(f"{path}: the report can't be written: {exc.strerror or exc}; the bundle is whole") from exc
    return path


def table(head: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """Make a table; a head without words is left out."""
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(value))}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table>{f'<tr>{cells}</tr>' if any(head) else ''}{body}</table>"


def bullets(doubts: Sequence[str]) -> str:
    """Make a list of warnings."""
    if not doubts:
        return "<p>None.</p>"
    return "<ul>" + "".join(f"<li>{escape(doubt)}</li>" for doubt in doubts) + "</ul>"


def figure(pictures: Iterable[npt.NDArray[np.uint8]], text: str) -> str:
    """Make a figure of BGR pictures with a text below."""
    images = "".join(f"<img src='{_data(pixels)}' alt=''>" for pixels in pictures)
    return f"<figure>{images}<figcaption>{escape(text)}</figcaption></figure>"


def thumbnail(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Scale an RGB picture until its longer side has 260 pixels; gives BGR."""
    scale = THUMBNAIL_PX / max(pixels.shape[:2])
    turned = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return np.asarray(cv2.resize(turned, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def _data(pixels: npt.NDArray[np.uint8]) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(cv2.imencode(".jpg", pixels)[1].tobytes()).decode()


_PAGE = """\
<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse }} td, th {{ border: 1px solid #ccc; padding: .2rem .6rem; text-align: left }}
figure {{ display: inline-block; margin: .5rem }} figure img {{ width: 200px; margin-right: 4px }}
figcaption {{ font-size: 13px; max-width: 410px }}
</style>
<body>
{body}
</body></html>
"""
