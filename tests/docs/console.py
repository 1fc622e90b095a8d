"""Run the `console` blocks of a page in one shell and compare what they print; `...` in a page stands for anything."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

DONE = "-- done --"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command of a page and the lines that it says come of it."""

    command: str
    expected: tuple[str, ...]
    line: int


def steps_of(page: Path) -> Iterator[Step]:
    """Read a page's steps; a command is a line that begins with `$ `."""
    command, expected, at, inside = None, [], 0, False
    for number, text in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        begins = inside and text.startswith("$ ")
        if (begins or text == "```") and command is not None:
            yield Step(command=command, expected=tuple(expected), line=at)
            command, expected = None, []
        if begins:
            command, at = text[2:], number
        elif inside and text != "```":
            expected.append(text)
        inside = text == "```console" or (inside and text != "```")


class Shell:
    """One bash with its own process group; `replaced` turns a page's ports into free ones."""

    def __init__(self, folder: Path, *, environment: Mapping[str, str], replaced: Mapping[str, str]) -> None:
        self._replaced = replaced
        self._process = subprocess.Popen(
            ["bash", "--norc"], cwd=folder, env={**os.environ, **environment}, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def run(self, command: str) -> list[str]:
        """Give the lines that a command writes, standard error among them."""
        for said, meant in self._replaced.items():
            command = command.replace(said, meant)
        stdin, stdout = self._pipes()
        stdin.write(f"{command}\necho; echo '{DONE}'\n")
        stdin.flush()
        lines: list[str] = []
        while (line := stdout.readline()).strip() != DONE:
            assert line, f"the shell ended at {command}: {lines}"
            lines.append(line.rstrip("\n"))
        return lines[:-1] if lines[-1:] == [""] else lines

    def close(self) -> None:
        """End everything that was started in it."""
        os.killpg(self._process.pid, signal.SIGTERM)
        self._process.communicate(timeout=20)

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout


def differences(page: Path, shell: Shell) -> list[str]:
    """Run a page's steps; gives what did not come out as the page says."""
    found = []
    for step in steps_of(page):
        told = "\n".join(shell.run(step.command))
        pattern = ".*".join(re.escape(part) for part in "\n".join(step.expected).split("..."))
        if not re.fullmatch(pattern, told, flags=re.DOTALL):
            found.append(f"{page.name}:{step.line}: {step.command}\n{told}")
    return found
