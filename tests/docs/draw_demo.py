"""Draw the README's picture of the demo: its live view at one moment of a recorded run.

`python -m tests.docs.draw_demo` draws; with `--record` it first runs the demo anew and keeps what its children said.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from simulators.demo.board import Board
from simulators.demo.options import read_options
from simulators.demo.session import Session
from simulators.demo.setup import claimed_ports
from simulators.demo.view import draw

HERE = Path(__file__).parent
PICTURE = HERE.parents[1] / "docs" / "images" / "demo.svg"
RUN = HERE / "demo_run.jsonl"
PARTS, COLUMNS = 40, 100
MQTT = "mqtt"
UNDRAWN = ("ready", "linked", "opcua_up", "modbus_result", "opcua_result", "at_gate", "in_bin")

# Sizes in the picture's own unit. Rich sets lines 24.4 apart and letters 20 x ASPECT apart; a letter of 21 fills both,
# so that frames and blocks have no gaps.
LETTER, LINE, ASPECT, MARGIN = 21, 24.4, 0.63, 14
FONT = "'DejaVu Sans Mono', Menlo, 'Liberation Mono', Consolas, monospace"
FORMAT = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 WIDTH HEIGHT" role="img">
<title>The live view of linegate demo</title>
<style>
text {{ font-family: FONT; font-size: LETTERpx; white-space: pre }}
{styles}
</style>
<rect width="WIDTH" height="HEIGHT" rx="10" fill="#1b1e23"/>
<g transform="translate(MARGIN MARGIN)">
<g transform="translate(0 -1)">{backgrounds}</g>
{matrix}
</g>
</svg>
"""


def recorded_board() -> tuple[Board, int]:
    """Give the board as the recorded run leaves it, and the moment in ns."""
    board, now_ns = Board(goal=PARTS), 0
    for line in RUN.read_text(encoding="utf-8").splitlines():
        child, event = json.loads(line)
        if child == MQTT:
            board.hear(event)
        else:
            board.take(child, event)
            now_ns = event["at_ns"] if event["event"] == "belt" else now_ns
    return board, now_ns


def drawn() -> Console:
    """Draw the recorded moment on a console that can export it."""
    board, now_ns = recorded_board()
    console = Console(
        file=io.StringIO(), width=COLUMNS, record=True, force_terminal=True, color_system="truecolor", _environ={}
    )
    console.print(draw(board, now_ns=now_ns, width=COLUMNS))
    return console


def view_lines() -> list[str]:
    """Give the view's text at the recorded moment, line by line, without colours."""
    return drawn().export_text(styles=False).splitlines()


def svg() -> str:
    """Give the picture; its text is set in a font of the reader's machine, and not clipped: that would cut frames apart."""
    sizes = {"WIDTH": COLUMNS * 20 * ASPECT + 2 * MARGIN, "HEIGHT": len(view_lines()) * LINE + 2 * MARGIN}
    form = FORMAT.replace("FONT", FONT)
    for name, value in (sizes | {"MARGIN": MARGIN, "LETTER": LETTER}).items():
        form = form.replace(name, f"{value:g}")
    picture = drawn().export_svg(title="", code_format=form, font_aspect_ratio=ASPECT, unique_id="d")
    return re.sub(r' clip-path="[^"]*"', "", picture)


class Witness(Board):
    """A board that writes down what it took and heard, up to the moment that makes the picture."""

    def __init__(self) -> None:
        super().__init__(goal=PARTS)
        self.log: list[tuple[str, dict[str, Any]]] = []
        self.moment = 0

    def take(self, child: str, event: Mapping[str, Any]) -> str | None:
        """Take an event of a child and write it down."""
        line = super().take(child, event)
        self.log.append((child, dict(event)))
        if not self.moment and event["event"] == "belt" and "mm" in event and self._worth_a_picture():
            self.moment = len(self.log)
        return line

    def hear(self, verdict: Mapping[str, Any]) -> str:
        """Hear a verdict and write down what the view shows of it."""
        kept = {name: verdict[name] for name in ("part_id", "sequence", "verdict", "disposition", "reason")}
        kept["timing_ms"] = {"total": round(verdict["timing_ms"]["total"], 2)}
        self.log.append((MQTT, kept))
        return super().hear(verdict)

    def _worth_a_picture(self) -> bool:
        """Tell whether the gate stands open for a FAIL while a doubt is listed."""
        first = next((part for part in self.parts.values() if part.fate is None), None)
        doubt = any(document["verdict"] == "UNCERTAIN" for document in self.lately)
        return self.gate_on and doubt and first is not None and first.verdict == "FAIL"

    def lines(self) -> list[str]:
        """Give the log as lines of JSON: of belt and gate the last word, and nothing that the view doesn't draw."""
        kept: list[tuple[str, dict[str, Any]]] = []
        last: set[str] = set()
        for child, event in reversed(self.log[: self.moment]):
            kind = event.get("event", MQTT)
            if kind in UNDRAWN or (kind in ("belt", "gate") and kind in last):
                continue
            last.add(kind)
            kept.append((child, event))
        return [json.dumps(entry) for entry in reversed(kept)]


async def record() -> list[str]:
    """Run the demo and give what its view was made of, as lines; raises RuntimeError when no moment was worth it."""
    witness = Witness()
    with tempfile.TemporaryDirectory(prefix="linegate-picture-") as folder, claimed_ports() as ports:
        options = read_options(["--parts", str(PARTS)])
        session = Session(folder=Path(folder), options=options, ports=ports, say=lambda _line: None)
        session.board = witness
        try:
            await session.run(asyncio.Event())
        finally:
            await session.stop()
    if not witness.moment:
        raise RuntimeError("the gate was never open for a FAIL with a doubt in the list: record again")
    return witness.lines()


if __name__ == "__main__":
    if "--record" in sys.argv[1:]:
        RUN.write_text("\n".join(asyncio.run(record())) + "\n", encoding="utf-8")
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(svg(), encoding="utf-8")
